/* SPDX-License-Identifier: MIT */
/*
 * sl_evaluate(): both models go through the layers together.  The hidden states of all tokens are
 * kept, twice; a layer of each model, its caches and its scratch come and go (evaluate_layer.c).
 * Here: opening, the arithmetic of memory, and the predictions at the end.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/evaluation.h"
#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/base/available.h"
#include "runtime/model/onednn.h"
#include "runtime/model/rung.h"

/* ---- opening --------------------------------------------------------------------------------- */

static int check_same_model(const struct sl_evaluation *e)
{
    const struct sl_config *a = sl_config_of(e), *b = &e->reference.conversion.config;
    if (strcmp(e->weights->manifest->source_digest, e->reference.conversion.source) == 0)
        return 0;
    return sl_fail(
        e->err, SLUICE_EARG,
        "%s (%s, %u layers, hidden size %u, %u tokens, made from source %s) was not made "
        "from %s (%s, %u layers, hidden size %u, %u tokens, source %s); give the "
        "checkpoint it was made from",
        e->dir, a->architecture, a->layers, a->hidden, a->vocab,
        e->weights->manifest->source_digest, e->reference.checkpoint->dir, b->architecture,
        b->layers, b->hidden, b->vocab, e->reference.conversion.source);
}

static int check_tokens(const struct sl_evaluation *e)
{
    uint32_t vocab = sl_config_of(e)->vocab;
    if (e->n < 2)
        return sl_fail(e->err, SLUICE_EARG, "%zu tokens; at least 2 are wanted", e->n);
    for (size_t i = 0; i < e->n; i++)
        if (e->tokens[i] < 0 || (uint32_t)e->tokens[i] >= vocab)
            return sl_fail(e->err, SLUICE_EARG, "token %zu is %d; the model has ids 0 to %u", i,
                           e->tokens[i], vocab - 1);
    return 0;
}

static int choose_sizes(struct sl_evaluation *e)
{
    const struct sl_config *c = sl_config_of(e);
    size_t context = e->opts->context, chunk = e->opts->chunk ? e->opts->chunk : SL_EVALUATE_CHUNK;
    if (context > c->context)
        return sl_fail(e->err, SLUICE_EARG,
                       "sequences of %zu tokens; the model was made for %u "
                       "(max_position_embeddings)",
                       context, c->context);
    e->context = sl_min(context ? context : sl_min(SL_EVALUATE_CONTEXT, c->context), e->n);
    e->chunk = sl_min(chunk, e->context);
    return 0;
}

/* The reference takes the profile `reference`'s caches. */
static int choose_caches(struct sl_evaluation *e)
{
    const struct sl_config *c = sl_config_of(e);
    unsigned kv = e->opts->kv, index = e->opts->index;
    if (kv > SLUICE_CACHE_F32 || index > SLUICE_CACHE_F32)
        return sl_fail(e->err, SLUICE_EARG, "cache types %u and %u; SLUICE_CACHE_… wanted", kv,
                       index);
    e->stream[SL_REFERENCE].types = (struct sl_cache_types){SL_CACHE_F32, SL_CACHE_F32};
    bool exact = sl_is_exact(e->weights);
    e->stream[SL_CANDIDATE].types = (struct sl_cache_types){
        sl_cache_type(e->opts->kv, exact),
        sl_cache_type(e->opts->index, exact),
    };
    for (int i = 0; i < SL_STREAMS; i++)
        if (c->index_heads == 0 || e->context <= c->index_topk)
            e->stream[i].types.index = 0;
    return 0;
}

/* What the streams compute with. */
static int choose_compute(struct sl_evaluation *e)
{
    const struct sl_rung *rung = sl_rung_chosen(e->err);
    if (!rung)
        return SLUICE_EARG;
    for (int i = 0; i < SL_STREAMS; i++) {
        e->stream[i].compute.ops = rung->ops;
        e->stream[i].compute.team = sl_team_make(e->opts->threads);
    }
    return choose_caches(e);
}

/* Other sums for the reference, where there are some: it meets every matrix with a whole chunk. */
static int choose_multiplier(struct sl_evaluation *e)
{
    struct sl_multiplier **m = &e->stream[SL_REFERENCE].compute.multiplier;
    struct sluice_err none;
    int status = e->opts->exact ? SLUICE_EUNSUPPORTED : sl_onednn_open(m, &none);
    snprintf(e->report->multiplier, sizeof e->report->multiplier, "%s",
             *m ? (*m)->name : "kernels");
    return status == 0 || status == SLUICE_EUNSUPPORTED ? 0
                                                        : sl_fail(e->err, status, "%s", none.msg);
}

static int open_models(struct sl_evaluation *e, const char *checkpoint)
{
    int status = sl_weights_open_head(&e->weights, e->dir, e->err);
    if (status == 0)
        status = sl_reference_open(&e->reference, checkpoint, e->opts->threads, e->err);
    if (status == 0)
        status = check_same_model(e);
    if (status == 0)
        status = check_tokens(e);
    if (status == 0)
        status = choose_sizes(e);
    if (status == 0)
        status = choose_compute(e);
    return status < 0 ? status : choose_multiplier(e);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* What is kept of all tokens. */
static void take_tokens(struct sl_evaluation *e)
{
    const struct sl_config *c = sl_config_of(e);
    for (int i = 0; i < SL_STREAMS; i++) {
        e->stream[i].hidden = sl_arena_take(&e->arena, e->n, c->hidden * sizeof(float));
        e->stream[i].chosen = sl_arena_take(&e->arena, e->n, c->experts_used * sizeof(uint32_t));
    }
    e->update = sl_arena_take(&e->arena, e->n, c->hidden * sizeof(float));
    e->weight = sl_arena_take(&e->arena, e->n, c->experts_used * sizeof(float));
    e->used = sl_arena_take(&e->arena, c->experts, sizeof *e->used);
}

static uint64_t file_bytes(const struct sl_evaluation *e, const char *name)
{
    const struct sl_manifest_file *f = sl_manifest_find(e->weights->manifest, name);
    return f ? f->bytes : 0;
}

static void take_rows(struct sl_evaluation *e)
{
    struct sl_logit_rows *r = &e->rows;
    size_t hidden = sl_config_of(e)->hidden, vocab = sl_config_of(e)->vocab;
    r->normed = sl_arena_take(&r->arena, SL_EVALUATE_ROWS * hidden, sizeof(float));
    sl_codes_take(&r->codes, &r->arena, SL_EVALUATE_ROWS, hidden);
    for (int i = 0; i < SL_STREAMS; i++)
        r->logits[i] = sl_arena_take(&r->arena, SL_EVALUATE_ROWS * vocab, sizeof(float));
    r->compared = sl_arena_take(&r->arena, SL_EVALUATE_ROWS, sizeof *r->compared);
}

/* Weights of the largest layer; experts and scratch of the last, which has all there is. */
static int measure_layers(struct sl_evaluation *e, struct sl_evaluate_memory *m)
{
    uint32_t layers = sl_config_of(e)->layers;
    int status = 0;
    for (uint32_t layer = 0; status == 0 && layer < layers; layer++) {
        char name[64];
        uint64_t bytes;
        sl_resident_file(name, layer);
        status = sl_reference_measure(&e->reference, layer, &bytes, e->err);
        m->weights = sl_max(m->weights, bytes + file_bytes(e, name));
    }
    if (status == 0)
        status = sl_evaluate_open_experts(e, layers - 1);
    for (int i = 0; status == 0 && i < SL_STREAMS; i++) {
        struct sl_stream *s = &e->stream[i];
        sl_evaluate_take_layer(e, s);
        m->scratch += s->arena.used;
        if (s->experts)
            m->experts += sl_experts_wave(s->experts) *
                          sl_experts_layout(s->experts, layers - 1)->stride;
    }
    sl_evaluate_close_layer(e);
    return status;
}

static int measure(struct sl_evaluation *e)
{
    struct sl_evaluate_memory *m = &e->report->memory;
    uint64_t head;
    take_rows(e);
    take_tokens(e);
    m->hidden = e->arena.used;
    e->arena = (struct sl_arena){0};
    int status = measure_layers(e, m);
    if (status == 0)
        status = sl_reference_measure(&e->reference, sl_config_of(e)->layers, &head, e->err);
    if (status < 0)
        return status;
    m->head = head + file_bytes(e, SL_HEAD_FILE) + e->rows.arena.used;
    m->total = m->hidden + sl_max(m->weights + m->experts + m->scratch, m->head);
    e->rows.arena = (struct sl_arena){0};
    return 0;
}

static int check_memory(const struct sl_evaluation *e)
{
    const struct sl_evaluate_memory *m = &e->report->memory;
    const double gb = 1e9;
    uint64_t there = e->opts->memory ? e->opts->memory : sl_memory_available();
    if (there == 0 || m->total <= there)
        return 0;
    return sl_fail(e->err, SLUICE_ENOMEM,
                   "the evaluation needs %.2f GB, %.2f GB are available: %.2f for hidden states "
                   "(3 x %zu tokens x %u x 4 bytes) and the larger of %.2f for a layer (weights "
                   "%.2f, experts %.2f, caches and scratch %.2f) and %.2f for the output heads; "
                   "fewer tokens (-n), a smaller --chunk or a shorter context (-c) take less",
                   (double)m->total / gb, (double)there / gb, (double)m->hidden / gb, e->n,
                   sl_config_of(e)->hidden, (double)(m->weights + m->experts + m->scratch) / gb,
                   (double)m->weights / gb, (double)m->experts / gb, (double)m->scratch / gb,
                   (double)m->head / gb);
}

/* ---- predictions ----------------------------------------------------------------------------- */

struct norm_phase {
    const struct sl_evaluation *e;
    const struct sl_stream *s;
    size_t first;
};

static void norm_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct norm_phase *p = arg;
    const struct sl_config *c = sl_config_of(p->e);
    const struct sl_ops *ops = p->s->compute.ops;
    (void)thread;
    for (size_t t = begin; t < end; t++) {
        float *normed = p->e->rows.normed + t * c->hidden;
        ops->rmsnorm(p->s->hidden + (p->first + t) * c->hidden,
                     p->s->weights->vector[SL_FINAL_NORM], c->rms_eps, c->hidden, normed);
        sl_codes_put(&p->e->rows.codes, ops, t, 0, normed, c->hidden);
    }
}

/* LOGITS[n][vocab] of tokens [first, first + n). */
static void multiply_head(const struct sl_evaluation *e, const struct sl_stream *s, size_t first,
                          size_t n, float *logits)
{
    const struct sl_matrix *head = &s->weights->matrix[SL_HEAD];
    struct norm_phase norm = {e, s, first};
    struct sl_product product = {
        .w = head,
        .x = sl_acts_for(head, &e->rows.codes, e->rows.normed, sl_config_of(e)->hidden),
        .n = n,
        .y = logits,
        .ldy = sl_config_of(e)->vocab,
    };
    sl_team_run(&s->compute.team, n, 1, norm_work, &norm);
    sl_multiply(&s->compute, &product, 1);
}

/* The token after T in its sequence; −1: there is none. */
static int32_t successor(const struct sl_evaluation *e, size_t t)
{
    return t + 1 < e->n && (t + 1) % e->context != 0 ? e->tokens[t + 1] : -1;
}

struct compare_phase {
    const struct sl_evaluation *e;
    size_t first;
};

static void compare_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct compare_phase *p = arg;
    const struct sl_logit_rows *r = &p->e->rows;
    size_t vocab = sl_config_of(p->e)->vocab;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        sl_compare_logits(&r->compared[t], r->logits[SL_REFERENCE] + t * vocab,
                          r->logits[SL_CANDIDATE] + t * vocab, vocab,
                          successor(p->e, p->first + t));
}

static int count_token(struct sl_evaluation *e, size_t t, const struct sl_comparison *c)
{
    struct sl_evaluate_report *r = e->report;
    if (!c->finite[SL_REFERENCE] || !c->finite[SL_CANDIDATE] || !isfinite(c->kl))
        return sl_fail(e->err, SLUICE_EFORMAT,
                       "%s: the logits of token %zu are not finite: run sluice verify",
                       c->finite[SL_REFERENCE] ? e->dir : e->reference.checkpoint->dir, t);
    r->kl_of[t] = c->kl;
    sl_sample_add(&r->kl, c->kl);
    r->top1 += c->same_top;
    if (successor(e, t) < 0)
        return 0;
    double delta = exp(c->log_p[SL_CANDIDATE]) - exp(c->log_p[SL_REFERENCE]);
    sl_sample_add(&r->surprise_reference, -c->log_p[SL_REFERENCE]);
    sl_sample_add(&r->surprise_candidate, -c->log_p[SL_CANDIDATE]);
    sl_sample_add(&r->surprise_difference, c->log_p[SL_REFERENCE] - c->log_p[SL_CANDIDATE]);
    e->delta_squares += delta * delta;
    return 0;
}

/* Logits of tokens [first, first + n) and all that is counted of them. */
static int predict(struct sl_evaluation *e, size_t first, size_t n)
{
    struct sl_logit_rows *r = &e->rows;
    size_t vocab = sl_config_of(e)->vocab;
    struct compare_phase compare = {e, first};
    int status = 0;
    for (int i = 0; i < SL_STREAMS; i++)
        multiply_head(e, &e->stream[i], first, n, r->logits[i]);
    sl_team_run(&e->stream[SL_CANDIDATE].compute.team, n, 1, compare_work, &compare);
    for (size_t t = 0; status == 0 && t < n; t++) {
        if (e->opts->logits)
            e->opts->logits(e->opts->user, first + t, r->logits[SL_REFERENCE] + t * vocab,
                            r->logits[SL_CANDIDATE] + t * vocab);
        status = count_token(e, first + t, &r->compared[t]);
    }
    return status < 0
               ? status
               : sl_evaluate_progress(e, sl_config_of(e)->layers, e->done + n * SL_HEAD_UNITS);
}

static int run_head(struct sl_evaluation *e)
{
    struct sl_evaluate_report *report = e->report;
    int status = sl_reference_load(&e->reference, sl_config_of(e)->layers, e->err);
    e->stream[SL_REFERENCE].weights = &e->reference.weights;
    e->stream[SL_CANDIDATE].weights = &e->weights->head;
    if (status < 0)
        return status;
    take_rows(e);
    if ((status = sl_arena_allocate(&e->rows.arena, "rows of logits", e->err)) < 0)
        return status;
    take_rows(e);
    for (size_t t = 0; status == 0 && t < e->n; t += SL_EVALUATE_ROWS)
        status = predict(e, t, sl_min(SL_EVALUATE_ROWS, e->n - t));
    report->top1 /= (double)e->n;
    report->rms_dp = sqrt(e->delta_squares / (double)sl_max(report->surprise_candidate.n, 1));
    return status < 0 ? status : sl_rank_divergences(report, e->err);
}

/* ---- the evaluation -------------------------------------------------------------------------- */

static int allocate(struct sl_evaluation *e)
{
    struct sl_evaluate_report *r = e->report;
    r->tokens = e->n;
    r->context = e->context;
    r->layers = sl_config_of(e)->layers;
    r->kl_of = calloc(e->n, sizeof *r->kl_of);
    r->layer = calloc(r->layers, sizeof *r->layer);
    if (!r->kl_of || !r->layer)
        return sl_fail_nomem(e->err, "report", e->n * sizeof *r->kl_of);
    take_tokens(e);
    int status = sl_arena_allocate(&e->arena, "hidden states", e->err);
    if (status == 0)
        take_tokens(e);
    return status;
}

/* The hidden states before the first layer. */
static int embed(struct sl_evaluation *e)
{
    size_t hidden = sl_config_of(e)->hidden;
    struct sl_stream *s = &e->stream[SL_CANDIDATE];
    for (size_t t = 0; t < e->n; t++)
        sl_embed(e->weights, s->compute.ops, e->tokens[t], s->hidden + t * hidden);
    return sl_reference_embed(&e->reference, e->tokens, e->n, e->stream[SL_REFERENCE].hidden,
                              e->err);
}

static int run(struct sl_evaluation *e)
{
    int status = measure(e);
    if (status == 0)
        status = check_memory(e);
    if (status == 0)
        status = allocate(e);
    if (status < 0)
        return status;
    if (e->opts->begin)
        e->opts->begin(e->opts->user, &e->report->memory);
    status = embed(e);
    for (uint32_t layer = 0; status == 0 && layer < sl_config_of(e)->layers; layer++)
        status = sl_evaluate_layer(e, layer);
    return status < 0 ? status : run_head(e);
}

int sl_evaluate(const char *container, const char *checkpoint, const int32_t *tokens, size_t n,
                const struct sl_evaluate_opts *opts, struct sl_evaluate_report *report,
                struct sluice_err *err)
{
    static const struct sl_evaluate_opts defaults = {0};
    double start = sl_now();
    struct sl_evaluation e = {
        .dir = container,
        .opts = opts ? opts : &defaults,
        .tokens = tokens,
        .n = n,
        .report = report,
        .err = err,
    };
    *report = (struct sl_evaluate_report){0};
    int status = open_models(&e, checkpoint);
    if (status == 0)
        status = run(&e);
    report->seconds = sl_now() - start;
    sl_evaluate_close_layer(&e);
    sl_onednn_close(&e.stream[SL_REFERENCE].compute.multiplier);
    sl_arena_free(&e.rows.arena);
    sl_arena_free(&e.arena);
    sl_reference_close(&e.reference);
    sl_weights_close(&e.weights);
    return status;
}

void sl_evaluate_release(struct sl_evaluate_report *report)
{
    free(report->kl_of);
    free(report->layer);
    *report = (struct sl_evaluate_report){0};
}
