/* SPDX-License-Identifier: MIT */
/* Floats to INT8 with one scale per group: activations, latents, queries. */
#include "simd/ref/codes.h"
#include "simd/wide/wide_kernels.h"

/* Codes of x[0..n) into q; their sum in lanes. */
static inline vi group_codes(const float *x, size_t n, float inverse, int8_t *q)
{
    vi sum = vi_set(0);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES) {
        vi code = vf_codes(vf_load(x + i), inverse);
        sum = vi_add(sum, code);
        vi_store_s8(q + i, code);
    }
    if (i < n) {
        int8_t all[SL_LANES];
        vi code = vf_codes(vf_load_n(x + i, n - i), inverse);
        sum = vi_add(sum, code);
        vi_store_s8(all, code);
        memcpy(q + i, all, n - i);
    }
    return sum;
}

void SL_WIDE(quantize_groups)(const float *x, size_t n, size_t group, int8_t *q, float *scale)
{
    for (size_t i = 0; i < n; i += group) {
        size_t have = sl_least(n - i, group);
        float max = vf_max_abs(x + i, have);
        group_codes(x + i, have, sl_code_inverse(max), q + i);
        scale[i / group] = sl_code_scale(max);
    }
}

void SL_WIDE(quantize_acts)(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum)
{
    for (size_t b = 0; b * SL_BLOCK < n; b++) {
        size_t have = sl_least(n - b * SL_BLOCK, SL_BLOCK);
        float max = vf_max_abs(x + b * SL_BLOCK, have);
        int8_t *code = q + b * SL_BLOCK;
        memset(code + have, 0, SL_BLOCK - have);
        sum[b] = vi_sum(group_codes(x + b * SL_BLOCK, have, sl_code_inverse(max), code));
        scale[b] = sl_code_scale(max);
    }
}
