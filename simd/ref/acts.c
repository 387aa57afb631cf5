/* SPDX-License-Identifier: MIT */
/* Floats to INT8 with one scale per group: activations, latents, queries. */
#include "simd/ref/codes.h"
#include "simd/ref/ref.h"

static float group_codes(const float *x, size_t n, int8_t *q)
{
    float max = sl_max_abs(x, n), inverse = sl_code_inverse(max);
    for (size_t i = 0; i < n; i++)
        q[i] = sl_code_of(x[i] * inverse);
    return sl_code_scale(max);
}

void sl_ref_quantize_groups(const float *x, size_t n, size_t group, int8_t *q, float *scale)
{
    for (size_t i = 0; i < n; i += group)
        scale[i / group] = group_codes(x + i, n - i < group ? n - i : group, q + i);
}

void sl_ref_quantize_acts(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum)
{
    for (size_t b = 0; b * SL_BLOCK < n; b++) {
        size_t have = n - b * SL_BLOCK < SL_BLOCK ? n - b * SL_BLOCK : SL_BLOCK;
        int8_t *code = q + b * SL_BLOCK;
        scale[b] = group_codes(x + b * SL_BLOCK, have, code);
        for (size_t i = have; i < SL_BLOCK; i++)
            code[i] = 0;
        sum[b] = 0;
        for (size_t i = 0; i < SL_BLOCK; i++)
            sum[b] += code[i];
    }
}
