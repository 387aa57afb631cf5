/* SPDX-License-Identifier: MIT */
/* The arithmetic of plans against numbers worked out by hand, in comments where they are not
 * plain. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/plan/predict.h"

/* Rates are bytes, multiply-adds or scores per second, small so that times are seconds. */
static const struct sl_machine machine = {
    .threads = 2,
    .memory_all = 100,
    .drive_pread = 5,
    .drive_uring = 10,
    .lut4_vector = 50,
    .int8_vector = 40,
    .lut4_block = 100,
    .int8_block = 200,
    .f32_block = 10,
    .index_score = 1000,
    .topk = 10,
    .attend = 1000,
    .attend_block = 500,
    .lut4_few = {4, 6, 8, 10, 12, 14, 16},
    .int8_few = {100, 100, 125, 125, 125, 125, 160},
};

static const struct sl_config config = {
    .layers = 4,
    .dense_layers = 1,
    .experts = 8,
    .experts_used = 2,
    .heads = 8,
    .kv_lora = 100,
    .rope = 20,
    .index_heads = 4,
    .index_dim = 32,
    .index_topk = 16,
};

static const struct sl_sizes sizes = {
    .head_file = 500,
    .resident_files = 1000,
    .embedding = 300,
    .stride = 100,
    .part =
        {
            [SL_M_PROJECTIONS] = {.bytes[SL_WEIGHTS_INT8] = 400, .macs[SL_WEIGHTS_INT8] = 1000},
            [SL_M_INDEX_KEYS] = {.bytes[SL_WEIGHTS_INT8] = 40},
            [SL_M_INDEX_QUERIES] = {.bytes[SL_WEIGHTS_INT8] = 20},
            [SL_M_ROUTER] = {.bytes[SL_WEIGHTS_FLOAT] = 200, .macs[SL_WEIGHTS_FLOAT] = 50},
            [SL_M_EXPERT] = {.bytes[SL_WEIGHTS_LUT4] = 25, .macs[SL_WEIGHTS_LUT4] = 2},
            [SL_M_SHARED] = {.bytes[SL_WEIGHTS_INT8] = 40},
            [SL_M_DENSE] = {.bytes[SL_WEIGHTS_INT8] = 80},
            [SL_M_HEAD] = {.bytes[SL_WEIGHTS_INT8] = 120},
        },
};

static struct sl_case case_with(uint64_t memory, bool selects)
{
    return (struct sl_case){
        .config = &config,
        .sizes = &sizes,
        .machine = &machine,
        .session = {.kv_bytes = 200,
                    .scratch_bytes = 100,
                    .kv_row_bytes = 10,
                    .key_panel_bytes = selects ? 50 : 0},
        .memory = memory,
        .chunk = 64,
        .drives = 1,
    };
}

static void near(double found, double wanted)
{
    if (!(fabs(found - wanted) <= 1e-9 * fabs(wanted)))
        fail_msg("%.12g found, %.12g wanted", found, wanted);
}

static void memory_is_divided(void **unused)
{
    (void)unused;
    struct sl_case k = case_with(2900, true);
    struct sl_memory_plan p = sl_divide_memory(&k);
    assert_int_equal(p.resident, 1500);
    assert_int_equal(p.need, 1500 + 200 + 100 + (2 * 3 + 2) * 100);
    assert_true(p.fits && !p.mapped);
    assert_int_equal(p.slots, 3); /* 1100 left, 200 for staging, 300 per slot in 3 layers */
    assert_int_equal(p.staging, 200);
    assert_int_equal(p.slot_bytes, 900);
    near(p.share, 0.375);
    k.memory = 2899;
    p = sl_divide_memory(&k);
    assert_int_equal(p.slots, 2);
    k.memory = 2599;
    p = sl_divide_memory(&k);
    assert_false(p.fits);
    assert_int_equal(p.slots, 0);
    k.memory = 4200; /* all experts, and then no staging */
    p = sl_divide_memory(&k);
    assert_true(p.fits && p.mapped);
    assert_int_equal(p.slots, 8);
    near(p.share, 1);
    assert_int_equal(p.slot_bytes, 2400);
    assert_int_equal(p.staging, 0);
    k.memory = 4199;
    p = sl_divide_memory(&k);
    assert_false(p.mapped);
    assert_int_equal(p.slots, 7);
}

static void no_experts(void **unused)
{
    (void)unused;
    struct sl_config dense = config;
    struct sl_sizes small = sizes;
    struct sl_case k = case_with(1800, false);
    dense.dense_layers = dense.layers;
    small.stride = 0;
    k.config = &dense;
    k.sizes = &small;
    struct sl_memory_plan p = sl_divide_memory(&k);
    assert_true(p.fits);
    near(p.share, 1);
    struct sl_speed s = sl_predict_decode(&k, &p, 0);
    near(s.part_seconds[SLUICE_PART_EXPERTS] + s.part_seconds[SLUICE_PART_ROUTER], 0);
    near(s.drive_bytes, 0);
}

static void hits_are_estimated(void **unused)
{
    (void)unused;
    struct sl_hit_rate h = sl_expect_hits(0.25, 16);
    near(h.low, exp(-0.45 * log(4)));
    near(h.central, exp(-0.32 * log(4)));
    near(h.high, sqrt(0.5));
    h = sl_expect_hits(0.25, 7);
    near(h.high, 0.3);
    near(h.low, 0.3);
    h = sl_expect_hits(1, 4); /* all of a model of four experts */
    near(h.low, 1);
    near(h.high, 1);
}

static void decoding(void **unused)
{
    (void)unused;
    struct sl_case k = case_with(1u << 20, false);
    struct sl_memory_plan p = sl_divide_memory(&k);
    struct sl_speed s = sl_predict_decode(&k, &p, 0);
    near(s.part_seconds[SLUICE_PART_PROJECTIONS], 10);
    near(s.part_seconds[SLUICE_PART_ROUTER], 2);
    near(s.part_seconds[SLUICE_PART_EXPERTS], 2 * 25 / 50.0);
    near(s.part_seconds[SLUICE_PART_SHARED], 1);
    near(s.part_seconds[SLUICE_PART_DENSE], 2);
    near(s.part_seconds[SLUICE_PART_HEAD], 3);
    /* 4 layers · 8 heads · (2 · 100 + 20) */
    near(s.part_seconds[SLUICE_PART_ATTENTION], 7.04);
    near(s.seconds, 26.04);
    near(s.ram_bytes, 400 + 200 + 50 + 40 + 80 + 120 + 4 * 10);
    near(s.drive_bytes, 0);
    assert_int_equal(s.bound, SL_BOUND_ARITHMETIC); /* 9.3 s for the bytes */
}

static void decoding_with_a_selection(void **unused)
{
    (void)unused;
    struct sl_case k = case_with(1u << 20, true);
    struct sl_memory_plan p = sl_divide_memory(&k);
    struct sl_speed s = sl_predict_decode(&k, &p, 15); /* sees 16 keys: all */
    near(s.part_seconds[SLUICE_PART_INDEXER], 0);
    near(s.part_seconds[SLUICE_PART_PROJECTIONS], 11);
    near(s.part_seconds[SLUICE_PART_ATTENTION], 16 * 7.04);
    s = sl_predict_decode(&k, &p, 20); /* 16 of 21 */
    near(s.part_seconds[SLUICE_PART_PROJECTIONS], 11.5);
    near(s.part_seconds[SLUICE_PART_ATTENTION], 16 * 7.04);
    near(s.part_seconds[SLUICE_PART_INDEXER], 4 * 21 * 4 * 32 / 1000.0);
    near(s.part_seconds[SLUICE_PART_TOPK], 4 * 21 / 10.0);
    near(s.ram_bytes, 930 + 40 + 20 + 15 * 4 * 10 + 4 * 2 * 50);
}

/*
 * 3 of 8 slots: 30 % hits.  Before routers, in the dense layer and the head 24.04 s.  Each of 3
 * layers computes 1/3 s for the shared expert and 2 × 1/6 s; of two experts 0, 1 or 2 miss, 10 s
 * each, and a third of the last one's 1/6 s comes after reading.  What is read takes 1 s per expert
 * of memory's time.
 */
static void reading_experts(void **unused)
{
    (void)unused;
    struct sl_case k = case_with(2900, false); /* 3 of 8 slots: 30 % hits */
    struct sl_memory_plan p = sl_divide_memory(&k);
    struct sl_speed s = sl_predict_decode(&k, &p, 0);
    double compute = 1 / 3.0 + 2 / 6.0, last = 1 / 18.0;
    near(s.drive_bytes, 6 * 0.7 * 100);
    near(s.ram_bytes, 930 + 420);
    near(s.part_seconds[SLUICE_PART_IO],
         3 * (0.42 * (10 + last - compute - 1) + 0.49 * (20 + last - compute - 2)));
    near(s.seconds, 24.04 + 3 * (0.09 * compute + 0.42 * (10 + last) + 0.49 * (20 + last)));
    assert_int_equal(s.bound, SL_BOUND_DRIVE);
    k.hits = 1; /* as the caller knows */
    s = sl_predict_decode(&k, &p, 0);
    near(s.seconds, 26.04);
    k.hits = 1e-300; /* or none, surely */
    s = sl_predict_decode(&k, &p, 0);
    near(s.seconds, 24.04 + 3 * (20 + last));
    k.drives = 1000; /* hidden: only memory's time is left */
    s = sl_predict_decode(&k, &p, 0);
    near(s.part_seconds[SLUICE_PART_IO], 0);
    near(s.seconds, 26.04 + 6);
    assert_int_equal(s.bound, SL_BOUND_ARITHMETIC);
    k.drives = 1;
    s = sl_predict_prompt(&k, &p, 0, 2); /* 8 (1 − 0.75²) of 8 experts, 5/8 not held */
    near(s.drive_bytes, 3 * 3.5 * 0.625 * 100 / 2);
    compute = 8 * (0.375 * 0.5 + 0.0625) / 3; /* the shared expert has no multiply-adds here */
    last = compute / 3.5 / 3;
    near(s.part_seconds[SLUICE_PART_IO] * 2, 3 * (3.5 * 0.625 * 10 + last - compute - 3.5 * 0.625));
}

/* 2 … 8 vectors and 64 as measured, straight lines between. */
static void vectors_share_weights(void **unused)
{
    (void)unused;
    struct sl_case k = case_with(1u << 20, false);
    struct sl_memory_plan p = sl_divide_memory(&k);
    const struct {
        size_t n;
        double seconds;
    } known[] = {{1, 10}, {2, 20}, {4, 32}, {8, 50}, {64, 320}, {36, (50 + 320) / 2.0}, {128, 640}};
    k.chunk = 128;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct sl_speed s = sl_predict_prompt(&k, &p, 0, known[i].n);
        near(s.part_seconds[SLUICE_PART_PROJECTIONS] * (double)known[i].n, known[i].seconds);
    }
}

/* Of 8 experts each of two tokens uses 2: one with 0.375, both with 0.0625. */
static void experts_share_tokens(void **unused)
{
    (void)unused;
    struct sl_case k = case_with(1u << 20, false);
    struct sl_memory_plan p = sl_divide_memory(&k);
    struct sl_speed s = sl_predict_prompt(&k, &p, 0, 2);
    near(s.part_seconds[SLUICE_PART_EXPERTS] * 2, 8 * (0.375 * 0.5 + 0.0625 * 2 * 2 / 4.0));
    /* In long chunks all have the mean. */
    k.chunk = 512;
    s = sl_predict_prompt(&k, &p, 0, 512);
    near(s.part_seconds[SLUICE_PART_EXPERTS] * 512, 8 * 128 * 2 / 100.0);
}

/* A prompt is the sum of its chunks, and a chunk's attention that of its tokens. */
static void prompts_are_sums(void **unused)
{
    (void)unused;
    struct sl_case k = case_with(1u << 20, true);
    struct sl_memory_plan p = sl_divide_memory(&k);
    struct sl_speed s = sl_predict_prompt(&k, &p, 10, 20);
    double rows = 0, keys = 0;
    for (int position = 10; position < 30; position++) {
        rows += position + 1 > 16 ? 16 : position + 1;
        keys += position + 1 > 16 ? position + 1 : 0;
    }
    near(s.part_seconds[SLUICE_PART_ATTENTION] * 20, rows * 2 * 7.04);
    near(s.part_seconds[SLUICE_PART_TOPK] * 20, keys * 4 / 10);
    near(s.part_seconds[SLUICE_PART_INDEXER] * 20, keys * 4 * 4 * 32 / 1000);
    s = sl_predict_prompt(&k, &p, 20, 3); /* 21 + 22 + 23 keys */
    near(s.part_seconds[SLUICE_PART_TOPK] * 3, 4 * 66 / 10.0);
    k.chunk = 20;
    struct sl_speed first = sl_predict_prompt(&k, &p, 0, 20);
    struct sl_speed second = sl_predict_prompt(&k, &p, 20, 20);
    struct sl_speed both = sl_predict_prompt(&k, &p, 0, 40);
    near(both.seconds * 40 + 3, first.seconds * 20 + second.seconds * 20); /* one head less */
}

static void money(void **unused)
{
    (void)unused;
    const struct sl_prices prices = {.watts = 360, .kwh = 0.5, .machine = 31557.6, .years = 2};
    struct sl_cost cost = sl_cost_of(&prices, 0.5);
    near(cost.kwh, 50);
    near(cost.energy, 25);
    near(cost.machine, 250); /* 500,000 s of 2 · 31,557,600 s */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_divided),         cmocka_unit_test(no_experts),
        cmocka_unit_test(hits_are_estimated),        cmocka_unit_test(decoding),
        cmocka_unit_test(decoding_with_a_selection), cmocka_unit_test(reading_experts),
        cmocka_unit_test(vectors_share_weights),     cmocka_unit_test(experts_share_tokens),
        cmocka_unit_test(prompts_are_sums),          cmocka_unit_test(money),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
