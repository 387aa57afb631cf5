/* SPDX-License-Identifier: MIT */
/*
 * One layer of an evaluation.  Attention goes through the chunks of the sequences, both streams in
 * turn, so that their selections can be compared where they are made.  Routed experts come a few at
 * a time and meet the tokens of all chunks before the next come: however many tokens there are,
 * each is read, or made from the checkpoint, once.  Sums are those of sl_layer_run(), to the bit.
 */
#include <math.h>
#include <string.h>

#include "quant/evaluation.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"

enum { REFERENCE_WAVE = 4, CANDIDATE_WAVE = 16 }; /* experts at a time */

/* ---- a layer of both ------------------------------------------------------------------------- */

int sl_evaluate_open_experts(struct sl_evaluation *e, uint32_t layer)
{
    struct sl_experts **made = &e->stream[SL_REFERENCE].experts;
    struct sl_experts **read = &e->stream[SL_CANDIDATE].experts;
    struct sl_expert_source source;
    /* Each expert is wanted once: slots for a wave, and none that keep anything. */
    const struct sl_experts_opts opts = {.wave = CANDIDATE_WAVE, .slots = CANDIDATE_WAVE};
    if (!sl_layer_is_moe(sl_config_of(e), layer))
        return 0;
    int status = sl_reference_experts(&e->reference, layer, &source, e->err);
    if (status == 0)
        status = sl_experts_open_source(made, &source, REFERENCE_WAVE, e->err);
    if (status == 0)
        status = sl_experts_open(read, e->dir, e->weights->manifest, layer, 1, &opts, e->err);
    return status < 0 ? status : sl_experts_check(*read, sl_config_of(e), e->dir, layer, e->err);
}

/* Everything of a stream that a layer needs beside its weights; in both passes of the arena. */
void sl_evaluate_take_layer(const struct sl_evaluation *e, struct sl_stream *s)
{
    const struct sl_workspace_opts opts = {
        .config = sl_config_of(e),
        .compute = s->compute,
        .experts = s->experts,
        .wave = s->experts ? sl_experts_wave(s->experts) : 0,
        .types = s->types,
        .chunk = e->chunk,
        .span = e->chunk,
        .capacity = e->context,
    };
    s->ws = (struct sl_workspace){0};
    sl_workspace_take(&s->ws, &s->arena, &s->arena, &opts);
    sl_cache_take(&s->cache, &s->arena, opts.config, s->types, e->context);
}

static int open_layer(struct sl_evaluation *e, uint32_t layer)
{
    int status = sl_layer_open(&e->layer, e->weights, e->dir, layer, e->err);
    if (status == 0)
        status = sl_reference_load(&e->reference, layer, e->err);
    if (status == 0)
        status = sl_evaluate_open_experts(e, layer);
    e->stream[SL_REFERENCE].weights = &e->reference.weights;
    e->stream[SL_CANDIDATE].weights = &e->layer;
    for (int i = 0; status == 0 && i < SL_STREAMS; i++) {
        struct sl_stream *s = &e->stream[i];
        sl_evaluate_take_layer(e, s);
        status = sl_arena_allocate(&s->arena, "caches and scratch of a layer", e->err);
        if (status < 0)
            break;
        sl_evaluate_take_layer(e, s);
        sl_workspace_init(&s->ws);
    }
    return status;
}

void sl_evaluate_close_layer(struct sl_evaluation *e)
{
    for (int i = 0; i < SL_STREAMS; i++) {
        sl_experts_close(&e->stream[i].experts);
        sl_arena_free(&e->stream[i].arena);
    }
    sl_reference_unload(&e->reference);
    sl_layer_close(&e->layer);
}

/* ---- progress -------------------------------------------------------------------------------- */

int sl_evaluate_progress(struct sl_evaluation *e, uint32_t layer, uint64_t done)
{
    uint64_t total = ((uint64_t)sl_config_of(e)->layers * SL_LAYER_UNITS + SL_HEAD_UNITS) * e->n;
    e->done = done;
    if (!e->opts->progress || e->opts->progress(e->opts->user, layer, done, total) == 0)
        return 0;
    return sl_fail(e->err, SLUICE_ECANCELLED, "cancelled");
}

/* ---- comparing ------------------------------------------------------------------------------- */

/* What a layer adds up to. */
struct layer_sums {
    double error, square; /* Σ (h_c − h_r)², Σ h_r² */
    struct sl_sample router, selection;
};

static void compare_hidden(const struct sl_evaluation *e, struct layer_sums *sums)
{
    const float *r = e->stream[SL_REFERENCE].hidden, *c = e->stream[SL_CANDIDATE].hidden;
    for (size_t i = 0; i < e->n * sl_config_of(e)->hidden; i++) {
        double d = (double)c[i] - (double)r[i];
        sums->error += d * d;
        sums->square += (double)r[i] * (double)r[i];
    }
}

static void compare_routes(const struct sl_evaluation *e, struct layer_sums *sums)
{
    size_t used = sl_config_of(e)->experts_used;
    const uint32_t *r = e->stream[SL_REFERENCE].chosen, *c = e->stream[SL_CANDIDATE].chosen;
    for (size_t t = 0; t < e->n; t++) {
        size_t both = sl_common(r + t * used, c + t * used, used);
        sl_sample_add(&sums->router, (double)both / (double)(2 * used - both));
    }
}

/* The selections that the workspaces hold of the chunk that both have just attended to. */
static void compare_selections(const struct sl_evaluation *e, size_t position, size_t n,
                               struct layer_sums *sums)
{
    const struct sl_attention *r = &e->stream[SL_REFERENCE].ws.attention;
    const struct sl_attention *c = &e->stream[SL_CANDIDATE].ws.attention;
    size_t topk = sl_config_of(e)->index_topk;
    for (size_t t = 0; t < n && r->types.index; t++) {
        if (position + t + 1 <= topk)
            continue;
        size_t both = sl_common(r->selected + t * topk, c->selected + t * topk, topk);
        sl_sample_add(&sums->selection, (double)both / (double)topk);
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

static int attend(struct sl_evaluation *e, uint32_t layer, struct layer_sums *sums)
{
    size_t hidden = sl_config_of(e)->hidden;
    int status = 0;
    for (size_t t = 0, n; status == 0 && t < e->n; t += n) {
        size_t position = t % e->context;
        n = sl_min(sl_min(e->chunk, e->context - position), e->n - t);
        for (int i = 0; i < SL_STREAMS; i++) {
            struct sl_stream *s = &e->stream[i];
            sl_layer_attend(&s->ws, s->weights, &s->cache, layer, position, n,
                            s->hidden + t * hidden);
        }
        compare_selections(e, position, n, sums);
        status = sl_evaluate_progress(e, layer, e->done + n * SL_ATTEND_UNITS);
    }
    return status;
}

/* ---- feed-forward ---------------------------------------------------------------------------- */

/* Some tokens of a stream, their hidden states normed. */
struct piece {
    size_t first, n;
    const float *x;
    float *hidden, *update;
};

/* The piece from token T on. */
static struct piece piece_at(const struct sl_evaluation *e, struct sl_stream *s, size_t t)
{
    size_t hidden = sl_config_of(e)->hidden;
    struct piece p = {
        .first = t,
        .n = sl_min(e->chunk, e->n - t),
        .x = s->ws.normed,
        .hidden = s->hidden + t * hidden,
        .update = e->update + t * hidden,
    };
    sl_norm_rows(&s->ws, p.hidden, s->weights->vector[SL_FFN_NORM], p.n, s->ws.normed);
    return p;
}

static void run_dense(const struct sl_evaluation *e, struct sl_stream *s)
{
    size_t hidden = sl_config_of(e)->hidden;
    for (size_t t = 0; t < e->n; t += e->chunk) {
        struct piece p = piece_at(e, s, t);
        sl_dense_run(&s->ws.moe, s->weights, p.x, p.n, s->ws.update);
        s->compute.ops->add(s->ws.update, p.n * hidden, p.hidden);
    }
}

/* Chooses for all tokens; returns the number of experts in e->used. */
static size_t route(struct sl_evaluation *e, struct sl_stream *s)
{
    const struct sl_config *c = sl_config_of(e);
    size_t used = c->experts_used, n_used = 0;
    for (size_t t = 0; t < e->n; t += e->chunk) {
        struct piece p = piece_at(e, s, t);
        sl_router_run(&s->ws.moe, s->weights, p.x, 0, p.n);
        memcpy(s->chosen + t * used, s->ws.moe.chosen, p.n * used * sizeof *s->chosen);
        memcpy(e->weight + t * used, s->ws.moe.weight, p.n * used * sizeof *e->weight);
    }
    memset(e->used, 0, c->experts * sizeof *e->used);
    for (size_t i = 0; i < e->n * used; i++)
        e->used[s->chosen[i]] = 1;
    for (uint32_t id = 0; id < c->experts; id++)
        if (e->used[id])
            e->used[n_used++] = id; /* n_used ≤ id: what is overwritten was looked at */
    return n_used;
}

/* Adds the experts ids[0..n), which are at hand, to all tokens. */
static void add_experts(struct sl_evaluation *e, struct sl_stream *s, const uint32_t *ids, size_t n)
{
    size_t used = sl_config_of(e)->experts_used;
    for (size_t t = 0; t < e->n; t += e->chunk) {
        struct piece p = piece_at(e, s, t);
        memcpy(s->ws.moe.chosen, s->chosen + t * used, p.n * used * sizeof *s->chosen);
        memcpy(s->ws.moe.weight, e->weight + t * used, p.n * used * sizeof *e->weight);
        sl_experts_add(&s->ws.moe, ids, n, p.x, p.n, p.update);
    }
}

/* The shared expert, and all of it into the hidden states. */
static void finish_experts(struct sl_evaluation *e, struct sl_stream *s)
{
    size_t hidden = sl_config_of(e)->hidden;
    for (size_t t = 0; t < e->n; t += e->chunk) {
        struct piece p = piece_at(e, s, t);
        sl_shared_add(&s->ws.moe, s->weights, p.x, p.n, p.update);
        s->compute.ops->add(p.update, p.n * hidden, p.hidden);
    }
}

static int run_experts(struct sl_evaluation *e, struct sl_stream *s, uint32_t layer)
{
    const uint64_t before = e->done, units = e->n * SL_FFN_UNITS / SL_STREAMS;
    size_t wave = sl_experts_wave(s->experts), n_used = route(e, s);
    int status = 0;
    memset(e->update, 0, e->n * sl_config_of(e)->hidden * sizeof *e->update);
    for (size_t i = 0, n; status == 0 && i < n_used; i += n) {
        n = sl_min(wave, n_used - i);
        if ((status = sl_experts_bring(&s->ws.moe, layer, e->used + i, n, e->err)) < 0)
            break;
        add_experts(e, s, e->used + i, n);
        if (i + n < n_used)
            status = sl_evaluate_progress(e, layer, before + units * (i + n) / n_used);
    }
    if (status == 0)
        finish_experts(e, s);
    return status;
}

/* ---- the layer ------------------------------------------------------------------------------- */

static int feed_forward(struct sl_evaluation *e, uint32_t layer, struct layer_sums *sums)
{
    const uint64_t before = e->done;
    int status = 0;
    for (int i = 0; status == 0 && i < SL_STREAMS; i++) {
        if (sl_layer_is_moe(sl_config_of(e), layer))
            status = run_experts(e, &e->stream[i], layer);
        else
            run_dense(e, &e->stream[i]);
        if (status == 0)
            status = sl_evaluate_progress(
                e, layer, before + e->n * SL_FFN_UNITS * (size_t)(i + 1) / SL_STREAMS);
    }
    if (status == 0 && sl_layer_is_moe(sl_config_of(e), layer))
        compare_routes(e, sums);
    return status;
}

int sl_evaluate_layer(struct sl_evaluation *e, uint32_t layer)
{
    struct layer_sums sums = {0};
    int status = open_layer(e, layer);
    if (status == 0)
        status = attend(e, layer, &sums);
    if (status == 0)
        status = feed_forward(e, layer, &sums);
    sl_evaluate_close_layer(e);
    compare_hidden(e, &sums);
    e->report->layer[layer] = (struct sl_evaluate_layer){
        .output_error = sums.square > 0 ? sqrt(sums.error / sums.square) : 0,
        .router_overlap = sums.router.n ? sums.router.mean : 1,
        .selection_overlap = sums.selection.n ? sums.selection.mean : 1,
        .routes = sums.router.n,
        .selections = sums.selection.n,
    };
    return status;
}
