/* SPDX-License-Identifier: MIT */
/*
 * The lightning indexer: I[t,s] = Σ_j w[t,j] · relu(q[t,j] · k[s]), the index_topk largest of the
 * visible keys.  Rope dimensions come first and are rotated half-split, unlike the main attention.
 * INT8 keys and queries are Hadamard-transformed first, which changes no score but flattens
 * outliers.
 */
#include <math.h>

#include "runtime/attention/call.h"
#include "runtime/base/arith.h"

static bool rotates(const struct sl_attention *a)
{
    uint32_t dim = a->config->index_dim;
    return a->types.index == SL_CACHE_INT8 && (dim & (dim - 1)) == 0;
}

/* Rope, then Hadamard: what queries and keys have in common. */
static void transform(const struct sl_attention *a, size_t t, float *v)
{
    size_t pairs = a->config->rope / 2;
    a->compute->ops->rope_half(v, a->cosine + t * pairs, a->sine + t * pairs, pairs);
    if (rotates(a))
        a->compute->ops->hadamard(v, a->config->index_dim);
}

void sl_index_put_key(const struct sl_attention_call *call, size_t t)
{
    const struct sl_attention *a = call->a;
    const struct sl_place place = sl_place_of(&call->places, t);
    uint32_t dim = a->config->index_dim;
    float *key = a->index_key + t * dim;
    a->compute->ops->layernorm(key, call->w->vector[SL_INDEX_K_NORM],
                               call->w->vector[SL_INDEX_K_BIAS], SL_INDEX_NORM_EPS, dim, key);
    transform(a, t, key);
    a->compute->ops->index_store(a->types.index, key, dim,
                                 sl_cache_panel(place.cache, place.position),
                                 place.position % SL_KEY_PANEL);
}

/* Rotates token T's index queries and folds every constant into its head weights. */
static void prepare_query(const struct sl_attention *a, size_t t)
{
    const struct sl_config *c = a->config;
    float constant = 1.0f / sqrtf((float)c->index_heads) / sqrtf((float)c->index_dim);
    for (size_t h = 0; h < c->index_heads; h++) {
        size_t at = (t * c->index_heads + h) * c->index_dim;
        float *weight = &a->index_weight[t * c->index_heads + h], scale = 1;
        transform(a, t, a->index_q + at);
        if (a->types.index == SL_CACHE_INT8)
            a->compute->ops->quantize_groups(a->index_q + at, c->index_dim, c->index_dim,
                                             a->index_q_codes + at, &scale);
        *weight = *weight * constant * scale;
    }
}

static void prepare_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_attention_call *call = arg;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        if (sl_is_sparse(call->a, sl_place_of(&call->places, t).position))
            prepare_query(call->a, t);
}

/* Scores keys [s0, s1) for query I of the tile, and finds the largest of their groups. */
static void score_keys(const struct sl_query_tile *tile, size_t i, size_t s0, size_t s1)
{
    const struct sl_attention *a = tile->call->a;
    const struct sl_config *c = a->config;
    size_t t = tile->token[i], item = s0 / SL_ITEM_KEYS;
    const struct sl_layer_cache *cache = sl_place_of(&tile->call->places, t).cache;
    float *score = a->choice.score + i * a->choice.stride;
    const struct sl_index_query query = {
        .q = a->index_q_codes + t * c->index_heads * c->index_dim,
        .f = a->index_q + t * c->index_heads * c->index_dim,
        .weight = a->index_weight + t * c->index_heads,
        .heads = c->index_heads,
        .dim = c->index_dim,
    };
    for (size_t s = s0, n; s < s1; s += n) {
        n = sl_kv_beside(&cache->kv, s, s1 - s);
        a->compute->ops->index_score(a->types.index, &query, sl_cache_panel(cache, s), 0, n,
                                     score + s);
    }
    a->compute->ops->group_max(score + s0, s1 - s0, tile->groups,
                               a->choice.largest + i * a->choice.most_groups + item * tile->groups);
}

/* Items with the same keys lie beside each other. */
static void score_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_query_tile *tile = arg;
    (void)thread;
    for (size_t item = begin; item < end; item++) {
        size_t i = item % tile->n, s0 = item / tile->n * SL_ITEM_KEYS;
        score_keys(tile, i, s0, sl_max(s0, sl_min(s0 + SL_ITEM_KEYS, sl_visible(tile, i))));
    }
}

/* Key panels that the tile goes over. */
static size_t count_panels(const struct sl_query_tile *tile)
{
    size_t panels = 0;
    for (size_t i = 0; i < tile->n; i++)
        if (tile->call->places.each || i + 1 == tile->n) /* the last sees what the others see */
            panels += sl_ceil_div(sl_visible(tile, i), SL_KEY_PANEL);
    return panels;
}

static void select_tile(struct sl_query_tile *tile)
{
    const struct sl_attention *a = tile->call->a;
    size_t keys = 0;
    for (size_t i = 0; i < tile->n; i++)
        keys = sl_max(keys, sl_visible(tile, i));
    tile->items = sl_ceil_div(keys, SL_ITEM_KEYS);
    tile->groups = sl_choice_groups(a, tile->items);
    sl_team_run(&a->compute->team, tile->n * tile->items, 1, score_work, tile);
    sl_meter_bytes(a->compute->meter,
                   count_panels(tile) * sl_key_panel_bytes(a->types.index, a->config->index_dim));
    sl_meter_lap(a->compute->meter, SLUICE_PART_INDEXER);
    sl_choose(tile);
    sl_meter_lap(a->compute->meter, SLUICE_PART_TOPK);
}

static void tell_selection(const struct sl_attention_call *call, size_t t)
{
    const struct sl_place place = sl_place_of(&call->places, t);
    size_t topk = call->a->config->index_topk;
    if (!place.owner)
        return;
    place.owner->sparse_queries++;
    if (place.owner->hooks && place.owner->hooks->select)
        place.owner->hooks->select(place.owner->hooks->user, call->layer, place.position,
                                   call->a->selected + t * topk, topk);
}

void sl_index_select(const struct sl_attention_call *call)
{
    sl_team_run(&call->a->compute->team, call->n, 1, prepare_work, (void *)(uintptr_t)call);
    struct sl_query_tile tile = {.call = call};
    for (size_t t = 0; t < call->n; t++) {
        if (sl_is_sparse(call->a, sl_place_of(&call->places, t).position))
            tile.token[tile.n++] = t;
        if (tile.n == SL_QUERY_TILE || (tile.n > 0 && t + 1 == call->n)) {
            select_tile(&tile);
            tile.n = 0;
        }
    }
    for (size_t t = 0; t < call->n; t++)
        if (sl_is_sparse(call->a, sl_place_of(&call->places, t).position))
            tell_selection(call, t);
}
