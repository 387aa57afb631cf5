/* SPDX-License-Identifier: MIT */
/* Checkpoint numbers to float.  out = table[code] · scale: one rounding. */
#include "simd/ref/ref.h"

/* E4M3FN, bias 7: (1 + m/8) · 2^(e−7); e = 0: m · 2^−9; no infinities, NaN only 0x7f and 0xff. */
static float e4m3(uint8_t code)
{
    uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
    union {
        uint32_t u;
        float f;
    } v = {.u = (exponent + 120) << 23 | mantissa << 20};
    if (exponent == 0)
        v.f = (float)mantissa * 0x1p-9f;
    v.u |= (uint32_t)(code & 0x80) << 24;
    return v.f;
}

bool sl_ref_fp8_decode(const uint8_t *code, size_t n, float scale, float *out)
{
    uint32_t nans = 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = e4m3(code[i]) * scale;
        nans |= (code[i] & 0x7f) == 0x7f;
    }
    return nans == 0;
}

void sl_ref_bf16_decode(const uint16_t *code, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = sl_from_bf16(code[i]);
}
