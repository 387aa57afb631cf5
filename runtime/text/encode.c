/* SPDX-License-Identifier: MIT */
/*
 * Text to tokens: repairs UTF-8, cuts out added tokens, and sends what lies between them through
 * pre-tokenizer and BPE.  Everything mutable lives in a struct sl_encoder made for one call.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/text/text_private.h"

int sl_encoder_push(struct sl_encoder *e, int32_t id)
{
    if (e->n == e->capacity) {
        size_t capacity = e->capacity ? 2 * e->capacity : 64;
        int32_t *ids = realloc(e->ids, capacity * sizeof *ids);
        if (!ids)
            return sl_fail_nomem(e->err, "token ids", capacity * sizeof *ids);
        e->ids = ids;
        e->capacity = capacity;
    }
    e->ids[e->n++] = id;
    return 0;
}

static void encoder_close(struct sl_encoder *e)
{
    pcre2_match_data_free(e->match);
    pcre2_match_context_free(e->limits);
    free(e->symbol);
    free(e->heap);
    free(e->ids);
}

/*
 * Limits of the interpreter and JIT, per match.  A legitimate pattern backtracks a few times per
 * byte at most; heap (KiB) and depth serve patterns that repeat a group over the whole text.
 */
static int encoder_open(struct sl_encoder *e, size_t len, struct sluice_err *err)
{
    e->err = err;
    e->match = pcre2_match_data_create(1, NULL);
    e->limits = pcre2_match_context_create(NULL);
    e->ids = malloc(64 * sizeof *e->ids);
    if (!e->match || !e->limits || !e->ids)
        return sl_fail_nomem(err, "tokenising", 64 * sizeof *e->ids);
    e->capacity = 64;
    size_t steps = 1000000 + 16 * len;
    pcre2_set_match_limit(e->limits, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    pcre2_set_depth_limit(e->limits, 10000000);
    pcre2_set_heap_limit(e->limits, 256 * 1024);
    return 0;
}

/*
 * The library first matches the added tokens that are not to be normalised, then, in the text
 * between, those that are; without a normaliser only this order is left of the difference.
 */
static int split_added(struct sl_encoder *e, const char *text, size_t len, size_t set)
{
    if (set == 2)
        return sl_pretokenize(e, text, len, 0);
    int status = 0;
    size_t done = 0;
    for (size_t i = 0, n = 0; i < len && status == 0;) {
        int32_t id = sl_trie_longest(&e->t->added[set], text + i, len - i, &n);
        if (id < 0) {
            i++;
            continue;
        }
        status = split_added(e, text + done, i - done, set + 1);
        if (status == 0)
            status = sl_encoder_push(e, id);
        done = i += n;
    }
    return status < 0 ? status : split_added(e, text + done, len - done, set + 1);
}

int64_t sl_tokenizer_encode(const struct sl_tokenizer *t, const char *text, size_t len,
                            unsigned flags, int32_t **tokens, struct sluice_err *err)
{
    struct sl_encoder e = {.t = t};
    char *repaired = NULL;
    *tokens = NULL;
    if (len > INT32_MAX / 3)
        return sl_fail(err, SLUICE_EARG, "text of %zu bytes, at most %d can be tokenised", len,
                       INT32_MAX / 3);
    int status = encoder_open(&e, len, err);
    if (status < 0)
        goto out;
    size_t good = sl_utf8_repair(text, len, NULL);
    repaired = malloc(good + 1);
    if (!repaired) {
        status = sl_fail_nomem(err, "tokenising", good + 1);
        goto out;
    }
    sl_utf8_repair(text, len, repaired);
    status = split_added(&e, repaired, good, flags & SLUICE_PLAIN_TEXT ? 2 : 0);
    if (status == 0) {
        *tokens = e.ids;
        e.ids = NULL;
    }
out:
    free(repaired);
    encoder_close(&e);
    return status < 0 ? status : (int64_t)e.n;
}
