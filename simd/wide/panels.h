/* SPDX-License-Identifier: MIT */
/* Pieces of integer panels and of activations, as the files of gemm read them.  Private to
 * simd/wide/. */
#ifndef SL_SIMD_WIDE_PANELS_H
#define SL_SIMD_WIDE_PANELS_H

#include "simd/wide/wide_kernels.h"

/* One activation vector. */
struct vector {
    const int8_t *q;
    const float *scale;
    const int32_t *sum;
    const float *f;
};

static inline struct vector vector_at(const struct sl_acts *x, size_t t)
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

/* The scales of the 16 rows for group number GROUP of a superblock. */
static inline vf load_scales(enum sl_scale kind, const uint8_t *scales, size_t group)
{
    if (kind == SL_SCALE_S8)
        return vf_load_s8(scales + SL_PANEL * group);
    const uint8_t *at = scales + 2 * SL_PANEL * group;
    return kind == SL_SCALE_F16 ? vf_load_f16(at) : vf_load_bf16(at);
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

#endif
