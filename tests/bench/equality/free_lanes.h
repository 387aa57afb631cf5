/* SPDX-License-Identifier: MIT */
/* exp, division and roots without fixed bits.  Included before a source of simd/wide/, it takes the
 * place of that source's own. */
#ifndef SL_TESTS_FREE_LANES_H
#define SL_TESTS_FREE_LANES_H

#include "simd/wide/lanes.h"

/* exp(x) within 2 ulp for |x| ≤ 87, beyond that exp(±87): 2^n times a polynomial of degree 5. */
static inline __m512 free_exp(__m512 x)
{
    const __m512 log2e = _mm512_set1_ps(0x1.715476p+0f);
    x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(87)), _mm512_set1_ps(-87));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, log2e), 8), f = _mm512_fmsub_ps(x, log2e, n);
    __m512 p = _mm512_set1_ps(0x1.5bba12p-10f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.3cea8cp-7f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.c6b752p-5f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.ebf9bcp-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0x1.62e42ap-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, n);
}

/* 1 / x and 1 / sqrt(x): fourteen bits, and a step of Newton's. */
static inline __m512 free_inverse(__m512 x)
{
    __m512 r = _mm512_rcp14_ps(x);
    return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(x, r, _mm512_set1_ps(1)), r);
}

static inline __m512 free_inverse_root(__m512 x)
{
    __m512 r = _mm512_rsqrt14_ps(x), half = _mm512_mul_ps(r, _mm512_set1_ps(0.5f));
    return _mm512_fmadd_ps(half, _mm512_fnmadd_ps(_mm512_mul_ps(x, r), r, _mm512_set1_ps(1)), r);
}

static inline __m512 free_quotient(__m512 a, __m512 b)
{
    return _mm512_mul_ps(a, free_inverse(b));
}

/* Lane i: the sum, or the largest, of the lanes of x[i]. */
#define FREE_PAIR(op, shuffle, a, b, low, high) op(shuffle(a, b, low), shuffle(a, b, high))
#define FREE_LANES16(name, op)                                                                     \
    static inline __m512 name(const __m512 x[16])                                                  \
    {                                                                                              \
        __m512 four[4];                                                                            \
        SL_UNROLL                                                                                  \
        for (size_t i = 0; i < 4; i++) {                                                           \
            __m512 a = FREE_PAIR(op, _mm512_shuffle_f32x4, x[i], x[i + 4], 0x44, 0xee);            \
            __m512 b = FREE_PAIR(op, _mm512_shuffle_f32x4, x[i + 8], x[i + 12], 0x44, 0xee);       \
            four[i] = FREE_PAIR(op, _mm512_shuffle_f32x4, a, b, 0x88, 0xdd);                       \
        }                                                                                          \
        __m512 a = FREE_PAIR(op, _mm512_shuffle_ps, four[0], four[1], 0x44, 0xee);                 \
        __m512 b = FREE_PAIR(op, _mm512_shuffle_ps, four[2], four[3], 0x44, 0xee);                 \
        return FREE_PAIR(op, _mm512_shuffle_ps, a, b, 0x88, 0xdd);                                 \
    }
FREE_LANES16(sum_lanes16, _mm512_add_ps)
FREE_LANES16(max_lanes16, _mm512_max_ps)

#define vf_exp free_exp
#define vf_div free_quotient

#endif
