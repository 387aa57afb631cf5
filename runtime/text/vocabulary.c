/* SPDX-License-Identifier: MIT */
/*
 * Tokens and merges of tokenizer.json, checked and put into tables.  Vocabulary entries are written
 * in the byte-level alphabet of GPT-2, where each byte has one printable character; here they
 * become the bytes they stand for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/json.h"
#include "runtime/text/text_private.h"

/* Byte of a character of the alphabet; -1: not one. */
static int byte_of(unsigned character)
{
    if ((character >= '!' && character <= '~') || (character >= 0xa1 && character <= 0xff))
        return character == 0xad ? -1 : (int)character;
    if (character >= 0x100 && character <= 0x120) /* bytes 0x00 to 0x20 */
        return (int)character - 0x100;
    if (character >= 0x121 && character <= 0x142) /* bytes 0x7f to 0xa0 */
        return (int)character - 0x121 + 0x7f;
    return character == 0x143 ? 0xad : -1;
}

/* Bytes that TEXT (UTF-8) stands for, at most strlen(TEXT); -1: characters outside the alphabet. */
static int64_t decode(const char *text, char *out)
{
    int64_t n = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        unsigned character = *p;
        if (character >= 0x80)
            character = (character & 0xe0) == 0xc0 ? (character & 0x1fu) << 6 | (*++p & 0x3fu) : 0;
        int byte = byte_of(character);
        if (byte < 0)
            return -1;
        out[n++] = (char)byte;
    }
    return n;
}

static int bad_token(const struct sl_tokenizer *t, const char *token, const char *what,
                     struct sluice_err *err)
{
    return sl_fail(err, SLUICE_EFORMAT, "%s: token \"%.*s\": %s", t->path, sl_utf8_cut(token, 80),
                   token, what);
}

static int bad_id(const struct sl_tokenizer *t, const char *token, struct sluice_err *err)
{
    char what[64];
    snprintf(what, sizeof what, "id must be an integer from 0 to %d", SL_TOKENS_MAX - 1);
    return bad_token(t, token, what, err);
}

/* -1: not an integer in range. */
static int32_t id_of(const json_t *value)
{
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    return id >= 0 && id < SL_TOKENS_MAX ? (int32_t)id : -1;
}

/* ---- sizes --------------------------------------------------------------------------------- */

/* Adds up what the added tokens need; checks every entry except its flags. */
static int measure_added(struct sl_tokenizer *t, const json_t *added, size_t *bytes,
                         struct sluice_err *err)
{
    size_t i;
    const json_t *entry;
    if (added && !json_is_null(added) && !json_is_array(added))
        return sl_fail(err, SLUICE_EFORMAT, "%s: \"added_tokens\" is no array", t->path);
    json_array_foreach (added, i, entry) {
        const char *content = json_string_value(json_object_get(entry, "content"));
        if (!content)
            return sl_fail(err, SLUICE_EFORMAT, "%s: added token %zu has no string \"content\"",
                           t->path, i);
        int32_t id = id_of(json_object_get(entry, "id"));
        if (id < 0)
            return bad_id(t, content, err);
        size_t len = strlen(content);
        if (len == 0)
            return bad_token(t, content, "empty", err);
        if (len > SL_ADDED_MAX || (*bytes += len) > SL_ADDED_TOTAL_MAX)
            return sl_fail(err, SLUICE_EUNSUPPORTED,
                           "%s: added token %zu: %zu bytes; at most %d each and %d together are "
                           "supported",
                           t->path, i, len, SL_ADDED_MAX, SL_ADDED_TOTAL_MAX);
        t->size = id < t->size ? t->size : id + 1;
    }
    return 0;
}

static int measure_vocabulary(struct sl_tokenizer *t, json_t *vocab, size_t *bytes,
                              struct sluice_err *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(vocab))
        return sl_fail(err, SLUICE_EFORMAT, "%s: \"model.vocab\" is missing or no object", t->path);
    json_object_foreach (vocab, key, value) {
        int32_t id = id_of(value);
        if (id < 0)
            return bad_id(t, key, err);
        if (!*key)
            return bad_token(t, key, "empty", err);
        if (strlen(key) > SL_WORD_MAX)
            return sl_fail(err, SLUICE_EUNSUPPORTED,
                           "%s: token of %zu bytes in \"vocab\"; at most %d are supported", t->path,
                           strlen(key), SL_WORD_MAX);
        *bytes += strlen(key);
        t->size = id < t->size ? t->size : id + 1;
    }
    return 0;
}

/* ---- added tokens -------------------------------------------------------------------------- */

/* Appends bytes that are already at t->bytes + t->n_bytes. */
static void put_token(struct sl_tokenizer *t, int32_t id, size_t len)
{
    t->token[id] = (struct sl_token){(uint32_t)t->n_bytes, (uint32_t)len};
    t->n_bytes += len;
    t->longest = len > t->longest ? len : t->longest;
}

/* The library decodes such a token as if it were written in the alphabet, into other bytes. */
static bool is_ambiguous(const char *content)
{
    char scratch[SL_ADDED_MAX];
    int64_t n = decode(content, scratch);
    return n >= 0 && (size_t)n != strlen(content); /* ASCII stands for itself */
}

static int check_added(const struct sl_tokenizer *t, json_t *entry, const char *content,
                       bool *normalized, struct sluice_err *err)
{
    static const char *const known[] = {"id",     "content", "single_word", "lstrip",
                                        "rstrip", "special", "normalized",  NULL};
    static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
    static const bool no = false;
    bool special = false, set = false;
    int status = sl_settings_known(entry, t->path, "\"added_tokens\"", known, err);
    for (size_t i = 0; i < 3 && status == 0; i++) {
        status = sl_json_bool(entry, t->path, flags[i], &no, &set, err);
        if (status == 0 && set)
            status = sl_fail(err, SLUICE_EUNSUPPORTED,
                             "%s: added token \"%.*s\" sets \"%s\"; this build wants false",
                             t->path, sl_utf8_cut(content, 80), content, flags[i]);
    }
    if (status == 0 && is_ambiguous(content))
        status = sl_fail(err, SLUICE_EUNSUPPORTED,
                         "%s: added token \"%.*s\" could be read as byte-level text; this build "
                         "wants one that cannot",
                         t->path, sl_utf8_cut(content, 80), content);
    if (status == 0)
        status = sl_json_bool(entry, t->path, "special", &no, &special, err);
    bool fallback = !special;
    if (status == 0)
        status = sl_json_bool(entry, t->path, "normalized", &fallback, normalized, err);
    return status;
}

static int load_added(struct sl_tokenizer *t, const json_t *added, struct sluice_err *err)
{
    size_t i;
    json_t *entry;
    json_array_foreach (added, i, entry) {
        const char *content = json_string_value(json_object_get(entry, "content"));
        int32_t id = id_of(json_object_get(entry, "id"));
        size_t len = strlen(content), ignored;
        bool normalized;
        int status = check_added(t, entry, content, &normalized, err);
        if (status < 0)
            return status;
        if (t->token[id].len)
            return bad_token(t, content, "another added token has the same id", err);
        if (!sl_trie_add(&t->added[normalized], content, len, id) ||
            (sl_trie_longest(&t->added[!normalized], content, len, &ignored) >= 0 &&
             ignored == len))
            return bad_token(t, content, "twice among the added tokens", err);
        memcpy(t->bytes + t->n_bytes, content, len);
        put_token(t, id, len);
    }
    return 0;
}

/* Id of the added token with exactly this content; -1: none. */
static int32_t find_added(const struct sl_tokenizer *t, const char *content)
{
    size_t len = strlen(content);
    for (int set = 0; set < 2; set++) {
        size_t matched = 0;
        int32_t id = sl_trie_longest(&t->added[set], content, len, &matched);
        if (id >= 0 && matched == len)
            return id;
    }
    return -1;
}

/* ---- vocabulary ---------------------------------------------------------------------------- */

static int load_word(struct sl_tokenizer *t, const char *key, int32_t id, struct sluice_err *err)
{
    int32_t added = find_added(t, key);
    int64_t n = decode(key, t->bytes + t->n_bytes);
    if (added >= 0 && added != id)
        return bad_token(t, key, "one id in \"vocab\", another in \"added_tokens\"", err);
    if (n < 0 && added < 0)
        return bad_token(t, key, "characters outside the byte-level alphabet", err);
    if (t->token[id].len && added < 0)
        return bad_token(t, key, "another token has the same id", err);
    if (n < 0)
        return 0; /* an added token that BPE cannot make */
    if (added < 0)
        put_token(t, id, (size_t)n);
    *sl_words_slot(t, t->bytes + t->token[id].offset, (size_t)n) = id;
    return 0;
}

static int load_words(struct sl_tokenizer *t, json_t *vocab, struct sluice_err *err)
{
    const char *key;
    json_t *value;
    int status = sl_table_open(&t->words, json_object_size(vocab), err);
    if (status < 0)
        return status;
    json_object_foreach (vocab, key, value) {
        status = load_word(t, key, id_of(value), err);
        if (status < 0)
            return status;
    }
    for (int byte = 0; byte < 256; byte++) {
        char text = (char)byte;
        t->byte_id[byte] = *sl_words_slot(t, &text, 1);
        bool in_utf8 = byte < 0xc0 || (byte > 0xc1 && byte < 0xf5);
        if (t->byte_id[byte] < 0 && in_utf8)
            return sl_fail(err, SLUICE_EFORMAT, "%s: \"vocab\" has no token for the byte 0x%02x",
                           t->path, (unsigned)byte);
    }
    return 0;
}

/* ---- merges -------------------------------------------------------------------------------- */

/* The two halves of "a b" or ["a", "b"], at most LIMIT - 1 bytes each; false: something else. */
static bool merge_halves(const json_t *entry, char *left, char *right, size_t limit)
{
    const char *a = json_string_value(json_array_get(entry, 0));
    const char *b = json_string_value(json_array_get(entry, 1));
    size_t len;
    if (json_is_string(entry)) {
        a = json_string_value(entry);
        b = strchr(a, ' ');
        if (!b || strchr(++b, ' '))
            return false;
        len = (size_t)(b - a) - 1;
    } else if (json_array_size(entry) == 2 && a && b) {
        len = strlen(a);
    } else {
        return false;
    }
    if (len >= limit || strlen(b) >= limit)
        return false;
    memcpy(left, a, len);
    left[len] = 0;
    strcpy(right, b);
    return true;
}

static int32_t find_word(const struct sl_tokenizer *t, const char *bytes, int64_t len)
{
    return len > 0 ? *sl_words_slot(t, bytes, (size_t)len) : -1;
}

/* SCRATCH: three strings of LIMIT bytes, enough for any two tokens in the alphabet. */
static int load_merge(struct sl_tokenizer *t, size_t rank, const json_t *entry, char *scratch,
                      size_t limit, struct sluice_err *err)
{
    char *left = scratch, *right = scratch + limit, *bytes = scratch + 2 * limit;
    struct sl_merge *m = &t->merge[rank];
    if (!merge_halves(entry, left, right, limit))
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: merge %zu: \"a b\" or [\"a\", \"b\"] of two tokens wanted", t->path,
                       rank);
    int64_t n = decode(left, bytes);
    m->left = find_word(t, bytes, n);
    int64_t more = n < 0 ? -1 : decode(right, bytes + n);
    m->right = find_word(t, n < 0 ? bytes : bytes + n, more);
    m->result = m->left < 0 || m->right < 0 ? -1 : find_word(t, bytes, n + more);
    if (m->result < 0)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: merge %zu of \"%.*s\" and \"%.*s\": both and their concatenation must "
                       "be in \"vocab\"",
                       t->path, rank, sl_utf8_cut(left, 80), left, sl_utf8_cut(right, 80), right);
    *sl_pairs_slot(t, m->left, m->right) = (int32_t)rank; /* of equal ones the last counts */
    return 0;
}

static int load_merges(struct sl_tokenizer *t, const json_t *merges, struct sluice_err *err)
{
    if (!json_is_array(merges))
        return sl_fail(err, SLUICE_EFORMAT, "%s: \"model.merges\" is missing or no array", t->path);
    t->n_merges = json_array_size(merges);
    size_t limit = 2 * t->longest + 1; /* a character of the alphabet takes one byte or two */
    char *scratch = malloc(4 * limit);
    t->merge = malloc((t->n_merges + 1) * sizeof *t->merge);
    int status = scratch && t->merge ? sl_table_open(&t->pairs, t->n_merges, err)
                                     : sl_fail_nomem(err, "merges", t->n_merges * sizeof *t->merge);
    for (size_t rank = 0; rank < t->n_merges && status == 0; rank++)
        status = load_merge(t, rank, json_array_get(merges, rank), scratch, limit, err);
    free(scratch);
    return status;
}

int sl_vocabulary_load(struct sl_tokenizer *t, json_t *root, struct sluice_err *err)
{
    static const bool no = false;
    const json_t *added = json_object_get(root, "added_tokens");
    const json_t *model = json_object_get(root, "model");
    json_t *vocab = json_object_get(model, "vocab");
    size_t added_bytes = 0, bytes = 0;
    int status = sl_json_bool(model, t->path, "ignore_merges", &no, &t->ignore_merges, err);
    if (status == 0)
        status = measure_added(t, added, &added_bytes, err);
    if (status == 0)
        status = measure_vocabulary(t, vocab, &bytes, err);
    for (int set = 0; set < 2 && status == 0; set++)
        status = sl_trie_open(&t->added[set], added_bytes, err);
    if (status < 0)
        return status;
    t->token = calloc((size_t)t->size + 1, sizeof *t->token);
    t->bytes = malloc(added_bytes + bytes + 1);
    if (!t->token || !t->bytes)
        return sl_fail_nomem(err, "vocabulary",
                             (size_t)t->size * sizeof *t->token + added_bytes + bytes);
    status = load_added(t, added, err);
    if (status == 0)
        status = load_words(t, vocab, err);
    if (status == 0)
        status = load_merges(t, json_object_get(model, "merges"), err);
    return status;
}

int32_t sl_tokenizer_find(const struct sl_tokenizer *t, const char *text)
{
    int32_t id = find_added(t, text);
    return id >= 0 ? id : find_word(t, text, (int64_t)strlen(text));
}
