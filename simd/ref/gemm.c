/* SPDX-License-Identifier: MIT */
/* Packed matrix times activation vectors.  One panel of 16 rows at a time; the order of operations
 * of a row is the same for one vector and for many. */
#include <math.h>
#include <string.h>

#include "simd/ref/sums.h"
#include "simd/ref/ref.h"

/* dot[r] += Σ code[r][k] · x[k] over N inputs (a multiple of 8). */
static void dot_int8(const uint8_t *code, const int8_t *x, size_t n, int32_t dot[SL_PANEL])
{
    for (size_t k = 0; k < n; k += 4, code += 64)
        for (int r = 0; r < SL_PANEL; r++)
            for (int i = 0; i < 4; i++)
                dot[r] += (int8_t)code[4 * r + i] * x[k + (size_t)i];
}

static void dot_lut4(const uint8_t *code, const int8_t *book, const int8_t *x, size_t n,
                     int32_t dot[SL_PANEL])
{
    for (size_t k = 0; k < n; k += 8, code += 64)
        for (int r = 0; r < SL_PANEL; r++)
            for (int i = 0; i < 4; i++) {
                uint8_t pair = code[4 * r + i];
                const int8_t *low = x + k + i, *high = low + 4;
                dot[r] += book[pair & 15] * *low + book[pair >> 4] * *high;
            }
}

/* One panel of an integer matrix times one vector. */
static void panel_integer(const struct sl_packing *p, const uint8_t *panel, const int8_t *q,
                          const float *xs, float y[SL_PANEL])
{
    size_t cols = sl_padded_cols(p->cols), group = p->group;
    size_t run = group < SL_BLOCK ? group : SL_BLOCK; /* inputs under one weight and one x scale */
    float acc[SL_PANEL] = {0}, row_scale[SL_PANEL];
    memcpy(row_scale, panel, sizeof row_scale);
    const uint8_t *scales = panel + SL_ROW_SCALES, *code = scales;
    for (size_t k = 0; k < cols; k += run) {
        size_t in_super = k % (group * SL_SUPER);
        if (in_super == 0) {
            scales = code;
            code += sl_super_scale_bytes(p->scale);
        }
        int32_t dot[SL_PANEL] = {0};
        if (p->code == SL_CODE_INT8)
            dot_int8(code, q + k, run, dot);
        else
            dot_lut4(code, p->codebook, q + k, run, dot);
        code += sl_code_bytes(p->code, run);
        for (size_t r = 0; r < SL_PANEL; r++) {
            float w = sl_scale_at(p->scale, scales, in_super / group * SL_PANEL + r);
            acc[r] = fmaf((float)dot[r], w * xs[k / SL_BLOCK], acc[r]);
        }
    }
    for (int r = 0; r < SL_PANEL; r++)
        y[r] = acc[r] * row_scale[r];
}

/* One panel of a BF16 or F32 matrix times one vector: chain k mod 4 per row. */
static void panel_float(const struct sl_packing *p, const uint8_t *panel, const float *x,
                        float y[SL_PANEL])
{
    float chain[SL_PANEL][4] = {{0}}, w[SL_PANEL];
    for (size_t k = 0; k < p->cols; k++) {
        if (p->code == SL_CODE_F32) {
            memcpy(w, panel + 4 * SL_PANEL * k, sizeof w);
        } else {
            uint16_t half[SL_PANEL];
            memcpy(half, panel + 2 * SL_PANEL * k, sizeof half);
            for (int r = 0; r < SL_PANEL; r++)
                w[r] = sl_from_bf16(half[r]);
        }
        for (int r = 0; r < SL_PANEL; r++)
            chain[r][k % 4] = fmaf(w[r], x[k], chain[r][k % 4]);
    }
    for (int r = 0; r < SL_PANEL; r++)
        y[r] = sl_chains4(chain[r]);
}

void sl_ref_gemm(const struct sl_matrix *w, size_t panel0, size_t panel1, struct sl_acts x,
                 size_t n, float *y, size_t ldy)
{
    const struct sl_packing *p = &w->packing;
    size_t bytes = sl_panel_bytes(p);
    for (size_t i = panel0; i < panel1; i++) {
        const uint8_t *panel = w->data + i * bytes;
        size_t row = i * SL_PANEL;
        size_t rows = p->rows - row < SL_PANEL ? p->rows - row : SL_PANEL;
        for (size_t t = 0; t < n; t++) {
            size_t v = x.row ? x.row[t] : t;
            float out[SL_PANEL];
            if (sl_is_integer(p->code))
                panel_integer(p, panel, x.q + v * x.ld, x.scale + v * (x.ld / SL_BLOCK), out);
            else
                panel_float(p, panel, x.f + v * x.ld, out);
            memcpy(y + t * ldy + row, out, rows * sizeof *out);
        }
    }
}
