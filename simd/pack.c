/* SPDX-License-Identifier: MIT */
/* Geometry of packed matrices, scalar conversions, and reading single weights back. */
#include "simd/simd.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files and kernels are little-endian");

bool sl_packing_valid(const struct sl_packing *p)
{
    if (p->rows == 0 || p->cols == 0 || p->count == 0)
        return false;
    if (!sl_is_integer(p->code))
        return (p->code == SL_CODE_BF16 || p->code == SL_CODE_F32) && p->scale == SL_SCALE_NONE &&
               p->group == 0;
    bool group_known = p->group == 16 || p->group == 32 || p->group == 64 || p->group == 128;
    bool scale_known = p->scale == SL_SCALE_S8 || p->scale == SL_SCALE_F16 ||
                       p->scale == SL_SCALE_BF16;
    return group_known && scale_known;
}

size_t sl_panel_bytes(const struct sl_packing *p)
{
    size_t cols = sl_padded_cols(p->cols);
    if (!sl_is_integer(p->code))
        return cols * SL_PANEL * (p->code == SL_CODE_BF16 ? 2 : 4);
    size_t in_super = (size_t)p->group * SL_SUPER;
    size_t supers = (cols + in_super - 1) / in_super;
    return SL_ROW_SCALES + supers * sl_super_scale_bytes(p->scale) + sl_code_bytes(p->code, cols);
}

size_t sl_matrix_bytes(const struct sl_packing *p)
{
    return sl_panel_count(p) * sl_panel_bytes(p);
}

size_t sl_packing_bytes(const struct sl_packing *p)
{
    return p->count * sl_matrix_bytes(p);
}

struct sl_matrix sl_matrix_at(const struct sl_matrix *m, size_t i)
{
    struct sl_matrix one = *m;
    one.packing.count = 1;
    one.data += i * sl_matrix_bytes(&m->packing);
    return one;
}

float sl_scale_at(enum sl_scale kind, const uint8_t *scales, size_t i)
{
    if (kind == SL_SCALE_S8)
        return (float)(int8_t)scales[i];
    uint16_t half;
    memcpy(&half, scales + 2 * i, 2);
    return kind == SL_SCALE_F16 ? sl_from_f16(half) : sl_from_bf16(half);
}

/* Value of the code of (row R, input K of the superblock) whose codes begin at C. */
static float code_at(const struct sl_packing *p, const uint8_t *c, size_t r, size_t k)
{
    if (p->code == SL_CODE_INT8)
        return (float)(int8_t)c[k / 4 * 64 + r * 4 + k % 4];
    uint8_t pair = c[k / 8 * 64 + r * 4 + k % 4];
    return (float)p->codebook[k % 8 < 4 ? pair & 15 : pair >> 4];
}

float sl_weight_at(const struct sl_matrix *m, size_t i, size_t row, size_t col)
{
    const struct sl_packing *p = &m->packing;
    const uint8_t *panel = m->data + i * sl_matrix_bytes(p) + row / SL_PANEL * sl_panel_bytes(p);
    size_t r = row % SL_PANEL;
    if (p->code == SL_CODE_F32) {
        float f;
        memcpy(&f, panel + 4 * (col * SL_PANEL + r), 4);
        return f;
    }
    if (p->code == SL_CODE_BF16) {
        uint16_t h;
        memcpy(&h, panel + 2 * (col * SL_PANEL + r), 2);
        return sl_from_bf16(h);
    }
    size_t in_super = (size_t)p->group * SL_SUPER, k = col % in_super;
    size_t scales = sl_super_scale_bytes(p->scale);
    const uint8_t *super = panel + SL_ROW_SCALES +
                           col / in_super * (scales + sl_code_bytes(p->code, in_super));
    float row_scale;
    memcpy(&row_scale, panel + 4 * r, 4);
    return code_at(p, super + scales, r, k) *
           sl_scale_at(p->scale, super, k / p->group * SL_PANEL + r) * row_scale;
}

float sl_from_f16(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v;
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    if (exponent == 0) { /* zero and subnormals: mantissa · 2^-24 */
        v.f = (float)mantissa * 0x1p-24f;
        v.u |= sign;
        return v.f;
    }
    v.u = sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | mantissa << 13;
    return v.f;
}

uint16_t sl_to_f16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    uint16_t sign = (uint16_t)(v.u >> 16 & 0x8000);
    v.u &= 0x7fffffff;
    if (v.u > 0x7f800000)
        return sign | 0x7e00;
    if (v.u >= 0x477ff000) /* rounds to 65536 or more */
        return sign | 0x7c00;
    if (v.u < 0x38800000) { /* below 2^-14: adding 0.5 leaves mantissa · 2^24, rounded to even */
        v.f += 0.5f;
        return sign | (uint16_t)(v.u - 0x3f000000);
    }
    uint32_t rounded = v.u + 0xfff + (v.u >> 13 & 1);
    return sign | (uint16_t)((rounded - 0x38000000) >> 13);
}

size_t sl_attend_scratch(const struct sl_kv *kv)
{
    /* As simd/wide/wide_attend_int8.c lays it out, with the most heads, the narrowest columns. */
    size_t codes = (kv->latent_dim + 63) / 64 * 64, rope = (kv->rope_dim + 31) / 32 * 32;
    size_t floats = SL_ATTEND_BLOCK * (rope + sl_latent_groups(kv->latent_dim)) +
                    2 * SL_HEADS_MAX * (SL_ATTEND_BLOCK + 16);
    if (kv->type != SL_CACHE_INT8)
        return 0;
    return codes * SL_ATTEND_BLOCK * 3 + codes / 16 * 64 + floats * sizeof(float) +
           SL_HEADS_MAX * codes;
}
