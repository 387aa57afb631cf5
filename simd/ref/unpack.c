/* SPDX-License-Identifier: MIT */
/* Packed weights to BF16: value · (scale · row_scale), rounded to F32 each time, then to BF16. */
#include <math.h>
#include <string.h>

#include "simd/ref/ref.h"

/* Value of the code of (row R, input K of the superblock) whose codes begin at C. */
static float value_at(const struct sl_packing *p, const uint8_t *c, size_t r, size_t k)
{
    if (p->code == SL_CODE_INT8)
        return (float)(int8_t)c[k / 4 * 64 + 4 * r + k % 4];
    uint8_t pair = c[k / 8 * 64 + 4 * r + k % 4];
    return (float)p->codebook[k % 8 < 4 ? pair & 15 : pair >> 4];
}

void sl_ref_weights_bf16(const struct sl_matrix *w, size_t panel, size_t stride, uint16_t *out)
{
    const struct sl_packing *p = &w->packing;
    const uint8_t *at = w->data + panel * sl_panel_bytes(p);
    size_t cols = sl_padded_cols(p->cols), super = (size_t)p->group * SL_SUPER;
    float row_scale[SL_PANEL];
    memcpy(row_scale, at, sizeof row_scale);
    at += SL_ROW_SCALES;
    for (size_t k0 = 0; k0 < cols; k0 += super) {
        const uint8_t *scales = at, *code = at + sl_super_scale_bytes(p->scale);
        size_t end = k0 + super < cols ? k0 + super : cols;
        for (size_t k = k0; k < end; k++)
            for (size_t r = 0; r < SL_PANEL; r++) {
                float scale = sl_scale_at(p->scale, scales, (k - k0) / p->group * SL_PANEL + r);
                float weight = value_at(p, code, r, k - k0) * (scale * row_scale[r]);
                out[k / 2 * stride + 2 * r + k % 2] = isnan(weight) ? 0x7fc0 : sl_to_bf16(weight);
            }
        at = code + sl_code_bytes(p->code, end - k0);
    }
}
