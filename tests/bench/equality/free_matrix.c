/* SPDX-License-Identifier: MIT */
/*
 * Packed matrix times vectors: tiles of panels and vectors in registers, one float sum for each, and
 * a weight's scale multiplied once per group instead of once per 32 inputs.
 *
 * LUT4 in groups of 32 and INT8 in groups of 128, BF16, F32; cols a multiple of 512, panels of 4,
 * vectors 1 or a multiple of 8.
 */
#include <immintrin.h>
#include <string.h>

#include "tests/bench/equality/by_hand.h"
#include "tests/bench/equality/free_lanes.h"

enum { PANELS = 4, MOST = 8 /* panels, and sums, of a tile */ };

/* What one tile works on: panels [0, panels) of DATA times vectors [0, vectors) of X. */
struct tile {
    const struct sl_packing *p;
    const uint8_t *data;
    size_t bytes; /* of a panel */
    struct sl_acts x;
};

/* ---- integers ------------------------------------------------------------------------------- */

/* dot[p][v] of the 32 inputs from K on, whose codes lie at CODE of each panel. */
SL_INLINE void block(const struct tile *t, bool lut, __m512i book, const uint8_t *code, size_t k,
                     size_t panels, size_t vectors, __m512i dot[MOST])
{
    const size_t ld = t->x.ld;
    SL_UNROLL
    for (size_t v = 0; v < vectors; v++)
        SL_UNROLL
    for (size_t p = 0; p < panels; p++)
        dot[p * vectors + v] = vi_set(-128 * t->x.sum[(v * ld + k) / SL_BLOCK]);
    for (size_t i = k; i < k + SL_BLOCK; i += 8, code += lut ? 64 : 128) {
        __m512i w[PANELS][2];
        SL_UNROLL
        for (size_t p = 0; p < panels; p++)
            if (lut) {
                vw_load_lut4(book, code + p * t->bytes, &w[p][0], &w[p][1]);
            } else {
                w[p][0] = vw_load(code + p * t->bytes);
                w[p][1] = vw_load(code + p * t->bytes + 64);
            }
        SL_UNROLL
        for (size_t v = 0; v < vectors; v++)
            SL_UNROLL
        for (size_t half = 0; half < 2; half++) {
            __m512i x = vx_load4(t->x.q + v * ld + i + 4 * half);
            SL_UNROLL
            for (size_t p = 0; p < panels; p++)
                dot[p * vectors + v] = vw_dot(dot[p * vectors + v], w[p][half], x);
        }
    }
}

/* sum[p][v] of one group of weights, before its scale; returns where the next one's codes are. */
SL_INLINE const uint8_t *group(const struct tile *t, bool lut, __m512i book, const uint8_t *code,
                               size_t k, size_t panels, size_t vectors, __m512 sum[MOST])
{
    size_t n = lut ? SL_BLOCK : 4 * SL_BLOCK;
    SL_UNROLL
    for (size_t j = 0; j < panels * vectors; j++)
        sum[j] = vf_set(0);
    for (size_t i = 0; i < n; i += SL_BLOCK, code += lut ? 256 : 512) {
        __m512i dot[MOST];
        block(t, lut, book, code, k + i, panels, vectors, dot);
        SL_UNROLL
        for (size_t j = 0; j < panels * vectors; j++) {
            __m512 x = vf_set(t->x.scale[(j % vectors * t->x.ld + k + i) / SL_BLOCK]);
            sum[j] = vf_fma(vi_to_f(dot[j]), x, sum[j]);
        }
    }
    return code;
}

SL_INLINE void integer_tile(const struct tile *t, bool lut, size_t panels, size_t vectors, float *y,
                            size_t ldy)
{
    __m512 acc[MOST];
    __m512i book = vbook_load(t->p->codebook);
    const uint8_t *code = t->data + SL_ROW_SCALES;
    SL_UNROLL
    for (size_t j = 0; j < panels * vectors; j++)
        acc[j] = vf_set(0);
    for (size_t k = 0; k < t->p->cols;) {
        const uint8_t *scales = code;
        code += sl_super_scale_bytes(t->p->scale);
        for (size_t g = 0; g < SL_SUPER; g++, k += t->p->group) {
            __m512 sum[MOST];
            code = group(t, lut, book, code, k, panels, vectors, sum);
            SL_UNROLL
            for (size_t j = 0; j < panels * vectors; j++) {
                const uint8_t *at = scales + j / vectors * t->bytes;
                __m512 w = lut ? vf_load_s8(at + 16 * g) : vf_load_bf16(at + 32 * g);
                acc[j] = vf_fma(sum[j], w, acc[j]);
            }
        }
    }
    SL_UNROLL
    for (size_t j = 0; j < panels * vectors; j++)
        vf_store(y + j % vectors * ldy + j / vectors * SL_PANEL,
                 vf_mul(acc[j], vf_load(t->data + j / vectors * t->bytes)));
}

/* ---- floats --------------------------------------------------------------------------------- */

SL_INLINE void float_tile(const struct tile *t, bool bf16, size_t panels, size_t vectors, float *y,
                          size_t ldy)
{
    __m512 acc[MOST];
    const uint8_t *at = t->data;
    SL_UNROLL
    for (size_t j = 0; j < panels * vectors; j++)
        acc[j] = vf_set(0);
    for (size_t k = 0; k < t->p->cols; k++, at += bf16 ? 32 : 64) {
        __m512 w[PANELS];
        SL_UNROLL
        for (size_t p = 0; p < panels; p++)
            w[p] = bf16 ? vf_load_bf16(at + p * t->bytes) : vf_load(at + p * t->bytes);
        SL_UNROLL
        for (size_t j = 0; j < panels * vectors; j++)
            acc[j] = vf_fma(w[j / vectors], vf_set(t->x.f[j % vectors * t->x.ld + k]), acc[j]);
    }
    SL_UNROLL
    for (size_t j = 0; j < panels * vectors; j++)
        vf_store(y + j % vectors * ldy + j / vectors * SL_PANEL, acc[j]);
}

/* ---- dispatch ------------------------------------------------------------------------------- */

SL_INLINE void any_tile(const struct tile *t, size_t panels, size_t vectors, float *y, size_t ldy)
{
    if (t->p->code == SL_CODE_LUT4)
        integer_tile(t, true, panels, vectors, y, ldy);
    else if (t->p->code == SL_CODE_INT8)
        integer_tile(t, false, panels, vectors, y, ldy);
    else if (t->p->code == SL_CODE_BF16)
        float_tile(t, true, panels, vectors, y, ldy);
    else
        float_tile(t, false, panels, vectors, y, ldy);
}

/* The tiles that measured best. */
void free_gemm(const struct sl_matrix *w, size_t panel0, size_t panel1, struct sl_acts x, size_t n,
               float *y, size_t ldy)
{
    size_t panels = n == 1 ? 4 : x.q ? 2 : 1, vectors = n == 1 ? 1 : x.q ? 4 : 8;
    size_t bytes = sl_panel_bytes(&w->packing);
    for (size_t i = panel0; i < panel1; i += panels)
        for (size_t v = 0; v < n; v += vectors) {
            struct tile t = {&w->packing, w->data + i * bytes, bytes, x};
            float *out = y + v * ldy + i * SL_PANEL;
            t.x = sl_acts_at(x, v * x.ld);
            if (n == 1)
                any_tile(&t, 4, 1, out, ldy);
            else if (x.q)
                any_tile(&t, 2, 4, out, ldy);
            else
                any_tile(&t, 1, 8, out, ldy);
        }
}
