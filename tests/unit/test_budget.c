/* SPDX-License-Identifier: MIT */
/* How memory is divided: against numbers worked out by hand, and at the ends of their range. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/budget.h"
#include "runtime/stream/stream.h"

/* 3 MoE layers of 8 experts, 2 used; blocks of 100 bytes. */
static const struct sl_needs needs = {
    .resident = 1500,
    .experts = 2400,
    .block = 100,
    .moe_layers = 3,
    .experts_per_layer = 8,
    .experts_used = 2,
    .session = {.kv_bytes = 200, .scratch_bytes = 100, .context = 10, .chunk = 5},
};

static void everything_fits(void **unused)
{
    (void)unused;
    struct sluice_memory_plan p;
    assert_true(sl_budget_divide(&p, &needs, 4200));
    assert_int_equal(p.limit, 4200);
    assert_int_equal(p.need, 1500 + 300 + 8 * 100);
    assert_int_equal(p.reader, SLUICE_READER_MEMORY);
    assert_int_equal(p.load, SLUICE_LOAD_MAP);
    assert_int_equal(p.experts, 2400);
    assert_int_equal(p.slots, 8);
    assert_int_equal(p.staging + p.stages, 0);
    assert_int_equal(p.context, 10);
    assert_int_equal(p.chunk, 5);
}

static void something_is_streamed(void **unused)
{
    (void)unused;
    struct sluice_memory_plan p;
    for (uint64_t limit = 2600; limit < 4200; limit++) {
        assert_true(sl_budget_divide(&p, &needs, limit));
        assert_int_equal(p.reader, SLUICE_READER_AUTO);
        assert_int_equal(p.load, SLUICE_LOAD_COPY);
        uint64_t sum = p.resident + p.kv + p.scratch + p.staging + p.experts;
        assert_true(sum <= limit && limit < sum + 300); /* not room for one more in each layer */
        assert_true(p.slots >= 2 && p.slots < 8 && p.stages == 2);
        assert_int_equal(p.experts, p.slots * 3 * 100);
    }
    assert_false(sl_budget_divide(&p, &needs, 2599));
    assert_int_equal(p.need, 2600);
    assert_int_equal(p.slots + p.stages, 0);
}

/* Staging is a sixteenth of the blocks, at most SL_STAGES of them. */
static void staging_grows(void **unused)
{
    (void)unused;
    struct sl_needs n = needs;
    struct sluice_memory_plan p;
    n.experts_per_layer = 1000;
    n.experts = 300000;
    assert_true(sl_budget_divide(&p, &n, 1800 + 64 * 100));
    assert_int_equal(p.stages, 4);
    assert_int_equal(p.slots, 20);
    assert_true(sl_budget_divide(&p, &n, 1800 + 2000 * 100));
    assert_int_equal(p.stages, SL_STAGES);
    assert_int_equal(p.staging, SL_STAGES * 100);
    assert_int_equal(p.slots, (2000 - SL_STAGES) / 3);
}

static void readers_and_loads(void **unused)
{
    (void)unused;
    struct sl_needs n = needs;
    struct sluice_memory_plan p;
    n.reader = SLUICE_READER_MEMORY;
    assert_false(sl_budget_divide(&p, &n, 4199));
    assert_int_equal(p.need, 4200);
    assert_true(sl_budget_divide(&p, &n, 4200));
    n.reader = SLUICE_READER_PREAD;
    n.load = SLUICE_LOAD_MAP;
    assert_true(sl_budget_divide(&p, &n, 100000));
    assert_int_equal(p.reader, SLUICE_READER_PREAD);
    assert_int_equal(p.load, SLUICE_LOAD_MAP);
    assert_int_equal(p.slots, 8);
    assert_int_equal(p.stages, 982 / 16);
    n.reader = SLUICE_READER_AUTO;
    n.split = true; /* parts cannot be mapped */
    n.load = SLUICE_LOAD_AUTO;
    assert_true(sl_budget_divide(&p, &n, 100000));
    assert_int_equal(p.reader, SLUICE_READER_AUTO);
    assert_int_equal(p.load, SLUICE_LOAD_COPY);
}

/* All experts are fewer than streaming wants blocks. */
static void small_models_are_mapped(void **unused)
{
    (void)unused;
    struct sl_needs n = needs;
    struct sluice_memory_plan p;
    n.experts_per_layer = n.experts_used = 2;
    n.experts = 600;
    assert_true(sl_budget_divide(&p, &n, 2400));
    assert_int_equal(p.need, 2400);
    assert_int_equal(p.reader, SLUICE_READER_MEMORY);
    assert_false(sl_budget_divide(&p, &n, 2399));
}

static void no_experts(void **unused)
{
    (void)unused;
    struct sl_needs n = {.resident = 1500, .session = needs.session, .experts_per_layer = 8};
    struct sluice_memory_plan p;
    n.reader = SLUICE_READER_PREAD;
    assert_true(sl_budget_divide(&p, &n, 1800));
    assert_int_equal(p.need, 1800);
    assert_int_equal(p.reader, SLUICE_READER_MEMORY);
    assert_int_equal(p.slots + p.experts, 0);
    assert_false(sl_budget_divide(&p, &n, 1799));
}

/* Sums beyond 2^64 are refused, whatever the limit. */
static void numbers_end(void **unused)
{
    (void)unused;
    struct sluice_memory_plan p;
    struct sl_needs n = needs;
    assert_true(sl_budget_divide(&p, &n, UINT64_MAX));
    n.resident = UINT64_MAX - 100;
    assert_false(sl_budget_divide(&p, &n, UINT64_MAX));
    assert_int_equal(p.need, UINT64_MAX);
    n = needs;
    n.block = UINT64_MAX / 2;
    n.experts = UINT64_MAX;
    assert_false(sl_budget_divide(&p, &n, UINT64_MAX));
    n = needs;
    n.moe_layers = UINT32_MAX;
    n.experts_used = n.experts_per_layer = UINT32_MAX;
    n.experts = UINT64_MAX - 5000;
    assert_true(sl_budget_divide(&p, &n, UINT64_MAX)); /* mapped: it just fits */
    n.experts = UINT64_MAX;
    assert_false(sl_budget_divide(&p, &n, UINT64_MAX));
    assert_false(sl_budget_divide(&p, &n, 0));
}

/* What is printed for --memory is never less, and never much more. */
static void sizes_are_printed(void **unused)
{
    (void)unused;
    static const uint64_t sizes[] = {1,
                                     1 << 20,
                                     (1 << 20) + 1,
                                     (100 << 20) - 1,
                                     (100 << 20) + 1,
                                     UINT64_C(10) << 30,
                                     (UINT64_C(10) << 30) - 1,
                                     UINT64_C(107374182) * 123,
                                     UINT64_C(107374183) * 200,
                                     UINT64_C(1) << 45,
                                     UINT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char text[32], *unit;
        sl_budget_print(text, sizes[i]);
        long double value = strtold(text, &unit);
        long double step = *unit == 'G' ? (1 << 30) / 10.0L : *unit == 'M' ? 1 << 20 : 1 << 10;
        value *= *unit == 'G' ? 1 << 30 : step;
        assert_true(value >= sizes[i]);
        assert_true(value <= sizes[i] + 2 * step);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_fits), cmocka_unit_test(something_is_streamed),
        cmocka_unit_test(staging_grows),   cmocka_unit_test(readers_and_loads),
        cmocka_unit_test(no_experts),      cmocka_unit_test(small_models_are_mapped),
        cmocka_unit_test(numbers_end),     cmocka_unit_test(sizes_are_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
