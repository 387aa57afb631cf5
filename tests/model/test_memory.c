/* SPDX-License-Identifier: MIT */
/*
 * Engines under a limit of memory: the same bits whatever it is, refusals whose advice works, and
 * weights that are copied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "quant/quant.h"
#include "runtime/base/file.h"
#include "runtime/model/weights.h"
#include "tests/model/harness.h"
#include "tests/unit/scratch.h"

/* ---- containers ------------------------------------------------------------------------------ */

/* A copy of a container to spoil, as root/NAME. */
static const char *copy_of(const char *name, const char *model)
{
    char command[3000];
    snprintf(command, sizeof command, "cp -R '%s' '%s'", converted(model, "quality"), at(name));
    assert_int_equal(system(command), 0);
    return at(name);
}

static int32_t token_of(size_t i, size_t vocab)
{
    return (int32_t)((i * 7919 + 13) % vocab);
}

/* Logits after N tokens and three steps. */
static float *answer(sluice_engine *engine, size_t n)
{
    struct sluice_err err = {0};
    struct sluice_model_info info;
    struct sluice_session_opts opts = {.context = n + 3, .chunk = 16};
    sluice_session *s = NULL;
    sluice_engine_info(engine, &info);
    size_t vocab = (size_t)info.vocab;
    int32_t *tokens = calloc(n + 3, sizeof *tokens);
    float *logits = calloc(vocab, sizeof *logits);
    assert_true(tokens && logits);
    for (size_t i = 0; i < n + 3; i++)
        tokens[i] = token_of(i, vocab);
    check_status(sluice_session_open(&s, engine, &opts, &err), &err);
    check_status(sluice_session_sync(s, tokens, n, NULL, &err), &err);
    for (size_t i = 0; i < 3; i++)
        check_status(sluice_session_step(s, tokens[n + i], &err), &err);
    memcpy(logits, sluice_session_logits(s), vocab * sizeof *logits);
    sluice_session_close(&s);
    free(tokens);
    return logits;
}

/* ---- the same bits --------------------------------------------------------------------------- */

/* Opens with OPTS, compares with WANTED, and tells how memory was divided. */
static void compare(const char *model, const struct sluice_engine_opts *opts, const float *wanted,
                    struct sluice_memory_plan *plan)
{
    struct sluice_err err = {0};
    struct sluice_memory_plan before;
    struct sluice_model_info info;
    sluice_engine *engine = NULL;
    check_status(sluice_plan_memory(&before, converted(model, "quality"), opts, &err), &err);
    check_status(sluice_engine_open(&engine, converted(model, "quality"), opts, &err), &err);
    sluice_engine_memory(engine, plan);
    sluice_engine_info(engine, &info);
    assert_int_equal(before.need, plan->need);
    if (opts->memory) { /* else: what is available changes */
        assert_int_equal(before.limit, plan->limit);
        assert_int_equal(before.slots, plan->slots);
        assert_int_equal(before.stages, plan->stages);
    }
    assert_true(plan->resident + plan->kv + plan->scratch + plan->staging + plan->experts <=
                plan->limit);
    assert_int_equal(plan->load == SLUICE_LOAD_COPY, engine->weights->copy.base != NULL);
    float *found = answer(engine, 40);
    assert_memory_equal(found, wanted, (size_t)info.vocab * sizeof *found);
    free(found);
    sluice_engine_close(&engine);
}

static void every_budget_gives_the_same(const char *model)
{
    const struct sluice_session_opts session = {.context = 43, .chunk = 16};
    struct sluice_engine_opts opts = {.session = &session, .threads = 2, .load = SLUICE_LOAD_MAP};
    struct sluice_memory_plan plan, least;
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    check_status(sluice_engine_open(&engine, converted(model, "quality"), &opts, &err), &err);
    float *wanted = answer(engine, 40);
    sluice_engine_close(&engine);
    opts.memory = 1;
    assert_int_equal(sluice_plan_memory(&least, converted(model, "quality"), &opts, &err),
                     SLUICE_ENOMEM);
    opts.load = SLUICE_LOAD_AUTO;
    opts.memory = least.need;
    compare(model, &opts, wanted, &plan);
    assert_int_equal(plan.slots, plan.experts_used);
    assert_int_equal(plan.load, SLUICE_LOAD_COPY);
    opts.memory += 2 * plan.moe_layers * plan.block;
    compare(model, &opts, wanted, &plan);
    assert_int_equal(plan.slots, plan.experts_used + 2);
    opts.load = SLUICE_LOAD_MAP;
    compare(model, &opts, wanted, &plan);
    opts.memory = 0;
    opts.load = SLUICE_LOAD_COPY;
    compare(model, &opts, wanted, &plan);
    assert_int_equal(plan.reader, SLUICE_READER_MEMORY);
    free(wanted);
}

static void same_bits(void **unused)
{
    (void)unused;
    every_budget_gives_the_same("tiny-v32");
    every_budget_gives_the_same("tiny-v3");
}

static void mtp_counts(void **unused)
{
    (void)unused;
    const struct sluice_session_opts session = {.context = 43};
    struct sluice_engine_opts opts = {.session = &session, .memory = UINT64_C(1) << 30};
    struct sluice_memory_plan without, with;
    struct sluice_err err = {0};
    const char *dir = converted("tiny-v32", "quality");
    check_status(sluice_plan_memory(&without, dir, &opts, &err), &err);
    opts.mtp = 1;
    check_status(sluice_plan_memory(&with, dir, &opts, &err), &err);
    assert_int_equal(with.moe_layers, without.moe_layers + 1);
    assert_true(with.resident > without.resident && with.kv > without.kv &&
                with.experts > without.experts && with.need > without.need);
}

/* ---- refusals -------------------------------------------------------------------------------- */

/* The text between BEFORE and the next space, comma or end. */
static bool find_word(const char *text, const char *before, char word[32])
{
    const char *start = strstr(text, before);
    if (!start)
        return false;
    start += strlen(before);
    snprintf(word, 32, "%.*s", (int)strcspn(start, " ,"), start);
    return true;
}

static uint64_t size_of_word(const char *word)
{
    char *unit;
    double n = strtod(word, &unit);
    assert_true(strchr("KMG", *unit));
    return (uint64_t)(n * (*unit == 'K' ? 1 << 10 : *unit == 'M' ? 1 << 20 : 1 << 30) + 0.5);
}

/* A refusal of OPTS; each advice in it works, and is wanted. */
static void advice_works(const char *dir, struct sluice_engine_opts opts)
{
    struct sluice_memory_plan plan, again;
    struct sluice_session_opts session = *opts.session;
    struct sluice_err err = {0}, other;
    sluice_engine *engine = NULL;
    char word[32], number[64];
    assert_int_equal(sluice_plan_memory(&plan, dir, &opts, &err), SLUICE_ENOMEM);
    assert_true(plan.need > plan.limit);
    assert_int_equal(sluice_engine_open(&engine, dir, &opts, &other), SLUICE_ENOMEM);
    assert_null(engine);
    assert_string_equal(err.msg, other.msg);
    snprintf(number, sizeof number, "at least %.1f MiB needed", (double)plan.need / (1 << 20));
    expect_text(err.msg, number);
    snprintf(number, sizeof number, "weights %.1f MiB", (double)plan.resident / (1 << 20));
    expect_text(err.msg, number);
    snprintf(number, sizeof number, "of %zu tokens %.1f MiB", plan.context,
             (double)plan.kv / (1 << 20));
    expect_text(err.msg, number);
    assert_true(find_word(err.msg, "--memory ", word));
    opts.memory = size_of_word(word);
    assert_true(opts.memory < plan.need + (1 << 20));
    check_status(sluice_plan_memory(&again, dir, &opts, &err), &err);
    opts.memory = plan.limit;
    opts.session = &session;
    if (find_word(other.msg, "--ctx ", word)) {
        session.context = strtoul(word, NULL, 10);
        check_status(sluice_plan_memory(&again, dir, &opts, &err), &err);
        session.context += 1024;
        assert_int_equal(sluice_plan_memory(&again, dir, &opts, &err), SLUICE_ENOMEM);
        session.context = plan.context;
    }
    if (find_word(other.msg, "--chunk ", word)) {
        session.chunk = strtoul(word, NULL, 10);
        check_status(sluice_plan_memory(&again, dir, &opts, &err), &err);
        session.chunk *= 2;
        assert_true(session.chunk >= plan.chunk ||
                    sluice_plan_memory(&again, dir, &opts, &err) == SLUICE_ENOMEM);
        session.chunk = plan.chunk;
    }
    if (find_word(other.msg, "--span ", word)) {
        session.span = strtoul(word, NULL, 10);
        check_status(sluice_plan_memory(&again, dir, &opts, &err), &err);
        session.span *= 2;
        assert_int_equal(sluice_plan_memory(&again, dir, &opts, &err), SLUICE_ENOMEM);
    }
}

/* Noise in the shapes of tiny-v32, but for long contexts. */
static const char *long_model(void)
{
    char command[3000];
    struct sluice_err err = {0};
    struct sl_quantize_report report;
    struct sl_synth_opts opts = {.dense_layers = 1, .moe_layers = 2};
    if (sl_is_directory(at("long")))
        return at("long");
    snprintf(command, sizeof command,
             "sed 's/\"max_position_embeddings\": *[0-9]*/\"max_position_embeddings\": 65536/' "
             "'%s/config.json' > '%s'",
             checkpoint("tiny-v32"), at("long.json"));
    assert_int_equal(system(command), 0);
    opts.like = at("long.json");
    check_status(sl_synthesize(at("long"), &opts, &report, &err), &err);
    return at("long");
}

static void refusals_help(void **unused)
{
    (void)unused;
    char dir[400];
    snprintf(dir, sizeof dir, "%s", long_model());
    struct sluice_session_opts session = {.context = 40000, .chunk = 512};
    struct sluice_engine_opts opts = {.session = &session, .memory = 1};
    struct sluice_memory_plan p;
    struct sluice_err err = {0};
    advice_works(dir, opts);
    assert_int_equal(sluice_plan_memory(&p, dir, &opts, &err), SLUICE_ENOMEM);
    assert_null(strstr(err.msg, "--ctx"));
    opts.memory = p.need - 1;
    advice_works(dir, opts);
    sluice_plan_memory(&p, dir, &opts, &err);
    expect_text(err.msg, "--ctx");
    expect_text(err.msg, "--chunk");
    opts.memory = p.resident + p.scratch + p.kv / 2;
    advice_works(dir, opts);
    opts.reader = SLUICE_READER_MEMORY;
    advice_works(dir, opts);
    opts.memory = p.need;
    sluice_plan_memory(&p, dir, &opts, &err);
    expect_text(err.msg, "another --reader");
}

/* A span that was asked for, and does not fit. */
static void long_spans_are_refused(void **unused)
{
    (void)unused;
    char dir[400];
    snprintf(dir, sizeof dir, "%s", long_model());
    struct sluice_session_opts session = {.context = 40000, .chunk = 512, .span = 16384};
    struct sluice_engine_opts opts = {.session = &session, .memory = 1};
    struct sluice_memory_plan p;
    struct sluice_err err = {0};
    assert_int_equal(sluice_plan_memory(&p, dir, &opts, &err), SLUICE_ENOMEM);
    opts.memory = p.need - 1;
    advice_works(dir, opts);
    sluice_plan_memory(&p, dir, &opts, &err);
    expect_text(err.msg, "--span 8192");
    expect_text(err.msg, "scratch for 16384 tokens");
}

static void wrong_options(void **unused)
{
    (void)unused;
    const struct sluice_session_opts session = {.kv = 77};
    const struct sluice_engine_opts wrong[] = {
        {.reader = SLUICE_READER_URING + 1},
        {.load = SLUICE_LOAD_COPY + 1},
        {.session = &session},
    };
    struct sluice_memory_plan p;
    struct sluice_err err = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(sluice_plan_memory(&p, converted("tiny-v32", "quality"), &wrong[i], &err),
                         SLUICE_EARG);
}

static void sessions_stay_within(void **unused)
{
    (void)unused;
    struct sluice_session_opts session = {.context = 64, .chunk = 16};
    struct sluice_engine_opts opts = {.session = &session, .memory = 1};
    struct sluice_memory_plan p;
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    sluice_session *first = NULL, *second = NULL;
    const char *dir = converted("tiny-v32", "quality");
    assert_int_equal(sluice_plan_memory(&p, dir, &opts, &err), SLUICE_ENOMEM);
    opts.memory = p.need;
    check_status(sluice_engine_open(&engine, dir, &opts, &err), &err);
    check_status(sluice_session_open(&first, engine, &session, &err), &err);
    assert_int_equal(sluice_session_open(&second, engine, &session, &err), SLUICE_ENOMEM);
    assert_null(second);
    expect_text(err.msg, "sluice_engine_opts.session");
    sluice_session_close(&first); /* makes room for another */
    check_status(sluice_session_open(&second, engine, &session, &err), &err);
    sluice_session_close(&second);
    session.context = 500;
    assert_int_equal(sluice_session_open(&second, engine, &session, &err), SLUICE_ENOMEM);
    sluice_engine_close(&engine);
}

/* ---- prompts --------------------------------------------------------------------------------- */

/* Experts of the first layer that were being read before its router chose, when TOKENS are given to
 * an empty session. */
static void keep_first(void *user, const struct sluice_expert_event *event)
{
    struct sluice_expert_event *first = user;
    if (first->tokens == 0)
        *first = *event;
}

static uint32_t begun_early(const struct sluice_engine_opts *opts, size_t tokens)
{
    struct sluice_expert_event first = {0};
    const struct sluice_observer observer = {.user = &first, .experts = keep_first};
    struct sluice_err err = {0};
    struct sluice_model_info info;
    sluice_engine *engine = NULL;
    sluice_session *s = NULL;
    int32_t prompt[64];
    assert_true(tokens <= 64);
    check_status(sluice_engine_open(&engine, converted("tiny-v32", "quality"), opts, &err), &err);
    check_status(sluice_session_open(&s, engine, opts->session, &err), &err);
    sluice_engine_info(engine, &info);
    for (size_t i = 0; i < tokens; i++)
        prompt[i] = token_of(i, (size_t)info.vocab);
    sluice_session_observe(s, &observer);
    check_status(sluice_session_sync(s, prompt, tokens, NULL, &err), &err);
    assert_int_equal(first.tokens, tokens);
    assert_int_equal(first.layer, info.dense_layers);
    sluice_session_close(&s);
    sluice_engine_close(&engine);
    return first.ahead;
}

/* A prompt that will want nearly all experts does not wait for the first router. */
static void prompts_begin_to_read_at_once(void **unused)
{
    (void)unused;
    const struct sluice_session_opts session = {.context = 64, .chunk = 64};
    struct sluice_engine_opts opts = {.session = &session, .memory = 1};
    struct sluice_memory_plan p;
    struct sluice_err err = {0};
    assert_int_equal(sluice_plan_memory(&p, converted("tiny-v32", "quality"), &opts, &err),
                     SLUICE_ENOMEM);
    opts.memory = p.need;
    assert_true(64 * p.experts_used >= 2 * p.experts_per_layer);
    assert_int_equal(begun_early(&opts, 64), 1); /* of two stages one stays free */
    assert_int_equal(begun_early(&opts, 1), 0);
}

/* ---- copies ---------------------------------------------------------------------------------- */

struct hearing {
    uint64_t done, total;
    int calls, stop_at;
};

static int hear(void *user, uint64_t done, uint64_t total)
{
    struct hearing *h = user;
    assert_true(done > h->done && done <= total && (h->total == 0 || total == h->total));
    h->done = done;
    h->total = total;
    return ++h->calls == h->stop_at;
}

static void loading_is_told(void **unused)
{
    (void)unused;
    struct hearing h = {0};
    const struct sluice_session_opts session = {.context = 64};
    struct sluice_engine_opts opts = {.session = &session, .user = &h, .progress = hear};
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    const char *dir = converted("tiny-v32", "quality");
    for (opts.load = SLUICE_LOAD_MAP; opts.load <= SLUICE_LOAD_COPY; opts.load++) {
        h = (struct hearing){0};
        check_status(sluice_engine_open(&engine, dir, &opts, &err), &err);
        assert_int_equal(h.done, h.total);
        assert_int_equal(h.calls, 1 + engine->weights->n_layers);
        assert_int_equal(h.total, sl_weights_bytes(engine->weights, false));
        sluice_engine_close(&engine);
        h = (struct hearing){.stop_at = 2};
        assert_int_equal(sluice_engine_open(&engine, dir, &opts, &err), SLUICE_ECANCELLED);
        assert_null(engine);
    }
}

static void damage_is_found(void **unused)
{
    (void)unused;
    const struct sluice_session_opts session = {.context = 64};
    const struct sluice_engine_opts opts = {.session = &session, .load = SLUICE_LOAD_COPY};
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    copy_of("spoilt", "tiny-v32");
    size_t size = size_of("spoilt/resident-01.safetensors");
    flip("spoilt/resident-01.safetensors", size - 5000, 3);
    assert_int_equal(sluice_engine_open(&engine, at("spoilt"), &opts, &err), SLUICE_EDAMAGED);
    expect_text(err.msg, "resident-01.safetensors");
    flip("spoilt/resident-01.safetensors", size - 5000, 3);
    check_status(sluice_engine_open(&engine, at("spoilt"), &opts, &err), &err);
    sluice_engine_close(&engine);
    assert_int_equal(truncate(at("spoilt/head.safetensors"), 100000), 0);
    assert_int_equal(sluice_engine_open(&engine, at("spoilt"), &opts, &err), SLUICE_EDAMAGED);
    expect_text(err.msg, "head.safetensors: 100000 bytes");
    assert_int_equal(unlink(at("spoilt/head.safetensors")), 0);
    assert_int_equal(sluice_engine_open(&engine, at("spoilt"), &opts, &err), SLUICE_EFORMAT);
    assert_int_equal(mkfifo(at("spoilt/head.safetensors"), 0600), 0);
    assert_int_equal(sluice_engine_open(&engine, at("spoilt"), &opts, &err), SLUICE_EFORMAT);
    remove_tree("spoilt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits),
        cmocka_unit_test(mtp_counts),
        cmocka_unit_test(refusals_help),
        cmocka_unit_test(long_spans_are_refused),
        cmocka_unit_test(sessions_stay_within),
        cmocka_unit_test(prompts_begin_to_read_at_once),
        cmocka_unit_test(loading_is_told),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(wrong_options),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
