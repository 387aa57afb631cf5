/* SPDX-License-Identifier: MIT */
/* What this rung can do at most.  An operand of every instruction is opaque, or the compiler would
 * multiply once and merge the sums. */
#include "simd/rungs.h"
#include "simd/wide/wide_kernels.h"

static void store_ints(uint32_t *out, vi x)
{
    float all[SL_LANES];
    vf_store(all, vi_as_f(x));
    memcpy(out, all, sizeof all);
}

#ifdef SL_VECTOR_PAIRS
/* Each step of a pair is two vectors of 8 inputs: four times those 4. */
static vi dot_sum(vw w, const int8_t x[4], size_t n)
{
    enum { PAIRS = 2 };
    int8_t twice[8];
    const int8_t *at = twice;
    memcpy(twice, x, 4);
    memcpy(twice + 4, x, 4);
    vpair acc[PAIRS] = {vpair_zero(), vpair_zero()};
    vi all = vi_set(0);
    for (size_t i = 0; i < n; i += 4 * PAIRS)
        SL_UNROLL
    for (size_t j = 0; j < PAIRS; j++) {
        __asm__ volatile("" : "+r"(at) : "m"(twice));
        acc[j] = vpair_dot(acc[j], w, w, at, at);
    }
    SL_UNROLL
    for (size_t j = 0; j < PAIRS; j++) {
        vi one, other;
        vpair_split(acc[j], &one, &other);
        all = vi_add(all, vi_add(one, other));
    }
    return all;
}
#else
static vi dot_sum(vw w, const int8_t x[4], size_t n)
{
    vi acc[SL_PEAK_SUMS], four = vx_load4(x);
    uint32_t sum = (uint32_t)(x[0] + x[1] + x[2] + x[3]), bias = (uint32_t)vw_bias(1);
    acc[0] = vi_set((int32_t)(bias * sum * (uint32_t)n));
    SL_UNROLL
    for (size_t j = 1; j < SL_PEAK_SUMS; j++)
        acc[j] = vi_set(0);
    for (size_t i = 0; i < n; i += SL_PEAK_SUMS)
        SL_UNROLL
    for (size_t j = 0; j < SL_PEAK_SUMS; j++) {
        four = vi_opaque(four);
        acc[j] = vw_dot(acc[j], w, four);
    }
    SL_UNROLL
    for (size_t j = 1; j < SL_PEAK_SUMS; j++)
        acc[0] = vi_add(acc[0], acc[j]);
    return acc[0];
}
#endif

static void dot(const int8_t w[64], const int8_t x[4], size_t n, uint32_t sum[SL_PANEL])
{
    store_ints(sum, dot_sum(vw_load(w), x, n));
}

static void fma_sum(const float a[SL_PANEL], float b, size_t n, float sum[SL_PANEL])
{
    vf acc[SL_PEAK_SUMS], x = vf_load(a), y = vf_set(b);
    SL_UNROLL
    for (size_t j = 0; j < SL_PEAK_SUMS; j++)
        acc[j] = vf_set(0);
    for (size_t i = 0; i < n; i += SL_PEAK_SUMS)
        SL_UNROLL
    for (size_t j = 0; j < SL_PEAK_SUMS; j++) {
        y = vf_opaque(y);
        acc[j] = vf_fma(x, y, acc[j]);
    }
    SL_UNROLL
    for (size_t j = 1; j < SL_PEAK_SUMS; j++)
        acc[0] = vf_add(acc[0], acc[j]);
    vf_store(sum, acc[0]);
}

/* Four streams: prefetchers fetch more than for one, but 2 KiB ahead by hand is faster still. */
SL_INLINE uint32_t read_streams(const void *p, size_t n, bool ahead)
{
    enum { STREAMS = 4, AHEAD = 2048, SECOND_LEVEL = 2 };
    const int8_t *at = p;
    vi acc[STREAMS] = {vi_set(0), vi_set(0), vi_set(0), vi_set(0)};
    for (size_t i = 0; i < n / STREAMS; i += 64)
        SL_UNROLL
    for (size_t j = 0; j < STREAMS; j++) {
        const int8_t *line = at + j * (n / STREAMS) + i;
        if (ahead)
            __builtin_prefetch(line + AHEAD, 0, SECOND_LEVEL);
        acc[j] = vi_xor(acc[j], vf_bits(vf_load(line)));
    }
    uint32_t word[SL_LANES], all = 0;
    store_ints(word, vi_xor(vi_xor(acc[0], acc[1]), vi_xor(acc[2], acc[3])));
    for (size_t i = 0; i < SL_LANES; i++)
        all ^= word[i];
    return all;
}

static uint32_t read_all(const void *p, size_t n, bool ahead)
{
    return ahead ? read_streams(p, n, true) : read_streams(p, n, false);
}

static void write_all(void *p, size_t n, uint32_t word)
{
    float *at = p;
    vf all = vi_as_f(vi_set((int32_t)word));
    for (size_t i = 0; i < n / sizeof *at; i += 2 * SL_LANES) {
        vf_store(at + i, all);
        vf_store(at + i + SL_LANES, all);
    }
}

const struct sl_peaks SL_WIDE(peaks) = {dot, fma_sum, read_all, write_all};
