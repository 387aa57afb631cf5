/* SPDX-License-Identifier: MIT */
/* Checkpoint numbers to float. */
#include "simd/wide/wide_kernels.h"

/* E4M3FN codes to float: the exponent is rebiased by 120; without one, mantissa · 2^−9. */
static inline vf e4m3(vi code)
{
    vi size = vi_and(code, vi_set(0x7f));
    vf normal = vi_as_f(vi_add(vi_shl(size, 20), vi_set(120 << 23)));
    vf small = vf_mul(vi_to_f(size), vf_set(0x1p-9f));
    vf value = vf_select(vi_eq(vi_and(code, vi_set(0x78)), vi_set(0)), small, normal);
    return vi_as_f(vi_or(vf_bits(value), vi_shl(vi_and(code, vi_set(0x80)), 24)));
}

static inline vm is_nan(vi code)
{
    return vi_eq(vi_and(code, vi_set(0x7f)), vi_set(0x7f));
}

bool SL_WIDE(fp8_decode)(const uint8_t *code, size_t n, float scale, float *out)
{
    vf s = vf_set(scale);
    vi nans = vi_set(0);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES) {
        vi c = vi_load_u8(code + i);
        vf_store(out + i, vf_mul(e4m3(c), s));
        nans = vi_add_if(is_nan(c), nans, 1);
    }
    if (i < n) {
        uint8_t last[SL_LANES] = {0};
        memcpy(last, code + i, n - i);
        vi c = vi_load_u8(last);
        vf_store_n(out + i, vf_mul(e4m3(c), s), n - i);
        nans = vi_add_if(is_nan(c), nans, 1);
    }
    return vi_sum(nans) == 0;
}

void SL_WIDE(bf16_decode)(const uint16_t *code, size_t n, float *out)
{
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        vf_store(out + i, vf_load_bf16(code + i));
    for (; i < n; i++)
        out[i] = sl_from_bf16(code[i]);
}
