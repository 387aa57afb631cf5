/* SPDX-License-Identifier: MIT */
/*
 * Exact top-k: the k-th largest score is found bit by bit, counting how many scores reach a
 * candidate.  Floats are compared as floats, so that −0 equals 0 and NaN reaches nothing; only the
 * candidates go through the order-preserving image in int32.
 */
#include "simd/wide/wide_kernels.h"

static int32_t to_image(float f)
{
    int32_t i;
    memcpy(&i, &f, 4);
    return i < 0 ? i ^ INT32_MAX : i;
}

static float of_image(int32_t i)
{
    int32_t u = i < 0 ? i ^ INT32_MAX : i;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* The last N scores, fewer than 16, and NaN behind them. */
static vf load_rest(const float *score, size_t n)
{
    return vf_load_or(score, n, __builtin_nanf(""));
}

/* found + 1 in the lanes where X > BAR, or with EQUAL X ≥ BAR. */
SL_INLINE vi add_reaching(vi found, vf x, vf bar, bool equal)
{
    return vi_add_if(equal ? vf_ge(x, bar) : vf_gt(x, bar), found, 1);
}

/* How many of score[0..n) are > BAR, or with EQUAL ≥ BAR. */
SL_INLINE size_t count(const float *score, size_t n, float bar, bool equal)
{
    vf b = vf_set(bar);
    vi found = vi_set(0), more = vi_set(0);
    size_t i = 0;
    for (; i + 2 * SL_LANES <= n; i += 2 * SL_LANES) {
        found = add_reaching(found, vf_load(score + i), b, equal);
        more = add_reaching(more, vf_load(score + i + SL_LANES), b, equal);
    }
    for (; i + SL_LANES <= n; i += SL_LANES)
        found = add_reaching(found, vf_load(score + i), b, equal);
    if (i < n)
        found = add_reaching(found, load_rest(score + i, n - i), b, equal);
    return (size_t)vi_sum(vi_add(found, more));
}

/* The smallest and the largest number of score[0..n); +infinity and −infinity without any. */
static void bounds(const float *score, size_t n, float *least, float *most)
{
    vf low = vf_set(__builtin_inff()), high = vf_set(-__builtin_inff());
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES) {
        vf x = vf_load(score + i);
        low = vf_min(x, low);
        high = vf_max(x, high);
    }
    if (i < n) {
        vf x = load_rest(score + i, n - i);
        low = vf_min(x, low);
        high = vf_max(x, high);
    }
    *least = -vf_largest(vf_sub(vf_set(0), low));
    *most = vf_largest(high);
}

/* A float that exactly k scores reach if there is one, else the largest that k scores reach;
 * −infinity when fewer than k are numbers. */
static float kth_largest(const float *score, size_t n, size_t k)
{
    float least, most;
    bounds(score, n, &least, &most);
    size_t numbers = count(score, n, least, true);
    if (numbers <= k)
        return numbers < k ? -__builtin_inff() : least;
    int32_t low = to_image(least), high = to_image(most);
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
        vf x = left < SL_LANES ? load_rest(score + i, left) : vf_load(score + i);
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

/* ---- few scores of many --------------------------------------------------------------------- */

void SL_WIDE(group_max)(const float *score, size_t n, size_t groups, float *out)
{
    for (size_t g = 0; g < groups; g += SL_LANES) {
        vf max = vf_set(-__builtin_inff());
        size_t i = g;
        for (; i + SL_LANES <= n; i += groups)
            max = vf_max(vf_load(score + i), max);
        if (i < n)
            max = vf_max(load_rest(score + i, n - i), max);
        vf_store(out + g, max);
    }
}

/* Bit i: score[i] ≥ BAR, for 64 scores. */
SL_INLINE uint64_t reaching(const float *score, vf bar)
{
    uint64_t bits = 0;
    SL_UNROLL
    for (size_t i = 0; i < 64; i += SL_LANES)
        bits |= (uint64_t)vm_bits(vf_ge(vf_load(score + i), bar)) << i;
    return bits;
}

/* Few are expected to: nothing is stored unless one does. */
size_t SL_WIDE(reach)(const float *score, size_t n, float bar, uint32_t *index, float *value)
{
    size_t found = 0, i = 0;
    for (; i + 64 <= n; i += 64)
        for (uint64_t bits = reaching(score + i, vf_set(bar)); bits; bits &= bits - 1) {
            size_t at = i + (size_t)__builtin_ctzll(bits);
            value[found] = score[at];
            index[found++] = (uint32_t)at;
        }
    for (; i < n; i++)
        if (score[i] >= bar) {
            value[found] = score[i];
            index[found++] = (uint32_t)i;
        }
    return found;
}
