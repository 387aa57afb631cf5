/* SPDX-License-Identifier: MIT */
/*
 * runtime/moe: the choice of experts against a slow router written from the definition: sort, mask,
 * sort again, weights in double precision.  The sigmoid is the kernel's, so that ties are ties.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/moe/moe.h"
#include "tests/random.h"

enum { MAX_EXPERTS = 512 };

static struct sl_config router(uint32_t experts, uint32_t used, uint32_t groups,
                               uint32_t groups_used)
{
    return (struct sl_config){.experts = experts,
                              .experts_used = used,
                              .groups = groups,
                              .groups_used = groups_used,
                              .norm_topk = true,
                              .routed_scale = 2.5f};
}

/* One token's input and the choice made of it. */
struct trial {
    struct sl_config config;
    float logits[MAX_EXPERTS], bias[MAX_EXPERTS];
    uint32_t experts[MAX_EXPERTS + 1]; /* and one that must stay as it is */
    float weights[MAX_EXPERTS];
};

static void choose(struct trial *t)
{
    float scratch[2 * MAX_EXPERTS];
    struct sl_route route = {t->experts, t->weights};
    memset(t->experts, 0xff, sizeof t->experts);
    sl_route_choose(&t->config, sl_rung_find(NULL)->ops, t->logits, t->bias, scratch, route);
    assert_true(t->experts[t->config.experts_used] == UINT32_MAX); /* nothing behind the end */
}

/* ---- the slow router ------------------------------------------------------------------------ */

struct ranked {
    float value;
    uint32_t index;
};

static int better_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static void rank(struct ranked *r, const float *value, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        r[i] = (struct ranked){value[i], i};
    qsort(r, n, sizeof *r, better_first);
}

/* chosen[e]: expert e is taken. */
static void slow_choice(const struct trial *t, const float *score, bool *chosen)
{
    const struct sl_config *c = &t->config;
    uint32_t size = c->experts / c->groups;
    float biased[MAX_EXPERTS], group[MAX_EXPERTS];
    struct ranked r[MAX_EXPERTS];
    bool kept[MAX_EXPERTS] = {0};
    for (uint32_t e = 0; e < c->experts; e++)
        biased[e] = score[e] + t->bias[e];
    for (uint32_t g = 0; g < c->groups; g++) {
        rank(r, biased + g * size, size);
        group[g] = size > 1 ? r[0].value + r[1].value : r[0].value;
    }
    rank(r, group, c->groups);
    for (uint32_t g = 0; g < c->groups_used; g++)
        kept[r[g].index] = true;
    for (uint32_t e = 0; e < c->experts; e++)
        if (!kept[e / size])
            biased[e] = -INFINITY;
    rank(r, biased, c->experts);
    memset(chosen, 0, MAX_EXPERTS * sizeof *chosen);
    for (uint32_t k = 0; k < c->experts_used; k++)
        chosen[r[k].index] = true;
}

/* Chooses and compares experts, their order and weights. */
static void check(struct trial *t)
{
    const struct sl_config *c = &t->config;
    float score[MAX_EXPERTS];
    bool chosen[MAX_EXPERTS];
    double sum = 0;
    uint32_t k = 0;
    choose(t);
    sl_rung_find(NULL)->ops->sigmoid(t->logits, c->experts, score);
    slow_choice(t, score, chosen);
    for (uint32_t e = 0; e < c->experts; e++)
        sum += chosen[e] ? (double)score[e] : 0;
    for (uint32_t e = 0; e < c->experts; e++) {
        if (!chosen[e])
            continue;
        if (t->experts[k] != e)
            fail_msg("choice %u of %u is expert %u, %u wanted", k, c->experts_used, t->experts[k],
                     e);
        double want = (double)score[e] * (double)c->routed_scale / (c->norm_topk ? sum : 1);
        /* a rounding per term of the sum, three besides */
        if (!(fabs((double)t->weights[k] - want) <= (c->experts_used + 3) * 0x1p-24 * want))
            fail_msg("weight of expert %u is %.9g, %.9g wanted", e, (double)t->weights[k], want);
        k++;
    }
    assert_int_equal(k, c->experts_used);
}

/* Shapes of published and of unusual routers. */
static const uint32_t shapes[][4] = {
    {256, 8, 8, 4}, {256, 8, 8, 8},   {384, 8, 1, 1},   {32, 4, 4, 2},  {32, 16, 4, 2},
    {8, 2, 4, 1},   {16, 16, 8, 8},   {2, 1, 1, 1},     {1, 1, 1, 1},   {512, 22, 16, 5},
    {160, 6, 8, 3}, {512, 8, 256, 4}, {512, 512, 2, 2}, {96, 24, 3, 1},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static struct sl_config shape(size_t i)
{
    return router(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void agrees_on_random_logits(void **state)
{
    static struct trial t;
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++)
        for (int round = 0; round < 400; round++) {
            float offset = (float)(round % 4) * -0.7f; /* biases positive, mixed, all negative */
            t.config = shape(i);
            t.config.norm_topk = round % 5 != 0;
            for (uint32_t e = 0; e < t.config.experts; e++) {
                t.logits[e] = 6 * uniform();
                t.bias[e] = round % 7 ? 0.5f * uniform() + offset : 0;
            }
            check(&t);
        }
}

/* Few different logits and biases: ties at every boundary. */
static void agrees_on_ties(void **state)
{
    static struct trial t;
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++)
        for (int round = 0; round < 400; round++) {
            t.config = shape(i);
            for (uint32_t e = 0; e < t.config.experts; e++) {
                t.logits[e] = (float)(random_bits() % (1 + (uint32_t)round % 4));
                t.bias[e] = round % 3 ? 0 : 0.25f * (float)(random_bits() % 2);
            }
            check(&t);
        }
}

static void prefers_lower_indices(void **state)
{
    static struct trial t;
    (void)state;
    t.config = router(256, 8, 8, 4);
    memset(t.logits, 0, sizeof t.logits);
    memset(t.bias, 0, sizeof t.bias);
    check(&t);
    for (uint32_t k = 0; k < 8; k++)
        assert_int_equal(t.experts[k], k);
    t.logits[224] = t.logits[255] = 1; /* a group's two best decide; the rest ties */
    t.bias[100] = 4;
    check(&t);
    static const uint32_t wanted[8] = {0, 1, 2, 3, 4, 100, 224, 255};
    assert_memory_equal(t.experts, wanted, sizeof wanted);
}

/* A group's rank is the sum of its two best, not its best. */
static void ranks_groups_by_two(void **state)
{
    static struct trial t;
    (void)state;
    t.config = router(8, 2, 2, 1);
    for (uint32_t e = 0; e < 8; e++) {
        t.logits[e] = -9;
        t.bias[e] = 0;
    }
    t.logits[1] = 9;
    t.logits[5] = t.logits[6] = 1;
    check(&t);
    assert_int_equal(t.experts[0], 5);
    assert_int_equal(t.experts[1], 6);
}

/* Even where all scores of the kept groups are far below 0, no other group's expert is taken. */
static void masks_with_minus_infinity(void **state)
{
    static struct trial t;
    static const float low[] = {-0.5f, -2, -1000, -1e30f};
    (void)state;
    for (size_t i = 0; i < sizeof low / sizeof *low; i++) {
        t.config = router(32, 4, 4, 2);
        for (uint32_t e = 0; e < 32; e++) {
            t.logits[e] = uniform();
            t.bias[e] = e % 8 < 2 && e >= 16 ? 0 : low[i] * (1 + (float)e / 64);
        }
        for (uint32_t e = 0; e < 16; e++) /* groups 0 and 1 lose, with one good expert each */
            t.bias[e] = e % 8 == 0 ? 0 : 2 * low[i] - 10;
        t.config.experts_used = 6;
        check(&t);
        for (uint32_t k = 0; k < 6; k++)
            assert_true(t.experts[k] >= 16);
    }
}

static void big_negative_bias_excludes(void **state)
{
    static struct trial t;
    (void)state;
    for (int round = 0; round < 200; round++) {
        uint32_t never = random_bits() % 256;
        t.config = router(256, 8, 8, 4);
        for (uint32_t e = 0; e < 256; e++) {
            t.logits[e] = 3 * uniform();
            t.bias[e] = -1 + 0.1f * uniform();
        }
        t.logits[never] = 20;
        t.bias[never] = -1e4f;
        check(&t);
        for (uint32_t k = 0; k < 8; k++)
            assert_int_not_equal(t.experts[k], never);
    }
}

static double weight_sum(const struct trial *t)
{
    double sum = 0;
    for (uint32_t k = 0; k < t->config.experts_used; k++)
        sum += (double)t->weights[k];
    return sum;
}

/* Another bias that leads to the same choice leads to the same weights, to the bit. */
static void bias_stays_out_of_the_weights(void **state)
{
    static struct trial t, u;
    (void)state;
    for (int round = 0; round < 200; round++) {
        t.config = router(256, 8, 8, 8);
        t.config.norm_topk = round % 2;
        for (uint32_t e = 0; e < 256; e++) {
            t.logits[e] = 3 * uniform();
            t.bias[e] = uniform();
        }
        check(&t);
        u = t;
        for (uint32_t k = 0; k < 8; k++)
            u.bias[t.experts[k]] = 2 + (float)(random_bits() % 50);
        check(&u);
        assert_memory_equal(u.experts, t.experts, 8 * sizeof *t.experts);
        assert_memory_equal(u.weights, t.weights, 8 * sizeof *t.weights);
        if (t.config.norm_topk)
            assert_true(fabs(weight_sum(&t) - 2.5) < 2.5 * 1e-6);
    }
}

static void weights_follow_the_flags(void **state)
{
    static struct trial t;
    float score[MAX_EXPERTS];
    (void)state;
    t.config = router(64, 6, 1, 1);
    for (uint32_t e = 0; e < 64; e++) {
        t.logits[e] = 4 * uniform();
        t.bias[e] = 0;
    }
    sl_rung_find(NULL)->ops->sigmoid(t.logits, 64, score);
    t.config.norm_topk = false;
    t.config.routed_scale = 1;
    check(&t);
    for (uint32_t k = 0; k < 6; k++)
        assert_true(t.weights[k] == score[t.experts[k]]);
    t.config.routed_scale = 16;
    check(&t);
    for (uint32_t k = 0; k < 6; k++)
        assert_true(t.weights[k] == 16 * score[t.experts[k]]);
    t.config = router(64, 1, 1, 1);
    check(&t);
    assert_true(fabs(weight_sum(&t) - 2.5) < 1e-6);
}

/* Ascending ids of experts that there are, and every weight a number unless a logit was none. */
static void expect_valid(const struct trial *t, bool finite)
{
    for (uint32_t k = 0; k < t->config.experts_used; k++) {
        assert_true(t->experts[k] < t->config.experts);
        assert_true(k == 0 || t->experts[k] > t->experts[k - 1]);
        assert_true(!finite || isfinite(t->weights[k]));
    }
}

static void survives_extreme_logits(void **state)
{
    static const float values[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, -100, 100, 0};
    static struct trial t;
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++)
        for (int round = 0; round < 300; round++) {
            uint32_t kinds = 1 + random_bits() % 8;
            bool nan = false;
            t.config = shape(i);
            for (uint32_t e = 0; e < t.config.experts; e++) {
                t.logits[e] = values[round % 2 ? random_bits() % kinds : 1 + random_bits() % 7];
                t.bias[e] = uniform();
                nan = nan || isnan(t.logits[e]);
            }
            choose(&t);
            expect_valid(&t, !nan);
        }
}

static void survives_nothing_but_nan(void **state)
{
    static struct trial t;
    (void)state;
    for (size_t i = 0; i < N_SHAPES; i++) {
        t.config = shape(i);
        for (uint32_t e = 0; e < MAX_EXPERTS; e++) {
            t.logits[e] = NAN;
            t.bias[e] = 0;
        }
        choose(&t);
        expect_valid(&t, false);
        for (uint32_t e = 0; e < MAX_EXPERTS; e++) { /* or hidden in the bias */
            t.logits[e] = 1;
            t.bias[e] = e % 2 ? NAN : -INFINITY;
        }
        choose(&t);
        expect_valid(&t, true);
    }
}

/* Where enough experts have numbers, one without is not taken. */
static void nan_loses(void **state)
{
    static struct trial t;
    (void)state;
    for (int round = 0; round < 200; round++) {
        t.config = router(256, 8, 8, round % 2 ? 4 : 8);
        for (uint32_t e = 0; e < 256; e++) {
            t.logits[e] = random_bits() % 4 ? 3 * uniform() : NAN;
            t.bias[e] = -uniform();
        }
        choose(&t);
        expect_valid(&t, true);
        assert_true(fabs(weight_sum(&t) - 2.5) < 2.5 * 1e-6);
    }
}

int main(void)
{
    random_state = 0x9e3779b97f4a7c15u;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_on_random_logits),
        cmocka_unit_test(agrees_on_ties),
        cmocka_unit_test(prefers_lower_indices),
        cmocka_unit_test(ranks_groups_by_two),
        cmocka_unit_test(masks_with_minus_infinity),
        cmocka_unit_test(big_negative_bias_excludes),
        cmocka_unit_test(bias_stays_out_of_the_weights),
        cmocka_unit_test(weights_follow_the_flags),
        cmocka_unit_test(survives_extreme_logits),
        cmocka_unit_test(survives_nothing_but_nan),
        cmocka_unit_test(nan_loses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
