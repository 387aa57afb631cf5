/* SPDX-License-Identifier: MIT */
/*
 * Packed integer matrix times one vector.  Such a product waits for the weights' way from memory.
 * SL_STREAMS panels are read at a time, each from a part of the matrix of its own: prefetchers
 * bring more on several long streams of addresses than on one, and the panels share each load of
 * the vector.  Orders of operations: docs/kernels.md, gemm.
 */
#include "simd/wide/panels.h"

/* N panels to multiply at once. */
struct panels {
    const struct sl_packing *packing;
    const uint8_t *first;
    size_t apart; /* bytes from one to the next */
    size_t n;
    bool lut;
};

/* dot[j] = the dot products of panel j and one run of inputs from K on, whose codes lie AT bytes
 * from the start of the panel. */
SL_INLINE void dot_run(const struct panels *m, vbook book, size_t at, const struct vector *v,
                       size_t k, size_t run, vi *dot)
{
    vi bias = vi_set(vw_bias(sum_at(v, k, run)));
    SL_UNROLL
    for (size_t j = 0; j < m->n; j++)
        dot[j] = bias;
    SL_UNROLL
    for (size_t i = k; i < k + run; i += 8) {
        const uint8_t *code = m->first + at;
        vi first = vx_load4(v->q + i), last = vx_load4(v->q + i + 4);
        SL_UNROLL
        for (size_t j = 0; j < m->n; j++, code += m->apart) {
            vw low, high;
            for (size_t line = 0; SL_AHEAD > 0 && line < (m->lut ? 64 : 128); line += 64)
                __builtin_prefetch(code + SL_AHEAD + line, 0, 2);
            load_weights(m->lut, book, code, &low, &high);
            dot[j] = vw_dot(vw_dot(dot[j], low, first), high, last);
        }
        at += sl_code_bytes(m->lut ? SL_CODE_LUT4 : SL_CODE_INT8, 8);
    }
}

/* y[j] = panel j times the vector; RUN inputs share a weight scale and an activation scale. */
SL_INLINE void multiply(const struct panels *m, size_t run, const struct vector *v, vf *y)
{
    const struct sl_packing *p = m->packing;
    size_t cols = sl_padded_cols(p->cols), super = (size_t)p->group * SL_SUPER;
    size_t at = SL_ROW_SCALES;
    vbook book = vbook_load(p->codebook);
    SL_UNROLL
    for (size_t j = 0; j < m->n; j++)
        y[j] = vf_set(0);
    for (size_t k0 = 0; k0 < cols; k0 += super) {
        const uint8_t *scales = m->first + at;
        size_t end = sl_least(k0 + super, cols);
        at += sl_super_scale_bytes(p->scale);
        for (size_t k = k0; k < end; k += run) {
            vf x = vf_set(v->scale[k / SL_BLOCK]);
            vi dot[SL_STREAMS];
            dot_run(m, book, at, v, k, run, dot);
            at += sl_code_bytes(m->lut ? SL_CODE_LUT4 : SL_CODE_INT8, run);
            SL_UNROLL
            for (size_t j = 0; j < m->n; j++) {
                vf w = load_scales(p->scale, scales + j * m->apart, (k - k0) / p->group);
                y[j] = vf_fma(vi_to_f(dot[j]), vf_mul(w, x), y[j]);
            }
        }
    }
    SL_UNROLL
    for (size_t j = 0; j < m->n; j++)
        y[j] = vf_mul(y[j], vf_load(m->first + j * m->apart));
}

/* N panels, the first of them number FIRST and the others APART panels from one to the next.  There
 * is a body for every constant that matters. */
SL_INLINE void multiply_panels(const struct sl_matrix *w, size_t first, size_t apart, size_t n,
                               const struct vector *v, float *y)
{
    const struct sl_packing *p = &w->packing;
    size_t bytes = sl_panel_bytes(p);
    const struct panels lut4 = {p, w->data + first * bytes, apart * bytes, n, true};
    const struct panels int8 = {p, w->data + first * bytes, apart * bytes, n, false};
    vf out[SL_STREAMS];
    if (p->code == SL_CODE_LUT4 && p->group == 16)
        multiply(&lut4, 16, v, out);
    else if (p->code == SL_CODE_LUT4)
        multiply(&lut4, SL_BLOCK, v, out);
    else if (p->group == 16)
        multiply(&int8, 16, v, out);
    else
        multiply(&int8, SL_BLOCK, v, out);
    for (size_t j = 0; j < n; j++) {
        size_t row = (first + j * apart) * SL_PANEL;
        vf_store_n(y + row, out[j], sl_least(p->rows - row, SL_PANEL));
    }
}

void SL_WIDE(gemv)(const struct sl_matrix *w, size_t panel0, size_t panel1, struct sl_acts x,
                   float *y)
{
    const struct vector v = vector_at(&x, 0);
    size_t part = (panel1 - panel0) / SL_STREAMS, end = panel0 + part, i = panel0;
    for (; i < end; i++)
        multiply_panels(w, i, part, SL_STREAMS, &v, y);
    for (i = panel0 + part * SL_STREAMS; i < panel1; i++)
        multiply_panels(w, i, 1, 1, &v, y);
}
