/* SPDX-License-Identifier: MIT */
/*
 * SwiGLU networks over many tokens.  Experts come in waves from stream/, which are divided into
 * batches when many tokens chose them.  A batch is one wide phase for gate/up, one for the
 * activation, one for down, and one that adds its outputs to the tokens.
 */
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/moe/moe.h"

enum {
    MIN_WAVE = 16,
    MIN_ROWS = 1024, /* of routed experts computed together, if a chunk has as many */
};

static void ffn_take(struct sl_ffn_scratch *f, struct sl_arena *arena, size_t capacity,
                     size_t inner)
{
    f->inner_dim = inner;
    f->gate_up_ld = sl_row_bytes(2 * sl_padded_rows(inner) * sizeof(float)) / sizeof(float);
    f->gate_up = sl_arena_take(arena, capacity * f->gate_up_ld, sizeof(float));
    f->inner = sl_arena_take(arena, capacity * inner, sizeof(float));
    sl_codes_take(&f->inner_codes, arena, capacity, inner);
}

size_t sl_moe_wave(const struct sl_config *c, uint32_t layers)
{
    if (layers <= c->dense_layers)
        return 0;
    return sl_min(sl_max(2 * (size_t)c->experts_used, MIN_WAVE), SL_READS);
}

/* Experts that share a phase have together so many rows, at least any one's: a span. */
static size_t most_rows(const struct sl_moe *m)
{
    return sl_min(m->span * m->config->experts_used, sl_max(2 * m->span, MIN_ROWS));
}

/* Which expert computes which token. */
static void take_routes(struct sl_moe *m, struct sl_arena *arena)
{
    const struct sl_config *c = m->config;
    size_t choices = m->span * c->experts_used;
    m->logits = sl_arena_take(arena, m->chunk * c->experts, sizeof(float));
    m->route_scratch = sl_arena_take(arena, (size_t)m->compute->team.threads * c->experts * 2,
                                     sizeof(float));
    m->chosen = sl_arena_take(arena, choices, sizeof(uint32_t));
    m->weight = sl_arena_take(arena, choices, sizeof(float));
    m->first = sl_arena_take(arena, c->experts + 1, sizeof(uint32_t));
    m->row_token = sl_arena_take(arena, choices, sizeof(uint32_t));
    m->row_of = sl_arena_take(arena, choices, sizeof(uint32_t));
    m->used = sl_arena_take(arena, c->experts, sizeof(uint32_t));
    m->blocks = sl_arena_take(arena, m->wave, sizeof *m->blocks);
    m->matrices = sl_arena_take(arena, 2 * m->wave, sizeof *m->matrices);
    m->products = sl_arena_take(arena, m->wave, sizeof *m->products);
}

/* Routed experts are done before the shared one begins, so that they have the same memory. */
void sl_moe_take(struct sl_moe *m, struct sl_arena *arena)
{
    const struct sl_config *c = m->config;
    size_t shared = m->wave ? (size_t)c->shared * c->moe_inner : 0;
    size_t dense = c->dense_layers > 0 ? c->ffn_inner : 0;
    sl_codes_take(&m->x_codes, arena, m->span, c->hidden);
    if (m->wave)
        take_routes(m, arena);
    size_t start = arena->used;
    ffn_take(&m->own, arena, m->chunk, sl_max(shared, dense));
    if (!m->wave)
        return;
    m->own_out = sl_arena_take(arena, m->chunk * c->hidden, sizeof(float));
    size_t end = arena->used;
    arena->used = start;
    ffn_take(&m->routed, arena, most_rows(m), c->moe_inner);
    m->routed_out = sl_arena_take(arena, most_rows(m) * c->hidden, sizeof(float));
    arena->used = sl_max(end, arena->used);
}

int sl_experts_check(const struct sl_experts *x, const struct sl_config *c, const char *dir,
                     unsigned layer, struct sluice_err *err)
{
    const struct sl_expert_layout *layout = sl_experts_layout(x, layer);
    uint32_t found = sl_experts_count(x, layer);
    if (found == c->experts && sl_shape_fits(c, SL_EXPERT_GATE_UP, &layout->gate_up) &&
        sl_shape_fits(c, SL_EXPERT_DOWN, &layout->down))
        return 0;
    char name[64];
    sl_experts_file(name, layer);
    return sl_fail(err, SLUICE_EFORMAT,
                   "%s/%s: %u experts of [%u, %u] and [%u, %u]; config.json demands %u of inner "
                   "size %u and hidden size %u",
                   dir, name, found, layout->gate_up.rows, layout->gate_up.cols, layout->down.rows,
                   layout->down.cols, c->experts, c->moe_inner, c->hidden);
}

/* ---- one network ---------------------------------------------------------------------------- */

struct rows_phase {
    struct sl_moe *m;
    struct sl_ffn_scratch *ffn;
    size_t inner; /* of the network at hand, ≤ ffn->inner_dim */
};

struct encode_phase {
    const struct sl_moe *m;
    const float *x;
    struct sl_codes codes;
};

static void encode_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct encode_phase *p = arg;
    size_t hidden = p->m->config->hidden;
    (void)thread;
    for (size_t t = begin; t < end; t++)
        sl_codes_put(&p->codes, p->m->compute->ops, t, 0, p->x + t * hidden, hidden);
}

/* The INT8 form of x[n][hidden], as tokens [first, first + n) of the span. */
static void encode_x(struct sl_moe *m, const float *x, size_t first, size_t n)
{
    struct encode_phase phase = {m, x, sl_codes_at(&m->x_codes, first)};
    sl_team_run(&m->compute->team, n, 1, encode_work, &phase);
}

/* SwiGLU of finished gate_up rows, and its INT8 form. */
static void activate_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct rows_phase *p = arg;
    const struct sl_ops *ops = p->m->compute->ops;
    (void)thread;
    for (size_t r = begin; r < end; r++) {
        float *inner = p->ffn->inner + r * p->ffn->inner_dim;
        ops->swiglu(p->ffn->gate_up + r * p->ffn->gate_up_ld, p->inner, inner);
        sl_codes_put(&p->ffn->inner_codes, ops, r, 0, inner, p->inner);
    }
}

/* out[n][hidden] = down · swiglu(gate_up · x) of encoded tokens [first, first + n), n ≤ chunk; X
 * holds the floats of all tokens, where matrices want them. */
static void run_network(struct sl_moe *m, const struct sl_matrix *gate_up,
                        const struct sl_matrix *down, const float *x, size_t first, size_t n,
                        float *out)
{
    size_t hidden = m->config->hidden;
    struct sl_ffn_scratch *f = &m->own;
    struct rows_phase phase = {.m = m, .ffn = f, .inner = down->packing.cols};
    struct sl_acts acts = sl_acts_for(gate_up, &m->x_codes, x, hidden);
    struct sl_product up = {
        .w = gate_up,
        .x = sl_acts_at(acts, first * acts.ld),
        .n = n,
        .y = f->gate_up,
        .ldy = f->gate_up_ld,
    };
    struct sl_product back = {
        .w = down,
        .x = sl_acts_for(down, &f->inner_codes, f->inner, f->inner_dim),
        .n = n,
        .y = out,
        .ldy = hidden,
    };
    sl_multiply(m->compute, &up, 1);
    sl_team_run(&m->compute->team, n, 1, activate_work, &phase);
    sl_multiply(m->compute, &back, 1);
}

void sl_dense_run(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t n,
                  float *out)
{
    encode_x(m, x, 0, n);
    run_network(m, &w->matrix[SL_DENSE_GATE_UP], &w->matrix[SL_DENSE_DOWN], x, 0, n, out);
    sl_meter_lap(m->compute->meter, SLUICE_PART_DENSE);
}

/* ---- routing -------------------------------------------------------------------------------- */

struct route_phase {
    struct sl_moe *m;
    const float *bias;
    size_t first; /* token of the span */
};

static void choose_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct route_phase *p = arg;
    struct sl_moe *m = p->m;
    size_t experts = m->config->experts, used = m->config->experts_used;
    for (size_t t = begin; t < end; t++)
        sl_route_choose(m->config, m->compute->ops, m->logits + t * experts, p->bias,
                        m->route_scratch + (size_t)thread * experts * 2,
                        (struct sl_route){m->chosen + (p->first + t) * used,
                                          m->weight + (p->first + t) * used});
}

void sl_router_run(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t first,
                   size_t n)
{
    const struct sl_matrix *router = &w->matrix[SL_ROUTER];
    struct route_phase phase = {m, w->vector[SL_ROUTER_BIAS], first};
    struct sl_codes codes = sl_codes_at(&m->x_codes, first);
    struct sl_product product = {
        .w = router,
        .x = sl_acts_for(router, &codes, x, m->config->hidden),
        .n = n,
        .y = m->logits,
        .ldy = m->config->experts,
    };
    encode_x(m, x, first, n);
    sl_multiply(m->compute, &product, 1);
    sl_team_run(&m->compute->team, n, 1, choose_work, &phase);
    m->expert_uses += n * m->config->experts_used;
    sl_meter_lap(m->compute->meter, SLUICE_PART_ROUTER);
}

/* Sorts N tokens' choices by expert, tokens in order; returns the number of experts in use. */
static size_t sort_rows(struct sl_moe *m, size_t n)
{
    size_t experts = m->config->experts, used = m->config->experts_used, n_used = 0;
    uint32_t *first = m->first;
    memset(first, 0, (experts + 1) * sizeof *first);
    for (size_t i = 0; i < n * used; i++)
        first[m->chosen[i] + 1]++;
    for (size_t e = 0; e < experts; e++) {
        if (first[e + 1] > 0)
            m->used[n_used++] = (uint32_t)e;
        first[e + 1] += first[e];
    }
    for (size_t i = 0; i < n * used; i++) { /* first[e] walks to first[e + 1] … */
        uint32_t row = first[m->chosen[i]]++;
        m->row_of[i] = row;
        m->row_token[row] = (uint32_t)(i / used);
    }
    memmove(first + 1, first, experts * sizeof *first); /* … and is put back */
    first[0] = 0;
    return n_used;
}

/* ---- routed experts ------------------------------------------------------------------------- */

/* Some experts of a wave, whose rows fit into the scratch. */
struct batch {
    const uint32_t *ids;           /* [n] */
    const struct sl_matrix *pairs; /* [n][2]: gate_up, down */
    size_t n;
    size_t first, rows; /* rows of the sorted choices */
};

/* The products of one half (gate_up or down). */
static void run_half(struct sl_moe *m, const struct batch *b, bool down, const float *x)
{
    size_t hidden = m->config->hidden;
    struct sl_ffn_scratch *f = &m->routed;
    for (size_t i = 0; i < b->n; i++) {
        size_t first = m->first[b->ids[i]], row = first - b->first;
        const struct sl_matrix *w = &b->pairs[2 * i + down];
        struct sl_product *p = &m->products[i];
        *p = (struct sl_product){.w = w, .n = m->first[b->ids[i] + 1] - first};
        if (down) {
            p->x = sl_acts_for(w, &f->inner_codes, f->inner, f->inner_dim);
            p->x = sl_acts_at(p->x, row * p->x.ld);
            p->y = m->routed_out + row * hidden;
            p->ldy = hidden;
        } else {
            p->x = sl_acts_for(w, &m->x_codes, x, hidden);
            p->x.row = m->row_token + first;
            p->y = f->gate_up + row * f->gate_up_ld;
            p->ldy = f->gate_up_ld;
        }
    }
    sl_multiply(m->compute, m->products, b->n);
}

/* Adds outputs to the tokens.  Choices, waves and batches ascend, so the order is fixed. */
struct add_phase {
    struct sl_moe *m;
    const struct batch *batch;
    float *out;
};

static void add_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct add_phase *p = arg;
    const struct sl_moe *m = p->m;
    size_t hidden = m->config->hidden, used = m->config->experts_used;
    (void)thread;
    for (size_t i = begin * used; i < end * used; i++) {
        size_t row = m->row_of[i] - p->batch->first; /* huge when it comes before */
        if (row < p->batch->rows)
            m->compute->ops->axpy(m->weight[i], m->routed_out + row * hidden, hidden,
                                  p->out + i / used * hidden);
    }
}

int sl_experts_bring(struct sl_moe *m, unsigned layer, const uint32_t *ids, size_t n,
                     struct sluice_err *err)
{
    const struct sl_expert_layout *layout = sl_experts_layout(m->experts, layer);
    int status = sl_experts_fetch(m->experts, layer, ids, n, m->blocks, err);
    sl_meter_lap(m->compute->meter, SLUICE_PART_IO);
    for (size_t i = 0; status == 0 && i < n; i++) {
        m->matrices[2 * i] = (struct sl_matrix){layout->gate_up, m->blocks[i]};
        m->matrices[2 * i + 1] = (struct sl_matrix){layout->down,
                                                    m->blocks[i] + layout->down_offset};
    }
    return status;
}

/* The largest batch that begins with ids[0] of the N experts at hand. */
static struct batch batch_at(const struct sl_moe *m, const uint32_t *ids,
                             const struct sl_matrix *pairs, size_t n)
{
    struct batch b = {.ids = ids, .pairs = pairs, .first = m->first[ids[0]]};
    for (; b.n < n && m->first[ids[b.n] + 1] - b.first <= most_rows(m); b.n++)
        b.rows = m->first[ids[b.n] + 1] - b.first;
    return b;
}

static void run_batch(struct sl_moe *m, const struct batch *b, const float *x, size_t n_tokens,
                      float *out)
{
    struct rows_phase activate = {.m = m, .ffn = &m->routed, .inner = m->config->moe_inner};
    struct add_phase add = {m, b, out};
    run_half(m, b, false, x);
    sl_team_run(&m->compute->team, b->rows, 1, activate_work, &activate);
    run_half(m, b, true, x);
    sl_team_run(&m->compute->team, n_tokens, 1, add_work, &add);
}

/* Computes the experts at hand, ids[0..n), for the tokens whose rows are sorted. */
static void run_wave(struct sl_moe *m, const uint32_t *ids, size_t n, const float *x,
                     size_t n_tokens, float *out)
{
    for (size_t i = 0; i < n;) {
        struct batch b = batch_at(m, ids + i, m->matrices + 2 * i, n - i);
        run_batch(m, &b, x, n_tokens, out);
        i += b.n;
    }
    sl_meter_lap(m->compute->meter, SLUICE_PART_EXPERTS);
}

void sl_experts_add(struct sl_moe *m, const uint32_t *ids, size_t n, const float *x,
                    size_t n_tokens, float *out)
{
    encode_x(m, x, 0, n_tokens);
    sort_rows(m, n_tokens);
    run_wave(m, ids, n, x, n_tokens, out);
}

/* The activations of X are encoded already. */
static void add_shared(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t n,
                       float *out)
{
    const struct sl_matrix *gate_up = &w->matrix[SL_SHARED_GATE_UP];
    const struct sl_matrix *down = &w->matrix[SL_SHARED_DOWN];
    size_t hidden = m->config->hidden;
    for (size_t t = 0; t < n; t += m->chunk) {
        size_t count = sl_min(m->chunk, n - t);
        run_network(m, gate_up, down, x, t, count, m->own_out);
        m->compute->ops->add(m->own_out, count * hidden, out + t * hidden);
    }
    sl_meter_lap(m->compute->meter, SLUICE_PART_SHARED);
}

void sl_shared_add(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t n,
                   float *out)
{
    encode_x(m, x, 0, n);
    add_shared(m, w, x, n, out);
}

int sl_experts_run(struct sl_moe *m, const struct sl_layer_weights *w, unsigned layer,
                   const float *x, size_t n, float *out, struct sluice_err *err)
{
    size_t wave = sl_experts_wave(m->experts), n_used = sort_rows(m, n);
    memset(out, 0, n * m->config->hidden * sizeof *out);
    for (size_t i = 0; i < n_used; i += wave) {
        size_t count = sl_min(wave, n_used - i);
        int status = sl_experts_bring(m, layer, m->used + i, count, err);
        if (status < 0)
            return status;
        run_wave(m, m->used + i, count, x, n, out);
    }
    add_shared(m, w, x, n, out);
    return 0;
}
