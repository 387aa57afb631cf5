/* SPDX-License-Identifier: MIT */
/* Kernels over one vector: as many sums as hide their latency, inverses by Newton's steps.  Lengths
 * are multiples of 128, quantize_acts' of 512, hadamard's is 128. */
#include <string.h>

#include "tests/bench/equality/by_hand.h"
#include "tests/bench/equality/free_lanes.h"

enum { SUMS = 8, STEP = SUMS * SL_LANES };

/* ---- norms ---------------------------------------------------------------------------------- */

static inline float sum_of(__m512 s[SUMS])
{
    SL_UNROLL
    for (size_t half = SUMS / 2; half > 0; half /= 2)
        SL_UNROLL
    for (size_t j = 0; j < half; j++)
        s[j] = vf_add(s[j], s[j + half]);
    return _mm512_reduce_add_ps(s[0]);
}

void free_rmsnorm(const float *x, const float *w, float eps, size_t n, float *y)
{
    __m512 s[SUMS];
    SL_UNROLL
    for (size_t j = 0; j < SUMS; j++)
        s[j] = vf_set(0);
    for (size_t i = 0; i < n; i += STEP)
        SL_UNROLL
    for (size_t j = 0; j < SUMS; j++) {
        __m512 v = vf_load(x + i + j * SL_LANES);
        s[j] = vf_fma(v, v, s[j]);
    }
    __m512 r = free_inverse_root(vf_set(sum_of(s) / (float)n + eps));
    for (size_t i = 0; i < n; i += 4 * SL_LANES)
        SL_UNROLL
    for (size_t j = i; j < i + 4 * SL_LANES; j += SL_LANES)
        vf_store(y + j, vf_mul(vf_load(w + j), vf_mul(vf_load(x + j), r)));
}

/* n = 128, which stays in registers. */
void free_layernorm(const float *x, const float *w, const float *b, float eps, size_t n, float *y)
{
    __m512 d[SUMS], s[SUMS], by_n = vf_set(1.0f / (float)n);
    SL_UNROLL
    for (size_t j = 0; j < SUMS; j++)
        s[j] = d[j] = vf_load(x + j * SL_LANES);
    __m512 mean = vf_mul(vf_set(sum_of(s)), by_n);
    SL_UNROLL
    for (size_t j = 0; j < SUMS; j++) {
        d[j] = vf_sub(d[j], mean);
        s[j] = vf_mul(d[j], d[j]);
    }
    __m512 r = free_inverse_root(vf_fma(vf_set(sum_of(s)), by_n, vf_set(eps)));
    SL_UNROLL
    for (size_t j = 0; j < SUMS; j++)
        vf_store(y + j * SL_LANES,
                 vf_fma(vf_mul(d[j], r), vf_load(w + j * SL_LANES), vf_load(b + j * SL_LANES)));
}

/* ---- exp and division ----------------------------------------------------------------------- */

static inline __m512 sigmoid(__m512 x)
{
    return free_inverse(vf_add(vf_set(1), free_exp(vf_sub(vf_set(0), x))));
}

void free_sigmoid(const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i += 4 * SL_LANES)
        SL_UNROLL
    for (size_t j = i; j < i + 4 * SL_LANES; j += SL_LANES)
        vf_store(y + j, sigmoid(vf_load(x + j)));
}

void free_swiglu(const float *gate_up, size_t n, float *y)
{
    for (size_t i = 0; i < n; i += 4 * SL_LANES)
        SL_UNROLL
    for (size_t j = i; j < i + 4 * SL_LANES; j += SL_LANES) {
        __m512 gate = vf_load(gate_up + 2 * j), up = vf_load(gate_up + 2 * j + SL_PANEL);
        vf_store(y + j, vf_mul(vf_mul(gate, up), sigmoid(gate)));
    }
}

void free_attend_finish(float *out, float sum, size_t n)
{
    __m512 by = free_inverse(vf_set(sum));
    for (size_t i = 0; i < n; i += 4 * SL_LANES)
        SL_UNROLL
    for (size_t j = i; j < i + 4 * SL_LANES; j += SL_LANES)
        vf_store(out + j, vf_mul(vf_load(out + j), by));
}

/* ---- codes ---------------------------------------------------------------------------------- */

/* Sixteen blocks at a time: their maxima, and so the divisions, are one vector. */
void free_quantize_acts(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum)
{
    for (size_t b = 0; b < n / SL_BLOCK; b += SL_LANES, x += SL_LANES * SL_BLOCK) {
        __m512 most[SL_LANES];
        float inverse[SL_LANES];
        SL_UNROLL
        for (size_t i = 0; i < SL_LANES; i++)
            most[i] = _mm512_max_ps(vf_abs(vf_load(x + i * SL_BLOCK)),
                                    vf_abs(vf_load(x + i * SL_BLOCK + SL_LANES)));
        __m512 max = _mm512_max_ps(max_lanes16(most), vf_set(0x1p-100f));
        vf_store(scale + b, vf_mul(max, vf_set(1 / 127.0f)));
        vf_store(inverse, vf_mul(vf_set(127), free_inverse(max)));
        for (size_t i = 0; i < SL_LANES; i++) {
            __m512i low = vf_to_i(vf_mul(vf_load(x + i * SL_BLOCK), vf_set(inverse[i])));
            __m512i high = vf_to_i(
                vf_mul(vf_load(x + i * SL_BLOCK + SL_LANES), vf_set(inverse[i])));
            vi_store_s8(q + (b + i) * SL_BLOCK, low);
            vi_store_s8(q + (b + i) * SL_BLOCK + SL_LANES, high);
            most[i] = vi_to_f(vi_add(low, high));
        }
        _mm512_storeu_si512(sum + b, vf_to_i(sum_lanes16(most)));
    }
}

/* ---- rotations ------------------------------------------------------------------------------ */

/* (a, b) times (cos, cos) minus and plus (b, a) times (sin, sin). */
void free_rope_interleaved(float *x, const float *cosine, const float *sine, size_t pairs)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    for (size_t i = 0; i < pairs; i += 8) {
        __m512 both = vf_load(x + 2 * i);
        __m512 c = _mm512_permutexvar_ps(twice,
                                         _mm512_castps256_ps512(_mm256_loadu_ps(cosine + i)));
        __m512 s = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(sine + i)));
        vf_store(x + 2 * i, _mm512_fmaddsub_ps(both, c, vf_mul(vf_swap1(both), s)));
    }
}

/* Signs of the four butterflies within 16 lanes; the last takes the factor along. */
static inline __m512 butterflies(__m512 x, float factor)
{
    const __m512 one = vf_set(1), minus = vf_set(-1);
    x = vf_fma(x, _mm512_mask_blend_ps(0xaaaa, one, minus), vf_swap1(x));
    x = vf_fma(x, _mm512_mask_blend_ps(0xcccc, one, minus), vf_swap2(x));
    x = vf_fma(x, _mm512_mask_blend_ps(0xf0f0, one, minus), vf_swap4(x));
    x = vf_mul(x, vf_set(factor));
    return vf_fma(x, _mm512_mask_blend_ps(0xff00, one, minus), vf_swap8(x));
}

/* n = 128, which stays in registers. */
void free_hadamard(float *x, size_t n)
{
    __m512 v[SUMS];
    (void)n;
    SL_UNROLL
    for (size_t j = 0; j < SUMS; j++)
        v[j] = vf_load(x + j * SL_LANES);
    SL_UNROLL
    for (size_t half = 1; half < SUMS; half *= 2)
        SL_UNROLL
    for (size_t j = 0; j < SUMS; j++)
        if (!(j & half)) {
            __m512 a = v[j], b = v[j + half];
            v[j] = vf_add(a, b);
            v[j + half] = vf_sub(a, b);
        }
    SL_UNROLL
    for (size_t j = 0; j < SUMS; j++)
        vf_store(x + j * SL_LANES, butterflies(v[j], 0x1.6a09e6p-4f));
}
