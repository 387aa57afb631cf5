/* SPDX-License-Identifier: MIT */
/*
 * Rows taken over from another session are those that would have been computed, to the last byte of
 * what the session holds; and they are taken only where that is so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/arith.h"
#include "tests/model/harness.h"
#include "tests/unit/scratch.h"

enum { N = 100, CONTEXT = 140, NEVER = N };

/* Sessions of one engine: one that has rows, one that wants them, one that computes all itself. */
struct three {
    sluice_engine *engine;
    sluice_session *giver, *taker, *own;
    size_t vocab;
    int32_t tokens[CONTEXT], other[CONTEXT];
};

static void open_one(struct three *t, sluice_session **s, struct sluice_session_opts opts)
{
    struct sluice_err err = {0};
    opts.context = opts.context ? opts.context : CONTEXT;
    check_status(sluice_session_open(s, t->engine, &opts, &err), &err);
}

/* OTHER tokens differ from place BRANCH on. */
static void three_open(struct three *t, const char *model, bool mtp,
                       struct sluice_session_opts opts, size_t branch)
{
    struct sluice_err err = {0};
    struct sluice_model_info info;
    const struct sluice_engine_opts engine = {.threads = 2, .mtp = mtp};
    *t = (struct three){0};
    check_status(sluice_engine_open(&t->engine, converted(model, "quality"), &engine, &err), &err);
    sluice_engine_info(t->engine, &info);
    t->vocab = (size_t)info.vocab;
    for (size_t i = 0; i < CONTEXT; i++) {
        t->tokens[i] = (int32_t)((i * 31 + 7) % t->vocab);
        t->other[i] = i < branch ? t->tokens[i] : (int32_t)((i * 17 + 8) % t->vocab);
    }
    if (branch < CONTEXT)
        t->other[branch] = (t->tokens[branch] + 1) % (int32_t)t->vocab;
    opts.chunk = 32;
    open_one(t, &t->giver, opts);
    opts.chunk = 7;
    open_one(t, &t->taker, opts);
    opts.chunk = 64;
    opts.alone = 1;
    open_one(t, &t->own, opts);
}

static void three_close(struct three *t)
{
    sluice_session_close(&t->giver);
    sluice_session_close(&t->taker);
    sluice_session_close(&t->own);
    sluice_engine_close(&t->engine);
}

static struct sluice_stats stats_of(const sluice_session *s)
{
    struct sluice_stats stats;
    sluice_session_stats(s, &stats);
    return stats;
}

static void sync_to(sluice_session *s, const int32_t *tokens, size_t n)
{
    struct sluice_err err = {0};
    check_status(sluice_session_sync(s, tokens, n, NULL, &err), &err);
}

/* The taker and the one that computes all hold the same bytes. */
static void expect_same(const struct three *t)
{
    struct sluice_err err = {0};
    check_status(sluice_session_save(t->taker, at("taker"), NULL, NULL, &err), &err);
    check_status(sluice_session_save(t->own, at("own"), NULL, NULL, &err), &err);
    expect_same_files("taker", "own");
}

/* The giver holds tokens[0..N), the taker the first HAS of OTHER; both then want N of OTHER. */
static void check_branch(const char *model, bool mtp, struct sluice_session_opts opts,
                         size_t branch, size_t has)
{
    struct three t;
    three_open(&t, model, mtp, opts, branch);
    sync_to(t.giver, t.tokens, N);
    if (has > 0)
        sync_to(t.taker, t.other, has);
    struct sluice_stats before = stats_of(t.taker);
    sync_to(t.taker, t.other, N);
    sync_to(t.own, t.other, N);
    struct sluice_stats after = stats_of(t.taker);
    /* the MTP layer holds a position of the last token with another one */
    bool lost = mtp && branch > 0 && branch <= t.giver->mtp_length;
    size_t taken = branch == NEVER ? N : branch - lost;
    size_t reused = sl_max(taken, has);
    assert_int_equal(after.reused_tokens - before.reused_tokens, reused);
    assert_int_equal(after.prefill_tokens - before.prefill_tokens, N - reused);
    assert_int_equal(stats_of(t.own).reused_tokens, 0);
    expect_same(&t);
    for (size_t n = N; n < N + 3; n++) {
        struct sluice_err err = {0};
        check_status(sluice_session_step(t.taker, t.other[n], &err), &err);
        check_status(sluice_session_step(t.own, t.other[n], &err), &err);
    }
    expect_same(&t);
    three_close(&t);
}

static void test_branches(void **unused)
{
    static const size_t branches[] = {0, 1, 2, 15, 16, 17, 33, 64, 99, NEVER};
    (void)unused;
    for (size_t i = 0; i < sizeof branches / sizeof *branches; i++)
        for (int mtp = 0; mtp < 2; mtp++)
            for (size_t has = 0; has < 60; has += 29)
                check_branch("tiny-v32", mtp, (struct sluice_session_opts){0}, branches[i], has);
    const struct sluice_session_opts bf16 = {.kv = SLUICE_CACHE_BF16, .index = SLUICE_CACHE_F32};
    check_branch("tiny-v32", true, bf16, 45, 20);
    check_branch("tiny-v32", true, (struct sluice_session_opts){.dense = 1}, 45, 0);
    check_branch("tiny-v3", false, (struct sluice_session_opts){.kv = SLUICE_CACHE_F32}, 70, 3);
    check_branch("demo", true, (struct sluice_session_opts){0}, 77, 0);
}

/* More rows than one piece of work copies. */
static void test_many_rows(void **unused)
{
    (void)unused;
    struct three t;
    struct sluice_model_info info;
    three_open(&t, "demo", false, (struct sluice_session_opts){.context = 700}, NEVER);
    sluice_engine_info(t.engine, &info);
    int32_t tokens[650];
    for (size_t i = 0; i < 650; i++)
        tokens[i] = (int32_t)((i * 91 + 1) % (size_t)info.vocab);
    sync_to(t.giver, tokens, 640);
    sync_to(t.taker, tokens, 650);
    sync_to(t.own, tokens, 650);
    assert_int_equal(stats_of(t.taker).reused_tokens, 640);
    expect_same(&t);
    three_close(&t);
}

/* The one with most is asked, also when it was opened before others, and others were closed. */
static void test_the_longest(void **unused)
{
    (void)unused;
    struct three t;
    sluice_session *more[3];
    three_open(&t, "tiny-v32", false, (struct sluice_session_opts){0}, 80);
    for (int i = 0; i < 3; i++)
        open_one(&t, &more[i], (struct sluice_session_opts){0});
    sync_to(more[0], t.tokens, 20);
    sync_to(t.giver, t.tokens, 90);
    sync_to(more[1], t.tokens, 95);
    sync_to(more[2], t.tokens, 40);
    sluice_session_close(&more[1]);
    sluice_session_close(&more[2]);
    struct sluice_stats before = stats_of(t.taker);
    sync_to(t.taker, t.other, N);
    assert_int_equal(stats_of(t.taker).reused_tokens - before.reused_tokens, 80);
    sync_to(t.own, t.other, N);
    expect_same(&t);
    sluice_session_close(&more[0]);
    three_close(&t);
}

/* The taker with other options, the giver GIVEN: nothing is taken. */
static void expect_nothing(struct three *t, struct sluice_session_opts opts)
{
    sluice_session_close(&t->taker);
    open_one(t, &t->taker, opts);
    sync_to(t->taker, t->tokens, N);
    assert_int_equal(stats_of(t->taker).reused_tokens, 0);
    assert_int_equal(stats_of(t->taker).prefill_tokens, N);
}

static int ignore_logits(void *user, size_t position, const float *logits)
{
    size_t *calls = user;
    (void)position;
    (void)logits;
    ++*calls;
    return 0;
}

static const uint32_t *no_other_route(void *user, int32_t layer, size_t position,
                                      const uint32_t *experts, const float *weights, size_t n)
{
    (void)user;
    (void)layer;
    (void)position;
    (void)experts;
    (void)weights;
    (void)n;
    return NULL;
}

static void test_not_taken(void **unused)
{
    (void)unused;
    struct three t;
    struct sluice_err err = {0};
    size_t calls = 0;
    const struct sluice_sync_callbacks callbacks = {.user = &calls, .logits = ignore_logits};
    const struct sluice_observer observer = {.route = no_other_route};
    three_open(&t, "tiny-v32", false, (struct sluice_session_opts){0}, NEVER);
    sync_to(t.giver, t.tokens, N);
    expect_nothing(&t, (struct sluice_session_opts){.alone = 1});
    expect_nothing(&t, (struct sluice_session_opts){.kv = SLUICE_CACHE_BF16});
    expect_nothing(&t, (struct sluice_session_opts){.index = SLUICE_CACHE_BF16});
    expect_nothing(&t, (struct sluice_session_opts){.dense = 1});
    sluice_session_close(&t.taker);
    open_one(&t, &t.taker, (struct sluice_session_opts){0}); /* hears of all logits */
    check_status(sluice_session_sync(t.taker, t.tokens, N, &callbacks, &err), &err);
    assert_int_equal(calls, N);
    sluice_session_close(&t.giver);
    sluice_session_close(&t.taker);
    open_one(&t, &t.giver, (struct sluice_session_opts){0});
    check_status(sluice_session_fill(t.giver, t.tokens, N, &err), &err);
    expect_nothing(&t, (struct sluice_session_opts){0});
    sluice_session_close(&t.giver);
    sluice_session_close(&t.taker);
    open_one(&t, &t.giver, (struct sluice_session_opts){0});
    sluice_session_observe(t.giver, &observer);
    sync_to(t.giver, t.tokens, N);
    sluice_session_observe(t.giver, NULL);
    expect_nothing(&t, (struct sluice_session_opts){0});
    three_close(&t);
}

/* The giver may lose its rows, and the taker's stay. */
static void test_own_rows(void **unused)
{
    (void)unused;
    struct three t;
    three_open(&t, "tiny-v32", true, (struct sluice_session_opts){0}, 50);
    sync_to(t.giver, t.tokens, N);
    sync_to(t.taker, t.tokens, N);
    assert_int_equal(stats_of(t.taker).prefill_tokens, 0);
    sync_to(t.giver, t.other + 50, 60);
    sluice_session_close(&t.giver);
    sync_to(t.own, t.tokens, N);
    expect_same(&t);
    three_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_branches),    cmocka_unit_test(test_many_rows),
        cmocka_unit_test(test_the_longest), cmocka_unit_test(test_not_taken),
        cmocka_unit_test(test_own_rows),
    };
    return cmocka_run_group_tests_name("prefix", tests, make_root, remove_root);
}
