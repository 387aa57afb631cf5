/* SPDX-License-Identifier: MIT */
/* Group-limited choice of experts.  Scalar code over a few hundred numbers. */
#include <math.h>

#include "runtime/moe/moe.h"

enum { MAX_GROUPS = 4096 };

/* Sum of the two largest of score[0..n). */
static float best_two(const float *score, size_t n)
{
    float first = -INFINITY, second = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (score[i] > first) {
            second = first;
            first = score[i];
        } else if (score[i] > second) {
            second = score[i];
        }
    }
    return first + second;
}

/* Sets the scores of all but the groups_used best groups to −infinity. */
static void mask_groups(const struct sl_config *c, const struct sl_ops *ops, float *score)
{
    size_t size = c->experts / c->groups;
    float group_score[MAX_GROUPS];
    uint32_t kept[MAX_GROUPS];
    if (c->groups_used == c->groups)
        return;
    for (size_t g = 0; g < c->groups; g++)
        group_score[g] = best_two(score + g * size, size);
    ops->topk(group_score, c->groups, c->groups_used, kept);
    for (size_t g = 0, k = 0; g < c->groups; g++) {
        if (k < c->groups_used && kept[k] == g) {
            k++;
            continue;
        }
        for (size_t e = g * size; e < (g + 1) * size; e++)
            score[e] = -INFINITY;
    }
}

void sl_route_choose(const struct sl_config *c, const struct sl_ops *ops, const float *logits,
                     const float *bias, float *scratch, struct sl_route route)
{
    float *score = scratch, *biased = scratch + c->experts, sum = 0, factor;
    ops->sigmoid(logits, c->experts, score);
    for (size_t e = 0; e < c->experts; e++)
        biased[e] = score[e] + bias[e];
    mask_groups(c, ops, biased);
    ops->topk(biased, c->experts, c->experts_used, route.experts);
    for (size_t k = 0; k < c->experts_used; k++) {
        route.weights[k] = score[route.experts[k]];
        sum += route.weights[k];
    }
    factor = c->norm_topk ? c->routed_scale / (sum + 1e-20f) : c->routed_scale;
    for (size_t k = 0; k < c->experts_used; k++)
        route.weights[k] *= factor;
}
