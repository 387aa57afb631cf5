/* SPDX-License-Identifier: MIT */
/* Floats to INT8 with one scale per group: activations, latents, queries. */
#include "simd/ref/codes.h"
#include "simd/wide/wide_kernels.h"

enum { CODES = 4 * SL_LANES }; /* made together */

static inline void codes64(const float *x, float inverse, int8_t *q)
{
    vi a = vf_codes(vf_load(x), inverse), b = vf_codes(vf_load(x + SL_LANES), inverse);
    vi c = vf_codes(vf_load(x + 2 * SL_LANES), inverse);
    vi d = vf_codes(vf_load(x + 3 * SL_LANES), inverse);
    vi_store4_s8(q, a, b, c, d);
}

/* Codes of x[0..n), n ≤ 16, into q; their sum. */
static inline int32_t codes16(const float *x, size_t n, float inverse, int8_t *q)
{
    int8_t all[SL_LANES];
    vi code = vf_codes(vf_load_n(x, n), inverse);
    vi_store_s8(all, code);
    memcpy(q, all, n);
    return vi_sum(code);
}

void SL_WIDE(quantize_groups)(const float *x, size_t n, size_t group, int8_t *q, float *scale)
{
    for (size_t i = 0; i < n; i += group) {
        size_t have = sl_least(n - i, group), k = 0;
        float max = vf_max_abs(x + i, have), inverse = sl_code_inverse(max);
        for (; k + CODES <= have; k += CODES)
            codes64(x + i + k, inverse, q + i + k);
        for (; k < have; k += SL_LANES)
            codes16(x + i + k, sl_least(have - k, SL_LANES), inverse, q + i + k);
        scale[i / group] = sl_code_scale(max);
    }
}

/* ---- sixteen blocks: a lane for each of them ------------------------------------------------- */

static inline vf join_max(vf x, vf y)
{
    vf even, odd;
    vf_unzip(x, y, &even, &odd);
    return vf_max(even, odd);
}

static inline vi join_sum(vi x, vi y)
{
    vf even, odd;
    vf_unzip(vi_as_f(x), vi_as_f(y), &even, &odd);
    return vi_add(vf_bits(even), vf_bits(odd));
}

/* Largest |x| of a block, one of each half in every lane. */
static inline vf block_max(const float *x)
{
    vf first = vf_max(vf_abs(vf_load(x)), vf_set(0));
    return vf_max(vf_abs(vf_load(x + SL_LANES)), first);
}

/* Those of four blocks, in four lanes each. */
static inline vf blocks4_max(const float *x)
{
    vf low = join_max(block_max(x), block_max(x + SL_BLOCK));
    vf high = join_max(block_max(x + 2 * SL_BLOCK), block_max(x + 3 * SL_BLOCK));
    return join_max(low, high);
}

static inline vf blocks16_max(const float *x)
{
    vf low = join_max(blocks4_max(x), blocks4_max(x + 4 * SL_BLOCK));
    vf high = join_max(blocks4_max(x + 8 * SL_BLOCK), blocks4_max(x + 12 * SL_BLOCK));
    return join_max(low, high);
}

/* Codes of two blocks; sums of four codes in a lane. */
static inline vi blocks2_codes(const float *x, const float *inverse, int8_t *q)
{
    static const int8_t ones[4] = {1, 1, 1, 1};
    vi a = vf_codes(vf_load(x), inverse[0]), b = vf_codes(vf_load(x + SL_LANES), inverse[0]);
    vi c = vf_codes(vf_load(x + SL_BLOCK), inverse[1]);
    vi d = vf_codes(vf_load(x + SL_BLOCK + SL_LANES), inverse[1]);
    vi_store4_s8(q, a, b, c, d);
    return vw_dot(vi_set(vw_bias(4)), vw_load(q), vx_load4(ones));
}

/* Codes of eight blocks; sums of sixteen codes in a lane. */
static inline vi blocks8_codes(const float *x, const float *inverse, int8_t *q)
{
    vi pair[4];
    SL_UNROLL
    for (size_t i = 0; i < 4; i++)
        pair[i] = blocks2_codes(x + 2 * i * SL_BLOCK, inverse + 2 * i, q + 2 * i * SL_BLOCK);
    return join_sum(join_sum(pair[0], pair[1]), join_sum(pair[2], pair[3]));
}

static inline void blocks16(const float *x, int8_t *q, float *scale, int32_t *sum)
{
    float inverse[SL_LANES];
    vf max = blocks16_max(x), none = vf_set(0), most = vf_set(127.0f);
    vm some = vf_ge(max, vf_set(sl_tiny));
    vf_store(scale, vf_select(some, vf_div(max, most), none));
    vf_store(inverse, vf_select(some, vf_div(most, max), none));
    vi low = blocks8_codes(x, inverse, q);
    vi high = blocks8_codes(x + 8 * SL_BLOCK, inverse + 8, q + 8 * SL_BLOCK);
    vi total = join_sum(low, high);
    memcpy(sum, &total, sizeof total);
}

/* ---- and one --------------------------------------------------------------------------------- */

static inline void block(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum)
{
    float max = vf_max_abs(x, n), inverse = sl_code_inverse(max);
    memset(q, 0, SL_BLOCK);
    *sum = 0;
    for (size_t k = 0; k < n; k += SL_LANES)
        *sum += codes16(x + k, sl_least(n - k, SL_LANES), inverse, q + k);
    *scale = sl_code_scale(max);
}

void SL_WIDE(quantize_acts)(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum)
{
    size_t b = 0;
    for (; (b + SL_LANES) * SL_BLOCK <= n; b += SL_LANES)
        blocks16(x + b * SL_BLOCK, q + b * SL_BLOCK, scale + b, sum + b);
    for (; b * SL_BLOCK < n; b++) {
        size_t have = sl_least(n - b * SL_BLOCK, SL_BLOCK);
        block(x + b * SL_BLOCK, have, q + b * SL_BLOCK, &scale[b], &sum[b]);
    }
}
