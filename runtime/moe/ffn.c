/* SPDX-License-Identifier: MIT */
/* SwiGLU networks over many tokens: the dense one, the shared expert; and the router's phases. */
#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/moe/moe_private.h"

enum { MIN_WAVE = 16 };

void sl_ffn_take(struct sl_ffn_scratch *f, struct sl_arena *arena, size_t capacity, size_t inner)
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
    return sl_min(sl_max(2 * (size_t)c->experts_used, MIN_WAVE), SL_WAVE_MAX);
}

/* The scratch of the shared expert and that of routed ones are never used at the same time; what
 * the shared one gave is kept until the routed ones are done. */
void sl_moe_take(struct sl_moe *m, struct sl_arena *arena)
{
    const struct sl_config *c = m->config;
    size_t shared = m->wave ? (size_t)c->shared * c->moe_inner : 0;
    size_t dense = c->dense_layers > 0 ? c->ffn_inner : 0;
    sl_codes_take(&m->x_codes, arena, m->span, c->hidden);
    if (m->wave) {
        m->logits = sl_arena_take(arena, m->chunk * c->experts, sizeof(float));
        m->route_scratch = sl_arena_take(arena, (size_t)m->compute->team.threads * c->experts * 2,
                                         sizeof(float));
        m->own_out = sl_arena_take(arena, m->chunk * c->hidden, sizeof(float));
        sl_routed_take_tables(m, arena);
        sl_guess_take(m, arena);
    }
    size_t start = arena->used;
    sl_ffn_take(&m->own, arena, m->chunk, sl_max(shared, dense));
    size_t end = arena->used;
    if (!m->wave)
        return;
    arena->used = start;
    sl_routed_take_scratch(m, arena);
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

void sl_moe_encode(struct sl_moe *m, const float *x, size_t first, size_t n)
{
    struct encode_phase phase = {m, x, sl_codes_at(&m->x_codes, first)};
    sl_team_run(&m->compute->team, n, 1, encode_work, &phase);
}

struct activate_phase {
    const struct sl_ops *ops;
    struct sl_ffn_scratch *ffn;
    size_t inner;
    const uint32_t *rows;
};

static void activate_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct activate_phase *p = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t r = p->rows ? p->rows[i] : i;
        float *inner = p->ffn->inner + r * p->ffn->inner_dim;
        p->ops->swiglu(p->ffn->gate_up + r * p->ffn->gate_up_ld, p->inner, inner);
        sl_codes_put(&p->ffn->inner_codes, p->ops, r, 0, inner, p->inner);
    }
}

void sl_activate(struct sl_moe *m, struct sl_ffn_scratch *f, size_t inner, const uint32_t *rows,
                 size_t n)
{
    struct activate_phase phase = {m->compute->ops, f, inner, rows};
    sl_team_run(&m->compute->team, n, 1, activate_work, &phase);
}

/* out[n][hidden] = down · swiglu(gate_up · x) of tokens [first, first + n), n ≤ chunk, whose INT8
 * form is in m->x_codes; X holds the floats of all tokens, where matrices want them. */
static void run_network(struct sl_moe *m, const struct sl_matrix *gate_up,
                        const struct sl_matrix *down, const float *x, size_t first, size_t n,
                        float *out)
{
    size_t hidden = m->config->hidden;
    struct sl_ffn_scratch *f = &m->own;
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
    sl_activate(m, f, down->packing.cols, NULL, n);
    sl_multiply(m->compute, &back, 1);
}

void sl_dense_run(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t n,
                  float *out)
{
    sl_moe_encode(m, x, 0, n);
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
    sl_moe_encode(m, x, first, n);
    sl_multiply(m->compute, &product, 1);
    sl_team_run(&m->compute->team, n, 1, choose_work, &phase);
    sl_meter_lap(m->compute->meter, SLUICE_PART_ROUTER);
}

/* ---- the shared expert ----------------------------------------------------------------------- */

void sl_shared_run(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t first,
                   size_t n)
{
    run_network(m, &w->matrix[SL_SHARED_GATE_UP], &w->matrix[SL_SHARED_DOWN], x, first, n,
                m->own_out);
    sl_meter_lap(m->compute->meter, SLUICE_PART_SHARED);
}

void sl_shared_put(struct sl_moe *m, size_t n, float *out)
{
    m->compute->ops->add(m->own_out, n * m->config->hidden, out);
    sl_meter_lap(m->compute->meter, SLUICE_PART_SHARED);
}

void sl_shared_add(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t n,
                   float *out)
{
    sl_moe_encode(m, x, 0, n);
    sl_shared_run(m, w, x, 0, n);
    sl_shared_put(m, n, out);
}
