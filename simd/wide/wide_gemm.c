/* SPDX-License-Identifier: MIT */
/*
 * Packed matrix times activation vectors.  Lanes are the 16 rows of a panel.  SL_GEMM_PANELS panels
 * of an integer matrix times up to SL_GEMM_TILE vectors make a tile, whose integer sums live in
 * registers: each load of weights serves all its vectors and each load of a vector all its panels.
 * A single vector and integer weights: wide_gemv.c.  Orders of operations: docs/kernels.md, gemm.
 */
#include "simd/wide/panels.h"

/* How far ahead of their use weights are fetched.  Tiles of many vectors use them more slowly than
 * memory delivers, but processors fetch too late by themselves. */
enum { AHEAD = 2048 };

/* SL_GEMM_PANELS neighbours. */
struct panels {
    const struct sl_packing *packing;
    const uint8_t *first;
    size_t bytes; /* from one to the next; 0: all are the first */
    bool lut;
    bool fetch; /* their weights are still in memory */
};

/* The float sums of a tile.  They stay in memory: one load and store per run of inputs cost less
 * than registers, which are needed for integer sums. */
typedef float sums[SL_GEMM_PANELS][SL_LANES];

/* dot[t][j] = the dot product of vector t and panel j over RUN inputs from K on.  CODE are the
 * first panel's codes of these inputs. */
SL_INLINE void dot_run(const struct panels *m, vbook book, const uint8_t *code,
                       const struct vector *v, size_t k, size_t run, size_t tile,
                       vi dot[SL_GEMM_TILE][SL_GEMM_PANELS])
{
    size_t step = sl_code_bytes(m->lut ? SL_CODE_LUT4 : SL_CODE_INT8, 8);
    SL_UNROLL
    for (size_t t = 0; t < tile; t++) {
        vi start = vi_set(vw_bias(sum_at(&v[t], k, run)));
        SL_UNROLL
        for (size_t j = 0; j < SL_GEMM_PANELS; j++)
            dot[t][j] = start;
    }
    SL_UNROLL
    for (size_t i = k; i < k + run; i += 8, code += step) {
        vw low[SL_GEMM_PANELS], high[SL_GEMM_PANELS];
        SL_UNROLL
        for (size_t j = 0; j < SL_GEMM_PANELS; j++) {
            const uint8_t *at = code + j * m->bytes;
            load_weights(m->lut, book, at, &low[j], &high[j]);
            for (size_t line = 0; m->fetch && line < step; line += 64)
                __builtin_prefetch(at + AHEAD + line);
        }
        SL_UNROLL
        for (size_t t = 0; t < tile; t++) {
            vi x = vx_load4(v[t].q + i);
            SL_UNROLL
            for (size_t j = 0; j < SL_GEMM_PANELS; j++)
                dot[t][j] = vw_dot(dot[t][j], low[j], x);
            x = vx_load4(v[t].q + i + 4);
            SL_UNROLL
            for (size_t j = 0; j < SL_GEMM_PANELS; j++)
                dot[t][j] = vw_dot(dot[t][j], high[j], x);
        }
    }
}

#ifdef SL_VECTOR_PAIRS
/* The same for an even number of vectors and single panels. */
SL_INLINE void dot_pairs(const struct panels *m, vbook book, const uint8_t *code,
                         const struct vector *v, size_t k, size_t run, size_t tile,
                         vi dot[SL_GEMM_TILE][SL_GEMM_PANELS])
{
    vpair acc[SL_GEMM_TILE / 2];
    SL_UNROLL
    for (size_t t = 0; t < tile; t += 2)
        acc[t / 2] = vpair_zero();
    SL_UNROLL
    for (size_t i = k; i < k + run; i += 8) {
        vw low, high;
        code = load_weights(m->lut, book, code, &low, &high);
        SL_UNROLL
        for (size_t t = 0; t < tile; t += 2)
            acc[t / 2] = vpair_dot(acc[t / 2], low, high, v[t].q + i, v[t + 1].q + i);
    }
    SL_UNROLL
    for (size_t t = 0; t < tile; t += 2)
        vpair_split(acc[t / 2], &dot[t][0], &dot[t + 1][0]);
}
#endif

/* sum[t][j] += the products of one run, W being the panels' scales. */
SL_INLINE void add_run(const struct vector *v, size_t k, size_t tile, const vf *w,
                       vi dot[SL_GEMM_TILE][SL_GEMM_PANELS], sums *sum)
{
    __asm__ volatile(""
                     : "+r"(sum)); /* or compilers keep copies, with no register to keep them in */
    SL_UNROLL
    for (size_t t = 0; t < tile; t++) {
        vf x = vf_set(v[t].scale[k / SL_BLOCK]);
        SL_UNROLL
        for (size_t j = 0; j < SL_GEMM_PANELS; j++)
            vf_store(sum[t][j], vf_fma(vi_to_f(dot[t][j]), vf_mul(w[j], x), vf_load(sum[t][j])));
    }
}

/* A tile; RUN inputs share a weight scale and an activation scale. */
SL_INLINE void multiply_tile(const struct panels *m, size_t run, const struct vector *v,
                             size_t tile, sums *sum)
{
    const struct sl_packing *p = m->packing;
    size_t cols = sl_padded_cols(p->cols), super = (size_t)p->group * SL_SUPER;
    vbook book = vbook_load(p->codebook);
    const uint8_t *code = m->first + SL_ROW_SCALES;
    for (size_t k0 = 0; k0 < cols; k0 += super) {
        const uint8_t *scales = code;
        size_t end = sl_least(k0 + super, cols);
        code += sl_super_scale_bytes(p->scale);
        for (size_t k = k0; k < end; k += run) {
            vi dot[SL_GEMM_TILE][SL_GEMM_PANELS];
            vf w[SL_GEMM_PANELS];
#ifdef SL_VECTOR_PAIRS
            if (tile > 1)
                dot_pairs(m, book, code, v, k, run, tile, dot);
            else
#endif
                dot_run(m, book, code, v, k, run, tile, dot);
            SL_UNROLL
            for (size_t j = 0; j < SL_GEMM_PANELS; j++)
                w[j] = load_scales(p->scale, scales + j * m->bytes, (k - k0) / p->group);
            add_run(v, k, tile, w, dot, sum);
            code += sl_code_bytes(m->lut ? SL_CODE_LUT4 : SL_CODE_INT8, run);
        }
    }
}

/* A body for every constant that matters. */
SL_INLINE void tile_of(const struct panels *m, const struct vector *v, size_t tile, sums *sum)
{
    struct panels lut4 = *m, int8 = *m;
    lut4.lut = true;
    int8.lut = false;
    if (m->lut && m->packing->group == 16)
        multiply_tile(&lut4, 16, v, tile, sum);
    else if (m->lut)
        multiply_tile(&lut4, SL_BLOCK, v, tile, sum);
    else if (m->packing->group == 16)
        multiply_tile(&int8, 16, v, tile, sum);
    else
        multiply_tile(&int8, SL_BLOCK, v, tile, sum);
}

/* One panel of a float matrix times TILE vectors: input k goes into chain k mod 4. */
SL_INLINE void panel_float(const struct sl_packing *p, const uint8_t *panel, bool bf16,
                           const struct vector *v, size_t tile, vf *y)
{
    vf chain[SL_FLOAT_TILE][4];
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

/* The largest tile for N vectors: a power of two. */
static size_t tile_for(size_t n)
{
    size_t tile = SL_GEMM_TILE;
    while (tile > n)
        tile /= 2;
    return tile;
}

/* COUNT ≤ SL_GEMM_PANELS panels from number I on times up to SL_GEMM_TILE vectors from T on;
 * returns how many. */
static size_t multiply_integer(const struct sl_matrix *w, size_t i, size_t count,
                               const struct sl_acts *x, size_t t, size_t n, float *y, size_t ldy)
{
    const struct sl_packing *p = &w->packing;
    size_t bytes = sl_panel_bytes(p), tile = tile_for(n - t);
    const struct panels m = {.packing = p,
                             .first = w->data + i * bytes,
                             .bytes = count == SL_GEMM_PANELS ? bytes : 0,
                             .lut = p->code == SL_CODE_LUT4,
                             .fetch = t == 0};
    struct vector v[SL_GEMM_TILE];
    sums sum[SL_GEMM_TILE];
    for (size_t at = 0; at < tile; at++) {
        v[at] = vector_at(x, t + at);
        for (size_t j = 0; j < SL_GEMM_PANELS; j++)
            vf_store(sum[at][j], vf_set(0));
    }
    if (SL_GEMM_TILE >= 8 && tile == 8)
        tile_of(&m, v, 8, sum);
    else if (SL_GEMM_TILE >= 4 && tile == 4)
        tile_of(&m, v, 4, sum);
    else if (tile == 2)
        tile_of(&m, v, 2, sum);
    else
        tile_of(&m, v, 1, sum);
    for (size_t j = 0; j < count; j++) {
        size_t row = (i + j) * SL_PANEL;
        vf row_scale = vf_load(m.first + j * bytes);
        for (size_t at = 0; at < tile; at++)
            vf_store_n(y + (t + at) * ldy + row, vf_mul(vf_load(sum[at][j]), row_scale),
                       sl_least(p->rows - row, SL_PANEL));
    }
    return tile;
}

/* Panel I of a float matrix times up to SL_FLOAT_TILE vectors from T on; returns how many. */
static size_t multiply_float(const struct sl_matrix *w, size_t i, const struct sl_acts *x, size_t t,
                             size_t n, float *y, size_t ldy)
{
    const struct sl_packing *p = &w->packing;
    const uint8_t *panel = w->data + i * sl_panel_bytes(p);
    size_t row = i * SL_PANEL, tile = n - t < SL_FLOAT_TILE ? 1 : SL_FLOAT_TILE;
    struct vector v[SL_FLOAT_TILE];
    vf out[SL_FLOAT_TILE];
    for (size_t at = 0; at < tile; at++)
        v[at] = vector_at(x, t + at);
    if (tile == SL_FLOAT_TILE)
        panel_float(p, panel, p->code == SL_CODE_BF16, v, SL_FLOAT_TILE, out);
    else
        panel_float(p, panel, p->code == SL_CODE_BF16, v, 1, out);
    for (size_t at = 0; at < tile; at++)
        vf_store_n(y + (t + at) * ldy + row, out[at], sl_least(p->rows - row, SL_PANEL));
    return tile;
}

void SL_WIDE(gemm)(const struct sl_matrix *w, size_t panel0, size_t panel1, struct sl_acts x,
                   size_t n, float *y, size_t ldy)
{
    bool integer = sl_is_integer(w->packing.code);
    if (integer && n == 1) {
        SL_WIDE(gemv)(w, panel0, panel1, x, y);
        return;
    }
    for (size_t i = panel0, count; i < panel1; i += count) {
        count = !integer || panel1 - i < SL_GEMM_PANELS ? 1 : SL_GEMM_PANELS;
        for (size_t t = 0; t < n;)
            t += integer ? multiply_integer(w, i, count, &x, t, n, y, ldy)
                         : multiply_float(w, i, &x, t, n, y, ldy);
    }
}
