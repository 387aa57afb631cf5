/* SPDX-License-Identifier: MIT */
/* Owns the random state behind these values. */
#include "tests/check/values.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/random.h"

void seed_values(uint64_t seed)
{
    random_state = seed * 0x9e3779b97f4a7c15u + 0x853c49e6748fea9bu;
    for (int i = 0; i < 4; i++) /* neighbouring seeds part ways */
        random_state = (random_state ^ random_state >> 29) * 0xbf58476d1ce4e5b9u + seed;
}

uint32_t random_word(void)
{
    return random_bits();
}

void fill_bytes(void *p, size_t n)
{
    uint8_t *byte = p;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t bits = random_bits();
        memcpy(byte + i, &bits, n - i < 4 ? n - i : 4);
    }
}

/* Quiet or signalling, any sign and payload: rounding one to BF16 must not make it infinite. */
static float any_nan(void)
{
    uint32_t bits = random_bits() | 0x7f800000;
    float f;
    if (bits % 3 == 0)
        bits |= 0x7fffffff;
    else if (bits % 3 == 1 || (bits & 0x7fffff) == 0)
        bits = (bits & 0xff800000) | 1;
    memcpy(&f, &bits, 4);
    return f;
}

static float special(void)
{
    static const float all[] = {
        NAN,      INFINITY,  -INFINITY,   0.0f,         -0.0f,      FLT_MAX,  -FLT_MAX,
        FLT_MIN,  -FLT_MIN,  0x1p-149f,   -0x1p-149f,   0x1p-100f,  88.73f,   -88.73f,
        88.7300f, 88.72284f, -88.722835f, -87.33655f,   -104.0f,    104.0f,   -103.97208f,
        1.0f,     -1.0f,     88.73001f,   -103.999992f, 8388608.5f, 2.13e9f,  -2.15e9f,
        127.5f,   126.5f,    -126.5f,     0.5f,         -0.5f,      0x1p-50f, -NAN,
    };
    if (random_bits() % 4 == 0)
        return any_nan();
    return all[random_bits() % (sizeof all / sizeof *all)];
}

/* Any sign, exponent and mantissa but NaN and infinity. */
static float any_finite(void)
{
    uint32_t bits = random_bits();
    float f;
    if ((bits & 0x7f800000) == 0x7f800000)
        bits ^= 0x40000000;
    memcpy(&f, &bits, 4);
    return f;
}

static float one_float(size_t i, long values)
{
    /* clang-format off */
    switch (values) {
    case VALUES_UNIFORM:     return uniform();
    case VALUES_PLUS:        return 127;
    case VALUES_MINUS:       return -127;
    case VALUES_ALTERNATING: return i % 2 ? 127 : -127;
    case VALUES_ZERO_GROUPS: return i / 16 % 2 ? 0 : uniform();
    case VALUES_OUTLIERS:    return random_bits() % 50 ? uniform() : uniform() * 300;
    case VALUES_HALVES:      return i % 16 ? (float)(random_bits() % 254) - 126.5f : 127;
    case VALUES_ZEROS:       return random_bits() % 2 ? 0.0f : -0.0f;
    case VALUES_RANGE:       return uniform() * 110;
    case VALUES_DENORMAL:    return uniform() * 1e-38f;
    case VALUES_TINY:        return uniform() * 0x1p-99f;
    case VALUES_HUGE:        return uniform() * FLT_MAX;
    case VALUES_EXPONENTS:   return any_finite();
    default:                 return random_bits() % 8 ? uniform() * 120 : special();
    }
    /* clang-format on */
}

void fill_floats(float *x, size_t n, long values)
{
    for (size_t i = 0; i < n; i++)
        x[i] = one_float(i, values);
}

void fill_stored(enum sl_cache type, void *p, size_t n, long values)
{
    uint8_t *at = p;
    for (size_t i = 0; i < n; i++) {
        float f = one_float(i, values);
        uint16_t half = sl_to_bf16(f);
        if (type == SL_CACHE_F32)
            memcpy(at + 4 * i, &f, 4);
        else
            memcpy(at + 2 * i, &half, 2);
    }
}

void fill_codes(int8_t *q, size_t n, long values)
{
    for (size_t i = 0; i < n; i++)
        /* clang-format off */
        switch (values) {
        case VALUES_PLUS:        q[i] = 127; break;
        case VALUES_MINUS:       q[i] = -127; break;
        case VALUES_ALTERNATING: q[i] = i % 2 ? 127 : -127; break;
        case VALUES_ZERO_GROUPS: q[i] = i / 16 % 2 ? 0 : 127; break;
        case VALUES_ZEROS:       q[i] = 0; break;
        default:                 q[i] = (int8_t)(random_bits() % 255 - 127);
        }
    /* clang-format on */
}

static int by_value(const void *a, const void *b)
{
    return *(const int8_t *)a - *(const int8_t *)b;
}

void fill_book(int8_t book[SL_CODEBOOK], long which)
{
    static const int8_t real[SL_CODEBOOK] = {-127, -101, -76, -58, -43, -30, -19, -9,
                                             1,    12,   22,  34,  46,  61,  80,  104};
    static const int8_t ends[SL_CODEBOOK] = {-128, -128, -127, -100, -50, -2,  -1,  0,
                                             0,    1,    2,    64,   126, 127, 127, 127};
    static const int8_t constant[] = {-128, 127, 0};
    if (which == 0 || which == 1)
        memcpy(book, which ? ends : real, SL_CODEBOOK);
    else if (which < 5)
        memset(book, constant[which - 2], SL_CODEBOOK);
    else
        fill_bytes(book, SL_CODEBOOK);
    qsort(book, SL_CODEBOOK, 1, by_value);
}

/* ---- matrices ------------------------------------------------------------------------------- */

/* Scales of one superblock.  S8 scales are any byte; the others are half of the time any bits. */
static void fill_scales(enum sl_scale kind, uint8_t *p, long values)
{
    bool any = values == VALUES_SPECIAL;
    fill_bytes(p, sl_super_scale_bytes(kind));
    for (size_t i = 0; kind != SL_SCALE_S8 && !any && i < SL_SUPER * SL_PANEL; i++) {
        float f = one_float(i, values);
        uint16_t half = kind == SL_SCALE_F16 ? sl_to_f16(f) : sl_to_bf16(f);
        memcpy(p + 2 * i, &half, 2);
    }
}

static void fill_weights(enum sl_code code, uint8_t *p, size_t n, long values)
{
    fill_bytes(p, n);
    if (code == SL_CODE_INT8 && values == VALUES_MINUS)
        memset(p, 0x80, n); /* −128, which only a hostile file has */
    if (code == SL_CODE_INT8 && values == VALUES_PLUS)
        memset(p, 0x7f, n);
    for (size_t i = 0; code == SL_CODE_INT8 && values == VALUES_ALTERNATING && i < n; i++)
        p[i] = i % 2 ? 0x80 : 0x7f;
}

static void fill_panel(const struct sl_packing *p, uint8_t *panel, long values)
{
    size_t cols = sl_padded_cols(p->cols), super = (size_t)p->group * SL_SUPER;
    float row_scale[SL_PANEL];
    fill_floats(row_scale, SL_PANEL, values);
    memcpy(panel, row_scale, sizeof row_scale);
    panel += sizeof row_scale;
    for (size_t k = 0; k < cols; k += super) {
        size_t bytes = sl_code_bytes(p->code, cols - k < super ? cols - k : super);
        fill_scales(p->scale, panel, values);
        panel += sl_super_scale_bytes(p->scale);
        fill_weights(p->code, panel, bytes, values);
        panel += bytes;
    }
}

void fill_matrix(const struct sl_packing *p, uint8_t *data, long values)
{
    size_t panel = sl_panel_bytes(p), bytes = sl_packing_bytes(p);
    enum sl_cache type = p->code == SL_CODE_F32 ? SL_CACHE_F32 : SL_CACHE_BF16;
    for (size_t at = 0; at < bytes; at += panel) {
        if (sl_is_integer(p->code)) {
            fill_panel(p, data + at, values);
        } else { /* the padding of the inputs is any bits */
            fill_bytes(data + at, panel);
            fill_stored(type, data + at, (size_t)p->cols * SL_PANEL, values);
        }
    }
}
