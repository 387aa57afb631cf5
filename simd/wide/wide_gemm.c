/* SPDX-License-Identifier: MIT */
/* Packed matrix times activation vectors: lanes are the 16 rows of a panel, and up to SL_GEMM_TILE
 * vectors share each load of the weights.  Orders of operations: docs/kernels.md, gemm. */
#include "simd/wide/scales.h"
#include "simd/wide/wide_kernels.h"

/* One activation vector. */
struct vector {
    const int8_t *q;
    const float *scale;
    const int32_t *sum;
    const float *f;
};

static struct vector vector_at(const struct sl_acts *x, size_t t)
{
    size_t v = x->row ? x->row[t] : t;
    struct vector at = {0};
    if (x->q) {
        at.q = x->q + v * x->ld;
        at.scale = x->scale + v * (x->ld / SL_BLOCK);
        at.sum = x->sum + v * (x->ld / SL_BLOCK);
    }
    if (x->f)
        at.f = x->f + v * x->ld;
    return at;
}

/* Sum of the codes of inputs [k, k + run). */
static inline int32_t sum_at(const struct vector *v, size_t k, size_t run)
{
    if (run == SL_BLOCK)
        return v->sum[k / SL_BLOCK];
    int32_t sum = 0;
    for (size_t i = 0; i < run; i++)
        sum += v->q[k + i];
    return sum;
}

/* The weights of 8 inputs, the first and the last 4. */
SL_INLINE const uint8_t *load_weights(bool lut, vbook book, const uint8_t *code, vw *low, vw *high)
{
    if (lut) {
        vw_load_lut4(book, code, low, high);
        return code + 64;
    }
    *low = vw_load(code);
    *high = vw_load(code + 64);
    return code + 128;
}

#ifdef SL_VECTOR_PAIRS
SL_INLINE void dot_pair(bool lut, vbook book, const uint8_t *code, const struct vector *v, size_t k,
                        size_t run, vi *dot)
{
    vpair acc = vpair_zero();
    for (size_t i = k; i < k + run; i += 8) {
        vw low, high;
        code = load_weights(lut, book, code, &low, &high);
        acc = vpair_dot(acc, low, high, v[0].q + i, v[1].q + i);
    }
    vpair_split(acc, &dot[0], &dot[1]);
}
#endif

/* dot[t] = the dot products of one run of inputs from K on, whose codes lie at CODE. */
SL_INLINE void dot_run(bool lut, vbook book, const uint8_t *code, const struct vector *v, size_t k,
                       size_t run, size_t tile, vi *dot)
{
#ifdef SL_VECTOR_PAIRS
    if (tile == 2) {
        dot_pair(lut, book, code, v, k, run, dot);
        return;
    }
#endif
    SL_UNROLL
    for (size_t t = 0; t < tile; t++)
        dot[t] = vi_set(vw_bias(sum_at(&v[t], k, run)));
    SL_UNROLL
    for (size_t i = k; i < k + run; i += 8) {
        vw low, high;
        code = load_weights(lut, book, code, &low, &high);
        SL_UNROLL
        for (size_t t = 0; t < tile; t++) {
            dot[t] = vw_dot(dot[t], low, vx_load4(v[t].q + i));
            dot[t] = vw_dot(dot[t], high, vx_load4(v[t].q + i + 4));
        }
    }
}

/* One panel of an integer matrix times TILE vectors; RUN inputs share a weight scale and an
 * activation scale. */
SL_INLINE void panel_integer(const struct sl_packing *p, const uint8_t *panel, bool lut, size_t run,
                             const struct vector *v, size_t tile, vf *y)
{
    size_t cols = sl_padded_cols(p->cols), super = (size_t)p->group * SL_SUPER;
    vbook book = vbook_load(p->codebook);
    const uint8_t *code = panel + SL_ROW_SCALES;
    vf acc[SL_GEMM_TILE];
    SL_UNROLL
    for (size_t t = 0; t < tile; t++)
        acc[t] = vf_set(0);
    for (size_t k0 = 0; k0 < cols; k0 += super) {
        const uint8_t *scales = code;
        size_t end = sl_least(k0 + super, cols);
        code += sl_super_scale_bytes(p->scale);
        for (size_t k = k0; k < end; k += run) {
            vf w = load_scales(p->scale, scales, (k - k0) / p->group);
            vi dot[SL_GEMM_TILE];
            dot_run(lut, book, code, v, k, run, tile, dot);
            code += sl_code_bytes(lut ? SL_CODE_LUT4 : SL_CODE_INT8, run);
            SL_UNROLL
            for (size_t t = 0; t < tile; t++)
                acc[t] = vf_fma(vi_to_f(dot[t]), vf_mul(w, vf_set(v[t].scale[k / SL_BLOCK])),
                                acc[t]);
        }
    }
    vf row_scale = vf_load(panel);
    SL_UNROLL
    for (size_t t = 0; t < tile; t++)
        y[t] = vf_mul(acc[t], row_scale);
}

/* The same for a float matrix: input k goes into chain k mod 4. */
SL_INLINE void panel_float(const struct sl_packing *p, const uint8_t *panel, bool bf16,
                           const struct vector *v, size_t tile, vf *y)
{
    vf chain[2][4];
    size_t bytes = bf16 ? 2 * SL_PANEL : 4 * SL_PANEL, whole = p->cols / 4 * 4;
    SL_UNROLL
    for (size_t t = 0; t < tile; t++)
        SL_UNROLL
    for (size_t c = 0; c < 4; c++)
        chain[t][c] = vf_set(0);
    for (size_t k = 0; k < whole; k += 4, panel += 4 * bytes)
        SL_UNROLL
    for (size_t c = 0; c < 4; c++) {
        vf w = bf16 ? vf_load_bf16(panel + c * bytes) : vf_load(panel + c * bytes);
        SL_UNROLL
        for (size_t t = 0; t < tile; t++)
            chain[t][c] = vf_fma(w, vf_set(v[t].f[k + c]), chain[t][c]);
    }
    SL_UNROLL
    for (size_t c = 0; c < 3; c++) {
        if (whole + c >= p->cols)
            break;
        vf w = bf16 ? vf_load_bf16(panel + c * bytes) : vf_load(panel + c * bytes);
        SL_UNROLL
        for (size_t t = 0; t < tile; t++)
            chain[t][c] = vf_fma(w, vf_set(v[t].f[whole + c]), chain[t][c]);
    }
    SL_UNROLL
    for (size_t t = 0; t < tile; t++)
        y[t] = vf_add(vf_add(chain[t][0], chain[t][1]), vf_add(chain[t][2], chain[t][3]));
}

/* A body for every constant that matters; the compiler drops the rest. */
SL_INLINE void panel_tile(const struct sl_packing *p, const uint8_t *panel, const struct vector *v,
                          size_t tile, vf *y)
{
    switch (p->code) {
    case SL_CODE_LUT4:
        if (p->group == 16)
            panel_integer(p, panel, true, 16, v, tile, y);
        else
            panel_integer(p, panel, true, SL_BLOCK, v, tile, y);
        break;
    case SL_CODE_INT8:
        if (p->group == 16)
            panel_integer(p, panel, false, 16, v, tile, y);
        else
            panel_integer(p, panel, false, SL_BLOCK, v, tile, y);
        break;
    default:
        for (size_t t = 0; t < tile; t += tile < 2 ? 1 : 2)
            panel_float(p, panel, p->code == SL_CODE_BF16, v + t, tile < 2 ? 1 : 2, y + t);
    }
}

/* The same with TILE vectors, a power of two that is known only now. */
static void panel_times(const struct sl_packing *p, const uint8_t *panel, const struct vector *v,
                        size_t tile, vf *y)
{
    if (SL_GEMM_TILE >= 8 && tile == 8)
        panel_tile(p, panel, v, 8, y);
    else if (SL_GEMM_TILE >= 4 && tile == 4)
        panel_tile(p, panel, v, 4, y);
    else if (tile == 2)
        panel_tile(p, panel, v, 2, y);
    else
        panel_tile(p, panel, v, 1, y);
}

/* The largest tile for N vectors. */
static size_t tile_for(size_t n)
{
    size_t tile = SL_GEMM_TILE;
    while (tile > n)
        tile /= 2;
    return tile;
}

void SL_WIDE(gemm)(const struct sl_matrix *w, size_t panel0, size_t panel1, struct sl_acts x,
                   size_t n, float *y, size_t ldy)
{
    const struct sl_packing *p = &w->packing;
    size_t bytes = sl_panel_bytes(p);
    for (size_t i = panel0; i < panel1; i++) {
        size_t row = i * SL_PANEL, rows = sl_least(p->rows - row, SL_PANEL);
        for (size_t t = 0, tile; t < n; t += tile) {
            struct vector v[SL_GEMM_TILE];
            vf out[SL_GEMM_TILE];
            tile = tile_for(n - t);
            for (size_t j = 0; j < tile; j++)
                v[j] = vector_at(&x, t + j);
            panel_times(p, w->data + i * bytes, v, tile, out);
            for (size_t j = 0; j < tile; j++)
                vf_store_n(y + (t + j) * ldy + row, out[j], rows);
        }
    }
}
