/* SPDX-License-Identifier: MIT */
/* What the experts of a model take, by the headers of their files: before any is read. */
#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/stream/stream.h"

static int add_file(struct sl_experts_sizes *s, const struct sl_expert_file *f,
                    struct sluice_err *err)
{
    uint64_t bytes;
    if (!sl_mul(f->n_experts, f->layout.stride, &bytes) || !sl_add(s->bytes, bytes, &s->bytes))
        return sl_fail(err, SLUICE_EFORMAT, "%s: experts of more than 2^64 bytes",
                       f->parts[0].path);
    s->block = sl_max(s->block, f->layout.stride);
    s->split = s->split || f->n_parts > 1;
    return 0;
}

int sl_experts_measure(struct sl_experts_sizes *sizes, const char *dir, const struct sl_manifest *m,
                       unsigned first, unsigned n, struct sluice_err *err)
{
    struct sl_expert_file f;
    int status = 0;
    *sizes = (struct sl_experts_sizes){0};
    for (unsigned i = 0; status == 0 && i < n; i++) {
        status = sl_expert_file_open(&f, dir, m, first + i, err);
        if (status == 0)
            status = add_file(sizes, &f, err);
        sl_expert_file_close(&f);
    }
    return status;
}
