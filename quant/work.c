/* SPDX-License-Identifier: MIT */
/* What every step of a conversion needs: reusable buffers and progress. */
#include <stdlib.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"

/* Grows by replacement: contents are not kept. */
int sl_buffer_reserve(struct sl_buffer *b, size_t size, struct sluice_err *err)
{
    if (size <= b->size)
        return 0;
    free(b->data);
    size = sl_round_up(size, 64);
    b->data = aligned_alloc(64, size);
    b->size = b->data ? size : 0;
    return b->data ? 0 : sl_fail_nomem(err, "conversion buffer", size);
}

int sl_conversion_progress(struct sl_conversion *c, uint64_t bytes, struct sluice_err *err)
{
    c->done += bytes;
    if (!c->opts->progress ||
        c->opts->progress(c->opts->user, c->done, c->plan.source_bytes, c->file) == 0)
        return 0;
    return sl_fail(err, SLUICE_ECANCELLED,
                   "cancelled; finished files are kept, the same command continues");
}
