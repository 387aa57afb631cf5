/* SPDX-License-Identifier: MIT */
/* What portable C can do at most: the loops of struct sl_peaks as one would write them. */
#include <math.h>
#include <string.h>

#include "simd/rungs.h"

static void dot(const int8_t w[64], const int8_t x[4], size_t n, uint32_t sum[SL_PANEL])
{
    uint32_t acc[SL_PANEL] = {0};
    for (size_t i = 0; i < n; i++) {
        __asm__ volatile("" : "+r"(x)); /* or the compiler multiplies once, by N */
        for (size_t r = 0; r < SL_PANEL; r++)
            for (size_t j = 0; j < 4; j++)
                acc[r] += (uint32_t)(w[4 * r + j] * x[j]);
    }
    memcpy(sum, acc, sizeof acc);
}

static void fma_sum(const float a[SL_PANEL], float b, size_t n, float sum[SL_PANEL])
{
    float acc[SL_PANEL] = {0};
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < SL_PANEL; r++)
            acc[r] = fmaf(a[r], b, acc[r]);
    memcpy(sum, acc, sizeof acc);
}

static uint32_t read_all(const void *p, size_t n, bool ahead)
{
    enum { STREAMS = 8, AHEAD = 2048 };
    const char *at = p;
    uint64_t word[STREAMS], acc[STREAMS] = {0}, all = 0;
    for (size_t i = 0; i < n; i += sizeof word) {
        if (ahead)
            __builtin_prefetch(at + i + AHEAD);
        memcpy(word, at + i, sizeof word);
        for (size_t j = 0; j < STREAMS; j++)
            acc[j] ^= word[j];
    }
    for (size_t j = 0; j < STREAMS; j++)
        all ^= acc[j];
    return (uint32_t)(all ^ all >> 32);
}

static void write_all(void *p, size_t n, uint32_t word)
{
    uint32_t *at = p;
    for (size_t i = 0; i < n / sizeof *at; i++)
        at[i] = word;
}

const struct sl_peaks sl_ref_peaks = {dot, fma_sum, read_all, write_all};
