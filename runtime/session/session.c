/* SPDX-License-Identifier: MIT */
/* One token timeline: sync to a prefix, step, sample.  Allocates at opening and never again. */
#include "runtime/session/session.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/model/onednn.h"
#include "runtime/sizing.h"

enum { DEFAULT_CHUNK = 512 };

/* ---- opening -------------------------------------------------------------------------------- */

/* What a session is made of. */
struct opening {
    struct sl_workspace_opts workspace;
    struct sl_arena scratch; /* in its passes, as the session's own arena */
};

/* Everything the session takes; runs in both passes of the arenas. */
static void take_memory(sluice_session *s, struct opening *o)
{
    const struct sl_config *c = o->workspace.config;
    struct sl_arena *own = &s->arena, *scratch = &o->scratch;
    size_t n = s->chunk, hidden = c->hidden, before = s->has_mtp ? 1 : 0;
    sl_workspace_take(&s->ws, own, scratch, &o->workspace);
    s->tokens = sl_arena_take(own, s->capacity, sizeof *s->tokens);
    float *stream = sl_arena_take(scratch, (before + s->span) * hidden, sizeof(float));
    s->hidden = stream ? stream + before * hidden : NULL;
    s->final = sl_arena_take(scratch, n * hidden, sizeof(float));
    s->logits = sl_arena_take(own, c->vocab, sizeof(float));
    s->rows = sl_arena_take(scratch, (size_t)SL_LOGIT_ROWS * c->vocab, sizeof(float));
    sl_codes_take(&s->head_codes, scratch, n, hidden);
    s->candidates = sl_arena_take(scratch, c->vocab, sizeof *s->candidates);
    if (s->multiplier)
        sl_onednn_take(s->multiplier, scratch);
    if (s->has_mtp) {
        s->mtp_rows = sl_arena_take(own, SL_MTP_ROWS * hidden, sizeof(float));
        s->mtp_input = sl_arena_take(scratch, n * 2 * hidden, sizeof(float));
        sl_codes_take(&s->mtp_codes, scratch, n, 2 * hidden);
    }
    sl_blocks_take(s, own, o->workspace.types);
}

static int check_opts(const struct sluice_session_opts *opts, const struct sl_config *c,
                      struct sluice_err *err)
{
    if ((unsigned)opts->kv > SLUICE_CACHE_F32 || (unsigned)opts->index > SLUICE_CACHE_F32)
        return sl_fail(err, SLUICE_EARG, "cache types %d and %d; SLUICE_CACHE_… wanted",
                       (int)opts->kv, (int)opts->index);
    if ((unsigned)opts->multiplier > SLUICE_MULTIPLY_ONEDNN)
        return sl_fail(err, SLUICE_EARG, "multiplier %d; SLUICE_MULTIPLY_… wanted",
                       (int)opts->multiplier);
    if ((unsigned)opts->drafting > SLUICE_DRAFTING_OFF)
        return sl_fail(err, SLUICE_EARG, "drafting %d; SLUICE_DRAFTING_… wanted",
                       (int)opts->drafting);
    size_t most = UINT32_MAX / c->experts_used;
    if (opts->chunk > most || opts->span > most)
        return sl_fail(err, SLUICE_EARG, "chunk of %zu tokens, span of %zu; at most %zu",
                       opts->chunk, opts->span, most);
    if (!(opts->prefill_seconds >= 0))
        return sl_fail(err, SLUICE_EARG, "%g seconds for a span; 0 or more wanted",
                       opts->prefill_seconds);
    if (opts->context > c->context)
        return sl_fail(err, SLUICE_EARG,
                       "context of %zu tokens; the model was made for %u (max_position_embeddings)",
                       opts->context, c->context);
    return 0;
}

/* What decides the size of a session of ENGINE. */
static struct sl_sizing sizing_of(const sluice_engine *engine,
                                  const struct sluice_session_opts *opts)
{
    const struct sl_weights *w = engine->weights;
    return (struct sl_sizing){
        .config = &w->config,
        .session = opts,
        .threads = engine->compute.team.threads,
        .mtp = w->n_layers > w->config.layers,
        .exact = sl_is_exact(w),
        .span = engine->memory.stages > 0 ? engine->memory.span : 0, /* 0: mapped */
    };
}

/* Whether experts, which meet whole spans, want their inputs as floats. */
static bool wants_floats(const sluice_engine *engine)
{
    const struct sl_weights *w = engine->weights;
    bool integers = true;
    for (uint32_t i = w->config.dense_layers; i < w->n_layers; i++)
        integers = integers && sl_is_integer(sl_experts_layout(engine->experts, i)->gate_up.code) &&
                   sl_is_integer(w->layers[i].matrix[SL_SHARED_GATE_UP].packing.code);
    return !integers;
}

/* The counting pass. */
static int count_memory(sluice_session *s, const struct sl_sizing *z, struct opening *o,
                        struct sluice_err *err)
{
    const struct sl_config *c = z->config;
    const struct sluice_session_opts *opts = z->session;
    struct sl_workspace_opts *w = &o->workspace;
    int status = check_opts(opts, c, err);
    if (status < 0)
        return status;
    s->n_layers = c->layers + (z->mtp ? 1 : 0);
    s->has_mtp = z->mtp;
    s->capacity = opts->context ? opts->context : c->context;
    size_t most = sl_max(s->capacity, SLUICE_BATCH_MAX); /* rows at a time */
    s->chunk = sl_min(opts->chunk ? opts->chunk : DEFAULT_CHUNK, most);
    size_t span = opts->span ? opts->span : z->span;
    s->span = s->span_now = sl_min(sl_max(span, s->chunk), most);
    s->span_seconds = opts->prefill_seconds;
    s->drafts.mode = opts->drafting;
    s->drafts.trial.window = SL_DRAFT_WINDOW;
    bool select = c->index_heads > 0 && !opts->dense && s->capacity > c->index_topk;
    w->config = c;
    w->wave = sl_moe_wave(c, s->n_layers);
    w->types.kv = sl_cache_type(opts->kv, z->exact);
    w->types.index = select ? sl_cache_type(opts->index, z->exact) : 0;
    w->chunk = s->chunk;
    w->span = s->span;
    w->floats |= z->exact;
    w->capacity = s->capacity;
    if (!(s->caches = calloc(s->n_layers, sizeof *s->caches)))
        return sl_fail_nomem(err, "cache table", s->n_layers * sizeof *s->caches);
    if (opts->multiplier == SLUICE_MULTIPLY_ONEDNN)
        status = sl_onednn_open_packed(&s->multiplier, c, s->chunk, &w->compute, err);
    w->compute.multiplier = s->multiplier;
    if (status == 0)
        take_memory(s, o);
    return status;
}

/* Adds up what Z->sessions of them take, whose sizes are counted; false: more than 2^64 bytes. */
static bool add_up(struct sl_session_size *size, const sluice_session *s,
                   const struct sl_arena *scratch, const struct sl_sizing *z)
{
    size_t kv = s->stats.kv_bytes, n = sl_max(z->sessions, 1), caches, others, sum;
    if (s->arena.overflow || scratch->overflow || !sl_mul(kv, n, &caches) ||
        !sl_mul(s->arena.used, n, &others) || !sl_add(others, scratch->used, &sum))
        return false;
    *size = (struct sl_session_size){
        .kv_bytes = caches,
        .scratch_bytes = sum,
        .sessions = (uint32_t)n,
        .context = s->capacity,
        .chunk = s->chunk,
        .span = s->span,
        .kv_row_bytes = s->caches[0].kv.latent_stride + s->caches[0].kv.tail_stride,
    };
    return true;
}

int sl_session_measure(struct sl_session_size *size, const struct sl_sizing *sizing,
                       struct sluice_err *err)
{
    struct opening o = {.workspace.compute.team = sl_team_make(sizing->threads)};
    sluice_session s = {0};
    int status = count_memory(&s, sizing, &o, err);
    *size = (struct sl_session_size){0};
    if (status == 0 && !add_up(size, &s, &o.scratch, sizing))
        status = sl_fail(err, SLUICE_ENOMEM,
                         "sessions of %zu tokens would need more than 2^64 bytes", s.capacity);
    enum sl_cache index = o.workspace.types.index;
    if (status == 0 && index)
        size->key_panel_bytes = sl_key_panel_bytes(index, sizing->config->index_dim);
    sl_onednn_close(&s.multiplier);
    free(s.caches);
    return status;
}

/* What the session takes of its own, and scratch where the engine has none that would do. */
static int ask_grant(const sluice_session *s, const struct sl_arena *scratch,
                     struct sluice_err *err)
{
    size_t size, bench = sl_workbench_find(s->engine, scratch) ? 0 : scratch->used;
    if (s->arena.overflow || scratch->overflow)
        return 0; /* allocating says what is wrong */
    if (!sl_add(s->arena.used, s->stats.kv_bytes, &size) || !sl_add(size, bench, &size))
        size = SIZE_MAX;
    return sl_engine_grant(s->engine, size, s->stats.kv_bytes, err);
}

static int allocate(sluice_session *s, struct opening *o, struct sluice_err *err)
{
    int status = sl_arena_allocate(&s->arena, "session (tokens and tables)", err);
    if (status < 0)
        return status;
    s->engine->session_bytes += s->arena.size + s->stats.kv_bytes;
    if ((status = sl_workbench_enter(&s->bench, s->engine, &o->scratch, err)) < 0)
        return status;
    o->scratch = s->bench->arena;
    o->scratch.used = 0;
    take_memory(s, o);
    return sl_blocks_open(s, err);
}

int sluice_session_open(sluice_session **session, sluice_engine *engine,
                        const struct sluice_session_opts *opts, struct sluice_err *err)
{
    static const struct sluice_session_opts defaults = {0};
    struct opening o = {.workspace = {.compute = engine->compute, .experts = engine->experts}};
    struct sl_sizing sizing = sizing_of(engine, opts ? opts : &defaults);
    sluice_session *s = *session = calloc(1, sizeof *s);
    if (!s)
        return sl_fail_nomem(err, "session", sizeof *s);
    s->engine = engine;
    o.workspace.floats = wants_floats(engine);
    int status = count_memory(s, &sizing, &o, err);
    if (status == 0)
        status = ask_grant(s, &o.scratch, err);
    if (status == 0)
        status = allocate(s, &o, err);
    if (status < 0) {
        sluice_session_close(session);
        return status;
    }
    sl_workspace_init(&s->ws);
    s->ws.compute.meter = &s->meter;
    s->ws.cancelled = &s->cancelled;
    s->ws.owner = &s->owner;
    s->alone = opts && opts->alone;
    sl_prefix_join(s);
    return 0;
}

void sluice_session_close(sluice_session **session)
{
    sluice_session *s = *session;
    if (!s)
        return;
    sl_prefix_leave(s);
    sl_onednn_close(&s->multiplier);
    sl_workbench_leave(&s->bench, s->engine);
    sl_blocks_close(s);
    if (s->arena.base)
        s->engine->session_bytes -= s->arena.size + s->stats.kv_bytes;
    sl_arena_free(&s->arena);
    free(s->caches);
    free(s);
    *session = NULL;
}

void sl_session_set_hooks(sluice_session *s, const struct sl_hooks *hooks)
{
    s->owner.hooks = hooks;
    s->alone = s->alone || hooks->route || hooks->select; /* which may change what is computed */
}

/* The observer as a hook. */
static void observe_route(void *user, unsigned layer, size_t position, uint32_t *experts,
                          const float *weights, size_t n)
{
    const sluice_session *s = user;
    const uint32_t *instead = s->observer.route(s->observer.user, (int32_t)layer, position, experts,
                                                weights, n);
    bool good = instead != NULL;
    for (size_t i = 0; good && i < n; i++)
        good = instead[i] < s->ws.config->experts && (i == 0 || instead[i - 1] < instead[i]);
    if (good)
        memcpy(experts, instead, n * sizeof *experts);
}

static void observe_experts(void *user, const struct sluice_expert_event *event)
{
    const sluice_session *s = user;
    s->observer.experts(s->observer.user, event);
}

void sluice_session_observe(sluice_session *s, const struct sluice_observer *observer)
{
    s->observer = observer ? *observer : (struct sluice_observer){0};
    s->observing = (struct sl_hooks){
        .user = s,
        .route = s->observer.route ? observe_route : NULL,
        .experts = s->observer.experts ? observe_experts : NULL,
    };
    sl_session_set_hooks(s, &s->observing);
}

/* ---- computing ------------------------------------------------------------------------------ */

static int cancelled(struct sluice_err *err)
{
    return sl_fail(err, SLUICE_ECANCELLED, "cancelled");
}

/* New tokens at positions [first, end), computed in spans, and who wants to hear of them. */
struct extension {
    size_t first, end;
    const struct sluice_sync_callbacks *callbacks; /* or NULL */
    size_t told;                                   /* done, for all that progress has heard */
};

/* DONE of the new tokens are computed. */
static int tell_progress(struct extension *x, size_t done, struct sluice_err *err)
{
    const struct sluice_sync_callbacks *c = x->callbacks;
    x->told = sl_max(x->told, done); /* after tokens were dropped, less is done than was told */
    if (c && c->progress && c->progress(c->user, x->told, x->end - x->first))
        return cancelled(err);
    return 0;
}

/* Runs the main layers over tokens[position, position + n).  Returns how many of the tokens went
 * through all of them, or a negative status. */
static int64_t run_layers(sluice_session *s, struct extension *x, size_t position, size_t n,
                          struct sluice_err *err)
{
    const struct sl_weights *w = s->engine->weights;
    size_t hidden = w->config.hidden, layers = w->config.layers;
    struct sl_lap start = sl_span_lap(s), first = start;
    for (size_t t = 0; t < n; t++)
        sl_embed(w, s->ws.compute.ops, s->tokens[position + t], s->hidden + t * hidden);
    for (uint32_t layer = 0; layer < layers; layer++) {
        int status = layer ? tell_progress(x, position - x->first + n * layer / layers, err) : 0;
        s->ws.next = layer + 1 < layers ? &w->layers[layer + 1] : NULL;
        if (layer == w->config.dense_layers)
            first = sl_span_lap(s);
        if (status == 0)
            status = sl_layer_run(&s->ws, &w->layers[layer], &s->caches[layer], layer, position, n,
                                  s->hidden, err);
        if (status < 0)
            return status;
        if (layer == w->config.dense_layers)
            n = sl_span_shorten(s, &start, &first, n);
    }
    return (int64_t)n;
}

int64_t sl_session_layers(sluice_session *s, size_t position, size_t n, struct sluice_err *err)
{
    return run_layers(s, &(struct extension){position, position + n, NULL, 0}, position, n, err);
}

int sl_session_show(sluice_session *s, size_t position, size_t n, sl_show_fn *show, void *user)
{
    const float *norm = s->engine->weights->head.vector[SL_FINAL_NORM];
    size_t hidden = s->engine->weights->config.hidden;
    int status = 0;
    for (size_t t = 0; status == 0 && t < n; t += s->chunk) {
        size_t count = sl_min(s->chunk, n - t);
        sl_norm_rows(&s->ws, s->hidden + t * hidden, norm, count, s->final);
        status = sl_head_show(s, s->final, position + t, count, show, user);
    }
    return status;
}

static void keep_logits(sluice_session *s, size_t n)
{
    const struct sl_weights *w = s->engine->weights;
    sl_norm_rows(&s->ws, s->hidden + (n - 1) * w->config.hidden, w->head.vector[SL_FINAL_NORM], 1,
                 s->final);
    sl_head_row(s, s->final, s->logits);
}

int sl_session_stopped(sluice_session *s, int status, struct sluice_err *err)
{
    if (status != SLUICE_ECANCELLED)
        return status;
    atomic_store(&s->cancelled, 0);
    return cancelled(err);
}

/* A span from POSITION on, of MOST tokens or fewer: layers, logits of the rows that are wanted,
 * MTP. */
static int run_span(sluice_session *s, struct extension *x, size_t position, size_t most,
                    struct sluice_err *err)
{
    const struct sluice_sync_callbacks *callbacks = x->callbacks;
    sl_meter_start(&s->meter);
    sl_moe_begin(&s->ws.moe, most, &s->cancelled);
    int64_t done = run_layers(s, x, position, most, err);
    int status = done < 0 ? (int)done : 0;
    size_t n = done < 0 ? 0 : (size_t)done;
    bool last = position + n == x->end;
    if (status == 0 && last)
        keep_logits(s, n);
    if (status == 0 && callbacks && callbacks->logits)
        status = sl_session_show(s, position, n, callbacks->logits, callbacks->user);
    if (status == 0 && s->has_mtp)
        status = sl_mtp_follow(s, position, n, callbacks, err);
    if (status < 0)
        return sl_session_stopped(s, status, err);
    s->length = position + n;
    s->have_logits = last;
    return 0;
}

int sl_check_tokens(const sluice_session *s, const int32_t *tokens, size_t n,
                    struct sluice_err *err)
{
    uint32_t vocab = s->engine->weights->config.vocab;
    if (n == 0)
        return sl_fail(err, SLUICE_EARG, "no tokens: at least one is wanted");
    if (n > s->capacity)
        return sl_fail(err, SLUICE_ECONTEXT,
                       "context full: %zu tokens, this session has room for %zu; open it with a "
                       "larger context (--ctx), the model allows %u",
                       n, s->capacity, s->engine->weights->config.context);
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= vocab)
            return sl_fail(err, SLUICE_EARG, "token %zu is %d; the model has ids 0 to %u", i,
                           tokens[i], vocab - 1);
    return 0;
}

/*
 * Forgets everything behind the common prefix and returns the first position to compute.  One
 * more token is given up when its logits, or the hidden state that MTP starts from, are gone; the
 * MTP position before it stays valid while its two tokens are those of the prefix.
 */
static size_t keep_prefix(sluice_session *s, const int32_t *tokens, size_t n)
{
    size_t same = 0;
    while (same < s->length && same < n && s->tokens[same] == tokens[same])
        same++;
    bool whole = same == s->length;
    if (same == n && whole && s->have_logits)
        return n;
    if (same > 0 && (same == n || (s->has_mtp && same <= s->mtp_length)))
        same--;
    sl_session_cut(s, same);
    return same;
}

int sl_session_mend(sluice_session *s, struct sluice_err *err)
{
    size_t n = s->length, last = n - 1;
    if (!s->has_mtp || n == 0 || s->mtp_length < n)
        return 0;
    sl_blocks_own(s, last);
    s->length = s->mtp_length = last;
    int status = run_span(s, &(struct extension){last, n, NULL, 0}, last, 1, err);
    if (status < 0)
        s->length = s->mtp_length = n;
    return status;
}

/* Computes tokens[s->length, n) span by span. */
static int extend(sluice_session *s, const int32_t *tokens, size_t n,
                  const struct sluice_sync_callbacks *callbacks, struct sluice_err *err)
{
    struct extension x = {s->length, n, callbacks, 0};
    memcpy(s->tokens + x.first, tokens + x.first, (n - x.first) * sizeof *tokens);
    while (s->length < n) {
        int status = run_span(s, &x, s->length, sl_min(s->span_now, n - s->length), err);
        if (status == 0)
            status = tell_progress(&x, s->length - x.first, err);
        if (status < 0)
            return status;
    }
    return 0;
}

int sluice_session_sync(sluice_session *s, const int32_t *tokens, size_t n,
                        const struct sluice_sync_callbacks *callbacks, struct sluice_err *err)
{
    double start = sl_now();
    int status = sl_check_tokens(s, tokens, n, err);
    if (status < 0)
        return status;
    if (callbacks && callbacks->draft && !s->has_mtp)
        return sl_fail(err, SLUICE_EARG, "drafts wanted, but the engine was opened without MTP");
    size_t first = keep_prefix(s, tokens, n);
    if (first < n && !(callbacks && (callbacks->logits || callbacks->draft)))
        first = sl_prefix_take(s, tokens, n);
    s->stats.reused_tokens += first;
    if (first == n)
        return 0;
    status = extend(s, tokens, n, callbacks, err);
    s->stats.prefill_tokens += s->length - first;
    s->stats.prefill_seconds += sl_now() - start;
    return status;
}

int sluice_session_step(sluice_session *s, int32_t token, struct sluice_err *err)
{
    double start = sl_now();
    int status = sl_check_tokens(s, &token, 1, err);
    if (status == 0 && s->length == s->capacity)
        status = sl_fail(err, SLUICE_ECONTEXT,
                         "context full: %zu tokens; open the session with a larger context "
                         "(--ctx), the model allows %u",
                         s->capacity, s->engine->weights->config.context);
    if (status == 0)
        status = sl_session_mend(s, err);
    if (status < 0)
        return status;
    s->tokens[s->length] = token;
    s->have_logits = false;
    status = run_span(s, &(struct extension){s->length, s->length + 1, NULL, 0}, s->length, 1, err);
    if (status == 0)
        s->stats.decode_tokens++;
    s->stats.decode_seconds += sl_now() - start;
    return status;
}

const float *sluice_session_logits(const sluice_session *s)
{
    return s->have_logits ? s->logits : NULL;
}

size_t sluice_session_length(const sluice_session *s)
{
    return s->length;
}

int32_t sl_session_draw(sluice_session *s, const struct sluice_sampling *sampling, size_t position,
                        const float *logits)
{
    const struct sl_sampler sampler = {
        .temperature = sampling->temperature,
        .top_p = sampling->top_p,
        .seed = sampling->seed,
        .draw = position,
        .allowed = s->engine->drawable,
        .exponential = sl_expf,
        .scratch = s->candidates,
    };
    return sl_sample(&sampler, logits, s->engine->weights->config.vocab);
}

int32_t sluice_session_sample(sluice_session *s, const struct sluice_sampling *sampling,
                              struct sluice_err *err)
{
    if (!(sampling->temperature >= 0) || !(sampling->top_p > 0 && sampling->top_p <= 1))
        return sl_fail(err, SLUICE_EARG,
                       "temperature %g, top_p %g; wanted: temperature ≥ 0, top_p in (0, 1]",
                       (double)sampling->temperature, (double)sampling->top_p);
    if (!s->have_logits)
        return sl_fail(err, SLUICE_EARG, "nothing to sample from: sync the session first");
    int32_t token = sl_session_draw(s, sampling, s->length, s->logits);
    if (token < 0)
        return sl_fail(err, SLUICE_EDAMAGED, "every logit is NaN: run sluice verify on the model");
    return token;
}

void sluice_session_cancel(sluice_session *s)
{
    atomic_store(&s->cancelled, 1);
}

void sluice_session_stats(const sluice_session *s, struct sluice_stats *stats)
{
    *stats = s->stats;
    sl_drafts_stats(&s->drafts, stats);
    stats->expert_uses = s->owner.expert_uses;
    stats->sparse_queries = s->owner.sparse_queries;
    stats->multiplier = s->multiplier ? s->multiplier->name : "kernels";
    stats->multiplier_products = s->multiplier ? s->multiplier->products : 0;
    memcpy(stats->part_bytes, s->meter.bytes, sizeof stats->part_bytes);
    memcpy(stats->part_seconds, s->meter.seconds, sizeof stats->part_seconds);
    if (s->engine->experts) {
        struct sl_experts_use use = sl_experts_use(s->engine->experts);
        stats->expert_hits = use.hits;
        stats->expert_misses = use.misses;
        stats->expert_ahead = use.ahead;
        stats->expert_bytes = use.bytes_read;
        stats->expert_slots = use.slots;
        stats->read_seconds = use.read_seconds;
        stats->wait_seconds = use.wait_seconds;
        stats->guessing = sl_trial_says(&use.guesses);
        memcpy(stats->guess_seconds, use.guesses.seconds, sizeof stats->guess_seconds);
    }
}
