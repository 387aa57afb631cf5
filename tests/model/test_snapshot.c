/* SPDX-License-Identifier: MIT */
/*
 * Sessions that are saved and restored go on as if nothing had happened, to the bit: every type of
 * cache, with and without MTP and selection, lengths around key panels and the number of selected
 * keys; and equal sessions are equal files.
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
#include "runtime/session/snapshot.h"
#include "tests/model/harness.h"
#include "tests/unit/scratch.h"

enum { STEPS = 20 };

/* One engine, the session that is saved, and another that is restored again and again. */
struct pair {
    sluice_engine *engine;
    sluice_session *saved, *restored;
    size_t vocab, topk, context;
    int32_t *tokens; /* [context] */
    float *logits;   /* [STEPS + 1][vocab] */
};

static void pair_open(struct pair *p, const char *model, bool mtp,
                      struct sluice_session_opts session)
{
    struct sluice_err err = {0};
    struct sluice_model_info info;
    const struct sluice_engine_opts engine = {.mtp = mtp, .threads = 2};
    *p = (struct pair){0};
    check_status(sluice_engine_open(&p->engine, converted(model, "quality"), &engine, &err), &err);
    sluice_engine_info(p->engine, &info);
    p->vocab = (size_t)info.vocab;
    p->topk = (size_t)info.index_topk;
    p->context = session.context = sl_min(sl_max(p->topk, 40) + 2 * STEPS, (size_t)info.context);
    p->tokens = calloc(p->context, sizeof *p->tokens);
    p->logits = calloc((STEPS + 1) * p->vocab, sizeof *p->logits);
    for (size_t i = 0; i < p->context; i++)
        p->tokens[i] = (int32_t)((i * 7919 + 13) % p->vocab);
    session.alone = 1;
    session.chunk = 32;
    check_status(sluice_session_open(&p->saved, p->engine, &session, &err), &err);
    session.chunk = 7;
    check_status(sluice_session_open(&p->restored, p->engine, &session, &err), &err);
}

static void pair_close(struct pair *p)
{
    sluice_session_close(&p->saved);
    sluice_session_close(&p->restored);
    sluice_engine_close(&p->engine);
    free(p->tokens);
    free(p->logits);
}

static void expect_logits(const struct pair *p, const float *wanted)
{
    assert_non_null(sluice_session_logits(p->restored));
    assert_memory_equal(sluice_session_logits(p->restored), wanted, p->vocab * sizeof *wanted);
}

static void save(sluice_session *s, const char *name)
{
    struct sluice_err err = {0};
    check_status(sluice_session_save(s, at(name), NULL, NULL, &err), &err);
}

static void restore(sluice_session *s, const char *name)
{
    struct sluice_err err = {0};
    check_status(sluice_session_restore(s, at(name), NULL, NULL, &err), &err);
}

/* N tokens, STEPS more in the saved session, and in the restored one the same. */
static void check_length(struct pair *p, size_t n)
{
    struct sluice_saved file;
    struct sluice_err err = {0};
    check_status(sluice_session_sync(p->saved, p->tokens, n, NULL, &err), &err);
    save(p->saved, "first");
    check_status(sluice_session_saved(&file, at("first"), &err), &err);
    assert_int_equal(file.tokens, n);
    assert_int_equal(file.mtp, p->saved->has_mtp);
    for (size_t i = 0; i <= STEPS; i++) {
        memcpy(p->logits + i * p->vocab, sluice_session_logits(p->saved),
               p->vocab * sizeof *p->logits);
        if (i < STEPS)
            check_status(sluice_session_step(p->saved, p->tokens[n + i], &err), &err);
    }
    restore(p->restored, "first");
    assert_int_equal(sluice_session_length(p->restored), n);
    assert_int_equal(p->restored->mtp_length, p->restored->has_mtp ? n - 1 : 0);
    save(p->restored, "second");
    expect_same_files("first", "second");
    for (size_t i = 0; i <= STEPS; i++) {
        expect_logits(p, p->logits + i * p->vocab);
        if (i < STEPS)
            check_status(sluice_session_step(p->restored, p->tokens[n + i], &err), &err);
    }
    save(p->restored, "second");
    save(p->saved, "first");
    expect_same_files("first", "second");
}

static void check_model(const char *model, bool mtp, struct sluice_session_opts session)
{
    struct pair p;
    pair_open(&p, model, mtp, session);
    const size_t lengths[] = {p.context - STEPS, 1, 15, 16, 17, p.topk, p.topk + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        if (lengths[i] > 0)
            check_length(&p, lengths[i]);
    pair_close(&p);
}

static void test_round_trips(void **unused)
{
    static const enum sluice_cache_type types[] = {SLUICE_CACHE_INT8, SLUICE_CACHE_BF16,
                                                   SLUICE_CACHE_F32};
    (void)unused;
    for (int i = 0; i < 9; i++)
        check_model("tiny-v32", i % 2,
                    (struct sluice_session_opts){.kv = types[i / 3], .index = types[i % 3]});
    for (int i = 0; i < 3; i++)
        check_model("tiny-v3", false, (struct sluice_session_opts){.kv = types[i]});
    check_model("tiny-v32", true, (struct sluice_session_opts){.dense = 1});
    check_model("demo", true, (struct sluice_session_opts){0});
    check_model("demo", false, (struct sluice_session_opts){.kv = SLUICE_CACHE_BF16, .dense = 1});
}

/* What a prompt leaves that was stopped, or cut back, is saved as well. */
static int stop_after(void *user, size_t done, size_t total)
{
    const size_t *most = user;
    (void)total;
    return done >= *most;
}

static void check_without_logits(bool mtp)
{
    struct pair p;
    struct sluice_err err = {0};
    size_t most = 32;
    pair_open(&p, "tiny-v32", mtp, (struct sluice_session_opts){0});
    const struct sluice_sync_callbacks stop = {.user = &most, .progress = stop_after};
    assert_int_equal(sluice_session_sync(p.saved, p.tokens, 60, &stop, &err), SLUICE_ECANCELLED);
    assert_int_equal(sluice_session_length(p.saved), 32);
    save(p.saved, "first");
    restore(p.restored, "first");
    assert_null(sluice_session_logits(p.restored));
    save(p.restored, "second");
    expect_same_files("first", "second");
    most = 0; /* another ending, stopped at once: the cut is at 20 */
    p.tokens[20]++;
    assert_int_equal(sluice_session_sync(p.saved, p.tokens, 60, &stop, &err), SLUICE_ECANCELLED);
    save(p.saved, "first");
    restore(p.restored, "first");
    for (size_t n = 50; n <= 60; n += 10) {
        check_status(sluice_session_sync(p.saved, p.tokens, n, NULL, &err), &err);
        check_status(sluice_session_sync(p.restored, p.tokens, n, NULL, &err), &err);
        expect_logits(&p, sluice_session_logits(p.saved));
    }
    save(p.saved, "first");
    save(p.restored, "second");
    expect_same_files("first", "second");
    pair_close(&p);
}

static void test_without_logits(void **unused)
{
    (void)unused;
    check_without_logits(false);
    check_without_logits(true);
}

/* What was forgotten is not in the file. */
static void test_nothing_behind(void **unused)
{
    (void)unused;
    struct pair p;
    struct sluice_err err = {0};
    for (int type = SLUICE_CACHE_INT8; type <= SLUICE_CACHE_F32; type++) {
        pair_open(&p, "tiny-v32", true, (struct sluice_session_opts){.index = type});
        check_status(sluice_session_sync(p.saved, p.tokens, 60, NULL, &err), &err);
        check_status(sluice_session_sync(p.saved, p.tokens, 21, NULL, &err), &err);
        check_status(sluice_session_sync(p.restored, p.tokens, 21, NULL, &err), &err);
        save(p.saved, "first");
        save(p.restored, "second");
        expect_same_files("first", "second");
        pair_close(&p);
    }
}

/* Many pieces of data, in files of which no part is read twice. */
struct heard {
    uint64_t calls, done, total;
};

static int hear(void *user, uint64_t done, uint64_t total)
{
    struct heard *h = user;
    assert_true(done >= h->done && done <= total);
    *h = (struct heard){h->calls + 1, done, total};
    return 0;
}

static void test_many_pieces(void **unused)
{
    (void)unused;
    struct sluice_err err = {0};
    struct sluice_model_info info;
    sluice_engine *engine;
    sluice_session *s[2];
    struct heard heard[2] = {{0}, {0}};
    const struct sluice_session_opts opts = {.kv = SLUICE_CACHE_F32, .index = SLUICE_CACHE_F32};
    check_status(sluice_engine_open(&engine, converted("demo", "quality"), NULL, &err), &err);
    sluice_engine_info(engine, &info);
    size_t n = (size_t)info.context - 1, vocab = (size_t)info.vocab;
    int32_t *tokens = calloc(n + 1, sizeof *tokens);
    for (int i = 0; i < 2; i++)
        check_status(sluice_session_open(&s[i], engine, &opts, &err), &err);
    check_status(sluice_session_fill(s[0], tokens, n, &err), &err);
    check_status(sluice_session_save(s[0], at("first"), hear, &heard[0], &err), &err);
    check_status(sluice_session_restore(s[1], at("first"), hear, &heard[1], &err), &err);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(heard[i].done, heard[i].total);
        assert_true(heard[i].calls >= 1 && heard[i].total > 2 * SL_SNAPSHOT_PIECE);
    }
    save(s[1], "second");
    expect_same_files("first", "second");
    for (int i = 0; i < 2; i++)
        check_status(sluice_session_step(s[i], 5, &err), &err);
    assert_memory_equal(sluice_session_logits(s[0]), sluice_session_logits(s[1]),
                        vocab * sizeof(float));
    for (int i = 0; i < 2; i++)
        sluice_session_close(&s[i]);
    free(tokens);
    sluice_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_without_logits),
        cmocka_unit_test(test_nothing_behind),
        cmocka_unit_test(test_many_pieces),
    };
    return cmocka_run_group_tests_name("snapshot", tests, make_root, remove_root);
}
