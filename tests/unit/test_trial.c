/* SPDX-License-Identifier: MIT */
/* Whether something pays: by time, by what it brings, and again later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/payoff.h"

enum { WINDOW = 8 };

/* Counts PASSES whose cost depends on how they go. */
static void count(struct sl_trial *t, uint32_t passes, double with, double without)
{
    for (uint32_t i = 0; i < passes; i++)
        sl_trial_count(t, sl_trial_wanted(t) ? with : without, 1);
}

static void takes_what_pays(void **unused)
{
    (void)unused;
    struct sl_trial t = {.window = WINDOW};
    assert_int_equal(sl_trial_says(&t), 0);
    count(&t, 4 * WINDOW - 1, 0.9, 1.0);
    assert_int_equal(sl_trial_says(&t), 0);
    count(&t, 1, 0.9, 1.0);
    assert_int_equal(sl_trial_says(&t), 1);
    assert_true(sl_trial_wanted(&t));
    count(&t, SL_TRIAL_HOLD - 1, 0.9, 1.0);
    assert_int_equal(sl_trial_says(&t), 1);
    count(&t, 1, 0.9, 1.0);
    assert_int_equal(sl_trial_says(&t), 0);
    count(&t, 4 * WINDOW, 1.1, 1.0); /* it no longer does */
    assert_int_equal(sl_trial_says(&t), -1);
    assert_false(sl_trial_wanted(&t));
    count(&t, 2 * SL_TRIAL_HOLD - 1, 1.1, 1.0);
    assert_int_equal(sl_trial_says(&t), -1);
    count(&t, 1, 1.1, 1.0);
    assert_int_equal(sl_trial_says(&t), 0);
    for (int i = 0; i < 20; i++) /* the trials become rare, not endless */
        count(&t, 4 * WINDOW + SL_TRIAL_HOLD_MAX, 1.1, 1.0);
    assert_true(t.hold == SL_TRIAL_HOLD_MAX);
}

/* A drift over the trial favours neither side; a gain that is noise is no gain. */
static void is_not_fooled(void **unused)
{
    (void)unused;
    struct sl_trial t = {.window = WINDOW};
    for (uint32_t i = 0; i < 4 * WINDOW; i++)
        sl_trial_count(&t, 1 + 0.01 * i, 1);
    assert_int_equal(sl_trial_says(&t), -1);
    t = (struct sl_trial){.window = WINDOW};
    count(&t, 4 * WINDOW, 0.99, 1.0);
    assert_int_equal(sl_trial_says(&t), -1);
}

/* A draft: a pass of two positions takes COST times as long, and SECOND of ten give two tokens. */
static int verdict(uint32_t window, double cost, uint32_t second)
{
    struct sl_trial t = {.window = window};
    uint32_t tenths = 0;
    while (sl_trial_says(&t) == 0) {
        bool with = sl_trial_wanted(&t);
        tenths += with ? second : 0;
        uint32_t tokens = with && tenths >= 10 ? 2 : 1;
        tenths -= tokens == 2 ? 10 : 0;
        sl_trial_count(&t, with ? cost : 1, tokens);
    }
    return sl_trial_says(&t);
}

static void weighs_time_with_tokens(void **unused)
{
    (void)unused;
    assert_int_equal(verdict(40, 1.3, 7), 1); /* 1.3 ÷ 1.7 of the time */
    assert_int_equal(verdict(40, 1.8, 7), -1);
    assert_int_equal(verdict(40, 1.8, 9), 1);
    assert_int_equal(verdict(40, 1.05, 0), -1);
    assert_int_equal(verdict(40, 1.05, 2), 1);
    assert_int_equal(verdict(WINDOW, 1.5, 7), 1);
    assert_int_equal(verdict(WINDOW, 1.99, 10), -1);
}

/* Seconds that PASSES took beyond those of the better way; its passes take 1 s and give BETTER
 * tokens, the others WORSE s and a token.  PAYS: it is the better way. */
static double lost(bool pays, double worse, uint32_t better, uint32_t passes)
{
    struct sl_trial t = {.window = WINDOW};
    double seconds = 0, tokens = 0;
    for (uint32_t i = 0; i < passes; i++) {
        bool good = sl_trial_wanted(&t) == pays;
        sl_trial_count(&t, good ? 1 : worse, good ? better : 1);
        seconds += good ? 1 : worse;
        tokens += good ? better : 1;
    }
    return seconds - tokens / better;
}

/* All trials but the first cost a hundredth of the time at most, and less and less. */
static void trials_cost_little(void **unused)
{
    static const struct {
        double worse;
        uint32_t better;
    } cases[] = {{1.03, 1}, {1.1, 1}, {1.5, 1}, {2, 1}, {3.5, 1}, {0.9, 2}, {1.4, 2}, {2, 3}};
    (void)unused;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        double worse = cases[i / 2].worse;
        uint32_t better = cases[i / 2].better;
        double first = lost(i % 2, worse, better, 4 * WINDOW);
        assert_true(first > 0);
        for (uint32_t passes = 100; passes < 100000; passes = passes * 5 / 4) {
            double all = lost(i % 2, worse, better, passes), trial = first + 1e-6;
            assert_true(all <= 2 * trial + 0.01 * passes); /* one may just be over */
            assert_true(passes < 50000 || all < 0.005 * passes + 2 * trial);
        }
    }
}

/* What costs much is not tried again soon, and a hiccup is not for ever. */
static void waits_after_a_loss(void **unused)
{
    (void)unused;
    struct sl_trial t = {.window = WINDOW};
    count(&t, 4 * WINDOW, 1.5, 1.0); /* 16 passes lose 8 */
    assert_int_equal(t.hold, 800);
    t = (struct sl_trial){.window = WINDOW};
    count(&t, 4 * WINDOW, 1e6, 1.0);
    assert_int_equal(t.hold, SL_TRIAL_HOLD_MAX);
    t = (struct sl_trial){.window = WINDOW};
    count(&t, 4 * WINDOW, 0, 0);
    assert_int_equal(t.hold, SL_TRIAL_HOLD);
}

/* The first pass after a change is nobody's. */
static void forgets_the_change(void **unused)
{
    (void)unused;
    struct sl_trial t = {.window = WINDOW};
    bool before = false;
    for (uint32_t i = 0; i < 4 * WINDOW; i++) {
        bool with = sl_trial_wanted(&t);
        sl_trial_count(&t, with != before ? 1000 : with ? 1.5 : 1, with ? 2 : 1);
        before = with;
    }
    assert_int_equal(sl_trial_says(&t), 1);
    assert_true(t.seconds[0] < 2 * WINDOW && t.seconds[1] < 3 * WINDOW);
    assert_int_equal(t.tokens[0], 2 * (WINDOW - 1));
    assert_int_equal(t.tokens[1], 4 * (WINDOW - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_what_pays),         cmocka_unit_test(is_not_fooled),
        cmocka_unit_test(weighs_time_with_tokens), cmocka_unit_test(trials_cost_little),
        cmocka_unit_test(waits_after_a_loss),      cmocka_unit_test(forgets_the_change),
    };
    return cmocka_run_group_tests_name("trial", tests, NULL, NULL);
}
