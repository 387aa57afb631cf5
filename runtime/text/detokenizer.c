/* SPDX-License-Identifier: MIT */
/*
 * Tokens to text.  A token may end inside a character: its last bytes wait here until the next
 * token decides whether they become a character or U+FFFD.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/text/text_private.h"

enum { PENDING_MAX = 3 }; /* bytes of the longest unfinished character */

struct sl_detokenizer {
    const struct sl_tokenizer *t;
    size_t pending; /* bytes at the front of `in` */
    char *in;       /* [PENDING_MAX + longest token] */
    char *out;      /* SL_REPLACEMENT_LEN times that: every byte may come out as U+FFFD */
};

int sl_detokenizer_open(struct sl_detokenizer **d, const struct sl_tokenizer *t,
                        struct sluice_err *err)
{
    size_t in = PENDING_MAX + t->longest;
    *d = calloc(1, sizeof **d);
    if (!*d)
        return sl_fail_nomem(err, "detokenizer", sizeof **d);
    (*d)->t = t;
    (*d)->in = malloc(in);
    (*d)->out = malloc(SL_REPLACEMENT_LEN * in);
    if (!(*d)->in || !(*d)->out) {
        sl_detokenizer_close(d);
        return sl_fail_nomem(err, "detokenizer", (1 + SL_REPLACEMENT_LEN) * in);
    }
    return 0;
}

void sl_detokenizer_close(struct sl_detokenizer **d)
{
    if (!*d)
        return;
    free((*d)->in);
    free((*d)->out);
    free(*d);
    *d = NULL;
}

void sl_detokenizer_push(struct sl_detokenizer *d, int32_t token, const char **text, size_t *len)
{
    const char *bytes;
    size_t n = 0;
    *text = d->out;
    *len = 0;
    if (!sl_tokenizer_token(d->t, token, &bytes, &n))
        return;
    memcpy(d->in + d->pending, bytes, n);
    n += d->pending;
    size_t whole = 0, used;
    for (; whole < n; whole += used)
        if (sl_utf8_next(d->in + whole, n - whole, &used) == SL_UTF8_PART)
            break;
    *len = sl_utf8_repair(d->in, whole, d->out);
    d->pending = n - whole;
    memmove(d->in, d->in + whole, d->pending);
}

void sl_detokenizer_end(struct sl_detokenizer *d, const char **text, size_t *len)
{
    *text = d->out;
    *len = sl_utf8_repair(d->in, d->pending, d->out);
    d->pending = 0;
}
