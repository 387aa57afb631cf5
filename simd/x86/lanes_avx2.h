/* SPDX-License-Identifier: MIT */
/*
 * Sixteen lanes of AVX2, FMA and F16C, as pairs of registers; integer dot products by vpdpbusd
 * where AVX-VNNI is on (or AVX-512 VL and VNNI, for tests), else by vpmaddubsw.  What each function
 * does: simd/wide/lanes.h.
 */
#ifndef SL_SIMD_LANES_AVX2_H
#define SL_SIMD_LANES_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    __m256 a, b;
} vf;
typedef struct {
    __m256i a, b;
} vi;
typedef vi vm; /* all ones: true */

enum {
    SL_GEMM_TILE = 4,
    SL_GEMM_PANELS = 1,
    SL_FLOAT_TILE = 2,
    SL_STREAMS = 2,
    SL_AHEAD = 1024,
    SL_HEAD_TILE = 4,
    SL_VALUE_TILE = 4,
    SL_COLUMN_TILE = 1,
    SL_SCORE_HEADS = 4,
    SL_SCORE_PANELS = 1,
    SL_PEAK_SUMS = 5
};

/* ---- floats --------------------------------------------------------------------------------- */

static inline vf vf_set(float x)
{
    return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

static inline vf vf_splat4(const float *p)
{
    __m256 x = _mm256_broadcast_ps((const __m128 *)p);
    return (vf){x, x};
}

static inline vf vf_load(const void *p)
{
    const float *f = p;
    return (vf){_mm256_loadu_ps(f), _mm256_loadu_ps(f + 8)};
}

static inline vf vf_load_n(const void *p, size_t n)
{
    float x[16] = {0};
    memcpy(x, p, 4 * n);
    return vf_load(x);
}

static inline __m256 sl_widen_bf16(__m128i x)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

static inline vf vf_load_bf16(const void *p)
{
    const __m128i *x = p;
    return (vf){sl_widen_bf16(_mm_loadu_si128(x)), sl_widen_bf16(_mm_loadu_si128(x + 1))};
}

static inline vf vf_load_f16(const void *p)
{
    const __m128i *x = p;
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128(x)), _mm256_cvtph_ps(_mm_loadu_si128(x + 1))};
}

static inline vf vf_load_s8(const void *p)
{
    __m128i x = _mm_loadu_si128(p);
    return (vf){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x)))};
}

/* As binary16 the same bits mean 2^-8 of it. */
static inline __m256 sl_widen_e4m3(__m128i high)
{
    __m128i half = _mm_and_si128(_mm_srai_epi16(high, 1), _mm_set1_epi16((short)0xbfff));
    return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256));
}

static inline vf vf_load_e4m3(const void *p)
{
    __m128i x = _mm_loadu_si128(p), zero = _mm_setzero_si128();
    return (vf){sl_widen_e4m3(_mm_unpacklo_epi8(zero, x)),
                sl_widen_e4m3(_mm_unpackhi_epi8(zero, x))};
}

static inline vf vf_join4(const float *a, const float *b, const float *c, const float *d)
{
    return (vf){_mm256_set_m128(_mm_loadu_ps(b), _mm_loadu_ps(a)),
                _mm256_set_m128(_mm_loadu_ps(d), _mm_loadu_ps(c))};
}

static inline vf vf_join4_bf16(const void *a, const void *b, const void *c, const void *d)
{
    return (vf){sl_widen_bf16(_mm_unpacklo_epi64(_mm_loadl_epi64(a), _mm_loadl_epi64(b))),
                sl_widen_bf16(_mm_unpacklo_epi64(_mm_loadl_epi64(c), _mm_loadl_epi64(d)))};
}

static inline void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}

static inline void vf_store_n(float *p, vf x, size_t n)
{
    float all[16];
    vf_store(all, x);
    memcpy(p, all, 4 * n);
}

static inline vf vf_add(vf x, vf y)
{
    return (vf){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}

static inline vf vf_sub(vf x, vf y)
{
    return (vf){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}

static inline vf vf_mul(vf x, vf y)
{
    return (vf){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}

static inline vf vf_div(vf x, vf y)
{
    return (vf){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}

static inline vf vf_fma(vf x, vf y, vf z)
{
    return (vf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

static inline vf vf_min(vf x, vf y)
{
    return (vf){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}

static inline vf vf_max(vf x, vf y)
{
    return (vf){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}

static inline vf vf_abs(vf x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (vf){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}

static inline vf vf_round(vf x)
{
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    return (vf){_mm256_round_ps(x.a, NEAREST), _mm256_round_ps(x.b, NEAREST)};
}

/* In two steps, so that neither power of two leaves the range of float. */
static inline __m256 sl_scale(__m256 x, __m256i n)
{
    const __m256i bias = _mm256_set1_epi32(127);
    __m256i half = _mm256_srai_epi32(n, 1), rest = _mm256_sub_epi32(n, half);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
    return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(first)), _mm256_castsi256_ps(second));
}

static inline vf vf_scale(vf x, vf n)
{
    return (vf){sl_scale(x.a, _mm256_cvtps_epi32(n.a)), sl_scale(x.b, _mm256_cvtps_epi32(n.b))};
}

static inline float vf_tree(vf x)
{
    __m256 e = _mm256_add_ps(x.a, x.b);
    __m128 f = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    f = _mm_add_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_add_ss(f, _mm_movehdup_ps(f)));
}

static inline float vf_largest(vf x)
{
    __m256 e = _mm256_max_ps(x.a, x.b);
    __m128 f = _mm_max_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    f = _mm_max_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_max_ss(f, _mm_movehdup_ps(f)));
}

/* Even and odd elements of 16. */
static inline __m256 sl_even(__m256 x, __m256 y)
{
    __m256d mixed = _mm256_castps_pd(_mm256_shuffle_ps(x, y, 0x88));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(mixed, 0xd8));
}

static inline __m256 sl_odd(__m256 x, __m256 y)
{
    __m256d mixed = _mm256_castps_pd(_mm256_shuffle_ps(x, y, 0xdd));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(mixed, 0xd8));
}

static inline void vf_unzip(vf x, vf y, vf *even, vf *odd)
{
    *even = (vf){sl_even(x.a, x.b), sl_even(y.a, y.b)};
    *odd = (vf){sl_odd(x.a, x.b), sl_odd(y.a, y.b)};
}

/* x0 y0 x1 y1 … x7 y7 */
static inline vf sl_zip(__m256 x, __m256 y)
{
    __m256 low = _mm256_unpacklo_ps(x, y), high = _mm256_unpackhi_ps(x, y);
    return (vf){_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
}

static inline void vf_zip(vf even, vf odd, vf *x, vf *y)
{
    *x = sl_zip(even.a, odd.a);
    *y = sl_zip(even.b, odd.b);
}

static inline vf vf_swap1(vf x)
{
    return (vf){_mm256_permute_ps(x.a, 0xb1), _mm256_permute_ps(x.b, 0xb1)};
}

static inline vf vf_swap2(vf x)
{
    return (vf){_mm256_permute_ps(x.a, 0x4e), _mm256_permute_ps(x.b, 0x4e)};
}

static inline vf vf_swap4(vf x)
{
    return (vf){_mm256_permute2f128_ps(x.a, x.a, 1), _mm256_permute2f128_ps(x.b, x.b, 1)};
}

static inline vf vf_swap8(vf x)
{
    return (vf){x.b, x.a};
}

static inline __m256 sl_lookup(const float table[16], __m256i index)
{
    __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
    __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

static inline vf vf_lookup(const float table[16], vi index)
{
    return (vf){sl_lookup(table, index.a), sl_lookup(table, index.b)};
}

static inline vf vf_opaque(vf x)
{
    __asm__ volatile("" : "+x"(x.a), "+x"(x.b));
    return x;
}

/* ---- comparisons ---------------------------------------------------------------------------- */

static inline vm vf_gt(vf x, vf y)
{
    return (vm){_mm256_castps_si256(_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ)),
                _mm256_castps_si256(_mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ))};
}

static inline vm vf_ge(vf x, vf y)
{
    return (vm){_mm256_castps_si256(_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ)),
                _mm256_castps_si256(_mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ))};
}

static inline vm vf_unordered(vf x)
{
    return (vm){_mm256_castps_si256(_mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q)),
                _mm256_castps_si256(_mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q))};
}

static inline vf vf_select(vm m, vf yes, vf no)
{
    return (vf){_mm256_blendv_ps(no.a, yes.a, _mm256_castsi256_ps(m.a)),
                _mm256_blendv_ps(no.b, yes.b, _mm256_castsi256_ps(m.b))};
}

static inline vi vi_add_if(vm m, vi x, int32_t y)
{
    const __m256i all = _mm256_set1_epi32(y);
    return (vi){_mm256_add_epi32(x.a, _mm256_and_si256(m.a, all)),
                _mm256_add_epi32(x.b, _mm256_and_si256(m.b, all))};
}

static inline vm vi_eq(vi x, vi y)
{
    return (vm){_mm256_cmpeq_epi32(x.a, y.a), _mm256_cmpeq_epi32(x.b, y.b)};
}

static inline uint32_t vm_bits(vm m)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(m.a)) |
           (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(m.b)) << 8;
}

/* ---- integers ------------------------------------------------------------------------------- */

static inline vi vi_set(int32_t x)
{
    return (vi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

static inline vi vi_load_u8(const void *p)
{
    __m128i x = _mm_loadu_si128(p);
    return (vi){_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(x, x))};
}

static inline void vi_store_s8(void *p, vi x)
{
    __m256i half = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
    __m256i byte = _mm256_permute4x64_epi64(_mm256_packs_epi16(half, half), 0x08);
    _mm_storeu_si128(p, _mm256_castsi256_si128(byte));
}

static inline __m256i sl_pack(vi x, vi y)
{
    const __m256i order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
    __m256i all = _mm256_packs_epi16(_mm256_packs_epi32(x.a, x.b), _mm256_packs_epi32(y.a, y.b));
    return _mm256_permutevar8x32_epi32(all, order);
}

static inline void vi_store4_s8(void *p, vi a, vi b, vi c, vi d)
{
    _mm256_storeu_si256(p, sl_pack(a, b));
    _mm256_storeu_si256((__m256i *)p + 1, sl_pack(c, d));
}

static inline void vi_store_u16(void *p, vi x)
{
    _mm256_storeu_si256(p, _mm256_permute4x64_epi64(_mm256_packus_epi32(x.a, x.b), 0xd8));
}

static inline vi vi_add(vi x, vi y)
{
    return (vi){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}

static inline vi vi_sub(vi x, vi y)
{
    return (vi){_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}

static inline vi vi_and(vi x, vi y)
{
    return (vi){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}

static inline vi vi_or(vi x, vi y)
{
    return (vi){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}

static inline vi vi_xor(vi x, vi y)
{
    return (vi){_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}

static inline vi vi_max(vi x, vi y)
{
    return (vi){_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)};
}

static inline vi vi_shl(vi x, int n)
{
    return (vi){_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)};
}

static inline vi vi_shr(vi x, int n)
{
    return (vi){_mm256_srli_epi32(x.a, n), _mm256_srli_epi32(x.b, n)};
}

static inline vi vi_sar(vi x, int n)
{
    return (vi){_mm256_srai_epi32(x.a, n), _mm256_srai_epi32(x.b, n)};
}

static inline __m128i sl_fold(vi x)
{
    __m256i e = _mm256_add_epi32(x.a, x.b);
    return _mm_add_epi32(_mm256_castsi256_si128(e), _mm256_extracti128_si256(e, 1));
}

static inline int32_t vi_sum(vi x)
{
    __m128i f = sl_fold(x);
    f = _mm_add_epi32(f, _mm_unpackhi_epi64(f, f));
    return _mm_cvtsi128_si32(_mm_add_epi32(f, _mm_shuffle_epi32(f, 1)));
}

static inline vf vi_to_f(vi x)
{
    return (vf){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}

static inline vi vf_to_i(vf x)
{
    return (vi){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}

static inline vi vf_bits(vf x)
{
    return (vi){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)};
}

static inline vf vi_as_f(vi x)
{
    return (vf){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}

static inline vi vi_opaque(vi x)
{
    __asm__ volatile("" : "+x"(x.a), "+x"(x.b));
    return x;
}

/* ---- integer dot products ------------------------------------------------------------------- */

static inline vi sl_load64(const void *p)
{
    const __m256i *x = p;
    return (vi){_mm256_loadu_si256(x), _mm256_loadu_si256(x + 1)};
}

static inline vi vx_load4(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, 4);
    return vi_set(four);
}

static inline void sl_nibbles(const void *p, vi *low, vi *high)
{
    const vi nibble = {_mm256_set1_epi8(15), _mm256_set1_epi8(15)};
    vi pairs = sl_load64(p);
    *low = vi_and(pairs, nibble);
    *high = vi_and(vi_shr(pairs, 4), nibble);
}

typedef __m256i vbook;

static inline vi sl_book_at(vbook book, vi index)
{
    return (vi){_mm256_shuffle_epi8(book, index.a), _mm256_shuffle_epi8(book, index.b)};
}

#if defined(__AVXVNNI__) || defined(__AVX512VNNI__)
/* The weight is made unsigned by adding 128. */
typedef vi vw;

static inline vw sl_weights(vi w)
{
    const __m256i sign = _mm256_set1_epi8((char)0x80);
    return (vw){_mm256_xor_si256(w.a, sign), _mm256_xor_si256(w.b, sign)};
}

static inline int32_t vw_bias(int32_t sum)
{
    return -128 * sum;
}

static inline vi vw_dot(vi acc, vw w, vi x)
{
    return (vi){_mm256_dpbusd_epi32(acc.a, w.a, x.a), _mm256_dpbusd_epi32(acc.b, w.b, x.b)};
}
#else
/* |w| ≤ 128 times x with the sign of w: pairs stay below 2^15, so vpmaddubsw is exact. */
typedef struct {
    vi value, size;
} vw;

static inline vw sl_weights(vi w)
{
    return (vw){w, {_mm256_abs_epi8(w.a), _mm256_abs_epi8(w.b)}};
}

static inline int32_t vw_bias(int32_t sum)
{
    (void)sum;
    return 0;
}

static inline __m256i sl_dot(__m256i acc, __m256i value, __m256i size, __m256i x)
{
    __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(x, value));
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    __asm__(""
            : "+x"(acc)); /* or GCC adds the products of many calls in another order and spills */
    return acc;
}

static inline vi vw_dot(vi acc, vw w, vi x)
{
    return (vi){sl_dot(acc.a, w.value.a, w.size.a, x.a), sl_dot(acc.b, w.value.b, w.size.b, x.b)};
}
#endif

static inline vw vw_load(const void *p)
{
    return sl_weights(sl_load64(p));
}

static inline vbook vbook_load(const int8_t *book)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)book));
}

static inline void vw_load_lut4(vbook book, const void *p, vw *low, vw *high)
{
    vi l, h;
    sl_nibbles(p, &l, &h);
    *low = sl_weights(sl_book_at(book, l));
    *high = sl_weights(sl_book_at(book, h));
}

#endif
