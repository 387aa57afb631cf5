/* SPDX-License-Identifier: MIT */
/* Sixteen lanes of AVX-512 (F, BW, DQ, VL, VNNI).  What each function does: simd/wide/lanes.h. */
#ifndef SL_SIMD_LANES_AVX512_H
#define SL_SIMD_LANES_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
typedef __m512i vw;
typedef __m512i vbook;

enum {
    SL_GEMM_TILE = 8,
    SL_GEMM_PANELS = 2,
    SL_FLOAT_TILE = 4,
    SL_STREAMS = 4,
    SL_AHEAD = 1024,
    SL_HEAD_TILE = 8,
    SL_VALUE_TILE = 8,
    SL_COLUMN_TILE = 2,
    SL_SCORE_HEADS = 4,
    SL_SCORE_PANELS = 4,
    SL_PEAK_SUMS = 12
};

static inline __mmask16 sl_first(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

/* ---- floats --------------------------------------------------------------------------------- */

static inline vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vf vf_splat4(const float *p)
{
    return _mm512_broadcast_f32x4(_mm_loadu_ps(p));
}

static inline vf vf_load(const void *p)
{
    return _mm512_loadu_ps(p);
}

static inline vf vf_load_n(const void *p, size_t n)
{
    return _mm512_maskz_loadu_ps(sl_first(n), p);
}

static inline vf vf_load_bf16(const void *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline vf vf_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

static inline vf vf_load_s8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}

/* As binary16 the same bits mean 2^-8 of it. */
static inline vf vf_load_e4m3(const void *p)
{
    __m256i high = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128(p)), 8);
    __m256i half = _mm256_and_si256(_mm256_srai_epi16(high, 1), _mm256_set1_epi16((short)0xbfff));
    return _mm512_mul_ps(_mm512_cvtph_ps(half), _mm512_set1_ps(256));
}

static inline vf vf_join4(const float *a, const float *b, const float *c, const float *d)
{
    __m256 low = _mm256_set_m128(_mm_loadu_ps(b), _mm_loadu_ps(a));
    __m256 high = _mm256_set_m128(_mm_loadu_ps(d), _mm_loadu_ps(c));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

static inline vf vf_join4_bf16(const void *a, const void *b, const void *c, const void *d)
{
    __m128i low = _mm_unpacklo_epi64(_mm_loadl_epi64(a), _mm_loadl_epi64(b));
    __m128i high = _mm_unpacklo_epi64(_mm_loadl_epi64(c), _mm_loadl_epi64(d));
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_set_m128i(high, low));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}

static inline void vf_store_n(float *p, vf x, size_t n)
{
    _mm512_mask_storeu_ps(p, sl_first(n), x);
}

static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

static inline vf vf_abs(vf a)
{
    return _mm512_abs_ps(a);
}

static inline vf vf_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vf vf_scale(vf x, vf n)
{
    return _mm512_scalef_ps(x, n);
}

static inline float vf_tree(vf x)
{
    __m256 e = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 f = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    f = _mm_add_ps(f, _mm_movehl_ps(f, f));
    return _mm_cvtss_f32(_mm_add_ss(f, _mm_movehdup_ps(f)));
}

static inline float vf_largest(vf x)
{
    return _mm512_reduce_max_ps(x);
}

static inline void vf_unzip(vf x, vf y, vf *even, vf *odd)
{
    const __m512i pick = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2,
                                          0);
    *even = _mm512_permutex2var_ps(x, pick, y);
    *odd = _mm512_permutex2var_ps(x, _mm512_add_epi32(pick, _mm512_set1_epi32(1)), y);
}

static inline void vf_zip(vf even, vf odd, vf *x, vf *y)
{
    const __m512i pick = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    *x = _mm512_permutex2var_ps(even, pick, odd);
    *y = _mm512_permutex2var_ps(even, _mm512_add_epi32(pick, _mm512_set1_epi32(8)), odd);
}

static inline vf vf_swap1(vf x)
{
    return _mm512_permute_ps(x, 0xb1);
}

static inline vf vf_swap2(vf x)
{
    return _mm512_permute_ps(x, 0x4e);
}

static inline vf vf_swap4(vf x)
{
    return _mm512_shuffle_f32x4(x, x, 0xb1);
}

static inline vf vf_swap8(vf x)
{
    return _mm512_shuffle_f32x4(x, x, 0x4e);
}

static inline vf vf_lookup(const float table[16], vi index)
{
    return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
}

static inline vf vf_opaque(vf x)
{
    __asm__ volatile("" : "+v"(x));
    return x;
}

/* ---- comparisons ---------------------------------------------------------------------------- */

static inline vm vf_gt(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}

static inline vm vf_ge(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}

static inline vm vf_unordered(vf a)
{
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}

static inline vf vf_select(vm m, vf yes, vf no)
{
    return _mm512_mask_blend_ps(m, no, yes);
}

static inline vi vi_add_if(vm m, vi a, int32_t b)
{
    return _mm512_mask_add_epi32(a, m, a, _mm512_set1_epi32(b));
}

static inline vm vi_eq(vi a, vi b)
{
    return _mm512_cmpeq_epi32_mask(a, b);
}

static inline uint32_t vm_bits(vm m)
{
    return m;
}

/* ---- integers ------------------------------------------------------------------------------- */

static inline vi vi_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}

static inline vi vi_load_u8(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}

static inline void vi_store_s8(void *p, vi x)
{
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(x));
}

static inline void vi_store4_s8(void *p, vi a, vi b, vi c, vi d)
{
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512i all = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, all));
}

static inline void vi_store_u16(void *p, vi x)
{
    _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(x));
}

static inline vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}

static inline vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}

static inline vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}

static inline vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}

static inline vi vi_xor(vi a, vi b)
{
    return _mm512_xor_si512(a, b);
}

static inline vi vi_max(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}

#define vi_shl(a, n) _mm512_slli_epi32(a, n)
#define vi_shr(a, n) _mm512_srli_epi32(a, n)
#define vi_sar(a, n) _mm512_srai_epi32(a, n)

static inline int32_t vi_sum(vi a)
{
    return _mm512_reduce_add_epi32(a);
}

static inline vf vi_to_f(vi a)
{
    return _mm512_cvtepi32_ps(a);
}

static inline vi vf_to_i(vf a)
{
    return _mm512_cvtps_epi32(a);
}

static inline vi vf_bits(vf a)
{
    return _mm512_castps_si512(a);
}

static inline vf vi_as_f(vi a)
{
    return _mm512_castsi512_ps(a);
}

static inline vi vi_opaque(vi x)
{
    __asm__ volatile("" : "+v"(x));
    return x;
}

/* ---- integer dot products: the weight is made unsigned by adding 128 ------------------------ */

static inline vw vw_load(const void *p)
{
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8((char)0x80));
}

static inline vbook vbook_load(const int8_t *book)
{
    __m128i b = _mm_xor_si128(_mm_loadu_si128((const void *)book), _mm_set1_epi8((char)0x80));
    return _mm512_broadcast_i32x4(b);
}

static inline void vw_load_lut4(vbook book, const void *p, vw *low, vw *high)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i pairs = _mm512_loadu_si512(p);
    *low = _mm512_shuffle_epi8(book, _mm512_and_si512(pairs, nibble));
    *high = _mm512_shuffle_epi8(book, _mm512_and_si512(_mm512_srli_epi16(pairs, 4), nibble));
}

static inline int32_t vw_bias(int32_t sum)
{
    return -128 * sum;
}

/* Not the intrinsic: gcc 12 copies every sum around it where many are at work. */
static inline vi vw_dot(vi acc, vw w, vi x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "vm"(x));
    return acc;
}

static inline vi vx_load4(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
}

#endif
