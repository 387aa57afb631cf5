/* SPDX-License-Identifier: MIT */
/* What `sluice bench` does without a model: extrapolating, and choices from a trace. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "tools/bench/extrapolate.h"
#include "tools/bench/routes.h"

/* ---- extrapolating -------------------------------------------------------------------------- */

static void layers_are_parsed(void **unused)
{
    (void)unused;
    static const char *const wrong[] = {"",         "3",   "0",     "-61",   "+61",
                                        "3+",       "+58", "3-58",  "3+58 ", "3+58+1",
                                        "61layers", "0+0", " 3+58", "x"};
    struct sl_layer_count l;
    assert_true(sl_parse_layers("61", &l));
    assert_int_equal(l.dense, 3);
    assert_int_equal(l.moe, 58);
    assert_true(sl_parse_layers("1+4", &l));
    assert_int_equal(l.dense, 1);
    assert_int_equal(l.moe, 4);
    assert_true(sl_parse_layers("0+7", &l));
    assert_true(sl_parse_layers("4", &l));
    assert_int_equal(l.moe, 1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(sl_parse_layers(wrong[i], &l));
}

static void layers_to_scale_from_are_needed(void **unused)
{
    (void)unused;
    struct sluice_err err = {0};
    struct sl_layer_count full = {3, 58};
    assert_int_equal(sl_check_layers((struct sl_layer_count){1, 2}, full, &err), 0);
    assert_int_equal(sl_check_layers((struct sl_layer_count){0, 2}, full, &err), SLUICE_EARG);
    assert_int_equal(sl_check_layers((struct sl_layer_count){2, 0}, full, &err), SLUICE_EARG);
    expect_text(err.msg, "2+0");
    assert_int_equal(
        sl_check_layers((struct sl_layer_count){2, 0}, (struct sl_layer_count){9, 0}, &err), 0);
}

/* The parts of a model of 1+2 layers, in times that add without error, and the factor of each for
 * 3+58: attention's in 61 of 3 layers, the experts' in 58 of 2, dense in 3 of 1. */
static const struct {
    enum sluice_part part;
    double seconds, wanted;
    uint64_t bytes, wanted_bytes;
} sums[] = {
    {SLUICE_PART_PROJECTIONS, 3, 61, 300, 6100},
    {SLUICE_PART_INDEXER, 6, 122, 3, 61},
    {SLUICE_PART_TOPK, 1.5, 30.5, 0, 0},
    {SLUICE_PART_ATTENTION, 0.75, 15.25, 30, 610},
    {SLUICE_PART_ROUTER, 1, 29, 2, 58},
    {SLUICE_PART_EXPERTS, 8, 232, 16, 464},
    {SLUICE_PART_IO, 2, 58, 0, 0},
    {SLUICE_PART_SHARED, 0.5, 14.5, 4, 116},
    {SLUICE_PART_DENSE, 2, 6, 7, 21},
    {SLUICE_PART_HEAD, 4, 4, 1000, 1000},
};

static void each_part_is_scaled_by_its_layers(void **unused)
{
    (void)unused;
    struct sluice_stats use = {.expert_hits = 10, .expert_misses = 6, .expert_bytes = 100};
    double seconds = 0.375, wanted = 7.625; /* by no part: 0.375 · 61/3 */
    assert_int_equal(sizeof sums / sizeof *sums, SLUICE_PARTS);
    for (size_t i = 0; i < SLUICE_PARTS; i++) {
        use.part_seconds[sums[i].part] = sums[i].seconds;
        use.part_bytes[sums[i].part] = sums[i].bytes;
        seconds += sums[i].seconds;
        wanted += sums[i].wanted;
    }
    struct sluice_stats same = use;
    double scaled = sl_extrapolate(&use, seconds, (struct sl_layer_count){1, 2},
                                   (struct sl_layer_count){3, 58});
    assert_true(fabs(scaled - wanted) < 1e-9);
    for (size_t i = 0; i < SLUICE_PARTS; i++) {
        assert_true(fabs(use.part_seconds[sums[i].part] - sums[i].wanted) < 1e-9);
        assert_int_equal(use.part_bytes[sums[i].part], sums[i].wanted_bytes);
    }
    assert_int_equal(use.expert_hits, 290);
    assert_int_equal(use.expert_misses, 174);
    assert_int_equal(use.expert_bytes, 2900);
    use = same;
    scaled = sl_extrapolate(&use, seconds, (struct sl_layer_count){1, 2},
                            (struct sl_layer_count){1, 2});
    assert_true(fabs(scaled - seconds) < 1e-9);
    assert_memory_equal(&use, &same, sizeof use);
}

/* ---- choices from a trace ------------------------------------------------------------------- */

#define HEAD "sluice-trace 1 layers 4 dense 2 experts 8 used 2\n"

static const struct sluice_model_info model = {
    .layers = 6, .dense_layers = 1, .experts = 8, .experts_used = 2};

static void expect_choice(const struct sl_routes *r, size_t position, int32_t layer, uint32_t a,
                          uint32_t b)
{
    const uint32_t *experts = sl_routes_get(r, position, layer);
    assert_int_equal(experts[0], a);
    assert_int_equal(experts[1], b);
}

static void choices_wrap_round(void **unused)
{
    (void)unused;
    struct sl_routes *r;
    struct sluice_err err = {0};
    /* Position 2 of layer 3 is missing; position 1 of layer 2 comes twice. */
    put_text("trace", HEAD "p 0 2 0 1\np 1 2 0 7\np 0 3 2 3\np 1 3 4 5\nd 1 2 1 2\nd 2 2 6 7\n");
    assert_int_equal(sl_routes_open(&r, at("trace"), &model, &err), 0);
    assert_int_equal(sl_routes_length(r), 2);
    expect_choice(r, 0, 1, 0, 1); /* the model's first MoE layer is the trace's */
    expect_choice(r, 1, 1, 1, 2);
    expect_choice(r, 0, 2, 2, 3);
    expect_choice(r, 1, 2, 4, 5);
    expect_choice(r, 2, 1, 0, 1);
    expect_choice(r, 7, 4, 4, 5);
    sl_routes_close(&r);
    assert_null(r);
}

static void refuses(const char *text, const struct sluice_model_info *info, int code,
                    const char *word)
{
    struct sl_routes *r;
    struct sluice_err err = {0};
    put_text("bad", text);
    assert_int_equal(sl_routes_open(&r, at("bad"), info, &err), code);
    assert_null(r);
    expect_text(err.msg, word);
}

static void traces_that_do_not_fit_are_refused(void **unused)
{
    (void)unused;
    struct sluice_model_info other = model;
    other.experts = 9;
    refuses(HEAD "p 0 2 0 1\np 0 3 0 1\n", &other, SLUICE_EARG, "8 experts; the model has 9");
    other = model;
    other.experts_used = 3;
    refuses(HEAD "p 0 2 0 1\np 0 3 0 1\n", &other, SLUICE_EARG, "uses 3");
    refuses(HEAD, &model, SLUICE_EFORMAT, "no position");
    refuses(HEAD "p 0 2 0 1\n", &model, SLUICE_EFORMAT, "no position");
    refuses(HEAD "p 0 2 0 1\np 0 3 0 1\np 2 3 0 1\n", &model, SLUICE_EFORMAT, "none from 1 on");
    refuses(HEAD "p 0 2 0 1\np 0 3 0 8\n", &model, SLUICE_EFORMAT, "line 3");
    assert_int_equal(
        sl_routes_open(&(struct sl_routes *){NULL}, at("missing"), &model, &(struct sluice_err){0}),
        SLUICE_EIO);
}

/* More positions than the first allocations have room for. */
static void long_traces_are_kept_whole(void **unused)
{
    (void)unused;
    enum { LONG = 1000 };
    struct sl_routes *r;
    struct sluice_err err = {0};
    FILE *f = fopen(at("long"), "w");
    fprintf(f, HEAD);
    for (int p = 0; p < LONG; p++)
        fprintf(f, "p %d 2 %d %d\np %d 3 0 %d\n", p, p % 4, 4 + p / 4 % 4, p, 1 + p % 7);
    fclose(f);
    assert_int_equal(sl_routes_open(&r, at("long"), &model, &err), 0);
    assert_int_equal(sl_routes_length(r), LONG);
    for (uint32_t p = 0; p < LONG; p++) {
        expect_choice(r, p, 1, p % 4, 4 + p / 4 % 4);
        expect_choice(r, p, 2, 0, 1 + p % 7);
    }
    sl_routes_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_are_parsed),
        cmocka_unit_test(layers_to_scale_from_are_needed),
        cmocka_unit_test(each_part_is_scaled_by_its_layers),
        cmocka_unit_test(choices_wrap_round),
        cmocka_unit_test(traces_that_do_not_fit_are_refused),
        cmocka_unit_test(long_traces_are_kept_whole),
    };
    return cmocka_run_group_tests_name("bench", tests, make_root, remove_root);
}
