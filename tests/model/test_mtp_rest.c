/* SPDX-License-Identifier: MIT */
/*
 * While nothing drafts the MTP layer rests; what it lacks then comes to the bit: every session here
 * is compared with one whose MTP layer ran for each position, by the files they are saved in and by
 * the layer's logits.
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

enum { CONTEXT = 400, ROWS = SL_MTP_ROWS };

/* An engine, what sessions are to say, and how often the MTP layer ran in those with the hooks. */
struct stage {
    sluice_engine *engine;
    struct sluice_session_opts opts;
    unsigned mtp_layer;
    size_t vocab;
    int32_t tokens[CONTEXT];
    float *heard; /* [CONTEXT][vocab]: the MTP layer's logits, by position */
    size_t passes, of_main;
    struct sl_hooks hooks;
};

static void count_route(void *user, unsigned layer, size_t position, uint32_t *experts,
                        const float *weights, size_t n)
{
    struct stage *g = user;
    (void)position, (void)experts, (void)weights, (void)n;
    g->passes += layer == g->mtp_layer;
    g->of_main += layer < g->mtp_layer;
}

/* Under ThreadSanitizer these tests take minutes; they start no threads that others do not. */
static void skip_where_slow(void)
{
#ifdef __SANITIZE_THREAD__
    skip();
#endif
}

static void stage_open(struct stage *g, const char *model, const char *profile,
                       struct sluice_session_opts opts)
{
    struct sluice_err err = {0};
    const struct sluice_engine_opts engine = {.threads = 2, .mtp = 1};
    *g = (struct stage){.opts = opts, .hooks = {.user = g, .route = count_route}};
    check_status(sluice_engine_open(&g->engine, converted(model, profile), &engine, &err), &err);
    const struct sl_config *c = &g->engine->weights->config;
    g->engine->weights->config.eos = -1;
    g->mtp_layer = c->layers;
    g->vocab = c->vocab;
    g->opts.context = sl_min(CONTEXT, c->context);
    g->heard = calloc(CONTEXT * g->vocab, sizeof *g->heard);
    assert_non_null(g->heard);
    for (size_t i = 0; i < CONTEXT; i++)
        g->tokens[i] = (int32_t)((i * 7919 + i * i * 31 + 13) % g->vocab);
}

static void stage_close(struct stage *g)
{
    sluice_engine_close(&g->engine);
    free(g->heard);
}

static sluice_session *open_session(struct stage *g, bool alone)
{
    struct sluice_err err = {0};
    struct sluice_session_opts opts = g->opts;
    sluice_session *s;
    opts.alone = alone;
    check_status(sluice_session_open(&s, g->engine, &opts, &err), &err);
    return s;
}

static void sync_to(sluice_session *s, const int32_t *tokens, size_t n)
{
    struct sluice_err err = {0};
    check_status(sluice_session_sync(s, tokens, n, NULL, &err), &err);
}

/* Appends tokens[length … n). */
static void step_to(sluice_session *s, const int32_t *tokens, size_t n)
{
    struct sluice_err err = {0};
    while (sluice_session_length(s) < n)
        check_status(sluice_session_step(s, tokens[sluice_session_length(s)], &err), &err);
}

/* N tokens, of which the last STEPS come one by one. */
static sluice_session *open_rested(struct stage *g, size_t n, size_t steps)
{
    sluice_session *s = open_session(g, true);
    sync_to(s, g->tokens, n - steps);
    step_to(s, g->tokens, n);
    return s;
}

/* The MTP layer of this one never rests. */
static sluice_session *open_awake(struct stage *g)
{
    struct sluice_session_opts opts = g->opts;
    g->opts.chunk = 64;
    sluice_session *s = open_session(g, true);
    g->opts = opts;
    return s;
}

static int hear(void *user, size_t position, const float *logits)
{
    struct stage *g = user;
    memcpy(g->heard + position * g->vocab, logits, g->vocab * sizeof *logits);
    return 0;
}

/* Syncs S with the MTP layer's logits in g->heard, those of positions that are not new being 0. */
static void listen(struct stage *g, sluice_session *s, const int32_t *tokens, size_t n)
{
    struct sluice_err err = {0};
    const struct sluice_sync_callbacks callbacks = {.user = g, .draft = hear};
    memset(g->heard, 0, CONTEXT * g->vocab * sizeof *g->heard);
    check_status(sluice_session_sync(s, tokens, n, &callbacks, &err), &err);
}

static void save(sluice_session *s, const char *name)
{
    struct sluice_err err = {0};
    check_status(sluice_session_save(s, at(name), NULL, NULL, &err), &err);
}

/* S, which holds TOKENS[0..n), has all that one has whose MTP layer never rested; and so it has
 * after one token more. */
static void check(struct stage *g, sluice_session *s, const int32_t *tokens, size_t n)
{
    sluice_session *awake = open_awake(g);
    assert_int_equal(sluice_session_length(s), n);
    assert_true(n - s->mtp_length <= ROWS);
    listen(g, awake, tokens, n);
    save(awake, "awake");
    save(s, "rested");
    expect_same_files("awake", "rested");
    listen(g, awake, tokens, n + 1);
    float *wanted = malloc(g->vocab * sizeof *wanted), *got = g->heard + (n - 1) * g->vocab;
    memcpy(wanted, got, g->vocab * sizeof *wanted);
    listen(g, s, tokens, n + 1);
    assert_memory_equal(got, wanted, g->vocab * sizeof *wanted);
    free(wanted);
    sluice_session_close(&awake);
}

/* ---- resting -------------------------------------------------------------------------------- */

static void test_no_pass(void **unused)
{
    (void)unused;
    struct stage g;
    struct sluice_err err = {0};
    const struct sluice_sampling sampling = {.temperature = 1, .top_p = 1};
    stage_open(&g, "demo", "quality", (struct sluice_session_opts){.chunk = 16});
    sluice_session *s = open_session(&g, true);
    sl_session_set_hooks(s, &g.hooks);
    sync_to(s, g.tokens, 100);
    step_to(s, g.tokens, 200);
    assert_int_equal(g.passes, 0);
    s->drafts.trial = (struct sl_trial){.window = 4, .verdict = SL_OFF, .hold = 100};
    for (int i = 0; i < 99; i++) {
        int32_t tokens[2];
        assert_int_equal(sluice_session_generate(s, &sampling, tokens, 2, &err), 1);
    }
    assert_int_equal(g.passes, 0);
    g.of_main = 0;
    for (int i = 0; i < 1 + 8; i++) { /* the last of the pause, a window without, one with */
        int32_t tokens[2];
        check_status(sluice_session_generate(s, &sampling, tokens, 2, &err), &err);
    }
    assert_int_equal(g.passes, 4); /* for the drafts, and nothing else */
    assert_true(g.of_main > 0);
    int32_t *tokens = s->tokens;
    memcpy(g.tokens, tokens, s->length * sizeof *tokens);
    sl_session_set_hooks(s, &(struct sl_hooks){0});
    check(&g, s, g.tokens, s->length);
    sluice_session_close(&s);
    stage_close(&g);
}

/* ---- catching up ---------------------------------------------------------------------------- */

static void test_lengths(void **unused)
{
    static const size_t prompts[] = {1, 2, 20, ROWS - 1, ROWS, ROWS + 1, 140};
    static const size_t steps[] = {0, 1, 2, ROWS - 2, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 5};
    (void)unused;
    struct stage g;
    stage_open(&g, "demo", "quality", (struct sluice_session_opts){.chunk = 16});
    for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++)
        for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
            size_t n = prompts[i] + steps[k];
            sluice_session *s = open_rested(&g, n, steps[k]);
            check(&g, s, g.tokens, n);
            sluice_session_close(&s);
        }
    stage_close(&g);
}

/* The first draft after a rest. */
static void test_drafts(void **unused)
{
    (void)unused;
    skip_where_slow();
    struct stage g;
    struct sluice_err err = {0};
    stage_open(&g, "demo", "quality", (struct sluice_session_opts){.chunk = 5});
    float *logits = malloc(g.vocab * sizeof *logits);
    for (size_t steps = 0; steps < 2 * ROWS + 3; steps++) {
        size_t n = 90 + steps;
        sluice_session *s = open_rested(&g, n, steps), *awake = open_awake(&g);
        s->tokens[n] = g.tokens[n];
        sl_moe_begin(&s->ws.moe, 2, &s->cancelled);
        check_status(sl_mtp_draft(s, logits, &err), &err);
        listen(&g, awake, g.tokens, n + 1);
        assert_memory_equal(logits, g.heard + (n - 1) * g.vocab, g.vocab * sizeof *logits);
        if (steps % 8 == 0)
            check(&g, s, g.tokens, n);
        sluice_session_close(&s);
        sluice_session_close(&awake);
    }
    free(logits);
    stage_close(&g);
}

static void check_kind(const char *model, const char *profile, struct sluice_session_opts opts)
{
    struct stage g;
    stage_open(&g, model, profile, opts);
    sluice_session *s = open_rested(&g, 100, 45);
    check(&g, s, g.tokens, 100);
    sync_to(s, g.tokens, 101);
    step_to(s, g.tokens, 110);
    check(&g, s, g.tokens, 110);
    sluice_session_close(&s);
    stage_close(&g);
}

static void test_kinds(void **unused)
{
    static const char *const profiles[] = {"balanced", "small", "max", "reference"};
    (void)unused;
    skip_where_slow();
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++)
        check_kind("tiny-v32", profiles[i], (struct sluice_session_opts){.chunk = 1 + 3 * i});
    for (int type = SLUICE_CACHE_INT8; type <= SLUICE_CACHE_F32; type++)
        check_kind("demo", "quality",
                   (struct sluice_session_opts){.kv = type, .index = type, .chunk = 7, .span = 90});
    check_kind("demo", "quality", (struct sluice_session_opts){.dense = 1});
}

/* ---- cut, taken over, restored, stepped together -------------------------------------------- */

/* Back to KEPT tokens, and MORE others. */
static void check_cut(struct stage *g, size_t kept, size_t more)
{
    struct sluice_stats before, after;
    int32_t other[CONTEXT];
    sluice_session *s = open_rested(g, 100, 32);
    bool lost = kept <= s->mtp_length; /* the hidden state that MTP starts from */
    memcpy(other, g->tokens, sizeof other);
    for (size_t t = kept; t < CONTEXT; t++)
        other[t] = (g->tokens[t] + 1) % (int32_t)g->vocab;
    sluice_session_stats(s, &before);
    sync_to(s, other, kept + more);
    sluice_session_stats(s, &after);
    assert_int_equal(after.reused_tokens - before.reused_tokens, kept - lost);
    check(g, s, other, kept + more);
    sluice_session_close(&s);
}

/* To where tokens wait, to the first of them, and to where they are in the caches. */
static void test_cuts(void **unused)
{
    (void)unused;
    skip_where_slow();
    struct stage g;
    stage_open(&g, "demo", "quality", (struct sluice_session_opts){.chunk = 16});
    sluice_session *s = open_rested(&g, 100, 32);
    size_t rests = s->mtp_length;
    sluice_session_close(&s);
    assert_in_range(rests, 60, 97);
    const size_t kept[] = {99, 98, rests + 2, rests + 1, rests, rests - 1, 50, 1};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        for (size_t more = 1; more < 50; more += 40)
            check_cut(&g, kept[i], more);
    stage_close(&g);
}

static int stop_at_once(void *user, size_t done, size_t total)
{
    (void)user, (void)done, (void)total;
    return 1;
}

/* A prompt is cut where the MTP layer has gone further, and stopped; then another token comes. */
static void test_stopped_cut(void **unused)
{
    (void)unused;
    struct stage g;
    struct sluice_err err = {0};
    const struct sluice_sync_callbacks stop = {.progress = stop_at_once};
    stage_open(&g, "tiny-v32", "quality", (struct sluice_session_opts){.chunk = 16});
    for (int way = 0; way < 4; way++) {
        int32_t other[CONTEXT];
        sluice_session *s = open_session(&g, true);
        sync_to(s, g.tokens, 150);
        memcpy(other, g.tokens, sizeof other);
        for (size_t t = 60; t < CONTEXT; t++)
            other[t] = (g.tokens[t] + 1) % (int32_t)g.vocab;
        assert_int_equal(sluice_session_sync(s, other, 70, &stop, &err), SLUICE_ECANCELLED);
        assert_int_equal(s->length, 59);
        other[59] = (g.tokens[59] + 1) % (int32_t)g.vocab;
        if (way == 3) {
            save(s, "stopped");
            sluice_session_close(&s);
            s = open_session(&g, true);
            check_status(sluice_session_restore(s, at("stopped"), NULL, NULL, &err), &err);
        }
        if (way == 0)
            sync_to(s, other, 60);
        else if (way == 1)
            check_status(sluice_sessions_step(&s, &other[59], 1, &err), &err);
        else
            step_to(s, other, 60);
        check(&g, s, other, 60);
        sluice_session_close(&s);
    }
    stage_close(&g);
}

/* A giver whose MTP layer lags, and a taker that has some tokens itself, or whose layer lags. */
static void test_takeover(void **unused)
{
    static const size_t wanted[] = {30, 69, 70, 85, 99, 100, 110};
    (void)unused;
    skip_where_slow();
    struct stage g;
    stage_open(&g, "demo", "quality", (struct sluice_session_opts){.chunk = 16});
    sluice_session *giver = open_session(&g, false);
    sync_to(giver, g.tokens, 68);
    step_to(giver, g.tokens, 100);
    size_t rests = giver->mtp_length;
    assert_true(rests < 100 - 2);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        for (size_t has = 0; has < 30; has += 13) {
            sluice_session *s = open_session(&g, false);
            struct sluice_stats before, after;
            s->alone = true;
            if (has > 0)
                sync_to(s, g.tokens, has);
            s->alone = false;
            sluice_session_stats(s, &before);
            sync_to(s, g.tokens, wanted[i]);
            sluice_session_stats(s, &after);
            size_t computed = wanted[i] < 100 ? 1 : wanted[i] - 100; /* for its logits */
            assert_int_equal(after.prefill_tokens - before.prefill_tokens, computed);
            assert_int_equal(giver->mtp_length, rests);
            check(&g, s, g.tokens, wanted[i]);
            sluice_session_close(&s);
        }
    check(&g, giver, g.tokens, 100);
    sluice_session_close(&giver);
    stage_close(&g);
}

static void test_restored(void **unused)
{
    (void)unused;
    struct stage g;
    struct sluice_err err = {0};
    stage_open(&g, "demo", "quality", (struct sluice_session_opts){.chunk = 16});
    for (size_t steps = 0; steps < 50; steps += 23) {
        sluice_session *s = open_rested(&g, 120, steps), *restored = open_rested(&g, 90, 20);
        save(s, "saved");
        check_status(sluice_session_restore(restored, at("saved"), NULL, NULL, &err), &err);
        assert_int_equal(restored->mtp_length, 119);
        step_to(restored, g.tokens, 120 + steps);
        check(&g, restored, g.tokens, 120 + steps);
        sluice_session_close(&s);
        sluice_session_close(&restored);
    }
    stage_close(&g);
}

static void test_together(void **unused)
{
    enum { SESSIONS = 3, STEPS = 2 * ROWS + 9 };
    (void)unused;
    struct stage g;
    struct sluice_err err = {0};
    sluice_session *s[SESSIONS];
    stage_open(&g, "demo", "quality", (struct sluice_session_opts){.chunk = 16});
    for (size_t i = 0; i < SESSIONS; i++) {
        s[i] = open_rested(&g, 100 + 10 * i, 11 * i);
        sl_session_set_hooks(s[i], &g.hooks);
    }
    g.passes = 0;
    for (size_t step = 0; step < STEPS; step++) {
        int32_t tokens[SESSIONS];
        for (size_t i = 0; i < SESSIONS; i++)
            tokens[i] = g.tokens[sluice_session_length(s[i])];
        check_status(sluice_sessions_step(s, tokens, SESSIONS, &err), &err);
    }
    assert_int_equal(g.passes, 0);
    for (size_t i = 0; i < SESSIONS; i++) {
        sl_session_set_hooks(s[i], &(struct sl_hooks){0});
        check(&g, s[i], g.tokens, 100 + 10 * i + STEPS);
        sluice_session_close(&s[i]);
    }
    stage_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_pass),  cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_drafts),   cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_cuts),     cmocka_unit_test(test_stopped_cut),
        cmocka_unit_test(test_takeover), cmocka_unit_test(test_restored),
        cmocka_unit_test(test_together),
    };
    return cmocka_run_group_tests_name("mtp at rest", tests, make_root, remove_root);
}
