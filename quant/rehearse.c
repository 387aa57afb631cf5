/* SPDX-License-Identifier: MIT */
/* The quantiser's work on one panel without its files, for those who time it. */
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"

/* The packing of the experts of profile `quality`. */
static struct sl_packing expert_packing(size_t cols)
{
    const struct sl_format *f = sl_profile_find("quality", NULL)->experts;
    struct sl_packing p = {
        .code = f->code,
        .scale = f->scale,
        .group = f->group,
        .rows = SL_PANEL,
        .cols = (uint32_t)cols,
        .count = 1,
    };
    memcpy(p.codebook, f->codebook, sizeof p.codebook);
    return p;
}

/* The scratch of the packing, then x[16][cols]. */
size_t sl_rehearse_scratch(size_t cols)
{
    const struct sl_packing p = expert_packing(cols);
    return sl_pack_scratch(&p) + SL_PANEL * cols * sizeof(float);
}

size_t sl_rehearse_bytes(size_t cols)
{
    const struct sl_packing p = expert_packing(cols);
    return sl_panel_bytes(&p);
}

bool sl_rehearse_panel(const struct sl_ops *ops, const struct sl_fp8_rows *in, uint8_t *out,
                       void *scratch)
{
    const struct sl_packing p = expert_packing(in->cols);
    const struct sl_fitting fitting = {.ops = ops};
    const struct sl_tensor tensor = {.dtype = SL_F8_E4M3};
    const struct sl_input input = {
        .tensor = &tensor,
        .rows = SL_PANEL,
        .cols = in->cols,
        .row_bytes = in->cols,
        .scale = in->scale,
        .scale_cols = sl_ceil_div(in->cols, SL_FP8_BLOCK),
    };
    struct sl_error error;
    float *x = (float *)(void *)((uint8_t *)scratch + sl_pack_scratch(&p));
    bool ok = true;
    for (size_t r = 0; r < SL_PANEL; r++)
        ok &= sl_input_decode(&input, ops, in->code + r * in->cols, r, 0, in->cols,
                              x + r * in->cols);
    if (ok)
        sl_pack_panel(&fitting, &p, x, SL_PANEL, out, scratch, &error);
    return ok;
}
