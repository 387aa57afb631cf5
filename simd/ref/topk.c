/* SPDX-License-Identifier: MIT */
/* Exact top-k by radix selection on an order-preserving integer image of the scores; and what makes
 * few scores of many, without losing any of the k largest. */
#include <string.h>

#include "simd/ref/ref.h"

enum { DIGIT = 8, BUCKETS = 1 << DIGIT };

/* Larger score, larger image; NaN as −infinity, −0 as +0. */
static uint32_t image(float f)
{
    uint32_t u;
    f = f == f ? f + 0.0f : -__builtin_inff();
    memcpy(&u, &f, 4);
    return u & 0x80000000 ? ~u : u | 0x80000000;
}

/*
 * The k-th largest image.  *above receives how many images are larger: the k − above lowest indices
 * that equal it complete the choice.
 */
static uint32_t kth_image(const float *score, size_t n, size_t k, size_t *above)
{
    uint32_t prefix = 0, mask = 0;
    *above = 0;
    for (int shift = 32 - DIGIT; shift >= 0; shift -= DIGIT) {
        size_t count[BUCKETS] = {0};
        for (size_t i = 0; i < n; i++) {
            uint32_t u = image(score[i]);
            count[u >> shift & (BUCKETS - 1)] += (u & mask) == prefix;
        }
        uint32_t digit = BUCKETS - 1;
        while (*above + count[digit] < k)
            *above += count[digit--];
        prefix |= digit << shift;
        mask |= (uint32_t)(BUCKETS - 1) << shift;
    }
    return prefix;
}

void sl_ref_topk(const float *score, size_t n, size_t k, uint32_t *out)
{
    if (k == 0)
        return;
    size_t above;
    uint32_t threshold = kth_image(score, n, k, &above);
    size_t ties = k - above;
    for (size_t i = 0; i < n; i++) {
        uint32_t u = image(score[i]);
        if (u > threshold || (u == threshold && ties > 0)) {
            ties -= u == threshold;
            *out++ = (uint32_t)i;
        }
    }
}

void sl_ref_group_max(const float *score, size_t n, size_t groups, float *out)
{
    for (size_t g = 0; g < groups; g++) {
        out[g] = -__builtin_inff();
        for (size_t i = g; i < n; i += groups)
            out[g] = score[i] > out[g] ? score[i] : out[g];
    }
}

size_t sl_ref_reach(const float *score, size_t n, float bar, uint32_t *index, float *value)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        if (score[i] >= bar) {
            value[found] = score[i];
            index[found++] = (uint32_t)i;
        }
    return found;
}
