/* SPDX-License-Identifier: MIT */
/*
 * tokenizer.json and, behind a blank line, a text to tokenise.  A vocabulary needs a token for each
 * byte, too much for a seed: where the file is refused as it is, they are added and it is tried
 * again.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/text_private.h"
#include "tests/fuzz/fuzz.h"

enum { TEXT_MAX = 96, IDS_MAX = 4096 };

/* ---- using a tokenizer ---------------------------------------------------------------------- */

static void push(struct sl_detokenizer *d, int32_t id, char *out, size_t *n, size_t room)
{
    const char *text;
    size_t len;
    if (id >= 0)
        sl_detokenizer_push(d, id, &text, &len);
    else
        sl_detokenizer_end(d, &text, &len);
    fuzz_check(len <= room - *n, "tokens are longer than their text");
    memcpy(out + *n, text, len);
    *n += len;
}

/* The tokens of a text stand for the text. */
static void check_decoded(const struct sl_tokenizer *t, const char *text, size_t len,
                          const int32_t *ids, size_t n_ids)
{
    char want[3 * TEXT_MAX], got[3 * TEXT_MAX];
    size_t want_len = sl_utf8_repair(text, len, want), n = 0;
    struct sl_detokenizer *d;
    struct sluice_err err;
    fuzz_err_prepare(&err);
    fuzz_check(sl_detokenizer_open(&d, t, &err) == 0, "no detokenizer");
    for (size_t i = 0; i < n_ids; i++)
        push(d, ids[i], got, &n, sizeof got);
    push(d, -1, got, &n, sizeof got);
    sl_detokenizer_close(&d);
    fuzz_check(n == want_len && memcmp(want, got, n) == 0, "tokens stand for another text");
}

static void encode(const struct sl_tokenizer *t, const char *text, size_t len, unsigned flags)
{
    int32_t *ids;
    struct sluice_err err;
    fuzz_err_prepare(&err);
    int64_t n = sl_tokenizer_encode(t, text, len, flags, &ids, &err);
    if (fuzz_succeeded(n, &err))
        check_decoded(t, text, len, ids, (size_t)n);
    else
        fuzz_check(ids == NULL, "tokens of a failure");
    free(ids);
}

static void check_tokens(const struct sl_tokenizer *t)
{
    int32_t size = sl_tokenizer_size(t);
    for (int32_t id = -1; id <= size && id < IDS_MAX; id++) {
        const char *bytes;
        char text[64];
        size_t len;
        if (!sl_tokenizer_token(t, id, &bytes, &len))
            continue;
        fuzz_check(id >= 0 && id < size && len > 0, "a token that cannot be");
        if (len >= sizeof text || memchr(bytes, 0, len))
            continue;
        memcpy(text, bytes, len);
        text[len] = 0;
        fuzz_check(sl_tokenizer_find(t, text) >= 0, "a token is not found by its bytes");
    }
}

/* ---- completing a vocabulary ---------------------------------------------------------------- */

/* The character of GPT-2's alphabet that stands for BYTE. */
static unsigned character_of(unsigned byte)
{
    if (byte <= ' ')
        return 0x100 + byte;
    if (byte >= 0x7f && byte <= 0xa0)
        return 0x121 + byte - 0x7f;
    return byte == 0xad ? 0x143 : byte;
}

static void add_bytes(json_t *vocab)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned c = character_of(byte);
        char key[3] = {(char)c};
        if (c >= 0x80) {
            key[0] = (char)(0xc0 | c >> 6);
            key[1] = (char)(0x80 | (c & 0x3f));
        }
        if (!json_object_get(vocab, key))
            json_object_set_new(vocab, key, json_integer(1000 + byte));
    }
}

/* The file with a token for each byte, malloc'ed; NULL when there is no place for them. */
static char *complete(const uint8_t *data, size_t size)
{
    json_t *root = json_loadb((const char *)data, size, 0, NULL);
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    char *text = NULL;
    if (json_is_object(vocab)) {
        add_bytes(vocab);
        text = json_dumps(root, JSON_COMPACT);
    }
    json_decref(root);
    return text;
}

/* ---- one input ------------------------------------------------------------------------------ */

static bool run(const void *file, size_t size, const char *text, size_t len)
{
    struct sl_tokenizer *t;
    struct sluice_err err;
    fuzz_err_prepare(&err);
    const char *path = fuzz_put("tokenizer.json", file, size);
    bool good = fuzz_succeeded(sl_tokenizer_open(&t, path, &err), &err);
    if (good) {
        check_tokens(t);
        encode(t, text, len, 0);
        encode(t, text, len, SLUICE_PLAIN_TEXT);
    }
    sl_tokenizer_close(&t);
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *text;
    size_t len, n = fuzz_split(data, size, &text, &len);
    len = len < TEXT_MAX ? len : TEXT_MAX;
    if (run(data, n, (const char *)text, len))
        return 0;
    char *file = complete(data, n);
    if (file)
        run(file, strlen(file), (const char *)text, len);
    free(file);
    return 0;
}
