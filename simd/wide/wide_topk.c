/* SPDX-License-Identifier: MIT */
/*
 * Exact top-k: the k-th largest score is found bit by bit, counting how many scores reach a
 * candidate.  Floats are compared as floats, so that −0 equals 0 and NaN reaches nothing; only the
 * candidates go through the order-preserving image in int32.
 */
#include "simd/wide/wide_kernels.h"

static float of_image(int32_t i)
{
    int32_t u = i < 0 ? i ^ INT32_MAX : i;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* How many of score[0..n) are > BAR, or with EQUAL ≥ BAR. */
SL_INLINE size_t count(const float *score, size_t n, float bar, bool equal)
{
    vf b = vf_set(bar);
    vi found = vi_set(0);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES) {
        vf x = vf_load(score + i);
        found = vi_add_if(equal ? vf_ge(x, b) : vf_gt(x, b), found, 1);
    }
    if (i < n) {
        vf x = vf_load_or(score + i, n - i, __builtin_nanf(""));
        found = vi_add_if(equal ? vf_ge(x, b) : vf_gt(x, b), found, 1);
    }
    return (size_t)vi_sum(found);
}

/* A float that exactly k scores reach if there is one, else the largest that k scores reach;
 * −infinity when fewer than k are numbers above it.  Its image and +infinity's bound the search. */
static float kth_largest(const float *score, size_t n, size_t k)
{
    int32_t low = -0x7f800001, high = 0x7f800000;
    while (low < high) {
        int32_t middle = (int32_t)(((int64_t)low + high + 1) >> 1);
        size_t found = count(score, n, of_image(middle), true);
        if (found == k)
            return of_image(middle);
        if (found > k)
            low = middle;
        else
            high = middle - 1;
    }
    return of_image(low);
}

/* Appends base + i for every bit i of BITS, at most MOST; returns how many. */
static size_t put_bits(uint32_t bits, size_t base, size_t most, uint32_t *out)
{
    size_t n = 0;
    for (; bits && n < most; bits &= bits - 1)
        out[n++] = (uint32_t)base + (uint32_t)__builtin_ctz(bits);
    return n;
}

/* The lowest COUNT bits of BITS that are set. */
static uint32_t lowest_bits(uint32_t bits, size_t count)
{
    uint32_t kept = 0;
    for (; bits && count; count--, bits &= bits - 1)
        kept |= bits & -bits;
    return kept;
}

void SL_WIDE(topk)(const float *score, size_t n, size_t k, uint32_t *out)
{
    if (k == 0)
        return;
    float threshold = kth_largest(score, n, k);
    bool all = threshold == -__builtin_inff(); /* NaN ties with −infinity */
    vf bar = vf_set(threshold);
    size_t ties = k - count(score, n, threshold, false);
    for (size_t i = 0; i < n && k > 0; i += SL_LANES) {
        size_t left = sl_least(n - i, SL_LANES);
        vf x = left < SL_LANES ? vf_load_or(score + i, left, __builtin_nanf(""))
                               : vf_load(score + i);
        uint32_t above = vm_bits(vf_gt(x, bar));
        uint32_t equal = (all ? 0xffffu >> (SL_LANES - left) : vm_bits(vf_ge(x, bar))) & ~above;
        if (ties < SL_LANES)
            equal = lowest_bits(equal, ties);
        ties -= (size_t)__builtin_popcount(equal);
        size_t put = put_bits(above | equal, i, k, out);
        out += put;
        k -= put;
    }
}
