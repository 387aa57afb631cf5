/* SPDX-License-Identifier: MIT */
/* Checkpoint numbers to float. */
#include "simd/wide/wide_kernels.h"

enum { CODES = 4 * SL_LANES }; /* decoded together */

/* Bit 7 of the bytes that are NaN, 0x7f but for the sign; the other bits mean nothing. */
static inline vi nans_of(const uint8_t *code)
{
    vi size = vi_and(vf_bits(vf_load(code)), vi_set(0x7f7f7f7f));
    return vi_add(size, vi_set(0x01010101));
}

static inline void decode(const uint8_t *code, vf scale, float *out)
{
    for (size_t i = 0; i < CODES; i += SL_LANES)
        vf_store(out + i, vf_mul(vf_load_e4m3(code + i), scale));
}

bool SL_WIDE(fp8_decode)(const uint8_t *code, size_t n, float scale, float *out)
{
    vf s = vf_set(scale);
    vi nans = vi_set(0);
    size_t i = 0;
    for (; i + CODES <= n; i += CODES) {
        decode(code + i, s, out + i);
        nans = vi_or(nans, nans_of(code + i));
    }
    if (i < n) {
        uint8_t last[CODES] = {0};
        float value[CODES];
        memcpy(last, code + i, n - i);
        decode(last, s, value);
        memcpy(out + i, value, (n - i) * sizeof *out);
        nans = vi_or(nans, nans_of(last));
    }
    vi bits = vi_and(nans, vi_set((int32_t)0x80808080));
    return vm_bits(vi_eq(bits, vi_set(0))) == 0xffff;
}

void SL_WIDE(bf16_decode)(const uint16_t *code, size_t n, float *out)
{
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        vf_store(out + i, vf_load_bf16(code + i));
    for (; i < n; i++)
        out[i] = sl_from_bf16(code[i]);
}
