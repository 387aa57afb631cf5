/* SPDX-License-Identifier: MIT */
/*
 * One layer's attention over a chunk of one cache's tokens, or a token of each of several caches,
 * phase by phase:
 *   x → q_a, kv_a, index key and weights  |  norms, rope, caches  |  q_b, index queries
 *   |  selection  |  absorb (k_up)  |  attend  |  v_up  |  o
 * The absorbed form: a head's query goes through k_upᵀ into latent space, attends there, and its
 * mixed latent comes back through v_up.  In latent space a token takes 256 KB and more, so that the
 * phases from absorb to v_up go over a tile of tokens at a time, which the caches hold.
 */
#include <string.h>

#include "runtime/attention/call.h"
#include "runtime/base/arith.h"

static size_t nope_ld(const struct sl_config *c)
{
    return sl_padded_cols(c->nope);
}

enum { TILE = 64 };

/* Some consecutive tokens of a call, between absorb and v_up. */
struct tile {
    const struct sl_attention_call *call;
    size_t first; /* token of the call */
    size_t n;     /* ≤ TILE */
};

/* Floats from one token's row of WIDTH to the next. */
static size_t row_floats(size_t width)
{
    return sl_row_bytes(width * sizeof(float)) / sizeof(float);
}

/* Of a->q. */
static size_t q_ld(const struct sl_config *c)
{
    return row_floats((size_t)c->heads * (c->nope + c->rope));
}

static size_t latent_ld(const struct sl_config *c)
{
    return sl_padded_cols(c->kv_lora);
}

/* What each thread needs for a block of keys. */
static void take_blocks(struct sl_attention *a, struct sl_arena *arena)
{
    const struct sl_config *c = a->config;
    const struct sl_kv kv = {.type = a->types.kv, .latent_dim = c->kv_lora, .rope_dim = c->rope};
    size_t threads = a->compute->team.threads;
    a->block = sl_arena_take(arena, threads * c->heads * (c->kv_lora + 2), sizeof(float));
    a->attend_bytes = sl_round_up(sl_attend_scratch(&kv), 64);
    a->attend_scratch = sl_arena_take(arena, threads, a->attend_bytes);
}

/* What a tile needs. */
static void take_tile(struct sl_attention *a, struct sl_arena *arena)
{
    const struct sl_config *c = a->config;
    size_t n = sl_min(a->chunk, TILE), heads = c->heads, latents = n * heads * c->kv_lora;
    sl_codes_take(&a->nope_codes, arena, n, heads * nope_ld(c));
    if (a->types.kv == SL_CACHE_INT8 && !a->compute->multiplier)
        a->absorbed = sl_arena_take(arena, a->compute->team.threads * TILE,
                                    row_floats(c->kv_lora) * sizeof(float));
    else
        a->latent_q = sl_arena_take(arena, latents, sizeof(float));
    a->latent_q_codes = sl_arena_take(arena, latents, 1);
    a->latent_q_scale = sl_arena_take(arena, n * heads * sl_latent_groups(c->kv_lora),
                                      sizeof(float));
    a->mixed = sl_arena_take(arena, latents, sizeof(float));
    sl_codes_take(&a->mixed_codes, arena, n, heads * latent_ld(c));
    a->softmax = sl_arena_take(arena, n * heads * 2, sizeof(float));
}

void sl_attention_take_tables(struct sl_attention *a, struct sl_arena *arena)
{
    size_t pairs = a->config->rope / 2;
    a->frequency = sl_arena_take(arena, pairs, sizeof(float));
    a->cosine = sl_arena_take(arena, a->chunk * pairs, sizeof(float));
    a->sine = sl_arena_take(arena, a->chunk * pairs, sizeof(float));
    a->turned = sl_arena_take(arena, a->chunk, sizeof *a->turned);
}

void sl_attention_take_scratch(struct sl_attention *a, struct sl_arena *arena)
{
    const struct sl_config *c = a->config;
    size_t n = a->chunk, heads = c->heads, index = (size_t)c->index_heads * c->index_dim;
    sl_codes_take(&a->x_codes, arena, n, c->hidden);
    a->q_a = sl_arena_take(arena, n * c->q_lora, sizeof(float));
    sl_codes_take(&a->q_a_codes, arena, n, c->q_lora);
    a->kv_a = sl_arena_take(arena, n * (c->kv_lora + c->rope), sizeof(float));
    a->q = sl_arena_take(arena, n * q_ld(c), sizeof(float));
    take_tile(a, arena);
    take_blocks(a, arena);
    a->values = sl_arena_take(arena, n * heads * c->v_dim, sizeof(float));
    sl_codes_take(&a->values_codes, arena, n, heads * c->v_dim);
    if (!a->types.index)
        return;
    a->index_key = sl_arena_take(arena, n * c->index_dim, sizeof(float));
    a->index_weight = sl_arena_take(arena, n * c->index_heads, sizeof(float));
    a->index_q = sl_arena_take(arena, n * index, sizeof(float));
    a->index_q_codes = sl_arena_take(arena, n, index);
    sl_choice_take(a, arena);
    a->selected = sl_arena_take(arena, n * c->index_topk, sizeof(uint32_t));
}

void sl_attention_init(struct sl_attention *a)
{
    a->softmax_scale = sl_softmax_scale(a->config);
    a->rope_factor = sl_rope_frequencies(a->config, a->frequency);
}

/* Prepares the rotation of N positions, unless it is at hand: layers take turns over the same
 * ones. */
static void turn_to(struct sl_attention *a, const struct sl_places *places, size_t n)
{
    size_t pairs = a->config->rope / 2;
    for (size_t t = 0; t < n; t++) {
        size_t position = sl_place_of(places, t).position;
        if (a->turned[t] == position + 1)
            continue;
        a->turned[t] = position + 1;
        for (size_t i = 0; i < pairs; i++) {
            /* The reference rounds the angle to float before taking sine and cosine. */
            float angle = (float)position * a->frequency[i];
            float *sine = &a->sine[t * pairs + i], *cosine = &a->cosine[t * pairs + i];
            sl_sincosf(angle, sine, cosine);
            *sine *= a->rope_factor;
            *cosine *= a->rope_factor;
        }
    }
}

/* ---- phase: projections of x ---------------------------------------------------------------- */

static void encode_x_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_attention_call *call = arg;
    size_t hidden = call->a->config->hidden;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        sl_codes_put(&call->a->x_codes, call->a->compute->ops, t, 0, call->x + t * hidden, hidden);
}

static void project_x(const struct sl_attention_call *call)
{
    struct sl_attention *a = call->a;
    const struct sl_config *c = a->config;
    const struct {
        enum sl_role role;
        float *y;
        size_t ldy;
        bool wanted;
    } jobs[] = {
        {SL_Q_A, a->q_a, c->q_lora, !call->keep},
        {SL_KV_A, a->kv_a, c->kv_lora + c->rope, true},
        {SL_INDEX_K, a->index_key, c->index_dim, a->types.index},
        {SL_INDEX_WEIGHT, a->index_weight, c->index_heads, a->types.index && !call->keep},
    };
    struct sl_product products[4];
    size_t n = 0;
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        const struct sl_matrix *w = &call->w->matrix[jobs[i].role];
        if (!jobs[i].wanted)
            continue;
        products[n++] = (struct sl_product){
            .w = w,
            .x = sl_acts_for(w, &a->x_codes, call->x, c->hidden),
            .n = call->n,
            .y = jobs[i].y,
            .ldy = jobs[i].ldy,
        };
    }
    sl_team_run(&a->compute->team, call->n, 1, encode_x_work, (void *)(uintptr_t)call);
    sl_multiply(a->compute, products, n);
}

/* ---- phase: norms, rope, caches ------------------------------------------------------------- */

static void norm_query(const struct sl_attention_call *call, size_t t)
{
    struct sl_attention *a = call->a;
    const struct sl_config *c = a->config;
    const struct sl_ops *ops = a->compute->ops;
    float *q_a = a->q_a + t * c->q_lora;
    ops->rmsnorm(q_a, call->w->vector[SL_Q_A_NORM], c->rms_eps, c->q_lora, q_a);
    sl_codes_put(&a->q_a_codes, ops, t, 0, q_a, c->q_lora);
}

static void store_token(const struct sl_attention_call *call, size_t t)
{
    struct sl_attention *a = call->a;
    const struct sl_config *c = a->config;
    const struct sl_ops *ops = a->compute->ops;
    const struct sl_place place = sl_place_of(&call->places, t);
    size_t pairs = c->rope / 2;
    float *latent = a->kv_a + t * (c->kv_lora + c->rope), *rope = latent + c->kv_lora;
    ops->rmsnorm(latent, call->w->vector[SL_KV_A_NORM], c->rms_eps, c->kv_lora, latent);
    ops->rope_interleaved(rope, a->cosine + t * pairs, a->sine + t * pairs, pairs);
    ops->kv_store(&place.cache->kv, place.position, latent, rope);
    if (place.cache->keys)
        sl_index_put_key(call, t);
}

/* Tokens of one key panel of 16 share cache lines, but never bytes. */
static void store_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_attention_call *call = arg;
    (void)thread;
    for (size_t t = begin; t < end; t++) {
        if (!call->keep)
            norm_query(call, t);
        store_token(call, t);
    }
}

/* ---- phase: queries ------------------------------------------------------------------------- */

/* SPARSE: some query attends to a selection. */
static void project_queries(const struct sl_attention_call *call, bool sparse)
{
    struct sl_attention *a = call->a;
    const struct sl_config *c = a->config;
    const struct sl_matrix *q_b = &call->w->matrix[SL_Q_B], *index = &call->w->matrix[SL_INDEX_Q];
    struct sl_product products[2] = {
        {.w = q_b,
         .x = sl_acts_for(q_b, &a->q_a_codes, a->q_a, c->q_lora),
         .n = call->n,
         .y = a->q,
         .ldy = q_ld(c)},
    };
    if (sparse)
        products[1] = (struct sl_product){
            .w = index,
            .x = sl_acts_for(index, &a->q_a_codes, a->q_a, c->q_lora),
            .n = call->n,
            .y = a->index_q,
            .ldy = (size_t)c->index_heads * c->index_dim,
        };
    sl_multiply(a->compute, products, sparse ? 2 : 1);
}

/* ---- phase: absorb -------------------------------------------------------------------------- */

static void rotate_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct tile *tile = arg;
    struct sl_attention *a = tile->call->a;
    const struct sl_config *c = a->config;
    size_t pairs = c->rope / 2, dim = c->nope + c->rope;
    (void)thread;
    for (size_t i = begin; i < end; i++)
        for (size_t h = 0, t = tile->first + i; h < c->heads; h++) {
            float *q = a->q + t * q_ld(c) + h * dim;
            a->compute->ops->rope_interleaved(q + c->nope, a->cosine + t * pairs,
                                              a->sine + t * pairs, pairs);
            sl_codes_put(&a->nope_codes, a->compute->ops, i, h * nope_ld(c), q, c->nope);
        }
}

/* The queries of one head, quantised while they are in the cache. */
struct absorb_phase {
    const struct tile *tile;
    const struct sl_product *product;
};

static void absorb_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct absorb_phase *p = arg;
    const struct sl_attention *a = p->tile->call->a;
    size_t dim = a->config->kv_lora, ld = row_floats(dim), groups = sl_latent_groups(dim);
    float *rows = a->absorbed + thread * TILE * ld;
    for (size_t h = begin; h < end; h++) {
        struct sl_matrix w = sl_matrix_at(p->product->w, h);
        a->compute->ops->gemm(&w, 0, sl_panel_count(&w.packing),
                              sl_acts_at(p->product->x, h * p->product->x_step), p->tile->n, rows,
                              ld);
        for (size_t t = 0; t < p->tile->n; t++) {
            size_t i = t * a->config->heads + h;
            a->compute->ops->quantize_groups(rows + t * ld, dim, SL_LATENT_GROUP,
                                             a->latent_q_codes + i * dim,
                                             a->latent_q_scale + i * groups);
        }
    }
}

static void absorb(struct tile *tile)
{
    struct sl_attention *a = tile->call->a;
    const struct sl_config *c = a->config;
    const struct sl_matrix *k_up = &tile->call->w->matrix[SL_K_UP];
    size_t dim = c->nope + c->rope;
    const struct sl_product product = {
        .w = k_up,
        .x = sl_acts_for(k_up, &a->nope_codes, a->q + tile->first * q_ld(c), q_ld(c)),
        .x_step = sl_is_integer(k_up->packing.code) ? nope_ld(c) : dim,
        .n = tile->n,
        .y = a->latent_q,
        .ldy = (size_t)c->heads * c->kv_lora,
        .y_step = c->kv_lora,
    };
    struct absorb_phase phase = {tile, &product};
    sl_team_run(&a->compute->team, tile->n, 1, rotate_work, tile);
    if (a->latent_q) {
        sl_multiply(a->compute, &product, 1);
        return;
    }
    sl_meter_bytes(a->compute->meter, sl_packing_bytes(&k_up->packing));
    sl_team_run(&a->compute->team, c->heads, 1, absorb_work, &phase);
}

/* ---- phase: attend -------------------------------------------------------------------------- */

/* Some heads of one token of a tile. */
struct group {
    const struct tile *tile;
    size_t t;
    size_t first, heads;
};

/* Their absorbed queries, quantised if the cache is. */
static struct sl_queries make_queries(const struct group *g)
{
    const struct sl_attention *a = g->tile->call->a;
    const struct sl_config *c = a->config;
    size_t dim = c->nope + c->rope;
    size_t i = g->t * c->heads + g->first, groups = sl_latent_groups(c->kv_lora);
    struct sl_queries queries = {
        .heads = (uint32_t)g->heads,
        .q = a->latent_q_codes + i * c->kv_lora,
        .scale = a->latent_q_scale + i * groups,
        .f = a->latent_q ? a->latent_q + i * c->kv_lora : NULL,
        .rope = a->q + (g->tile->first + g->t) * q_ld(c) + g->first * dim + c->nope,
        .rope_ld = dim,
    };
    for (size_t h = i; queries.f && a->types.kv == SL_CACHE_INT8 && h < i + g->heads; h++)
        a->compute->ops->quantize_groups(a->latent_q + h * c->kv_lora, c->kv_lora, SL_LATENT_GROUP,
                                         a->latent_q_codes + h * c->kv_lora,
                                         a->latent_q_scale + h * groups);
    return queries;
}

/* mixed[t][h] = softmax(query · keys) · latents, by blocks of SL_ATTEND_BLOCK keys in order. */
static void attend_group(const struct group *g, unsigned thread)
{
    const struct sl_attention_call *call = g->tile->call;
    struct sl_attention *a = call->a;
    const struct sl_ops *ops = a->compute->ops;
    size_t t = g->tile->first + g->t;
    const struct sl_place place = sl_place_of(&call->places, t);
    size_t dim = a->config->kv_lora, heads = a->config->heads, i = g->t * heads + g->first;
    bool sparse = sl_is_sparse(a, place.position);
    const uint32_t *keys = sparse ? a->selected + t * a->config->index_topk : NULL;
    size_t n = sparse ? a->config->index_topk : place.position + 1;
    float *block = a->block + (size_t)thread * heads * (dim + 2);
    void *scratch = a->attend_scratch + (size_t)thread * a->attend_bytes;
    const struct sl_queries queries = make_queries(g);
    const struct sl_attended next = {block, block + heads * dim, block + heads * (dim + 1)};
    const struct sl_attended all = {a->mixed + i * dim, a->softmax + 2 * i,
                                    a->softmax + 2 * i + g->heads};
    for (size_t s = 0; s < n; s += SL_ATTEND_BLOCK) {
        ops->attend(&place.cache->kv, &queries, a->softmax_scale, keys ? keys + s : NULL, s,
                    sl_min(SL_ATTEND_BLOCK, n - s), s ? &next : &all, scratch);
        for (size_t h = 0; s > 0 && h < g->heads; h++)
            ops->attend_merge(all.out + h * dim, &all.max[h], &all.sum[h], next.out + h * dim,
                              next.max[h], next.sum[h], dim);
    }
    for (size_t h = 0; h < g->heads; h++) {
        ops->attend_finish(all.out + h * dim, all.sum[h], dim);
        sl_codes_put(&a->mixed_codes, ops, g->t, (g->first + h) * latent_ld(a->config),
                     all.out + h * dim, dim);
    }
}

/* Heads of a group. */
static size_t group_heads(const struct tile *tile)
{
    const struct sl_attention *a = tile->call->a;
    return sl_attend_heads(a->config->heads, tile->n, a->compute->team.threads);
}

static void attend_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct tile *tile = arg;
    size_t heads = tile->call->a->config->heads, size = group_heads(tile);
    size_t groups = sl_ceil_div(heads, size);
    for (size_t i = begin; i < end; i++) {
        struct group g = {.tile = tile, .t = i / groups, .first = i % groups * size};
        g.heads = sl_min(size, heads - g.first);
        attend_group(&g, thread);
    }
}

static void attend(struct tile *tile)
{
    const struct sl_attention *a = tile->call->a;
    size_t groups = sl_ceil_div(a->config->heads, group_heads(tile));
    sl_team_run(&a->compute->team, tile->n * groups, 1, attend_work, tile);
}

/* Cache rows that the call goes over; selections of a cache's queries may overlap. */
static void count_rows(const struct sl_attention_call *call)
{
    const struct sl_attention *a = call->a;
    const struct sl_kv *kv = &sl_place_of(&call->places, 0).cache->kv;
    size_t queries = call->places.each ? 1 : call->n, rows = 0; /* of a cache */
    for (size_t t = queries; t <= call->n; t += queries) {
        size_t visible = sl_place_of(&call->places, t - 1).position + 1;
        bool sparse = sl_is_sparse(a, visible - 1);
        rows += sparse ? sl_min(visible, queries * a->config->index_topk) : visible;
    }
    sl_meter_bytes(a->compute->meter, rows * (kv->latent_stride + kv->tail_stride));
}

/* ---- phase: back to hidden size ------------------------------------------------------------- */

/* values[t][h] = v_up · mixed[t][h] */
static void mix_values(const struct tile *tile)
{
    struct sl_attention *a = tile->call->a;
    const struct sl_config *c = a->config;
    const struct sl_matrix *v_up = &tile->call->w->matrix[SL_V_UP];
    size_t width = (size_t)c->heads * c->v_dim;
    struct sl_product product = {
        .w = v_up,
        .x = sl_acts_for(v_up, &a->mixed_codes, a->mixed, (size_t)c->heads * c->kv_lora),
        .x_step = sl_is_integer(v_up->packing.code) ? latent_ld(c) : c->kv_lora,
        .n = tile->n,
        .y = a->values + tile->first * width,
        .ldy = width,
        .y_step = c->v_dim,
    };
    sl_multiply(a->compute, &product, 1);
}

/* From absorb to v_up, tile by tile. */
static void attend_tiles(const struct sl_attention_call *call)
{
    struct sl_meter *meter = call->a->compute->meter;
    for (size_t first = 0; first < call->n; first += TILE) {
        struct tile tile = {call, first, sl_min(TILE, call->n - first)};
        absorb(&tile);
        sl_meter_lap(meter, SLUICE_PART_PROJECTIONS);
        attend(&tile);
        if (first == 0)
            count_rows(call);
        sl_meter_lap(meter, SLUICE_PART_ATTENTION);
        mix_values(&tile);
    }
}

static void encode_values_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_attention_call *call = arg;
    size_t width = (size_t)call->a->config->heads * call->a->config->v_dim;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        sl_codes_put(&call->a->values_codes, call->a->compute->ops, t, 0,
                     call->a->values + t * width, width);
}

static void project_out(const struct sl_attention_call *call, float *out)
{
    struct sl_attention *a = call->a;
    const struct sl_config *c = a->config;
    const struct sl_matrix *o = &call->w->matrix[SL_O];
    size_t width = (size_t)c->heads * c->v_dim;
    struct sl_product product = {
        .w = o,
        .x = sl_acts_for(o, &a->values_codes, a->values, width),
        .n = call->n,
        .y = out,
        .ldy = c->hidden,
    };
    sl_team_run(&a->compute->team, call->n, 1, encode_values_work, (void *)(uintptr_t)call);
    sl_multiply(a->compute, &product, 1);
}

static bool any_sparse(const struct sl_attention_call *call)
{
    for (size_t t = 0; t < call->n; t++)
        if (sl_is_sparse(call->a, sl_place_of(&call->places, t).position))
            return true;
    return false;
}

void sl_attention_run(struct sl_attention *a, const struct sl_layer_weights *w,
                      const struct sl_places *places, unsigned layer, const float *x, size_t n,
                      float *out)
{
    struct sl_attention_call call = {a, w, *places, layer, n, x, .keep = false};
    bool sparse = any_sparse(&call);
    turn_to(a, places, n);
    project_x(&call);
    sl_team_run(&a->compute->team, n, 1, store_work, &call);
    project_queries(&call, sparse);
    sl_meter_lap(a->compute->meter, SLUICE_PART_PROJECTIONS);
    if (sparse)
        sl_index_select(&call);
    attend_tiles(&call);
    project_out(&call, out);
}

void sl_attention_keep(struct sl_attention *a, const struct sl_layer_weights *w,
                       const struct sl_places *places, const float *x, size_t n)
{
    struct sl_attention_call call = {
        .a = a, .w = w, .places = *places, .n = n, .x = x, .keep = true};
    turn_to(a, places, n);
    project_x(&call);
    sl_team_run(&a->compute->team, n, 1, store_work, &call);
}
