/* SPDX-License-Identifier: MIT */
/*
 * Several sessions of one engine: a step of all gives each the bits that it gets alone, experts are
 * wanted once, and a further session takes little beside its caches.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/arith.h"
#include "tests/model/harness.h"
#include "tests/unit/scratch.h"

enum { SESSIONS = SLUICE_BATCH_MAX, STEPS = 6, LAYERS = 8, EXPERTS = 64 };

/* What each session is to say, and what it answers alone. */
struct script {
    const char *container;
    struct sluice_session_opts opts; /* but for context and chunk */
    bool mtp;
    size_t vocab, topk, layers;
    size_t prompt[SESSIONS];
    int32_t *tokens[SESSIONS]; /* [prompt + STEPS + 1] */
    float *logits[SESSIONS];   /* [STEPS + 1][vocab]: after the prompt, and after each step */
    float *draft[SESSIONS];    /* [vocab]: the last one, after another token */
};

/* ---- scripts -------------------------------------------------------------------------------- */

/* From too short ever to select to longer than two selections.  The last has the largest context,
 * by far, and the largest chunk. */
static struct sluice_session_opts session_opts(const struct script *s, size_t i)
{
    struct sluice_session_opts opts = s->opts;
    opts.alone = 1; /* all is computed */
    opts.context = s->prompt[i] + STEPS + 1 + (i % 2 ? 40 : 0);
    opts.chunk = i + 1 == SESSIONS ? 30 : 8 + i;
    return opts;
}

static void make_prompts(struct script *s)
{
    const size_t topk = s->topk ? s->topk : 30;
    const size_t prompt[SESSIONS] = {1,        5,         topk - 3,  topk - 1,
                                     topk + 1, topk + 37, topk + 90, 2 * topk + 100};
    memcpy(s->prompt, prompt, sizeof prompt);
    for (size_t i = 0; i < SESSIONS; i++) {
        size_t n = s->prompt[i] + STEPS + 1;
        s->tokens[i] = calloc(n, sizeof *s->tokens[i]);
        s->logits[i] = calloc((STEPS + 1) * s->vocab, sizeof(float));
        s->draft[i] = calloc(s->vocab, sizeof(float));
        for (size_t t = 0; t < n; t++)
            s->tokens[i][t] = (int32_t)((t * 7919 + i * t * t * 31 + i * 101 + 13) % s->vocab);
    }
}

struct draft {
    float *logits;
    size_t vocab;
};

static int keep_draft(void *user, size_t position, const float *logits)
{
    const struct draft *draft = user;
    (void)position;
    memcpy(draft->logits, logits, draft->vocab * sizeof *logits);
    return 0;
}

/* The draft logits of the last position but one, after one more token; none without MTP. */
static void last_draft(const struct script *s, size_t i, sluice_session *session, float *out)
{
    struct sluice_err err = {0};
    struct draft draft = {out, s->vocab};
    const struct sluice_sync_callbacks callbacks = {.user = &draft, .draft = keep_draft};
    if (s->mtp)
        check_status(
            sluice_session_sync(session, s->tokens[i], s->prompt[i] + STEPS + 1, &callbacks, &err),
            &err);
}

static void answer_alone(struct script *s, sluice_engine *engine, size_t i)
{
    const struct sluice_session_opts opts = session_opts(s, i);
    struct sluice_err err = {0};
    sluice_session *session = NULL;
    check_status(sluice_session_open(&session, engine, &opts, &err), &err);
    check_status(sluice_session_sync(session, s->tokens[i], s->prompt[i], NULL, &err), &err);
    for (size_t step = 0; step <= STEPS; step++) {
        if (step > 0)
            check_status(sluice_session_step(session, s->tokens[i][s->prompt[i] + step - 1], &err),
                         &err);
        memcpy(s->logits[i] + step * s->vocab, sluice_session_logits(session),
               s->vocab * sizeof(float));
    }
    last_draft(s, i, session, s->draft[i]);
    sluice_session_close(&session);
}

static void script_open(struct script *s, const char *model, const char *profile, bool mtp,
                        struct sluice_session_opts session)
{
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    const struct sluice_engine_opts opts = {
        .threads = 2, .mtp = mtp, .reader = SLUICE_READER_MEMORY};
    *s = (struct script){.container = strdup(converted(model, profile)), .opts = session};
    check_status(sluice_engine_open(&engine, s->container, &opts, &err), &err);
    const struct sl_config *c = &engine->weights->config;
    s->mtp = mtp;
    s->vocab = c->vocab;
    s->topk = c->index_heads ? c->index_topk : 0;
    s->layers = engine->weights->n_layers;
    assert_true(s->layers <= LAYERS && c->experts <= EXPERTS);
    make_prompts(s);
    for (size_t i = 0; i < SESSIONS; i++)
        answer_alone(s, engine, i);
    sluice_engine_close(&engine);
}

static void script_close(struct script *s)
{
    free((void *)(uintptr_t)s->container);
    for (size_t i = 0; i < SESSIONS; i++) {
        free(s->tokens[i]);
        free(s->logits[i]);
        free(s->draft[i]);
    }
}

/* ---- a stage for all sessions --------------------------------------------------------------- */

struct stage {
    const struct script *script;
    sluice_engine *engine;
    sluice_session *session[SESSIONS];
    size_t done[SESSIONS]; /* steps */
    /* Of the step at hand: which experts were chosen, and how often any was. */
    bool chosen[LAYERS][EXPERTS];
    size_t uses;
    struct sl_hooks hooks;
};

static void on_route(void *user, unsigned layer, size_t position, uint32_t *experts,
                     const float *weights, size_t n)
{
    struct stage *g = user;
    (void)position, (void)weights;
    for (size_t i = 0; i < n; i++)
        g->chosen[layer][experts[i]] = true;
    g->uses += n;
}

/* Opens the engine and all sessions: the longest first where memory is limited. */
static void stage_open(struct stage *g, const struct script *s,
                       const struct sluice_engine_opts *opts)
{
    struct sluice_err err = {0};
    *g = (struct stage){.script = s, .hooks = {.user = g, .route = on_route}};
    check_status(sluice_engine_open(&g->engine, s->container, opts, &err), &err);
    for (size_t k = 0; k < SESSIONS; k++) {
        size_t i = opts->memory ? SESSIONS - 1 - k : k;
        const struct sluice_session_opts session = session_opts(s, i);
        check_status(sluice_session_open(&g->session[i], g->engine, &session, &err), &err);
        sl_session_set_hooks(g->session[i], &g->hooks);
    }
}

static void stage_close(struct stage *g)
{
    for (size_t i = 0; i < SESSIONS; i++)
        sluice_session_close(&g->session[i]);
    assert_int_equal(g->engine->session_bytes, 0);
    assert_null(g->engine->benches);
    sluice_engine_close(&g->engine);
}

/* Nothing in scratch is of use between two calls. */
static void spoil_scratch(const struct stage *g)
{
    for (struct sl_workbench *b = g->engine->benches; b; b = b->next)
        memset(b->arena.base, 0xff, b->arena.size);
}

/* Every session is where it is by itself after as many steps. */
static void check_logits(const struct stage *g)
{
    const struct script *s = g->script;
    for (size_t i = 0; i < SESSIONS; i++) {
        const float *logits = sluice_session_logits(g->session[i]);
        assert_non_null(logits);
        assert_int_equal(sluice_session_length(g->session[i]), s->prompt[i] + g->done[i]);
        if (memcmp(logits, s->logits[i] + g->done[i] * s->vocab, s->vocab * sizeof *logits) != 0)
            fail_msg("%s: session %zu, step %zu: other logits than alone", s->container, i,
                     g->done[i]);
    }
}

static void sync_all(struct stage *g)
{
    const struct script *s = g->script;
    struct sluice_err err = {0};
    for (size_t i = 0; i < SESSIONS; i++) {
        spoil_scratch(g);
        check_status(sluice_session_sync(g->session[i], s->tokens[i], s->prompt[i], NULL, &err),
                     &err);
    }
    check_logits(g);
}

/* Those that take part in step R, which begin with another one each time. */
static size_t choose_sessions(const struct stage *g, size_t r, size_t which[SESSIONS])
{
    size_t n = 0;
    for (size_t k = 0; k < SESSIONS; k++) {
        size_t i = (k + 3 * r) % SESSIONS;
        if (g->done[i] < STEPS && (r == 0 || (5 * r + 3 * i) % 4 != 0))
            which[n++] = i;
    }
    return n;
}

static int step(const struct stage *g, const size_t *which, size_t n, struct sluice_err *err)
{
    sluice_session *sessions[SESSIONS];
    int32_t tokens[SESSIONS];
    for (size_t k = 0; k < n; k++) {
        size_t i = which[k];
        sessions[k] = g->session[i];
        tokens[k] = g->script->tokens[i][g->script->prompt[i] + g->done[i]];
    }
    return sluice_sessions_step(sessions, tokens, n, err);
}

/* Experts that were wanted of the reader so far. */
static uint64_t wanted(const struct stage *g)
{
    struct sluice_stats stats;
    sluice_session_stats(g->session[0], &stats);
    return stats.expert_hits + stats.expert_misses + stats.expert_ahead;
}

/* A step of sessions WHICH[0..n): each expert is wanted once. */
static void step_and_check(struct stage *g, const size_t *which, size_t n)
{
    struct sluice_err err = {0};
    uint64_t before = wanted(g), different = 0;
    memset(g->chosen, 0, sizeof g->chosen);
    g->uses = 0;
    spoil_scratch(g);
    check_status(step(g, which, n, &err), &err);
    for (size_t k = 0; k < n; k++)
        g->done[which[k]]++;
    check_logits(g);
    for (size_t i = 0; i < LAYERS * EXPERTS; i++)
        different += g->chosen[i / EXPERTS][i % EXPERTS];
    assert_int_equal(wanted(g) - before, different);
    if (n == SESSIONS)
        assert_true(different < g->uses); /* else nothing was shared */
}

static void check_drafts(struct stage *g)
{
    const struct script *s = g->script;
    float *draft = calloc(s->vocab, sizeof *draft);
    for (size_t i = 0; i < SESSIONS; i++) {
        spoil_scratch(g);
        last_draft(s, i, g->session[i], draft);
        assert_memory_equal(draft, s->draft[i], s->vocab * sizeof *draft);
    }
    free(draft);
}

/* Sessions come and go between steps until each has made its own. */
static void play(const struct script *s, const struct sluice_engine_opts *opts)
{
    struct stage g;
    size_t which[SESSIONS], left = SESSIONS * STEPS, n;
    stage_open(&g, s, opts);
    sync_all(&g);
    for (size_t r = 0; left > 0; r++, left -= n) {
        assert_true(r < 100);
        if ((n = choose_sessions(&g, r, which)) > 0)
            step_and_check(&g, which, n);
    }
    check_drafts(&g);
    stage_close(&g);
}

/* The least memory that does for all sessions of S. */
static uint64_t least_memory(const struct script *s, struct sluice_engine_opts opts)
{
    struct sluice_memory_plan plan;
    struct sluice_err err = {0};
    opts.memory = 1;
    assert_int_equal(sluice_plan_memory(&plan, s->container, &opts, &err), SLUICE_ENOMEM);
    assert_int_equal(plan.sessions, SESSIONS);
    return plan.need;
}

static void play_everywhere(const char *model, const char *profile, bool mtp,
                            struct sluice_session_opts session)
{
    struct script s;
    script_open(&s, model, profile, mtp, session);
    const struct sluice_session_opts longest = session_opts(&s, SESSIONS - 1);
    struct sluice_engine_opts opts = {.mtp = mtp, .session = &longest, .sessions = SESSIONS};
    for (opts.threads = 1; opts.threads <= 3; opts.threads++) {
        opts.reader = opts.threads == 2 ? SLUICE_READER_PREAD : SLUICE_READER_MEMORY;
        play(&s, &opts);
    }
    opts.threads = 2;
    opts.reader = SLUICE_READER_PREAD;
    opts.memory = least_memory(&s, opts); /* a step wants more experts than there are slots */
    play(&s, &opts);
    script_close(&s);
}

/* ---- the same bits -------------------------------------------------------------------------- */

static void same_bits_demo(void **unused)
{
    (void)unused;
    for (int type = SLUICE_CACHE_INT8; type <= SLUICE_CACHE_F32; type++) {
        enum sluice_cache_type cache = (enum sluice_cache_type)type;
        play_everywhere("demo", "quality", false,
                        (struct sluice_session_opts){.kv = cache, .index = cache});
    }
}

static void same_bits_tiny(void **unused)
{
    static const char *const profiles[] = {"quality", "balanced", "max", "reference"};
    (void)unused;
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
        play_everywhere("tiny-v32", profiles[i], false, (struct sluice_session_opts){0});
        play_everywhere("tiny-v3", profiles[i], false, (struct sluice_session_opts){0});
    }
    play_everywhere("tiny-v32", "quality", false,
                    (struct sluice_session_opts){.index = SLUICE_CACHE_BF16});
    play_everywhere("tiny-v32", "quality", false, (struct sluice_session_opts){.dense = 1});
}

static void same_bits_mtp(void **unused)
{
    (void)unused;
    play_everywhere("tiny-v32", "quality", true, (struct sluice_session_opts){0});
    play_everywhere("demo", "quality", true, (struct sluice_session_opts){0});
}

/* ---- statistics ----------------------------------------------------------------------------- */

/* What a session has counted does not depend on its company; time counts in full. */
static void statistics(void **unused)
{
    (void)unused;
    struct script s;
    struct stage g;
    struct sluice_stats before[SESSIONS], after;
    const struct sluice_engine_opts opts = {.threads = 2};
    struct sluice_err err = {0};
    size_t all[SESSIONS];
    script_open(&s, "tiny-v32", "quality", false, (struct sluice_session_opts){0});
    stage_open(&g, &s, &opts);
    sync_all(&g);
    for (size_t i = 0; i < SESSIONS; i++) {
        all[i] = i;
        sluice_session_stats(g.session[i], &before[i]);
    }
    check_status(step(&g, all, SESSIONS, &err), &err);
    const struct sl_config *c = &g.engine->weights->config;
    for (size_t i = 0; i < SESSIONS; i++) {
        double parts = 0;
        sluice_session_stats(g.session[i], &after);
        assert_int_equal(after.decode_tokens - before[i].decode_tokens, 1);
        assert_int_equal(after.expert_uses - before[i].expert_uses,
                         (c->layers - c->dense_layers) * c->experts_used);
        assert_int_equal(after.sparse_queries - before[i].sparse_queries,
                         s.prompt[i] + 1 > s.topk ? c->layers : 0);
        for (int p = 0; p < SLUICE_PARTS; p++)
            parts += after.part_seconds[p] - before[i].part_seconds[p];
        assert_true(parts > 0 && parts <= after.decode_seconds - before[i].decode_seconds);
        assert_true(after.part_bytes[SLUICE_PART_HEAD] > before[i].part_bytes[SLUICE_PART_HEAD]);
    }
    stage_close(&g);
    script_close(&s);
}

/* ---- what goes wrong ------------------------------------------------------------------------ */

/* A step of SESSIONS[0..n) fails and changes nothing. */
static void refuse(struct stage *g, sluice_session **sessions, const int32_t *tokens, size_t n,
                   int status, const char *text)
{
    struct sluice_err err = {0};
    assert_int_equal(sluice_sessions_step(sessions, tokens, n, &err), status);
    expect_text(err.msg, text);
    check_logits(g);
}

static void refusals(void **unused)
{
    (void)unused;
    struct script s;
    struct stage g, other;
    struct sluice_err err = {0};
    const struct sluice_engine_opts opts = {.threads = 2};
    script_open(&s, "tiny-v32", "quality", false, (struct sluice_session_opts){0});
    stage_open(&g, &s, &opts);
    stage_open(&other, &s, &opts);
    sync_all(&g);
    sync_all(&other);
    sluice_session *x[SESSIONS + 1] = {g.session[0], g.session[1], g.session[2]};
    int32_t tokens[SESSIONS + 1] = {1, 2, 3};
    char text[64];
    refuse(&g, x, tokens, 0, SLUICE_EARG, "0 sessions");
    refuse(&g, x, tokens, SESSIONS + 1, SLUICE_EARG, "9 sessions for one step; 1 to 8");
    x[2] = x[0];
    refuse(&g, x, tokens, 3, SLUICE_EARG, "sessions 0 and 2 of a step are the same");
    x[2] = other.session[2];
    refuse(&g, x, tokens, 3, SLUICE_EARG, "session 2 of a step belongs to another engine");
    check_logits(&other);
    x[2] = g.session[2];
    tokens[1] = (int32_t)s.vocab;
    snprintf(text, sizeof text, "token 1 is %zu", s.vocab);
    refuse(&g, x, tokens, 3, SLUICE_EARG, text);
    tokens[1] = -1;
    refuse(&g, x, tokens, 3, SLUICE_EARG, "token 1 is -1");
    tokens[1] = 2;

    const struct sluice_session_opts unlike[] = {
        {.kv = SLUICE_CACHE_F32, .context = 100, .chunk = 16},
        {.index = SLUICE_CACHE_BF16, .context = 100, .chunk = 16},
        {.dense = 1, .context = 100, .chunk = 16},
        {.dense = 1, .context = 300, .chunk = 16},
    };
    x[1] = g.session[SESSIONS - 1];
    for (size_t i = 0; i < sizeof unlike / sizeof *unlike; i++) {
        check_status(sluice_session_open(&x[2], g.engine, &unlike[i], &err), &err);
        refuse(&g, x, tokens, 3, SLUICE_EARG, "other types of caches");
        sluice_session_close(&x[2]);
    }

    const struct sluice_session_opts full = {.context = 40, .chunk = 16};
    check_status(sluice_session_open(&x[2], g.engine, &full, &err), &err);
    check_status(sluice_session_sync(x[2], s.tokens[SESSIONS - 1], 40, NULL, &err), &err);
    refuse(&g, x, tokens, 3, SLUICE_ECONTEXT, "context of session 2 of a step full: 40 tokens");
    assert_int_equal(sluice_session_length(x[2]), 40);
    sluice_session_close(&x[2]);

    const struct sluice_session_opts narrow = {.context = 500, .chunk = 2};
    check_status(sluice_session_open(&x[2], g.engine, &narrow, &err), &err);
    refuse(&g, x, tokens, 3, SLUICE_EARG, "larger chunk");
    check_status(sluice_sessions_step(&x[1], tokens, 2, &err), &err);
    sluice_session_close(&x[2]);
    stage_close(&g);
    stage_close(&other);
    script_close(&s);
}

/* Even sessions of two tokens have scratch for a step of eight. */
static void short_contexts(void **unused)
{
    (void)unused;
    const struct sluice_session_opts opts = {.context = 2, .alone = 1};
    struct sluice_err err = {0};
    struct sluice_model_info info;
    sluice_engine *engine = NULL;
    sluice_session *x[SESSIONS], *alone;
    int32_t tokens[SESSIONS];
    check_status(sluice_engine_open(&engine, converted("tiny-v32", "quality"), NULL, &err), &err);
    sluice_engine_info(engine, &info);
    for (int32_t i = 0; i < SESSIONS; i++) {
        tokens[i] = (31 * i + 7) % info.vocab;
        check_status(sluice_session_open(&x[i], engine, &opts, &err), &err);
        check_status(sluice_session_sync(x[i], &(int32_t){i}, 1, NULL, &err), &err);
    }
    check_status(sluice_sessions_step(x, tokens, SESSIONS, &err), &err);
    for (int32_t i = 0; i < SESSIONS; i++) {
        check_status(sluice_session_open(&alone, engine, &opts, &err), &err);
        check_status(sluice_session_sync(alone, (int32_t[]){i, tokens[i]}, 2, NULL, &err), &err);
        assert_memory_equal(sluice_session_logits(x[i]), sluice_session_logits(alone),
                            (size_t)info.vocab * sizeof(float));
        sluice_session_close(&alone);
    }
    for (size_t i = 0; i < SESSIONS; i++)
        sluice_session_close(&x[i]);
    sluice_engine_close(&engine);
}

static void cancel_one(void *user, unsigned layer, size_t position, size_t n, const float *hidden)
{
    (void)position, (void)n, (void)hidden;
    if (layer == 1)
        sluice_session_cancel(user);
}

/* Before a step and during it, by any session: nothing changes, and the next step is as if nothing
 * had been. */
static void cancelled(void **unused)
{
    (void)unused;
    struct script s;
    struct stage g;
    struct sluice_err err = {0};
    const struct sluice_engine_opts opts = {.threads = 2, .mtp = 1};
    size_t all[SESSIONS];
    script_open(&s, "tiny-v32", "quality", true, (struct sluice_session_opts){0});
    stage_open(&g, &s, &opts);
    sync_all(&g);
    for (size_t i = 0; i < SESSIONS; i++)
        all[i] = i;
    for (size_t i = 0; i + 1 < STEPS; i++) {
        const struct sl_hooks hooks = {.user = g.session[SESSIONS - 1 - i], .hidden = cancel_one};
        sluice_session_cancel(g.session[i]);
        assert_int_equal(step(&g, all, SESSIONS, &err), SLUICE_ECANCELLED);
        check_logits(&g);
        sl_session_set_hooks(g.session[i], &hooks);
        assert_int_equal(step(&g, all, SESSIONS, &err), SLUICE_ECANCELLED);
        check_logits(&g);
        sl_session_set_hooks(g.session[i], &g.hooks);
        step_and_check(&g, all, SESSIONS);
    }
    step_and_check(&g, all, SESSIONS);
    check_drafts(&g);
    stage_close(&g);
    script_close(&s);
}

/* Spoils every expert of the last layer, or mends what was spoilt. */
static void flip_experts(const struct script *s)
{
    char name[64], path[128];
    sl_experts_file(name, (unsigned)s->layers - 1);
    snprintf(path, sizeof path, "copy/%s", name);
    for (size_t byte = 4096; byte < size_of(path); byte += 1024)
        flip(path, byte, 3);
}

/* An expert that cannot be read: nothing changes, and when it can be again, steps go on. */
static void unreadable(void **unused)
{
    (void)unused;
    struct script s;
    struct stage g;
    struct sluice_err err = {0};
    char command[3000];
    size_t all[SESSIONS];
    script_open(&s, "tiny-v32", "quality", false, (struct sluice_session_opts){0});
    snprintf(command, sizeof command, "cp -R '%s' '%s'", s.container, at("copy"));
    assert_int_equal(system(command), 0);
    free((void *)(uintptr_t)s.container);
    s.container = strdup(at("copy"));
    const struct sluice_session_opts longest = session_opts(&s, SESSIONS - 1);
    struct sluice_engine_opts opts = {
        .threads = 2, .reader = SLUICE_READER_PREAD, .session = &longest, .sessions = SESSIONS};
    opts.memory = least_memory(&s, opts);
    stage_open(&g, &s, &opts);
    sync_all(&g);
    for (size_t i = 0; i < SESSIONS; i++)
        all[i] = i;
    flip_experts(&s);
    assert_int_equal(step(&g, all, SESSIONS, &err), SLUICE_EDAMAGED);
    check_logits(&g);
    flip_experts(&s);
    step_and_check(&g, all, SESSIONS);
    stage_close(&g);
    script_close(&s);
    remove_tree("copy");
}

/* ---- memory --------------------------------------------------------------------------------- */

static uint64_t piece(uint64_t bytes)
{
    return sl_round_up(bytes, 64);
}

/* What a session of N tokens, CHUNK at a time, has of its own, worked out by hand. */
static uint64_t own_bytes(const struct sl_config *c, uint64_t kv, size_t n, size_t chunk, bool mtp)
{
    uint64_t table = piece(chunk * c->rope / 2 * sizeof(float));
    uint64_t blocks = sl_ceil_div(n, (size_t)1 << sl_block_shift), layers = c->layers + mtp;
    bool index = c->index_heads > 0 && n > c->index_topk;
    uint64_t tables = piece(blocks * sizeof(void *)) +
                      layers * (piece(blocks * sizeof(struct sl_kv_block)) +
                                (index ? piece(blocks * sizeof(void *)) : 0));
    return kv + tables + 2 * table + piece(c->rope / 2 * sizeof(float)) +
           piece(chunk * sizeof(size_t)) + piece(n * sizeof(int32_t)) +
           piece(c->vocab * sizeof(float)) +
           (mtp ? piece(SL_MTP_ROWS * c->hidden * sizeof(float)) : 0);
}

static void check_charge(const char *model, bool mtp)
{
    const struct sluice_session_opts session = {.context = 200, .chunk = 64};
    struct sluice_engine_opts opts = {
        .session = &session, .sessions = 3, .mtp = mtp, .memory = 1, .threads = 2};
    struct sluice_memory_plan plan;
    struct sluice_err err = {0};
    struct sluice_stats stats;
    sluice_engine *engine = NULL;
    sluice_session *x[4] = {0};
    const char *dir = converted(model, "quality");
    assert_int_equal(sluice_plan_memory(&plan, dir, &opts, &err), SLUICE_ENOMEM);
    expect_text(err.msg, "KV cache of 3 times 200 tokens");
    opts.memory = plan.need;
    check_status(sluice_engine_open(&engine, dir, &opts, &err), &err);
    check_status(sluice_session_open(&x[0], engine, &session, &err), &err);
    sluice_session_stats(x[0], &stats);
    uint64_t first = engine->session_bytes;
    uint64_t own = own_bytes(&engine->weights->config, stats.kv_bytes, 200, 64, mtp);
    check_status(sluice_session_open(&x[1], engine, &session, &err), &err);
    assert_int_equal(engine->session_bytes, first + own);
    assert_ptr_equal(x[0]->bench, x[1]->bench);
    check_status(sluice_session_open(&x[2], engine, &session, &err), &err);
    assert_int_equal(plan.kv, 3 * stats.kv_bytes);
    assert_int_equal(plan.kv + plan.scratch, engine->session_bytes);
    assert_int_equal(sluice_session_open(&x[3], engine, &session, &err), SLUICE_ENOMEM);
    expect_text(err.msg, "sluice_engine_opts.session, .sessions");
    assert_int_equal(engine->session_bytes, first + 2 * own);
    sluice_session_close(&x[0]); /* scratch stays with the others */
    assert_int_equal(engine->session_bytes, first + own);
    check_status(sluice_session_open(&x[3], engine, &session, &err), &err);
    for (size_t i = 1; i < 4; i++)
        sluice_session_close(&x[i]);
    assert_int_equal(engine->session_bytes, 0);
    sluice_engine_close(&engine);
}

static void charges(void **unused)
{
    (void)unused;
    check_charge("tiny-v32", false);
    check_charge("tiny-v32", true);
    check_charge("tiny-v3", false);
}

/* Smaller sessions use the scratch of a larger one, and a larger one brings its own. */
static void scratch_by_size(void **unused)
{
    (void)unused;
    const struct sluice_session_opts large = {.context = 200, .chunk = 64},
                                     small = {.context = 100, .chunk = 16};
    struct sluice_err err = {0};
    struct sluice_stats stats;
    sluice_engine *engine = NULL;
    sluice_session *a, *b, *c;
    check_status(sluice_engine_open(&engine, converted("tiny-v32", "quality"), NULL, &err), &err);
    check_status(sluice_session_open(&a, engine, &small, &err), &err);
    check_status(sluice_session_open(&b, engine, &large, &err), &err);
    check_status(sluice_session_open(&c, engine, &small, &err), &err);
    assert_ptr_not_equal(a->bench, b->bench);
    assert_ptr_equal(b->bench, c->bench);
    sluice_session_close(&a);
    assert_ptr_equal(engine->benches, b->bench);
    assert_null(b->bench->next);
    sluice_session_close(&b);
    sluice_session_stats(c, &stats);
    assert_int_equal(engine->session_bytes, stats.kv_bytes + c->arena.size + c->bench->arena.size);
    sluice_session_close(&c);
    assert_int_equal(engine->session_bytes, 0);
    sluice_engine_close(&engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_tiny), cmocka_unit_test(same_bits_mtp),
        cmocka_unit_test(same_bits_demo), cmocka_unit_test(statistics),
        cmocka_unit_test(short_contexts), cmocka_unit_test(refusals),
        cmocka_unit_test(cancelled),      cmocka_unit_test(unreadable),
        cmocka_unit_test(charges),        cmocka_unit_test(scratch_by_size),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
