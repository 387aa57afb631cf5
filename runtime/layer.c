/* SPDX-License-Identifier: MIT */
/* h += attention(norm(h)); h += ffn(norm(h)).  The residual stream is F32. */
#include "runtime/layer.h"

#include "runtime/base/arith.h"
#include "runtime/base/err.h"

struct norm_phase {
    const struct sl_workspace *ws;
    const float *x, *w;
    float *y;
};

static void norm_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct norm_phase *p = arg;
    size_t hidden = p->ws->config->hidden;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        p->ws->compute.ops->rmsnorm(p->x + t * hidden, p->w, p->ws->config->rms_eps, hidden,
                                    p->y + t * hidden);
}

void sl_norm_rows(const struct sl_workspace *ws, const float *x, const float *w, size_t n, float *y)
{
    struct norm_phase phase = {ws, x, w, y};
    sl_team_run(&ws->compute.team, n, 1, norm_work, &phase);
}

void sl_workspace_take(struct sl_workspace *ws, struct sl_arena *lasting, struct sl_arena *scratch,
                       const struct sl_workspace_opts *opts)
{
    ws->config = opts->config;
    ws->compute = opts->compute;
    ws->attention.config = ws->moe.config = opts->config;
    ws->attention.compute = ws->moe.compute = &ws->compute;
    ws->attention.types = opts->types;
    ws->chunk = ws->attention.chunk = ws->moe.chunk = opts->chunk;
    ws->moe.span = opts->span;
    ws->floats = opts->floats;
    ws->attention.capacity = opts->capacity;
    ws->moe.experts = opts->experts;
    ws->moe.wave = opts->wave;
    size_t normed = opts->floats ? opts->span : opts->chunk;
    ws->normed = sl_arena_take(scratch, normed * opts->config->hidden, sizeof(float));
    ws->update = sl_arena_take(scratch, opts->span * opts->config->hidden, sizeof(float));
    sl_attention_take_tables(&ws->attention, lasting);
    size_t start = scratch->used;
    sl_attention_take_scratch(&ws->attention, scratch);
    size_t end = scratch->used;
    scratch->used = start; /* the two halves of a layer take turns */
    sl_moe_take(&ws->moe, scratch);
    scratch->used = sl_max(end, scratch->used);
}

void sl_workspace_init(struct sl_workspace *ws)
{
    sl_attention_init(&ws->attention);
}

static void show_routes(const struct sl_workspace *ws, const struct sl_places *places,
                        unsigned layer, size_t n)
{
    size_t used = ws->config->experts_used;
    for (size_t t = 0; t < n; t++) {
        const struct sl_place place = sl_place_of(places, t);
        if (!place.owner)
            continue;
        place.owner->expert_uses += used;
        if (place.owner->hooks && place.owner->hooks->route)
            place.owner->hooks->route(place.owner->hooks->user, layer, place.position,
                                      ws->moe.chosen + t * used, ws->moe.weight + t * used, used);
    }
}

/* Every owner hears of the experts of all. */
static void show_experts(struct sl_workspace *ws, const struct sl_places *places, size_t n)
{
    for (size_t t = 0; t < (places->each ? n : 1); t++) {
        const struct sl_place place = sl_place_of(places, t);
        ws->moe.event.position = place.position;
        if (place.owner && place.owner->hooks && place.owner->hooks->experts)
            place.owner->hooks->experts(place.owner->hooks->user, &ws->moe.event);
    }
}

static void show_hidden(const struct sl_workspace *ws, const struct sl_places *places,
                        unsigned layer, size_t n, const float *hidden)
{
    size_t each = places->each ? 1 : n;
    for (size_t t = 0; t < n; t += each) {
        const struct sl_place place = sl_place_of(places, t);
        if (place.owner && place.owner->hooks && place.owner->hooks->hidden)
            place.owner->hooks->hidden(place.owner->hooks->user, layer, place.position, each,
                                       hidden + t * ws->config->hidden);
    }
}

/* hidden += attention(norm(hidden)), n ≤ chunk. */
static void attend(struct sl_workspace *ws, const struct sl_layer_weights *w,
                   const struct sl_places *places, unsigned layer, size_t n, float *hidden)
{
    sl_norm_rows(ws, hidden, w->vector[SL_ATTN_NORM], n, ws->normed);
    sl_attention_run(&ws->attention, w, places, layer, ws->normed, n, ws->update);
    ws->compute.ops->add(ws->update, n * ws->config->hidden, hidden);
    sl_meter_lap(ws->compute.meter, SLUICE_PART_PROJECTIONS);
}

void sl_layer_attend(struct sl_workspace *ws, const struct sl_layer_weights *w,
                     struct sl_layer_cache *cache, unsigned layer, size_t position, size_t n,
                     float *hidden)
{
    const struct sl_places places = {{cache, position, ws->owner}, NULL};
    attend(ws, w, &places, layer, n, hidden);
}

/* The router's choices for the whole span. */
static void route(struct sl_workspace *ws, const struct sl_layer_weights *w, size_t n,
                  const float *hidden)
{
    size_t width = ws->config->hidden;
    for (size_t t = 0; t < n; t += ws->chunk) {
        size_t count = sl_min(ws->chunk, n - t);
        float *x = ws->normed + (ws->floats ? t * width : 0);
        sl_norm_rows(ws, hidden + t * width, w->vector[SL_FFN_NORM], count, x);
        sl_router_run(&ws->moe, w, x, t, count);
    }
}

static void run_dense(struct sl_workspace *ws, const struct sl_layer_weights *w, size_t n,
                      const float *hidden)
{
    size_t width = ws->config->hidden;
    for (size_t t = 0; t < n; t += ws->chunk) {
        size_t count = sl_min(ws->chunk, n - t);
        sl_norm_rows(ws, hidden + t * width, w->vector[SL_FFN_NORM], count, ws->normed);
        sl_dense_run(&ws->moe, w, ws->normed, count, ws->update + t * width);
    }
}

int sl_layer_run_at(struct sl_workspace *ws, const struct sl_layer_weights *w,
                    const struct sl_places *places, unsigned layer, size_t n, float *hidden,
                    struct sluice_err *err)
{
    size_t width = ws->config->hidden;
    int status = 0;
    for (size_t t = 0; t < n; t += ws->chunk) {
        const struct sl_places chunk = sl_places_from(places, t);
        if (ws->cancelled && atomic_load(ws->cancelled))
            return sl_fail(err, SLUICE_ECANCELLED, "cancelled");
        attend(ws, w, &chunk, layer, sl_min(ws->chunk, n - t), hidden + t * width);
    }
    if (sl_layer_is_moe(ws->config, layer)) {
        route(ws, w, n, hidden);
        show_routes(ws, places, layer, n);
        ws->moe.guess = (struct sl_guess){n == 1 ? ws->next : NULL, hidden};
        status = sl_experts_run(&ws->moe, w, layer, ws->normed, n, ws->update, err);
        if (status == 0)
            show_experts(ws, places, n);
    } else {
        run_dense(ws, w, n, hidden);
    }
    if (status < 0)
        return status;
    ws->compute.ops->add(ws->update, n * width, hidden);
    show_hidden(ws, places, layer, n, hidden);
    return 0;
}

int sl_layer_run(struct sl_workspace *ws, const struct sl_layer_weights *w,
                 struct sl_layer_cache *cache, unsigned layer, size_t position, size_t n,
                 float *hidden, struct sluice_err *err)
{
    const struct sl_places places = {{cache, position, ws->owner}, NULL};
    return sl_layer_run_at(ws, w, &places, layer, n, hidden, err);
}

void sl_layer_keep(struct sl_workspace *ws, const struct sl_layer_weights *w,
                   struct sl_layer_cache *cache, size_t position, size_t n, const float *hidden)
{
    for (size_t t = 0; t < n; t += ws->chunk) {
        const struct sl_places places = {{cache, position + t, NULL}, NULL};
        size_t count = sl_min(ws->chunk, n - t);
        sl_norm_rows(ws, hidden + t * ws->config->hidden, w->vector[SL_ATTN_NORM], count,
                     ws->normed);
        sl_attention_keep(&ws->attention, w, &places, ws->normed, count);
    }
    sl_meter_lap(ws->compute.meter, SLUICE_PART_PROJECTIONS);
}
