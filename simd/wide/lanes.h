/* SPDX-License-Identifier: MIT */
/*
 * The vocabulary that the wide kernels are written in: sixteen lanes, whatever the registers.  One
 * source per kernel is compiled once per rung (simd/local.mk); the rung's lanes_*.h says how its
 * instruction set does each of these, and nothing here depends on it.
 *
 * Each instruction set defines
 *   vf     16 floats;  vi  16 int32;  vm  16 truth values;
 *   vw     64 int8 weights, four per lane, prepared for vw_dot(); vx_load4 is the other side, a vi;
 *   vbook  an int8 codebook of 16;
 * and these functions, exact or correctly rounded, without fused operations but for vf_fma():
 *   vf_set vi_set          the same in all lanes;  vf_splat4: p[0..4) four times
 *   …_load …_store         16 elements (vw: 64), not aligned;  …_n: the first n, the rest 0;
 *   …_bf16 _f16 _s8 _u8 _u16   nothing outside of them is touched
 *   vf_load_e4m3           16 bytes as FP8 (1 sign, 4 exponent and 3 mantissa bits) without NaN
 *   vi_store4_s8           64 elements, those of four vi
 *   vf_join4               4 elements from each of four places
 *   vf_min vf_max          a < b ? a : b,  a > b ? a : b  (so b when either is NaN)
 *   vf_round vf_to_i       to nearest even; vf_to_i for |x| < 2^31, vi_store_… for what fits
 *   vf_scale               x · 2^n rounded once, n a whole number within ±250
 *   vf_tree                the sum in the order of sl_tree16();  vf_largest: max, no NaN among them
 *   vf_unzip vf_zip        even and odd elements of 32, and back
 *   vf_swap1 2 4 8         lane i gets lane i xor 1, 2, 4, 8
 *   vf_lookup              table[index], index in [0, 16)
 *   vf_gt vf_ge vi_eq      comparisons, false with NaN;  vf_unordered: is NaN
 *   vi_add_if              a + (m ? b : 0);  vm_bits: lane i as bit i
 *   vi_sum                 sum of the lanes
 *   vw_dot                 acc[lane] + Σ of four products; the final sum is off by −vw_bias(Σ of
 *                          all x that the lane has met), which belongs into the first acc
 *   vw_load_lut4           64 bytes of code pairs as the weights of their low and high nibbles
 *   vpair_…                with SL_VECTOR_PAIRS: two vectors' dot products at once
 *   vf_opaque vi_opaque    the same value, of which the compiler knows nothing more
 *   SL_GEMM_TILE SL_GEMM_PANELS   how many vectors (4 or 8), and panels for each,
 *   SL_FLOAT_TILE          vectors, of float matrices,
 *   SL_HEAD_TILE SL_VALUE_TILE SL_COLUMN_TILE   heads, parts of a value, and vectors of keys or
 *                          values for each of SL_HEAD_TILE heads the registers have room for
 *   SL_SCORE_HEADS SL_SCORE_PANELS   index heads times key panels: loads serve many products,
 *   SL_STREAMS             panels that one vector is multiplied by at a time,
 *   SL_AHEAD               and how many bytes ahead they are fetched into the second cache, or 0
 *   SL_PEAK_SUMS           independent sums that hide the latency of vw_dot() and vf_fma()
 */
#ifndef SL_SIMD_LANES_H
#define SL_SIMD_LANES_H

#if defined(__AVX512BW__)
#include "simd/x86/lanes_avx512.h"
#elif defined(__AVX2__)
#include "simd/x86/lanes_avx2.h"
#else
#include "simd/arm/lanes_neon.h"
#endif

#include <stdbool.h>

/* The kernel NAME of this rung: sl_<rung>_NAME. */
#define SL_JOIN(a, b, c, d) a##b##c##d
#define SL_NAME(rung, name) SL_JOIN(sl_, rung, _, name)
#define SL_WIDE(name) SL_NAME(SL_RUNG, name)

/* For bodies whose constant arguments make several kernels of them. */
#define SL_INLINE static inline __attribute__((always_inline))
/* For loops over arrays that have to live in registers. */
#ifdef __clang__
#define SL_UNROLL _Pragma("unroll")
#else
#define SL_UNROLL _Pragma("GCC unroll 16")
#endif

enum { SL_LANES = 16 };

static inline size_t sl_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* N ≤ 16 floats of X, the other lanes FILL. */
static inline vf vf_load_or(const float *x, size_t n, float fill)
{
    float all[SL_LANES];
    for (size_t i = 0; i < SL_LANES; i++)
        all[i] = i < n ? x[i] : fill;
    return vf_load(all);
}

/* The first N lanes, the others 0. */
static inline vf vf_first(vf x, size_t n)
{
    float all[SL_LANES];
    vf_store(all, x);
    return vf_load_n(all, n);
}

/* exp of each lane: sl_expf() to the bit.  Beyond the limits the result has long been 0 or
 * infinite; min and max keep their second operand when it is NaN. */
static inline vf vf_exp(vf x)
{
    x = vf_max(vf_set(-105.0f), vf_min(vf_set(89.0f), x));
    vf n = vf_round(vf_mul(x, vf_set(0x1.715476p+0f)));
    vf r = vf_fma(n, vf_set(-0x1.62e4p-1f), x);
    r = vf_fma(n, vf_set(-0x1.7f7d1cp-20f), r);
    vf p = vf_set(0x1.6a215ap-10f);
    p = vf_fma(p, r, vf_set(0x1.123b9ap-7f));
    p = vf_fma(p, r, vf_set(0x1.5558fcp-5f));
    p = vf_fma(p, r, vf_set(0x1.55549p-3f));
    p = vf_fma(p, r, vf_set(0x1.fffffcp-2f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    return vf_scale(p, n);
}

/* sl_to_bf16() of each lane, in the low 16 bits. */
static inline vi vf_to_bf16(vf x)
{
    vi u = vf_bits(x), high = vi_shr(u, 16);
    vi odd = vi_and(high, vi_set(1));
    vi rounded = vi_shr(vi_add(vi_add(u, vi_set(0x7fff)), odd), 16);
    vi quiet = vi_or(high, vi_set(0x40));
    return vf_bits(vf_select(vf_unordered(x), vi_as_f(quiet), vi_as_f(rounded)));
}

/* Codes of simd/ref/codes.h: x · INVERSE rounded to nearest even, NaN 127.  |x| is at most the
 * maximum that INVERSE was made from, so nothing else is beyond ±127. */
static inline vi vf_codes(vf x, float inverse)
{
    return vf_to_i(vf_min(vf_mul(x, vf_set(inverse)), vf_set(127.0f)));
}

/* Largest |x[i]|; NaN never wins. */
static inline float vf_max_abs(const float *x, size_t n)
{
    vf max = vf_set(0);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        max = vf_max(vf_abs(vf_load(x + i)), max);
    if (i < n)
        max = vf_max(vf_abs(vf_load_n(x + i, n - i)), max);
    return vf_largest(max);
}

/* Σ of N codes. */
static inline int32_t vw_sum(const int8_t *q, size_t n)
{
    size_t whole = n / 64 * 64;
    vi ones = vi_set(0x01010101), acc = vi_set(vw_bias((int32_t)(whole / 16)));
    for (size_t i = 0; i < whole; i += 64)
        acc = vw_dot(acc, vw_load(q + i), ones);
    int32_t sum = vi_sum(acc);
    for (size_t i = whole; i < n; i++)
        sum += q[i];
    return sum;
}

#endif
