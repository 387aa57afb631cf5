/* SPDX-License-Identifier: MIT */
/*
 * One layer's attention over a chunk, phase by phase:
 *   x → q_a, kv_a, index key and weights  |  norms, rope, caches  |  q_b, index queries
 *   |  selection  |  absorb (k_up)  |  attend  |  v_up  |  o
 * The absorbed form: a head's query goes through k_upᵀ into latent space, attends there, and its
 * mixed latent comes back through v_up.
 */
#include <string.h>

#include "runtime/attention/call.h"
#include "runtime/base/arith.h"

static size_t nope_ld(const struct sl_config *c)
{
    return sl_padded_cols(c->nope);
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

void sl_attention_take(struct sl_attention *a, struct sl_arena *arena)
{
    const struct sl_config *c = a->config;
    size_t n = a->chunk, heads = c->heads, index = (size_t)c->index_heads * c->index_dim;
    a->frequency = sl_arena_take(arena, c->rope / 2, sizeof(float));
    a->cosine = sl_arena_take(arena, n * (c->rope / 2), sizeof(float));
    a->sine = sl_arena_take(arena, n * (c->rope / 2), sizeof(float));
    sl_codes_take(&a->x_codes, arena, n, c->hidden);
    a->q_a = sl_arena_take(arena, n * c->q_lora, sizeof(float));
    sl_codes_take(&a->q_a_codes, arena, n, c->q_lora);
    a->kv_a = sl_arena_take(arena, n * (c->kv_lora + c->rope), sizeof(float));
    a->q = sl_arena_take(arena, n * heads * (c->nope + c->rope), sizeof(float));
    sl_codes_take(&a->nope_codes, arena, n, heads * nope_ld(c));
    a->latent_q = sl_arena_take(arena, n * heads * c->kv_lora, sizeof(float));
    a->latent_q_codes = sl_arena_take(arena, n * heads, c->kv_lora);
    a->latent_q_scale = sl_arena_take(arena, n * heads * sl_latent_groups(c->kv_lora),
                                      sizeof(float));
    a->mixed = sl_arena_take(arena, n * heads * c->kv_lora, sizeof(float));
    sl_codes_take(&a->mixed_codes, arena, n, heads * latent_ld(c));
    a->softmax = sl_arena_take(arena, n * heads * 2, sizeof(float));
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

void sl_attention_begin(struct sl_attention *a, size_t position, size_t n)
{
    size_t pairs = a->config->rope / 2;
    for (size_t t = 0; t < n; t++)
        for (size_t i = 0; i < pairs; i++) {
            /* The reference rounds the angle to float before taking sine and cosine. */
            float angle = (float)(position + t) * a->frequency[i];
            float *sine = &a->sine[t * pairs + i], *cosine = &a->cosine[t * pairs + i];
            sl_sincosf(angle, sine, cosine);
            *sine *= a->rope_factor;
            *cosine *= a->rope_factor;
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
    } jobs[] = {
        {SL_Q_A, a->q_a, c->q_lora},
        {SL_KV_A, a->kv_a, c->kv_lora + c->rope},
        {SL_INDEX_K, a->index_key, c->index_dim},
        {SL_INDEX_WEIGHT, a->index_weight, c->index_heads},
    };
    struct sl_product products[4];
    size_t n = a->types.index ? 4 : 2;
    for (size_t i = 0; i < n; i++) {
        const struct sl_matrix *w = &call->w->matrix[jobs[i].role];
        products[i] = (struct sl_product){
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

static void store_token(const struct sl_attention_call *call, size_t t)
{
    struct sl_attention *a = call->a;
    const struct sl_config *c = a->config;
    const struct sl_ops *ops = a->compute->ops;
    size_t pairs = c->rope / 2;
    float *q_a = a->q_a + t * c->q_lora, *latent = a->kv_a + t * (c->kv_lora + c->rope);
    float *rope = latent + c->kv_lora;
    ops->rmsnorm(q_a, call->w->vector[SL_Q_A_NORM], c->rms_eps, c->q_lora, q_a);
    sl_codes_put(&a->q_a_codes, ops, t, 0, q_a, c->q_lora);
    ops->rmsnorm(latent, call->w->vector[SL_KV_A_NORM], c->rms_eps, c->kv_lora, latent);
    ops->rope_interleaved(rope, a->cosine + t * pairs, a->sine + t * pairs, pairs);
    ops->kv_store(&call->cache->kv, call->position + t, latent, rope);
    if (a->types.index)
        sl_index_put_key(call, t);
}

/* Tokens of one key panel of 16 share cache lines, but never bytes. */
static void store_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    (void)thread;
    for (size_t t = begin; t < end; t++)
        store_token(arg, t);
}

/* ---- phase: queries ------------------------------------------------------------------------- */

static void project_queries(const struct sl_attention_call *call)
{
    struct sl_attention *a = call->a;
    const struct sl_config *c = a->config;
    const struct sl_matrix *q_b = &call->w->matrix[SL_Q_B], *index = &call->w->matrix[SL_INDEX_Q];
    bool sparse = sl_is_sparse(a, call->position + call->n - 1);
    struct sl_product products[2] = {
        {.w = q_b,
         .x = sl_acts_for(q_b, &a->q_a_codes, a->q_a, c->q_lora),
         .n = call->n,
         .y = a->q,
         .ldy = (size_t)c->heads * (c->nope + c->rope)},
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
    const struct sl_attention_call *call = arg;
    struct sl_attention *a = call->a;
    const struct sl_config *c = a->config;
    size_t pairs = c->rope / 2, dim = c->nope + c->rope;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        for (size_t h = 0; h < c->heads; h++) {
            float *q = a->q + (t * c->heads + h) * dim;
            a->compute->ops->rope_interleaved(q + c->nope, a->cosine + t * pairs,
                                              a->sine + t * pairs, pairs);
            sl_codes_put(&a->nope_codes, a->compute->ops, t, h * nope_ld(c), q, c->nope);
        }
}

static void absorb(const struct sl_attention_call *call)
{
    struct sl_attention *a = call->a;
    const struct sl_config *c = a->config;
    const struct sl_matrix *k_up = &call->w->matrix[SL_K_UP];
    size_t dim = c->nope + c->rope;
    struct sl_product product = {
        .w = k_up,
        .x = sl_acts_for(k_up, &a->nope_codes, a->q, c->heads * dim),
        .x_step = sl_is_integer(k_up->packing.code) ? nope_ld(c) : dim,
        .n = call->n,
        .y = a->latent_q,
        .ldy = (size_t)c->heads * c->kv_lora,
        .y_step = c->kv_lora,
    };
    sl_team_run(&a->compute->team, call->n, 1, rotate_work, (void *)(uintptr_t)call);
    sl_multiply(a->compute, &product, 1);
}

/* ---- phase: attend -------------------------------------------------------------------------- */

/* Some heads of one token. */
struct group {
    size_t t;
    size_t first, heads;
};

/* Their absorbed queries, quantised if the cache is. */
static struct sl_queries make_queries(const struct sl_attention *a, const struct group *g)
{
    const struct sl_config *c = a->config;
    size_t i = g->t * c->heads + g->first, groups = sl_latent_groups(c->kv_lora);
    struct sl_queries queries = {
        .heads = (uint32_t)g->heads,
        .q = a->latent_q_codes + i * c->kv_lora,
        .scale = a->latent_q_scale + i * groups,
        .f = a->latent_q + i * c->kv_lora,
        .rope = a->q + i * (c->nope + c->rope) + c->nope,
        .rope_ld = c->nope + c->rope,
    };
    for (size_t h = i; a->types.kv == SL_CACHE_INT8 && h < i + g->heads; h++)
        a->compute->ops->quantize_groups(a->latent_q + h * c->kv_lora, c->kv_lora, SL_LATENT_GROUP,
                                         a->latent_q_codes + h * c->kv_lora,
                                         a->latent_q_scale + h * groups);
    return queries;
}

/* mixed[t][h] = softmax(query · keys) · latents, by blocks of SL_ATTEND_BLOCK keys in order. */
static void attend_group(const struct sl_attention_call *call, const struct group *g,
                         unsigned thread)
{
    struct sl_attention *a = call->a;
    const struct sl_ops *ops = a->compute->ops;
    size_t dim = a->config->kv_lora, heads = a->config->heads, position = call->position + g->t;
    size_t i = g->t * heads + g->first;
    bool sparse = sl_is_sparse(a, position);
    const uint32_t *keys = sparse ? a->selected + g->t * a->config->index_topk : NULL;
    size_t n = sparse ? a->config->index_topk : position + 1;
    float *block = a->block + (size_t)thread * heads * (dim + 2);
    void *scratch = a->attend_scratch + (size_t)thread * a->attend_bytes;
    const struct sl_queries queries = make_queries(a, g);
    const struct sl_attended next = {block, block + heads * dim, block + heads * (dim + 1)};
    const struct sl_attended all = {a->mixed + i * dim, a->softmax + 2 * i,
                                    a->softmax + 2 * i + g->heads};
    for (size_t s = 0; s < n; s += SL_ATTEND_BLOCK) {
        ops->attend(&call->cache->kv, &queries, a->softmax_scale, keys ? keys + s : NULL, s,
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
static size_t group_heads(const struct sl_attention_call *call)
{
    return sl_attend_heads(call->a->config->heads, call->n, call->a->compute->team.threads);
}

static void attend_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_attention_call *call = arg;
    size_t heads = call->a->config->heads, size = group_heads(call);
    size_t groups = sl_ceil_div(heads, size);
    for (size_t i = begin; i < end; i++) {
        struct group g = {.t = i / groups, .first = i % groups * size};
        g.heads = sl_min(size, heads - g.first);
        attend_group(call, &g, thread);
    }
}

/* Cache rows that the chunk went over; selections of its queries may overlap. */
static void count_rows(const struct sl_attention_call *call)
{
    const struct sl_attention *a = call->a;
    const struct sl_kv *kv = &call->cache->kv;
    size_t visible = call->position + call->n, rows = visible;
    if (sl_is_sparse(a, visible - 1))
        rows = sl_min(visible, call->n * a->config->index_topk);
    sl_meter_bytes(a->compute->meter, rows * (kv->latent_stride + kv->tail_stride));
}

/* ---- phase: back to hidden size ------------------------------------------------------------- */

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
    const struct sl_matrix *v_up = &call->w->matrix[SL_V_UP], *o = &call->w->matrix[SL_O];
    size_t width = (size_t)c->heads * c->v_dim;
    struct sl_product up = {
        .w = v_up,
        .x = sl_acts_for(v_up, &a->mixed_codes, a->mixed, (size_t)c->heads * c->kv_lora),
        .x_step = sl_is_integer(v_up->packing.code) ? latent_ld(c) : c->kv_lora,
        .n = call->n,
        .y = a->values,
        .ldy = width,
        .y_step = c->v_dim,
    };
    struct sl_product down = {
        .w = o,
        .x = sl_acts_for(o, &a->values_codes, a->values, width),
        .n = call->n,
        .y = out,
        .ldy = c->hidden,
    };
    sl_multiply(a->compute, &up, 1);
    sl_team_run(&a->compute->team, call->n, 1, encode_values_work, (void *)(uintptr_t)call);
    sl_multiply(a->compute, &down, 1);
}

void sl_attention_run(struct sl_attention *a, const struct sl_layer_weights *w,
                      struct sl_layer_cache *cache, unsigned layer, const float *x, size_t position,
                      size_t n, float *out)
{
    struct sl_attention_call call = {a, w, cache, layer, position, n, x};
    const struct sl_team *team = &a->compute->team;
    project_x(&call);
    sl_team_run(team, n, 1, store_work, &call);
    project_queries(&call);
    sl_meter_lap(a->compute->meter, SLUICE_PART_PROJECTIONS);
    if (sl_is_sparse(a, position + n - 1))
        sl_index_select(&call);
    absorb(&call);
    sl_meter_lap(a->compute->meter, SLUICE_PART_PROJECTIONS);
    sl_team_run(team, n * sl_ceil_div(a->config->heads, group_heads(&call)), 1, attend_work, &call);
    count_rows(&call);
    sl_meter_lap(a->compute->meter, SLUICE_PART_ATTENTION);
    project_out(&call, out);
}
