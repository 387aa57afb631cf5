/* SPDX-License-Identifier: MIT */
/* How many tokens a span gets, from what its first layers took. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "runtime/session/session.h"

enum { CHUNK = 100 };

/* After 800 tokens: 1 s of dense layers, and 10 layers of 0.5 s that read experts for READ s. */
static size_t tokens(double read, double limit)
{
    const struct sl_span_time t = {
        .tokens = 800, .layers = 10, .dense = 1, .compute = 0.5, .read = read};
    return sl_span_tokens(&t, CHUNK, limit);
}

static void test_time(void **unused)
{
    (void)unused;
    assert_int_equal(tokens(0, 6), 800);
    assert_int_equal(tokens(0, 3), 400);
    assert_int_equal(tokens(0, 12), 1600); /* it may grow again */
    assert_int_equal(tokens(0, 3.3), 400); /* 440 */
    assert_int_equal(tokens(0, 3.5), 500); /* 467 */
    assert_int_equal(tokens(0, 0.001), CHUNK);
}

/* Never so few that reading takes longer than computing. */
static void test_reading(void **unused)
{
    (void)unused;
    assert_int_equal(tokens(0.24, 1), 400);  /* 384 tokens compute for 0.24 s */
    assert_int_equal(tokens(0.24, 6), 800);  /* which is no reason to take fewer */
    assert_true(tokens(0.5, 0.1) >= 800);    /* read as long as computed */
    assert_true(tokens(100, 0.1) >= 100000); /* limited by the drive */
}

/* Nothing measured, or no end of it: no number wraps around. */
static void test_extremes(void **unused)
{
    (void)unused;
    const struct sl_span_time none = {.tokens = 800, .layers = 10};
    assert_true(sl_span_tokens(&none, CHUNK, 1) >= 800);
    assert_true(tokens(0, 1e300) >= 800 && tokens(0, 1e300) % CHUNK == 0);
    assert_true(tokens(1e300, 1) >= 800 && tokens(1e300, 1) % CHUNK == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
