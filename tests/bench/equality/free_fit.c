/* SPDX-License-Identifier: MIT */
/* The quantiser's scale search: the sums of sixteen candidates are one vector.  LUT4, groups of 32
 * without weights of importance. */
#include "tests/bench/equality/by_hand.h"
#include "tests/bench/equality/free_lanes.h"

enum { PARTS = 2, CANDIDATES = 20, ROOM = 32 };

/* The codebook value nearest to T, as in simd/wide/wide_fit.c. */
static inline __m512 nearest(const float *book, const float *middle, __m512 t)
{
    vi k = vi_add_if(vf_gt(t, vf_set(middle[7])), vi_set(0), 8);
    k = vi_add_if(vf_gt(t, vf_lookup(middle, vi_add(k, vi_set(3)))), k, 4);
    k = vi_add_if(vf_gt(t, vf_lookup(middle, vi_add(k, vi_set(1)))), k, 2);
    return vf_lookup(book, vi_add_if(vf_gt(t, vf_lookup(middle, k)), k, 1));
}

static float load_book(const int8_t *codebook, float book[SL_CODEBOOK], float middle[SL_CODEBOOK])
{
    for (int j = 0; j < SL_CODEBOOK; j++)
        book[j] = codebook[j];
    for (int j = 0; j < SL_CODEBOOK; j++)
        middle[j] = j < SL_CODEBOOK - 1 ? 0.5f * (book[j] + book[j + 1]) : 0;
    return -book[0] > book[SL_CODEBOOK - 1] ? -book[0] : book[SL_CODEBOOK - 1];
}

/* The a / b of the largest gain. */
static float best_scale(__m512 a[ROOM], __m512 b[ROOM])
{
    float scale[ROOM];
    __m512 s[2], gain[2];
    for (int i = 0; i < 2; i++) {
        __m512 sum_a = sum_lanes16(a + 16 * i), sum_b = sum_lanes16(b + 16 * i);
        s[i] = vf_mul(sum_a, free_inverse(vf_max(sum_b, vf_set(0x1p-100f))));
        gain[i] = vf_mul(sum_a, s[i]);
        vf_store(scale + 16 * i, s[i]);
    }
    __m512 best = vf_set(_mm512_reduce_max_ps(vf_max(gain[0], gain[1])));
    uint32_t at = vm_bits(vf_ge(gain[0], best)) | vm_bits(vf_ge(gain[1], best)) << 16;
    return scale[__builtin_ctz(at)];
}

float sl_free_fit_scale(const struct sl_fit *fit, int8_t *code)
{
    float book[SL_CODEBOOK], middle[SL_CODEBOOK], end = load_book(fit->codebook, book, middle);
    float max = vf_max_abs(fit->x, fit->n);
    __m512 u[PARTS], a[ROOM], b[ROOM];
    for (size_t p = 0; p < PARTS; p++)
        u[p] = vf_mul(vf_load(fit->x + p * SL_LANES), vf_set(1 / max));
    for (int i = 0; i < ROOM; i++)
        a[i] = b[i] = vf_set(0);
    for (int i = 0; i < CANDIDATES; i++) {
        __m512 m = vf_set(end * (0.84f + (float)(i / 2) * 0.038f) * (i % 2 ? -1.0f : 1.0f));
        for (size_t p = 0; p < PARTS; p++) {
            __m512 v = nearest(book, middle, vf_mul(u[p], m));
            a[i] = vf_fma(u[p], v, a[i]);
            b[i] = vf_fma(v, v, b[i]);
        }
    }
    float s = best_scale(a, b) * max;
    if (code)
        sl_contracted_ops.fit_codes(fit, s, code);
    return s;
}
