/* SPDX-License-Identifier: MIT */
/* Floats to INT8 with one scale: one rule for activations, latents, queries and index keys. */
#ifndef SL_SIMD_CODES_H
#define SL_SIMD_CODES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* Largest |x|; NaN never wins. */
static inline float sl_max_abs(const float *x, size_t n)
{
    float max = 0;
    for (size_t i = 0; i < n; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    return max;
}

/* Groups whose maximum is below this become zero: 127 / max would come near overflow. */
static const float sl_tiny = 0x1p-100f;

static inline float sl_code_scale(float max)
{
    return max < sl_tiny ? 0 : max / 127.0f;
}

static inline float sl_code_inverse(float max)
{
    return max < sl_tiny ? 0 : 127.0f / max;
}

/* V rounded to nearest even within [-127, 127]; NaN becomes 127. */
static inline int8_t sl_code_of(float v)
{
    v = v < 127.0f ? v : 127.0f;
    v = v > -127.0f ? v : -127.0f;
    return (int8_t)rintf(v);
}

#endif
