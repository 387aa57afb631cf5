/* SPDX-License-Identifier: MIT */
/* Sixteen lanes of NEON with the dot-product extension, as four registers.  What each function
 * does: simd/wide/lanes.h. */
#ifndef SL_SIMD_LANES_NEON_H
#define SL_SIMD_LANES_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    float32x4_t a, b, c, d;
} vf;
typedef struct {
    int32x4_t a, b, c, d;
} vi;
typedef struct {
    uint32x4_t a, b, c, d; /* all ones: true */
} vm;
typedef struct {
    int8x16_t a, b, c, d;
} vw;
typedef int8x16_t vbook;

enum {
    SL_GEMM_TILE = 4,
    SL_GEMM_PANELS = 1,
    SL_FLOAT_TILE = 2,
    SL_STREAMS = 1,
    SL_AHEAD = 0,
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
    float32x4_t v = vdupq_n_f32(x);
    return (vf){v, v, v, v};
}

static inline vf vf_splat4(const float *p)
{
    float32x4_t v = vld1q_f32(p);
    return (vf){v, v, v, v};
}

static inline vf vf_load(const void *p)
{
    const float *f = p;
    return (vf){vld1q_f32(f), vld1q_f32(f + 4), vld1q_f32(f + 8), vld1q_f32(f + 12)};
}

static inline vf vf_load_n(const void *p, size_t n)
{
    float x[16] = {0};
    memcpy(x, p, 4 * n);
    return vf_load(x);
}

static inline float32x4_t sl_widen_bf16(uint16x4_t x)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(x), 16));
}

static inline vf vf_load_bf16(const void *p)
{
    uint16x8_t x = vld1q_u16(p), y = vld1q_u16((const uint16_t *)p + 8);
    return (vf){sl_widen_bf16(vget_low_u16(x)), sl_widen_bf16(vget_high_u16(x)),
                sl_widen_bf16(vget_low_u16(y)), sl_widen_bf16(vget_high_u16(y))};
}

static inline float32x4_t sl_widen_f16(uint16x4_t x)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(x));
}

static inline vf vf_load_f16(const void *p)
{
    uint16x8_t x = vld1q_u16(p), y = vld1q_u16((const uint16_t *)p + 8);
    return (vf){sl_widen_f16(vget_low_u16(x)), sl_widen_f16(vget_high_u16(x)),
                sl_widen_f16(vget_low_u16(y)), sl_widen_f16(vget_high_u16(y))};
}

/* As binary16 the same bits mean 2^-8 of it. */
static inline float32x4_t sl_widen_e4m3(uint16x4_t high)
{
    int16x4_t half = vshr_n_s16(vreinterpret_s16_u16(high), 1);
    uint16x4_t bits = vand_u16(vreinterpret_u16_s16(half), vdup_n_u16(0xbfff));
    return vmulq_n_f32(sl_widen_f16(bits), 256);
}

static inline vf vf_load_e4m3(const void *p)
{
    uint8x16_t x = vld1q_u8(p);
    uint16x8_t low = vshll_n_u8(vget_low_u8(x), 8), high = vshll_n_u8(vget_high_u8(x), 8);
    return (vf){sl_widen_e4m3(vget_low_u16(low)), sl_widen_e4m3(vget_high_u16(low)),
                sl_widen_e4m3(vget_low_u16(high)), sl_widen_e4m3(vget_high_u16(high))};
}

static inline float32x4_t sl_widen_s16(int16x4_t x)
{
    return vcvtq_f32_s32(vmovl_s16(x));
}

static inline vf vf_load_s8(const void *p)
{
    int8x16_t x = vld1q_s8(p);
    int16x8_t low = vmovl_s8(vget_low_s8(x)), high = vmovl_s8(vget_high_s8(x));
    return (vf){sl_widen_s16(vget_low_s16(low)), sl_widen_s16(vget_high_s16(low)),
                sl_widen_s16(vget_low_s16(high)), sl_widen_s16(vget_high_s16(high))};
}

static inline vf vf_join4(const float *a, const float *b, const float *c, const float *d)
{
    return (vf){vld1q_f32(a), vld1q_f32(b), vld1q_f32(c), vld1q_f32(d)};
}

static inline vf vf_join4_bf16(const void *a, const void *b, const void *c, const void *d)
{
    return (vf){sl_widen_bf16(vld1_u16(a)), sl_widen_bf16(vld1_u16(b)), sl_widen_bf16(vld1_u16(c)),
                sl_widen_bf16(vld1_u16(d))};
}

static inline void vf_store(float *p, vf x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}

static inline void vf_store_n(float *p, vf x, size_t n)
{
    float all[16];
    vf_store(all, x);
    memcpy(p, all, 4 * n);
}

static inline vf vf_add(vf x, vf y)
{
    return (vf){vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b), vaddq_f32(x.c, y.c), vaddq_f32(x.d, y.d)};
}

static inline vf vf_sub(vf x, vf y)
{
    return (vf){vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b), vsubq_f32(x.c, y.c), vsubq_f32(x.d, y.d)};
}

static inline vf vf_mul(vf x, vf y)
{
    return (vf){vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)};
}

static inline vf vf_div(vf x, vf y)
{
    return (vf){vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b), vdivq_f32(x.c, y.c), vdivq_f32(x.d, y.d)};
}

static inline vf vf_fma(vf x, vf y, vf z)
{
    return (vf){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
                vfmaq_f32(z.d, x.d, y.d)};
}

/* vminq and vmaxq would return NaN where x86 returns y. */
static inline float32x4_t sl_min(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}

static inline vf vf_min(vf x, vf y)
{
    return (vf){sl_min(x.a, y.a), sl_min(x.b, y.b), sl_min(x.c, y.c), sl_min(x.d, y.d)};
}

static inline float32x4_t sl_max(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}

static inline vf vf_max(vf x, vf y)
{
    return (vf){sl_max(x.a, y.a), sl_max(x.b, y.b), sl_max(x.c, y.c), sl_max(x.d, y.d)};
}

static inline vf vf_abs(vf x)
{
    return (vf){vabsq_f32(x.a), vabsq_f32(x.b), vabsq_f32(x.c), vabsq_f32(x.d)};
}

static inline vf vf_round(vf x)
{
    return (vf){vrndnq_f32(x.a), vrndnq_f32(x.b), vrndnq_f32(x.c), vrndnq_f32(x.d)};
}

static inline float32x4_t sl_power(int32x4_t n)
{
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

/* In two steps, so that neither power of two leaves the range of float. */
static inline float32x4_t sl_scale(float32x4_t x, float32x4_t n)
{
    int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1);
    return vmulq_f32(vmulq_f32(x, sl_power(half)), sl_power(vsubq_s32(whole, half)));
}

static inline vf vf_scale(vf x, vf n)
{
    return (vf){sl_scale(x.a, n.a), sl_scale(x.b, n.b), sl_scale(x.c, n.c), sl_scale(x.d, n.d)};
}

static inline float vf_tree(vf x)
{
    float32x4_t e = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    float32x2_t f = vadd_f32(vget_low_f32(e), vget_high_f32(e));
    return vget_lane_f32(f, 0) + vget_lane_f32(f, 1);
}

static inline float vf_largest(vf x)
{
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.a, x.b), vmaxq_f32(x.c, x.d)));
}

static inline void vf_unzip(vf x, vf y, vf *even, vf *odd)
{
    *even = (vf){vuzp1q_f32(x.a, x.b), vuzp1q_f32(x.c, x.d), vuzp1q_f32(y.a, y.b),
                 vuzp1q_f32(y.c, y.d)};
    *odd = (vf){vuzp2q_f32(x.a, x.b), vuzp2q_f32(x.c, x.d), vuzp2q_f32(y.a, y.b),
                vuzp2q_f32(y.c, y.d)};
}

static inline void vf_zip(vf even, vf odd, vf *x, vf *y)
{
    *x = (vf){vzip1q_f32(even.a, odd.a), vzip2q_f32(even.a, odd.a), vzip1q_f32(even.b, odd.b),
              vzip2q_f32(even.b, odd.b)};
    *y = (vf){vzip1q_f32(even.c, odd.c), vzip2q_f32(even.c, odd.c), vzip1q_f32(even.d, odd.d),
              vzip2q_f32(even.d, odd.d)};
}

static inline vf vf_swap1(vf x)
{
    return (vf){vrev64q_f32(x.a), vrev64q_f32(x.b), vrev64q_f32(x.c), vrev64q_f32(x.d)};
}

static inline vf vf_swap2(vf x)
{
    return (vf){vextq_f32(x.a, x.a, 2), vextq_f32(x.b, x.b, 2), vextq_f32(x.c, x.c, 2),
                vextq_f32(x.d, x.d, 2)};
}

static inline vf vf_swap4(vf x)
{
    return (vf){x.b, x.a, x.d, x.c};
}

static inline vf vf_swap8(vf x)
{
    return (vf){x.c, x.d, x.a, x.b};
}

/* Byte indices of the four bytes of each 32-bit index. */
static inline float32x4_t sl_lookup(uint8x16x4_t table, int32x4_t index)
{
    const int32x4_t four = vdupq_n_s32(0x04040404), bytes = vdupq_n_s32(0x03020100);
    int32x4_t at = vmlaq_s32(bytes, index, four);
    return vreinterpretq_f32_u8(vqtbl4q_u8(table, vreinterpretq_u8_s32(at)));
}

static inline vf vf_lookup(const float table[16], vi index)
{
    const uint8_t *p = (const uint8_t *)table;
    uint8x16x4_t t = {{vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}};
    return (vf){sl_lookup(t, index.a), sl_lookup(t, index.b), sl_lookup(t, index.c),
                sl_lookup(t, index.d)};
}

static inline vf vf_opaque(vf x)
{
    __asm__ volatile("" : "+w"(x.a), "+w"(x.b), "+w"(x.c), "+w"(x.d));
    return x;
}

/* ---- comparisons ---------------------------------------------------------------------------- */

static inline vm vf_gt(vf x, vf y)
{
    return (vm){vcgtq_f32(x.a, y.a), vcgtq_f32(x.b, y.b), vcgtq_f32(x.c, y.c), vcgtq_f32(x.d, y.d)};
}

static inline vm vf_ge(vf x, vf y)
{
    return (vm){vcgeq_f32(x.a, y.a), vcgeq_f32(x.b, y.b), vcgeq_f32(x.c, y.c), vcgeq_f32(x.d, y.d)};
}

static inline vm vf_unordered(vf x)
{
    return (vm){vmvnq_u32(vceqq_f32(x.a, x.a)), vmvnq_u32(vceqq_f32(x.b, x.b)),
                vmvnq_u32(vceqq_f32(x.c, x.c)), vmvnq_u32(vceqq_f32(x.d, x.d))};
}

static inline vf vf_select(vm m, vf yes, vf no)
{
    return (vf){vbslq_f32(m.a, yes.a, no.a), vbslq_f32(m.b, yes.b, no.b),
                vbslq_f32(m.c, yes.c, no.c), vbslq_f32(m.d, yes.d, no.d)};
}

static inline int32x4_t sl_add_if(uint32x4_t m, int32x4_t x, int32_t y)
{
    return vaddq_s32(x, vandq_s32(vreinterpretq_s32_u32(m), vdupq_n_s32(y)));
}

static inline vi vi_add_if(vm m, vi x, int32_t y)
{
    return (vi){sl_add_if(m.a, x.a, y), sl_add_if(m.b, x.b, y), sl_add_if(m.c, x.c, y),
                sl_add_if(m.d, x.d, y)};
}

static inline vm vi_eq(vi x, vi y)
{
    return (vm){vceqq_s32(x.a, y.a), vceqq_s32(x.b, y.b), vceqq_s32(x.c, y.c), vceqq_s32(x.d, y.d)};
}

static inline uint32_t sl_bits(uint32x4_t m)
{
    const uint32x4_t each = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(m, each));
}

static inline uint32_t vm_bits(vm m)
{
    return sl_bits(m.a) | sl_bits(m.b) << 4 | sl_bits(m.c) << 8 | sl_bits(m.d) << 12;
}

/* ---- integers ------------------------------------------------------------------------------- */

static inline vi vi_set(int32_t x)
{
    int32x4_t v = vdupq_n_s32(x);
    return (vi){v, v, v, v};
}

static inline int32x4_t sl_widen_u16(uint16x4_t x)
{
    return vreinterpretq_s32_u32(vmovl_u16(x));
}

static inline vi vi_load_u8(const void *p)
{
    uint8x16_t x = vld1q_u8(p);
    uint16x8_t low = vmovl_u8(vget_low_u8(x)), high = vmovl_u8(vget_high_u8(x));
    return (vi){sl_widen_u16(vget_low_u16(low)), sl_widen_u16(vget_high_u16(low)),
                sl_widen_u16(vget_low_u16(high)), sl_widen_u16(vget_high_u16(high))};
}

static inline int16x8_t sl_narrow(int32x4_t x, int32x4_t y)
{
    return vcombine_s16(vmovn_s32(x), vmovn_s32(y));
}

static inline void vi_store_s8(void *p, vi x)
{
    int16x8_t low = sl_narrow(x.a, x.b), high = sl_narrow(x.c, x.d);
    vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

static inline void vi_store4_s8(void *p, vi a, vi b, vi c, vi d)
{
    int8_t *out = p;
    vi_store_s8(out, a);
    vi_store_s8(out + 16, b);
    vi_store_s8(out + 32, c);
    vi_store_s8(out + 48, d);
}

static inline void vi_store_u16(void *p, vi x)
{
    int16_t *out = p;
    vst1q_s16(out, sl_narrow(x.a, x.b));
    vst1q_s16(out + 8, sl_narrow(x.c, x.d));
}

static inline vi vi_add(vi x, vi y)
{
    return (vi){vaddq_s32(x.a, y.a), vaddq_s32(x.b, y.b), vaddq_s32(x.c, y.c), vaddq_s32(x.d, y.d)};
}

static inline vi vi_sub(vi x, vi y)
{
    return (vi){vsubq_s32(x.a, y.a), vsubq_s32(x.b, y.b), vsubq_s32(x.c, y.c), vsubq_s32(x.d, y.d)};
}

static inline vi vi_and(vi x, vi y)
{
    return (vi){vandq_s32(x.a, y.a), vandq_s32(x.b, y.b), vandq_s32(x.c, y.c), vandq_s32(x.d, y.d)};
}

static inline vi vi_or(vi x, vi y)
{
    return (vi){vorrq_s32(x.a, y.a), vorrq_s32(x.b, y.b), vorrq_s32(x.c, y.c), vorrq_s32(x.d, y.d)};
}

static inline vi vi_xor(vi x, vi y)
{
    return (vi){veorq_s32(x.a, y.a), veorq_s32(x.b, y.b), veorq_s32(x.c, y.c), veorq_s32(x.d, y.d)};
}

static inline vi vi_max(vi x, vi y)
{
    return (vi){vmaxq_s32(x.a, y.a), vmaxq_s32(x.b, y.b), vmaxq_s32(x.c, y.c), vmaxq_s32(x.d, y.d)};
}

static inline vi vi_shl(vi x, int n)
{
    int32x4_t by = vdupq_n_s32(n);
    return (vi){vshlq_s32(x.a, by), vshlq_s32(x.b, by), vshlq_s32(x.c, by), vshlq_s32(x.d, by)};
}

static inline int32x4_t sl_shr(int32x4_t x, int32x4_t by)
{
    return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(x), by));
}

static inline vi vi_shr(vi x, int n)
{
    int32x4_t by = vdupq_n_s32(-n);
    return (vi){sl_shr(x.a, by), sl_shr(x.b, by), sl_shr(x.c, by), sl_shr(x.d, by)};
}

static inline vi vi_sar(vi x, int n)
{
    int32x4_t by = vdupq_n_s32(-n);
    return (vi){vshlq_s32(x.a, by), vshlq_s32(x.b, by), vshlq_s32(x.c, by), vshlq_s32(x.d, by)};
}

static inline int32x4_t sl_fold(vi x)
{
    return vaddq_s32(vaddq_s32(x.a, x.b), vaddq_s32(x.c, x.d));
}

static inline int32_t vi_sum(vi x)
{
    return vaddvq_s32(sl_fold(x));
}

static inline vf vi_to_f(vi x)
{
    return (vf){vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b), vcvtq_f32_s32(x.c), vcvtq_f32_s32(x.d)};
}

static inline vi vf_to_i(vf x)
{
    return (vi){vcvtnq_s32_f32(x.a), vcvtnq_s32_f32(x.b), vcvtnq_s32_f32(x.c), vcvtnq_s32_f32(x.d)};
}

static inline vi vf_bits(vf x)
{
    return (vi){vreinterpretq_s32_f32(x.a), vreinterpretq_s32_f32(x.b), vreinterpretq_s32_f32(x.c),
                vreinterpretq_s32_f32(x.d)};
}

static inline vf vi_as_f(vi x)
{
    return (vf){vreinterpretq_f32_s32(x.a), vreinterpretq_f32_s32(x.b), vreinterpretq_f32_s32(x.c),
                vreinterpretq_f32_s32(x.d)};
}

static inline vi vi_opaque(vi x)
{
    __asm__ volatile("" : "+w"(x.a), "+w"(x.b), "+w"(x.c), "+w"(x.d));
    return x;
}

/* ---- integer dot products ------------------------------------------------------------------- */

static inline vw vw_load(const void *p)
{
    const int8_t *w = p;
    return (vw){vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)};
}

static inline vbook vbook_load(const int8_t *book)
{
    return vld1q_s8(book);
}

/* The codes of the low and of the high nibbles of 16 bytes. */
static inline int8x16_t sl_low(vbook book, uint8x16_t pairs)
{
    return vqtbl1q_s8(book, vandq_u8(pairs, vdupq_n_u8(15)));
}

static inline int8x16_t sl_high(vbook book, uint8x16_t pairs)
{
    return vqtbl1q_s8(book, vshrq_n_u8(pairs, 4));
}

static inline void vw_load_lut4(vbook book, const void *p, vw *low, vw *high)
{
    const uint8_t *c = p;
    uint8x16_t a = vld1q_u8(c), b = vld1q_u8(c + 16), e = vld1q_u8(c + 32), f = vld1q_u8(c + 48);
    *low = (vw){sl_low(book, a), sl_low(book, b), sl_low(book, e), sl_low(book, f)};
    *high = (vw){sl_high(book, a), sl_high(book, b), sl_high(book, e), sl_high(book, f)};
}

static inline int32_t vw_bias(int32_t sum)
{
    (void)sum;
    return 0;
}

static inline int32x4_t sl_dot(int32x4_t acc, int8x16_t w, int32x4_t x)
{
    return vdotq_s32(acc, w, vreinterpretq_s8_s32(x));
}

static inline vi vw_dot(vi acc, vw w, vi x)
{
    return (vi){sl_dot(acc.a, w.a, x.a), sl_dot(acc.b, w.b, x.b), sl_dot(acc.c, w.c, x.c),
                sl_dot(acc.d, w.d, x.d)};
}

static inline vi vx_load4(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, 4);
    return vi_set(four);
}

static inline int32x4_t sl_load16(const int8_t *p)
{
    return vreinterpretq_s32_s8(vld1q_s8(p));
}

#ifdef __ARM_FEATURE_MATMUL_INT8
/* Two vectors at once by int8 matrix products: sums of two rows times both vectors lie together in
 * one register, rows 4i and 4i + 1 in `even`, the next two in `odd`. */
#define SL_VECTOR_PAIRS
typedef struct {
    vi even, odd;
} vpair;

static inline vpair vpair_zero(void)
{
    return (vpair){vi_set(0), vi_set(0)};
}

/* The 8 inputs of two rows, from their first and last 4. */
static inline int8x16_t sl_rows01(int8x16_t low, int8x16_t high)
{
    return vreinterpretq_s8_s32(vzip1q_s32(vreinterpretq_s32_s8(low), vreinterpretq_s32_s8(high)));
}

static inline int8x16_t sl_rows23(int8x16_t low, int8x16_t high)
{
    return vreinterpretq_s8_s32(vzip2q_s32(vreinterpretq_s32_s8(low), vreinterpretq_s32_s8(high)));
}

/* acc + the products of 8 inputs: LOW the weights of the first 4, HIGH those of the others. */
static inline vpair vpair_dot(vpair acc, vw low, vw high, const int8_t *x0, const int8_t *x1)
{
    int8x16_t x = vcombine_s8(vld1_s8(x0), vld1_s8(x1));
    acc.even.a = vmmlaq_s32(acc.even.a, sl_rows01(low.a, high.a), x);
    acc.odd.a = vmmlaq_s32(acc.odd.a, sl_rows23(low.a, high.a), x);
    acc.even.b = vmmlaq_s32(acc.even.b, sl_rows01(low.b, high.b), x);
    acc.odd.b = vmmlaq_s32(acc.odd.b, sl_rows23(low.b, high.b), x);
    acc.even.c = vmmlaq_s32(acc.even.c, sl_rows01(low.c, high.c), x);
    acc.odd.c = vmmlaq_s32(acc.odd.c, sl_rows23(low.c, high.c), x);
    acc.even.d = vmmlaq_s32(acc.even.d, sl_rows01(low.d, high.d), x);
    acc.odd.d = vmmlaq_s32(acc.odd.d, sl_rows23(low.d, high.d), x);
    return acc;
}

/* The 16 rows' sums for either vector. */
static inline void vpair_split(vpair acc, vi *dot0, vi *dot1)
{
    *dot0 = (vi){vuzp1q_s32(acc.even.a, acc.odd.a), vuzp1q_s32(acc.even.b, acc.odd.b),
                 vuzp1q_s32(acc.even.c, acc.odd.c), vuzp1q_s32(acc.even.d, acc.odd.d)};
    *dot1 = (vi){vuzp2q_s32(acc.even.a, acc.odd.a), vuzp2q_s32(acc.even.b, acc.odd.b),
                 vuzp2q_s32(acc.even.c, acc.odd.c), vuzp2q_s32(acc.even.d, acc.odd.d)};
}
#endif

#endif
