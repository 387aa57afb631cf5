/* SPDX-License-Identifier: MIT */
/* runtime/sample: the greedy choice, the distribution of draws, the cut at top_p, odd input. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/sample/sample.h"
#include "tests/random.h"

enum { MAX_N = 1000 };

static struct sl_candidate scratch[MAX_N];

static struct sl_sampler sampler(float temperature, float top_p)
{
    return (struct sl_sampler){.temperature = temperature,
                               .top_p = top_p,
                               .seed = 1,
                               .exponential = expf,
                               .scratch = scratch};
}

/* ---- greedy --------------------------------------------------------------------------------- */

static void greedy_takes_the_best(void **state)
{
    static const struct {
        float logits[5];
        uint8_t allowed[5];
        int32_t token;
    } cases[] = {
        {{1, 5, 3, 5, 5}, {1, 1, 1, 1, 1}, 1}, /* ties: lower id */
        {{1, 5, 3, 5, 5}, {1, 0, 1, 1, 1}, 3},
        {{1, 5, 3, 5, 5}, {1, 0, 1, 0, 0}, 2},
        {{1, 5, 3, 5, 5}, {9, 0, 0, 0, 0}, 0}, /* any value but 0 */
        {{1, 5, 3, 5, 5}, {0, 0, 0, 0, 0}, -1},
        {{0.0f, -0.0f, -1, -1, -1}, {1, 1, 1, 1, 1}, 0},
        {{-0.0f, 0.0f, -1, -1, -1}, {1, 1, 1, 1, 1}, 0},
        {{NAN, 1, NAN, 2, NAN}, {1, 1, 1, 1, 1}, 3},
        {{NAN, -INFINITY, NAN, -INFINITY, NAN}, {1, 1, 1, 1, 1}, 1},
        {{NAN, NAN, NAN, NAN, NAN}, {1, 1, 1, 1, 1}, -1},
        {{NAN, NAN, NAN, NAN, 1}, {1, 1, 1, 1, 0}, -1},
        {{1, INFINITY, 2, INFINITY, 3}, {1, 1, 1, 1, 1}, 1},
        {{-5, -4, -3, -2, -1}, {1, 1, 1, 1, 1}, 4},
    };
    static const float temperatures[] = {0, -0.0f, -1};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sl_sampler s = sampler(0, 0.5f);
        s.allowed = cases[i].allowed;
        s.scratch = NULL; /* greedy needs none */
        for (size_t t = 0; t < 3; t++) {
            s.temperature = temperatures[t];
            assert_int_equal(sl_sample(&s, cases[i].logits, 5), cases[i].token);
        }
        if (cases[i].token < 0) { /* at any temperature */
            s = sampler(1, 1);
            s.allowed = cases[i].allowed;
            assert_int_equal(sl_sample(&s, cases[i].logits, 5), -1);
        }
    }
    struct sl_sampler s = sampler(0, 1);
    assert_int_equal(sl_sample(&s, cases[0].logits, 5), 1);
    assert_int_equal(sl_sample(&s, cases[0].logits, 0), -1);
}

static void one_token_is_no_choice(void **state)
{
    static const float logits[] = {-3.5f, 0, 1e30f, -1e30f};
    (void)state;
    for (size_t i = 0; i < sizeof logits / sizeof *logits; i++)
        for (uint64_t draw = 0; draw < 100; draw++) {
            struct sl_sampler s = sampler(draw % 2 ? 1.0f : 0, draw % 3 ? 1.0f : 1e-6f);
            s.draw = draw;
            assert_int_equal(sl_sample(&s, &logits[i], 1), 0);
        }
}

/* ---- distribution --------------------------------------------------------------------------- */

/* Counts N draws; SEEDS: of as many seeds, else one seed's. */
static void count_draws(struct sl_sampler s, const float *logits, size_t n, unsigned draws,
                        bool seeds, unsigned *count)
{
    memset(count, 0, n * sizeof *count);
    for (unsigned i = 0; i < draws; i++) {
        *(seeds ? &s.seed : &s.draw) = i;
        int32_t token = sl_sample(&s, logits, n);
        if (token < 0 || (size_t)token >= n)
            fail_msg("draw %u: token %d of %zu", i, token, n);
        count[token]++;
    }
}

static void expect_counts(const unsigned *count, const double *p, size_t n, unsigned draws)
{
    for (size_t i = 0; i < n; i++) {
        double mean = draws * p[i], sigma = sqrt(draws * p[i] * (1 - p[i]));
        if (fabs(count[i] - mean) > 5 * sigma)
            fail_msg("token %zu: %u of %u draws, %.1f ± %.1f expected", i, count[i], draws, mean,
                     sigma);
    }
}

enum { DRAWS = 200000 };

static void draws_the_distribution(void **state)
{
    static const double p[] = {0.05, 0.4, 0, 0.25, 0.001, 0.199, 0.1};
    static const float temperatures[] = {1, 0.5f, 2, 20};
    enum { N = 7 };
    unsigned count[N];
    (void)state;
    for (size_t t = 0; t < 4; t++) {
        float logits[N];
        double heated[N], total = 0;
        for (size_t i = 0; i < N; i++) {
            logits[i] = p[i] > 0 ? (float)log(p[i]) + 11 : -INFINITY;
            heated[i] = pow(p[i], 1 / (double)temperatures[t]);
            total += heated[i];
        }
        for (size_t i = 0; i < N; i++)
            heated[i] /= total;
        for (int seeds = 0; seeds < 2; seeds++) {
            count_draws(sampler(temperatures[t], 1), logits, N, DRAWS, seeds, count);
            expect_counts(count, heated, N, DRAWS);
            assert_int_equal(count[2], 0);
        }
    }
}

static void draws_only_what_is_allowed(void **state)
{
    static const float logits[] = {9, 1, 1, NAN, 3, 1};
    static const uint8_t allowed[] = {0, 1, 1, 1, 0, 1};
    static const double p[] = {0, 1 / 3.0, 1 / 3.0, 0, 0, 1 / 3.0};
    unsigned count[6];
    (void)state;
    struct sl_sampler s = sampler(1, 1);
    s.allowed = allowed;
    count_draws(s, logits, 6, DRAWS, false, count);
    expect_counts(count, p, 6, DRAWS);
    assert_int_equal(count[0] + count[3] + count[4], 0);
}

/* Neighbouring draws are independent: all pairs are equally frequent. */
static void draws_are_independent(void **state)
{
    enum { N = 8 };
    static const float logits[N];
    unsigned count[N * N] = {0};
    double p[N * N];
    (void)state;
    struct sl_sampler s = sampler(1, 1);
    for (int kind = 0; kind < 3; kind++) { /* next draw, next seed, both */
        memset(count, 0, sizeof count);
        for (unsigned i = 0; i < DRAWS; i++) {
            s.draw = kind == 1 ? 3 : i;
            s.seed = kind == 1 ? i : 77;
            int32_t first = sl_sample(&s, logits, N);
            s.draw += kind != 1;
            s.seed += kind != 0;
            count[first * N + sl_sample(&s, logits, N)]++;
        }
        for (size_t i = 0; i < N * N; i++)
            p[i] = 1.0 / (N * N);
        expect_counts(count, p, N * N, DRAWS);
    }
}

static void repeats_the_same_draw(void **state)
{
    float logits[MAX_N];
    unsigned equal_draws = 0, equal_seeds = 0;
    (void)state;
    for (size_t i = 0; i < MAX_N; i++)
        logits[i] = (float)(random_bits() % 1000) / 500;
    for (uint64_t draw = 0; draw < 200; draw++) {
        struct sl_sampler s = sampler(1, 0.95f);
        s.seed = 0x123456789abcdefu;
        s.draw = draw;
        int32_t token = sl_sample(&s, logits, MAX_N);
        memset(scratch, 0xff, sizeof scratch); /* no memory of earlier draws */
        assert_int_equal(sl_sample(&s, logits, MAX_N), token);
        s.draw = draw + 1;
        equal_draws += sl_sample(&s, logits, MAX_N) == token;
        s.draw = draw;
        s.seed++;
        equal_seeds += sl_sample(&s, logits, MAX_N) == token;
    }
    assert_true(equal_draws < 10 && equal_seeds < 10); /* 0.2 expected */
}

/* ---- top_p ---------------------------------------------------------------------------------- */

static const struct sl_candidate *compared; /* by likelier() */

static int likelier(const void *a, const void *b)
{
    const struct sl_candidate *x = &compared[*(const size_t *)a];
    const struct sl_candidate *y = &compared[*(const size_t *)b];
    if (x->p != y->p)
        return x->p > y->p ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/*
 * in[i]: token i belongs to the smallest set of most likely tokens that reaches top_p.  False when
 * rounding could decide that; *mass of the set, p of the tokens.
 */
static bool slow_cut(const float *logits, size_t n, float temperature, float top_p, bool *in,
                     double *p)
{
    struct sl_candidate c[MAX_N];
    size_t order[MAX_N];
    double total = 0, mass = 0;
    float most = -INFINITY;
    for (size_t i = 0; i < n; i++)
        most = logits[i] > most ? logits[i] : most;
    for (size_t i = 0; i < n; i++) {
        c[i] = (struct sl_candidate){expf((logits[i] - most) / temperature), (int32_t)i};
        order[i] = i;
        in[i] = false;
        total += (double)c[i].p;
    }
    compared = c;
    qsort(order, n, sizeof *order, likelier);
    bool clear = true;
    for (size_t i = 0; i < n && (i == 0 || mass < (double)top_p * total); i++) {
        in[order[i]] = true;
        mass += (double)c[order[i]].p;
        clear = clear && fabs(mass - (double)top_p * total) > 1e-9 * total;
    }
    for (size_t i = 0; i < n; i++)
        p[i] = in[i] ? (double)c[i].p / mass : 0;
    return clear;
}

static void cuts_the_smallest_set(void **state)
{
    unsigned tested = 0, count[60];
    float logits[60];
    double p[60];
    bool in[60];
    (void)state;
    for (int round = 0; round < 60; round++) {
        size_t n = 2 + random_bits() % 58;
        float top_p = (float)(1 + random_bits() % 999) / 1000;
        for (size_t i = 0; i < n; i++) /* steps of 0.5: many ties */
            logits[i] = (float)(random_bits() % 7) * 0.5f;
        if (!slow_cut(logits, n, 1.25f, top_p, in, p))
            continue;
        tested++;
        count_draws(sampler(1.25f, top_p), logits, n, 20000, round % 2, count);
        expect_counts(count, p, n, 20000);
        for (size_t i = 0; i < n; i++)
            if (in[i] != (count[i] > 0)) /* p ≥ 1/60/e^2.4: seen in 20,000 draws */
                fail_msg("round %d: token %zu of %zu, top_p %g: %u draws", round, i, n,
                         (double)top_p, count[i]);
    }
    assert_true(tested > 40);
}

static void cuts_ties_by_id(void **state)
{
    static const float equal[8], steps[] = {0, -1, 0, -1, 0, -1, 0, -1};
    unsigned count[8];
    (void)state;
    for (unsigned k = 1; k <= 8; k++) { /* k/8 exactly: k tokens; a little more: k + 1 */
        count_draws(sampler(1, (float)k / 8), equal, 8, 2000, false, count);
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(count[i] > 0, i < k);
        if (k == 8)
            break;
        count_draws(sampler(1, nextafterf((float)k / 8, 1)), equal, 8, 2000, false, count);
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(count[i] > 0, i <= k);
    }
    count_draws(sampler(1, 0.5f), steps, 8, 2000, false, count); /* 0.731 lies on even ids */
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(count[i] > 0, i == 0 || i == 2 || i == 4);
}

static void keeps_one_token_at_least(void **state)
{
    static const float logits[] = {0, 0.1f, 0.1f, -1};
    unsigned count[4];
    (void)state;
    count_draws(sampler(1, 1e-9f), logits, 4, 1000, false, count);
    assert_int_equal(count[1], 1000);
    count_draws(sampler(1, 0), logits, 4, 1000, false, count);
    assert_int_equal(count[1], 1000);
    count_draws(sampler(1, 1), logits, 4, 1000, false, count);
    assert_true(count[0] && count[1] && count[2] && count[3]);
}

/* ---- odd input ------------------------------------------------------------------------------ */

static void survives_extreme_temperatures(void **state)
{
    static const float logits[] = {1, 2, 1.5f, 2, -3e38f, 0};
    static const float cold[] = {1e-45f, 1e-38f, 1e-6f}, hot[] = {1e6f, 1e30f};
    static const float apart[] = {-3e38f, 3e38f, 0};
    static const double even[] = {0.25, 0.25, 0.25, 0.25};
    unsigned count[6];
    (void)state;
    for (size_t i = 0; i < 3; i++) { /* the two best share everything */
        count_draws(sampler(cold[i], 1), logits, 6, 2000, false, count);
        assert_int_equal(count[1] + count[3], 2000);
        assert_true(count[1] > 800 && count[3] > 800);
    }
    for (size_t i = 0; i < 2; i++) {
        count_draws(sampler(hot[i], 1), logits, 4, DRAWS, false, count);
        expect_counts(count, even, 4, DRAWS);
    }
    count_draws(sampler(1, 1), apart, 3, 1000, false, count); /* differences overflow */
    assert_int_equal(count[1], 1000);
    count_draws(sampler(1e-45f, 0.9f), apart, 3, 1000, false, count);
    assert_int_equal(count[1], 1000);
}

static void survives_infinite_logits(void **state)
{
    static const float values[] = {INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 0};
    static const float temperatures[] = {1e-45f, 1, 1e38f};
    float logits[20];
    uint8_t allowed[20];
    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct sl_sampler s = sampler(temperatures[round % 3], round % 2 ? 1.0f : 0.9f);
        size_t n = 1 + random_bits() % 20;
        bool any = false;
        s.allowed = allowed;
        s.draw = (uint64_t)round;
        uint32_t kinds = 2 + random_bits() % 5, skip = round % 4 == 0;
        for (size_t i = 0; i < n; i++) {
            logits[i] = values[skip + random_bits() % (kinds - skip)];
            allowed[i] = random_bits() % 4 > 0;
            any = any || (allowed[i] && !isnan(logits[i]));
        }
        int32_t token = sl_sample(&s, logits, n);
        assert_int_equal(token >= 0, any);
        if (token < 0)
            continue;
        assert_true((size_t)token < n && allowed[token] && !isnan(logits[token]));
    }
}

/* Minus infinity is probability 0. */
static void never_draws_minus_infinity(void **state)
{
    static const float logits[] = {-INFINITY, -50, -INFINITY, -49, -INFINITY};
    unsigned count[5];
    (void)state;
    count_draws(sampler(1, 1), logits, 5, 5000, false, count);
    assert_int_equal(count[1] + count[3], 5000);
    count_draws(sampler(1e30f, 1), logits, 5, 5000, false, count);
    assert_int_equal(count[1] + count[3], 5000);
}

/* Plus infinity is the limit of a growing logit: everything; several share.  Without it, a model
 * that overflows would speak tokens of probability 0. */
static void draws_plus_infinity(void **state)
{
    static const float logits[] = {0, INFINITY, 5, INFINITY, -INFINITY};
    unsigned count[5];
    (void)state;
    count_draws(sampler(1, 1), logits, 5, 2000, false, count);
    assert_int_equal(count[1] + count[3], 2000);
    count_draws(sampler(0.6f, 0.95f), logits + 2, 3, 2000, false, count);
    assert_int_equal(count[1], 2000);
}

static void survives_any_seed(void **state)
{
    static const uint64_t ends[] = {0, 1, UINT64_MAX, UINT64_MAX - 1, 1ull << 63};
    static const float logits[3];
    (void)state;
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 5; k++) {
            struct sl_sampler s = sampler(1, 1);
            s.seed = ends[i];
            s.draw = ends[k];
            int32_t token = sl_sample(&s, logits, 3);
            assert_in_range(token, 0, 2);
        }
}

int main(void)
{
    random_state = 0x2545f4914f6cdd1du;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_best),    cmocka_unit_test(one_token_is_no_choice),
        cmocka_unit_test(draws_the_distribution),   cmocka_unit_test(draws_only_what_is_allowed),
        cmocka_unit_test(draws_are_independent),    cmocka_unit_test(repeats_the_same_draw),
        cmocka_unit_test(cuts_the_smallest_set),    cmocka_unit_test(cuts_ties_by_id),
        cmocka_unit_test(keeps_one_token_at_least), cmocka_unit_test(survives_extreme_temperatures),
        cmocka_unit_test(survives_infinite_logits), cmocka_unit_test(never_draws_minus_infinity),
        cmocka_unit_test(draws_plus_infinity),      cmocka_unit_test(survives_any_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
