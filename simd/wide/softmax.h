/* SPDX-License-Identifier: MIT */
/* The softmax of one block of scores, in the order of docs/kernels.md, attend. */
#ifndef SL_SIMD_SOFTMAX_H
#define SL_SIMD_SOFTMAX_H

#include <math.h>

#include "simd/wide/lanes.h"

/* The largest of score[0..n). */
static inline float sl_largest_score(const float *score, size_t n)
{
    vf max = vf_set(-INFINITY);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        max = vf_max(vf_load(score + i), max);
    if (i < n)
        max = vf_max(vf_load_or(score + i, n - i, -INFINITY), max);
    return vf_largest(max) + 0.0f;
}

/* score[j] becomes p_j = exp(score_j − max), up to a multiple of 16 with zeros; returns their
 * sum. */
static inline float sl_exp_scores(float *score, size_t n, float max)
{
    vf sum = vf_set(0), m = vf_set(max);
    for (size_t i = 0; i < n; i += SL_LANES) {
        size_t left = sl_least(n - i, SL_LANES);
        vf p = vf_exp(vf_sub(vf_load(score + i), m));
        if (left < SL_LANES)
            p = vf_first(p, left);
        sum = vf_add(sum, p);
        vf_store(score + i, p);
    }
    return vf_tree(sum);
}

#endif
