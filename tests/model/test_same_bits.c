/* SPDX-License-Identifier: MIT */
/*
 * The same bits, however the work is cut and whatever computes it: instruction sets, chunks, spans,
 * threads, readers, sync against step, reused prefixes, a cancelled prefill.  Every comparison is
 * memcmp().
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "simd/simd.h"
#include "tests/model/harness.h"

/* ThreadSanitizer makes ref a hundred times slower, and its errors do not depend on the rung. */
#ifdef __SANITIZE_THREAD__
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

static void use_rung(const char *name)
{
    assert_int_equal(setenv("SLUICE_CPU", name, 1), 0);
}

static struct run baseline(const char *model, const char *profile, enum sluice_cache_type cache,
                           const struct golden *g)
{
    struct run r = {.container = strdup(converted(model, profile)),
                    .threads = 1,
                    .chunk = g->n,
                    .reader = SLUICE_READER_MEMORY,
                    .mtp = g->drafts != NULL,
                    .session = {.kv = cache, .index = cache}};
    run_tokens(&r, g->tokens, g->n);
    return r;
}

static void check_same(const char *what, const struct golden *g, const struct run *want,
                       struct run *got)
{
    run_tokens(got, g->tokens, g->n);
    if (memcmp(want->logits, got->logits, g->n * g->vocab * sizeof(float)) != 0)
        fail_msg("logits differ: %s", what);
    if (memcmp(want->hiddens, got->hiddens, g->n * g->layers * g->hidden * sizeof(float)) != 0)
        fail_msg("hidden states differ: %s", what);
    if (memcmp(want->drafts, got->drafts, g->n * g->vocab * sizeof(float)) != 0)
        fail_msg("MTP drafts differ: %s", what);
    run_close(got);
}

/* All ways to cut the work on one rung: chunks with one and two threads, the largest with three. */
static void check_cuts_on(const char *rung, const struct golden *g, const struct run *want)
{
    const struct {
        const char *what;
        size_t chunk, span;
        unsigned threads;
        enum sluice_reader reader;
    } cuts[] = {
        {"chunks of 1, 1 thread", 1, 0, 1, SLUICE_READER_MEMORY},
        {"chunks of 1, 2 threads, pread", 1, 0, 2, SLUICE_READER_PREAD},
        {"chunks of 7, 1 thread, pread", 7, 0, 1, SLUICE_READER_PREAD},
        {"chunks of 7, 2 threads", 7, 0, 2, SLUICE_READER_MEMORY},
        {"chunks of 64, 1 thread", 64, 0, 1, SLUICE_READER_MEMORY},
        {"chunks of 64, 2 threads, pread", 64, 0, 2, SLUICE_READER_PREAD},
        {"chunks of 1, spans of 5", 1, 5, 2, SLUICE_READER_PREAD},
        {"chunks of 16, spans of 64", 16, 64, 3, SLUICE_READER_MEMORY},
        {"chunks of 7, spans of 45", 7, 45, 1, SLUICE_READER_MEMORY},
        {"chunks of 9, all in one span", 9, g->n, 2, SLUICE_READER_PREAD},
        {"all at once, 1 thread", g->n, 0, 1, SLUICE_READER_MEMORY},
        {"all at once, 2 threads", g->n, 0, 2, SLUICE_READER_MEMORY},
        {"all at once, 3 threads, pread", g->n, 0, 3, SLUICE_READER_PREAD},
    };
    use_rung(rung);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        char what[128];
        snprintf(what, sizeof what, "%s, %s", rung, cuts[i].what);
        struct run r = {.container = want->container,
                        .threads = cuts[i].threads,
                        .chunk = cuts[i].chunk,
                        .reader = cuts[i].reader,
                        .mtp = want->mtp,
                        .session = want->session};
        r.session.span = cuts[i].span;
        check_same(what, g, want, &r);
    }
}

/* All cuts on the best rung, or on EVERY one, give what ref gives, over a sequence long enough for
 * selection. */
static void check_cuts(const char *model, const char *profile, enum sluice_cache_type cache,
                       bool every)
{
    struct golden g;
    const struct sl_rung *rung;
    golden_open(&g, model, "mid");
    use_rung(sanitized ? sl_rung_find(NULL)->name : "ref");
    struct run want = baseline(model, profile, cache, &g);
    for (size_t i = 0; every && (rung = sl_rung_at(i)) != NULL; i++)
        check_cuts_on(rung->name, &g, &want);
    if (!every)
        check_cuts_on(sl_rung_find(NULL)->name, &g, &want);
    unsetenv("SLUICE_CPU");
    run_close(&want);
    free((void *)(uintptr_t)want.container);
    golden_close(&g);
}

static void test_cuts_demo(void **unused)
{
    (void)unused;
    check_cuts("demo", "quality", SLUICE_CACHE_AUTO, !sanitized);
}

static void test_cuts_tiny(void **unused)
{
    static const char *const profiles[] = {"quality", "balanced", "small",
                                           "int4",    "max",      "reference"};
    (void)unused;
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
        check_cuts("tiny-v32", profiles[i], SLUICE_CACHE_AUTO, false);
        check_cuts("tiny-v3", profiles[i], SLUICE_CACHE_AUTO, false);
    }
    check_cuts("tiny-v32", "quality", SLUICE_CACHE_BF16, false);
    check_cuts("tiny-v32", "quality", SLUICE_CACHE_F32, false);
    check_cuts("tiny-v3", "reference", SLUICE_CACHE_INT8, false);
}

/* A session fed in odd ways must end with the logits of a fresh one. */
struct pair {
    sluice_engine *engine;
    sluice_session *fresh, *used;
    struct golden g;
};

/* SPAN: of the used one. */
static void pair_open(struct pair *p, bool mtp, size_t span)
{
    struct sluice_err err = {0};
    const struct sluice_engine_opts engine = {.mtp = mtp};
    const struct sluice_session_opts session = {
        .chunk = 16, .span = span, .context = 200, .alone = 1};
    *p = (struct pair){0};
    golden_open(&p->g, "tiny-v32", "mid");
    check_status(sluice_engine_open(&p->engine, converted("tiny-v32", "quality"), &engine, &err),
                 &err);
    check_status(sluice_session_open(&p->fresh, p->engine, &session, &err), &err);
    check_status(sluice_session_open(&p->used, p->engine, &session, &err), &err);
}

static void pair_close(struct pair *p)
{
    sluice_session_close(&p->fresh);
    sluice_session_close(&p->used);
    sluice_engine_close(&p->engine);
    golden_close(&p->g);
}

/* Draft logits of the last position that has them. */
struct draft {
    float *logits;
    size_t vocab;
};

static int keep_draft(void *user, size_t position, const float *logits)
{
    const struct draft *d = user;
    (void)position;
    memcpy(d->logits, logits, d->vocab * sizeof *logits);
    return 0;
}

static void pair_compare(struct pair *p, const int32_t *tokens, size_t n)
{
    struct sluice_err err = {0};
    sluice_session_close(&p->fresh);
    const struct sluice_session_opts session = {.chunk = 64, .context = 200, .alone = 1};
    check_status(sluice_session_open(&p->fresh, p->engine, &session, &err), &err);
    check_status(sluice_session_sync(p->fresh, tokens, n, NULL, &err), &err);
    assert_int_equal(sluice_session_length(p->used), n);
    assert_memory_equal(sluice_session_logits(p->fresh), sluice_session_logits(p->used),
                        p->g.vocab * sizeof(float));
}

static void check_prefixes(bool mtp, size_t span)
{
    struct pair p;
    struct sluice_err err = {0};
    int32_t other[200];
    pair_open(&p, mtp, span);
    const int32_t *tokens = p.g.tokens;
    memcpy(other, tokens, sizeof other);
    other[60] = (other[60] + 1) % (int32_t)p.g.vocab;
    check_status(sluice_session_sync(p.used, tokens, 100, NULL, &err), &err);
    pair_compare(&p, tokens, 100);
    check_status(sluice_session_sync(p.used, tokens, 40, NULL, &err), &err); /* shorter */
    pair_compare(&p, tokens, 40);
    check_status(sluice_session_sync(p.used, tokens, 130, NULL, &err), &err); /* longer */
    pair_compare(&p, tokens, 130);
    check_status(sluice_session_sync(p.used, other, 150, NULL, &err), &err); /* branches at 60 */
    pair_compare(&p, other, 150);
    check_status(sluice_session_sync(p.used, tokens, 1, NULL, &err), &err);
    check_status(sluice_session_step(p.used, tokens[1], &err), &err);
    for (size_t i = 2; i < 50; i++)
        check_status(sluice_session_step(p.used, tokens[i], &err), &err);
    pair_compare(&p, tokens, 50);
    struct sluice_stats before, after;
    sluice_session_stats(p.used, &before);
    check_status(sluice_session_sync(p.used, tokens, 50, NULL, &err), &err); /* nothing to do */
    sluice_session_stats(p.used, &after);
    assert_int_equal(before.prefill_tokens, after.prefill_tokens);
    pair_close(&p);
}

static void test_prefixes(void **unused)
{
    (void)unused;
    check_prefixes(false, 0);
    check_prefixes(true, 0);
    check_prefixes(false, 70);
    check_prefixes(true, 37);
}

static void check_drafts_after_rewind(size_t span)
{
    struct pair p;
    struct sluice_err err = {0};
    pair_open(&p, true, span);
    size_t vocab = p.g.vocab;
    struct draft a = {calloc(vocab, sizeof(float)), vocab};
    struct draft b = {calloc(vocab, sizeof(float)), vocab};
    const struct sluice_sync_callbacks first = {.user = &a, .draft = keep_draft};
    const struct sluice_sync_callbacks second = {.user = &b, .draft = keep_draft};
    check_status(sluice_session_sync(p.fresh, p.g.tokens, 90, &first, &err), &err);
    check_status(sluice_session_sync(p.used, p.g.tokens, 120, NULL, &err), &err);
    check_status(sluice_session_sync(p.used, p.g.tokens, 50, NULL, &err), &err);
    check_status(sluice_session_sync(p.used, p.g.tokens, 90, &second, &err), &err);
    assert_memory_equal(a.logits, b.logits, vocab * sizeof(float));
    free(a.logits);
    free(b.logits);
    pair_close(&p);
}

/* Drafts after rewinding equal drafts of a fresh run. */
static void test_drafts_after_rewind(void **unused)
{
    (void)unused;
    check_drafts_after_rewind(0);
    check_drafts_after_rewind(38);
}

/* Logits after FILLED pseudo-random positions and three computed ones. */
static void logits_after_fill(const struct pair *p, unsigned threads, float *logits)
{
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    sluice_session *s = NULL;
    enum { FILLED = 170 };
    const struct sluice_engine_opts opts = {.threads = threads, .mtp = 1};
    const struct sluice_session_opts session = {.chunk = 16, .context = 200};
    check_status(sluice_engine_open(&engine, converted("tiny-v32", "quality"), &opts, &err), &err);
    check_status(sluice_session_open(&s, engine, &session, &err), &err);
    assert_int_equal(sluice_session_fill(s, p->g.tokens, 201, &err), SLUICE_ECONTEXT);
    check_status(sluice_session_sync(s, p->g.tokens, 20, NULL, &err), &err);
    check_status(sluice_session_fill(s, p->g.tokens, FILLED, &err), &err);
    assert_int_equal(sluice_session_length(s), FILLED);
    assert_null(sluice_session_logits(s));
    check_status(sluice_session_sync(s, p->g.tokens, FILLED + 2, NULL, &err), &err);
    check_status(sluice_session_step(s, p->g.tokens[FILLED + 2], &err), &err);
    memcpy(logits, sluice_session_logits(s), p->g.vocab * sizeof *logits);
    struct sluice_stats stats;
    sluice_session_stats(s, &stats);
    assert_int_equal(stats.prefill_tokens, 20 + 2); /* filling is not computing */
    assert_true(stats.sparse_queries > 0);
    double total = 0;
    for (int i = 0; i < SLUICE_PARTS; i++)
        total += stats.part_seconds[i];
    assert_true(total > 0 && total <= stats.prefill_seconds + stats.decode_seconds);
    assert_true(stats.part_bytes[SLUICE_PART_PROJECTIONS] > 0);
    sluice_session_close(&s);
    sluice_engine_close(&engine);
}

/* Answers with other experts: the first ones, unless it is to answer nonsense. */
struct router {
    uint32_t answer[64];
    bool decreasing;
    size_t calls;
};

static const uint32_t *other_route(void *user, int32_t layer, size_t position,
                                   const uint32_t *experts, const float *weights, size_t n)
{
    struct router *r = user;
    assert_true(layer >= 0 && position < 20 && n <= 64 && weights[0] > 0);
    for (size_t i = 0; i < n; i++) {
        assert_true(i == 0 || experts[i - 1] < experts[i]);
        r->answer[i] = (uint32_t)(r->decreasing ? n - 1 - i : i);
    }
    r->calls++;
    return r->answer;
}

/* What an observer answers is computed with if it is a list of experts, and ignored otherwise. */
static void test_observer(void **unused)
{
    (void)unused;
    struct pair p;
    pair_open(&p, false, 0);
    struct router router = {.decreasing = true};
    const struct sluice_observer observer = {.user = &router, .route = other_route};
    float *logits[3];
    sluice_engine *engine;
    sluice_session *s;
    struct sluice_err err = {0};
    check_status(sluice_engine_open(&engine, converted("tiny-v32", "quality"), NULL, &err), &err);
    for (int i = 0; i < 3; i++) {
        router.decreasing = i == 1;
        logits[i] = calloc(p.g.vocab, sizeof *logits[i]);
        check_status(sluice_session_open(&s, engine, NULL, &err), &err);
        sluice_session_observe(s, i > 0 ? &observer : NULL);
        check_status(sluice_session_sync(s, p.g.tokens, 20, NULL, &err), &err);
        memcpy(logits[i], sluice_session_logits(s), p.g.vocab * sizeof *logits[i]);
        sluice_session_close(&s);
    }
    struct sluice_model_info info;
    sluice_engine_info(engine, &info);
    assert_int_equal(router.calls, 2 * 20 * (info.layers - info.dense_layers));
    assert_memory_equal(logits[0], logits[1], p.g.vocab * sizeof **logits);
    assert_memory_not_equal(logits[0], logits[2], p.g.vocab * sizeof **logits);
    for (int i = 0; i < 3; i++)
        free(logits[i]);
    sluice_engine_close(&engine);
    pair_close(&p);
}

static void test_fill(void **unused)
{
    (void)unused;
    struct pair p;
    pair_open(&p, false, 0);
    float *a = calloc(p.g.vocab, sizeof *a), *b = calloc(p.g.vocab, sizeof *b);
    logits_after_fill(&p, 1, a);
    logits_after_fill(&p, 3, b);
    assert_memory_equal(a, b, p.g.vocab * sizeof *a);
    for (size_t i = 0; i < p.g.vocab; i++)
        assert_true(a[i] == a[i]);
    free(a);
    free(b);
    pair_close(&p);
}

/* Everyone wants the first experts: more rows than one batch takes (moe/ffn.c). */
enum { CROWD = 700 };

static const uint32_t *first_experts(void *user, int32_t layer, size_t position,
                                     const uint32_t *experts, const float *weights, size_t n)
{
    uint32_t *first = user;
    (void)layer;
    (void)experts;
    (void)weights;
    for (uint32_t i = 0; i < n; i++)
        first[i] = i + (i + 1 == n ? (uint32_t)(position % 3) : 0);
    return first;
}

static void crowd_logits(sluice_engine *engine, size_t chunk, size_t span, float *logits,
                         size_t vocab)
{
    const struct sluice_session_opts opts = {.chunk = chunk, .span = span, .context = CROWD};
    uint32_t first[16];
    const struct sluice_observer observer = {.user = first, .route = first_experts};
    struct sluice_err err = {0};
    sluice_session *s;
    int32_t tokens[CROWD];
    for (int32_t i = 0; i < CROWD; i++)
        tokens[i] = i * 37 % (int32_t)vocab;
    check_status(sluice_session_open(&s, engine, &opts, &err), &err);
    sluice_session_observe(s, &observer);
    check_status(sluice_session_sync(s, tokens, CROWD, NULL, &err), &err);
    memcpy(logits, sluice_session_logits(s), vocab * sizeof *logits);
    sluice_session_close(&s);
}

static void test_crowded_experts(void **unused)
{
    (void)unused;
    struct sluice_err err = {0};
    struct sluice_model_info info;
    sluice_engine *engine;
    check_status(sluice_engine_open(&engine, converted("demo", "quality"), NULL, &err), &err);
    sluice_engine_info(engine, &info);
    assert_in_range(info.experts_used, 4, 13); /* 2 × CROWD rows are a batch */
    size_t vocab = (size_t)info.vocab;
    float *at_once = calloc(vocab, sizeof *at_once), *in_pieces = calloc(vocab, sizeof *in_pieces);
    crowd_logits(engine, CROWD, 0, at_once, vocab);
    crowd_logits(engine, 16, 0, in_pieces, vocab);
    assert_memory_equal(at_once, in_pieces, vocab * sizeof *at_once);
    crowd_logits(engine, 16, CROWD, in_pieces, vocab); /* an expert has more rows than a batch */
    assert_memory_equal(at_once, in_pieces, vocab * sizeof *at_once);
    free(at_once);
    free(in_pieces);
    sluice_engine_close(&engine);
}

/* Progress never falls, moves inside a span, and ends with all. */
struct heard {
    size_t calls, done;
};

static int hear(void *user, size_t done, size_t total)
{
    struct heard *h = user;
    assert_int_equal(total, 40);
    assert_in_range(done, h->done, total);
    h->done = done;
    h->calls++;
    return 0;
}

static void check_progress(size_t span, size_t spans)
{
    struct pair p;
    struct sluice_err err = {0};
    struct heard heard = {0};
    pair_open(&p, false, span);
    const struct sluice_sync_callbacks callbacks = {.user = &heard, .progress = hear};
    check_status(sluice_session_sync(p.used, p.g.tokens, 40, &callbacks, &err), &err);
    assert_int_equal(heard.done, 40);
    assert_int_equal(heard.calls, spans * p.g.layers);
    pair_close(&p);
}

static void test_progress(void **unused)
{
    (void)unused;
    check_progress(0, 3); /* chunks of 16 */
    check_progress(39, 2);
    check_progress(200, 1);
}

static int stop_after(void *user, size_t done, size_t total)
{
    const size_t *most = user;
    (void)total;
    return done > *most;
}

/* Spans of 48 or less, which are all computed when one that begins with token 48 is stopped. */
static void check_cancel(size_t span, size_t most)
{
    struct pair p;
    struct sluice_err err = {0};
    pair_open(&p, true, span);
    const struct sluice_sync_callbacks stop = {.user = &most, .progress = stop_after};
    assert_int_equal(sluice_session_sync(p.used, p.g.tokens, 100, &stop, &err), SLUICE_ECANCELLED);
    assert_int_equal(sluice_session_length(p.used), 48); /* what is finished is kept */
    sluice_session_cancel(p.used);
    assert_int_equal(sluice_session_sync(p.used, p.g.tokens, 100, NULL, &err), SLUICE_ECANCELLED);
    assert_int_equal(sluice_session_length(p.used), 48);
    check_status(sluice_session_sync(p.used, p.g.tokens, 100, NULL, &err), &err);
    pair_compare(&p, p.g.tokens, 100);
    pair_close(&p);
}

static void test_cancel(void **unused)
{
    (void)unused;
    check_cancel(0, 47);
    check_cancel(0, 50);
    check_cancel(24, 50);
    check_cancel(48, 48);
    check_cancel(48, 70);
}

/* How often an expert was wanted of the reader, for a prompt of 100 tokens. */
static uint64_t experts_wanted(size_t span)
{
    struct pair p;
    struct sluice_err err = {0};
    struct sluice_stats stats;
    pair_open(&p, false, span);
    check_status(sluice_session_sync(p.used, p.g.tokens, 100, NULL, &err), &err);
    sluice_session_stats(p.used, &stats);
    pair_compare(&p, p.g.tokens, 100);
    pair_close(&p);
    return stats.expert_hits + stats.expert_misses;
}

/* A span wants each expert of a layer once at most. */
static void test_experts_once(void **unused)
{
    (void)unused;
    struct pair p;
    struct sluice_model_info info;
    pair_open(&p, false, 0);
    sluice_engine_info(p.engine, &info);
    uint64_t all = (uint64_t)info.experts * (uint64_t)(info.layers - info.dense_layers);
    pair_close(&p);
    assert_in_range(experts_wanted(100), 1, all);
    assert_in_range(experts_wanted(50), all / 2 + 1, 2 * all);
    assert_true(experts_wanted(0) > 2 * all); /* 7 chunks */
}

/* A span that may take no time is cut to a chunk when its first layer with experts is done. */
static void test_shortened(void **unused)
{
    (void)unused;
    struct pair p;
    struct sluice_err err = {0};
    struct sluice_model_info info;
    struct sluice_stats stats;
    struct heard heard = {0};
    pair_open(&p, true, 0);
    sluice_session_close(&p.used);
    const struct sluice_session_opts session = {
        .chunk = 16, .span = 100, .context = 200, .prefill_seconds = 1e-9};
    check_status(sluice_session_open(&p.used, p.engine, &session, &err), &err);
    const struct sluice_sync_callbacks callbacks = {.user = &heard, .progress = hear};
    check_status(sluice_session_sync(p.used, p.g.tokens, 40, &callbacks, &err), &err);
    assert_int_equal(heard.done, 40);
    assert_int_equal(heard.calls, 3 * p.g.layers); /* 16, 16 and 8 tokens */
    pair_compare(&p, p.g.tokens, 40);
    check_status(sluice_session_sync(p.used, p.g.tokens, 150, NULL, &err), &err);
    pair_compare(&p, p.g.tokens, 150);
    sluice_engine_info(p.engine, &info);
    sluice_session_stats(p.used, &stats);
    size_t layers = (size_t)(info.layers - info.dense_layers), again = 40 - 16;
    assert_int_equal(stats.prefill_tokens, 150);
    /* The MTP layer has none: nothing drafts. */
    assert_int_equal(stats.expert_uses, (150 * layers + again) * p.g.used);
    pair_close(&p);
}

static void test_limits(void **unused)
{
    (void)unused;
    struct pair p;
    struct sluice_err err = {0};
    pair_open(&p, false, 0);
    int32_t vocab = (int32_t)p.g.vocab, bad[3] = {1, vocab, 2};
    char found[32];
    snprintf(found, sizeof found, "token 1 is %d", vocab);
    assert_int_equal(sluice_session_sync(p.used, bad, 3, NULL, &err), SLUICE_EARG);
    assert_non_null(strstr(err.msg, found));
    bad[1] = -1;
    assert_int_equal(sluice_session_sync(p.used, bad, 3, NULL, &err), SLUICE_EARG);
    assert_int_equal(sluice_session_sync(p.used, bad, 0, NULL, &err), SLUICE_EARG);
    assert_int_equal(sluice_session_sync(p.used, p.g.tokens, 201, NULL, &err), SLUICE_ECONTEXT);
    assert_null(sluice_session_logits(p.used));
    check_status(sluice_session_sync(p.used, p.g.tokens, 200, NULL, &err), &err);
    assert_int_equal(sluice_session_step(p.used, 1, &err), SLUICE_ECONTEXT);
    pair_compare(&p, p.g.tokens, 200); /* still usable */
    assert_int_equal(sluice_session_step(p.used, vocab, &err), SLUICE_EARG);
    const struct sluice_sync_callbacks draft = {.draft = keep_draft}; /* engine without MTP */
    assert_int_equal(sluice_session_sync(p.used, p.g.tokens, 10, &draft, &err), SLUICE_EARG);
    const struct sluice_session_opts wrong[] = {
        {.kv = 4},           {.index = (enum sluice_cache_type) - 1},
        {.chunk = SIZE_MAX}, {.span = SIZE_MAX},
        {.context = 513},    {.prefill_seconds = -1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        sluice_session *none = NULL;
        assert_int_equal(sluice_session_open(&none, p.engine, &wrong[i], &err), SLUICE_EARG);
        assert_null(none);
    }
    sluice_engine *engine = NULL;
    const struct sluice_engine_opts reader = {.reader = 4};
    assert_int_equal(sluice_engine_open(&engine, converted("tiny-v32", "quality"), &reader, &err),
                     SLUICE_EARG);
    assert_null(engine);
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts_tiny),
        cmocka_unit_test(test_cuts_demo),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_drafts_after_rewind),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_experts_once),
        cmocka_unit_test(test_shortened),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_observer),
        cmocka_unit_test(test_crowded_experts),
        cmocka_unit_test(test_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
