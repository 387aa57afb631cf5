/* SPDX-License-Identifier: MIT */
/* Packed weights to BF16: lanes are the 16 rows of a panel.  Orders: docs/kernels.md. */
#include "simd/wide/panels.h"

/* In the high 16 bits, the low ones being noise. */
static inline vi round_bf16(vf x)
{
    vi u = vf_bits(x), odd = vi_and(vi_shr(u, 16), vi_set(1));
    vi rounded = vi_add(vi_add(u, vi_set(0x7fff)), odd);
    return vf_bits(vf_select(vf_unordered(x), vi_as_f(vi_set(0x7fc00000)), vi_as_f(rounded)));
}

/* Two inputs of every row. */
static inline void store_pair(uint16_t *out, vf even, vf odd)
{
    vi high = vi_and(round_bf16(odd), vi_set((int32_t)0xffff0000));
    vi pair = vi_or(vi_shr(round_bf16(even), 16), high);
    vf_store((float *)(void *)out, vi_as_f(pair));
}

/* 8 inputs of INT8 codes, 128 bytes. */
SL_INLINE void unpack_int8(const uint8_t *code, vf scale, size_t stride, uint16_t *out)
{
    SL_UNROLL
    for (size_t i = 0; i < 2; i++) {
        vi c = vf_bits(vf_load(code + 64 * i));
        vf w0 = vi_to_f(vi_sar(vi_shl(c, 24), 24)), w1 = vi_to_f(vi_sar(vi_shl(c, 16), 24));
        vf w2 = vi_to_f(vi_sar(vi_shl(c, 8), 24)), w3 = vi_to_f(vi_sar(c, 24));
        store_pair(out + 2 * i * stride, vf_mul(w0, scale), vf_mul(w1, scale));
        store_pair(out + (2 * i + 1) * stride, vf_mul(w2, scale), vf_mul(w3, scale));
    }
}

/* 8 inputs of pairs of 4-bit codes, 64 bytes. */
SL_INLINE void unpack_lut4(const uint8_t *code, const float *book, vf scale, size_t stride,
                           uint16_t *out)
{
    vi c = vf_bits(vf_load(code)), nibble = vi_set(15);
#define WEIGHT(shift) vf_mul(vf_lookup(book, vi_and(vi_shr(c, shift), nibble)), scale)
    store_pair(out, vf_mul(vf_lookup(book, vi_and(c, nibble)), scale), WEIGHT(8));
    store_pair(out + stride, WEIGHT(16), WEIGHT(24));
    store_pair(out + 2 * stride, WEIGHT(4), WEIGHT(12));
    store_pair(out + 3 * stride, WEIGHT(20), WEIGHT(28));
#undef WEIGHT
}

SL_INLINE void unpack_panel(const struct sl_packing *p, const uint8_t *at, bool lut, size_t stride,
                            uint16_t *out)
{
    size_t cols = sl_padded_cols(p->cols), super = (size_t)p->group * SL_SUPER;
    vf row_scale = vf_load(at);
    float book[SL_CODEBOOK];
    for (size_t i = 0; i < SL_CODEBOOK; i++)
        book[i] = p->codebook[i];
    at += SL_ROW_SCALES;
    for (size_t k0 = 0; k0 < cols; k0 += super) {
        const uint8_t *scales = at;
        size_t end = sl_least(k0 + super, cols);
        at += sl_super_scale_bytes(p->scale);
        for (size_t k = k0; k < end; k += p->group) {
            vf scale = vf_mul(load_scales(p->scale, scales, (k - k0) / p->group), row_scale);
            for (size_t i = k; i < sl_least(k + p->group, end); i += 8) {
                if (lut)
                    unpack_lut4(at, book, scale, stride, out + i / 2 * stride);
                else
                    unpack_int8(at, scale, stride, out + i / 2 * stride);
                at += lut ? 64 : 128;
            }
        }
    }
}

void SL_WIDE(weights_bf16)(const struct sl_matrix *w, size_t panel, size_t stride, uint16_t *out)
{
    const uint8_t *at = w->data + panel * sl_panel_bytes(&w->packing);
    if (w->packing.code == SL_CODE_LUT4)
        unpack_panel(&w->packing, at, true, stride, out);
    else
        unpack_panel(&w->packing, at, false, stride, out);
}
