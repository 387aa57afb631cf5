/* SPDX-License-Identifier: MIT */
/*
 * Routed experts over the tokens that chose them.  Rows are (token, expert) pairs, sorted by
 * expert.  A few tokens: the experts in memory are computed while others are read, then each half
 * of those as it arrives, and at the end all are added.  Many tokens: experts come in ascending
 * order, in batches whose rows fit into the scratch.  A token's outputs are always added in
 * ascending order of its experts, so both ways give the same bits.
 */
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/moe/moe_private.h"

enum { MIN_ROWS = 1024 }; /* of experts computed together, if a chunk has as many */

size_t sl_routed_rows(const struct sl_moe *m)
{
    return sl_min(m->chunk * m->config->experts_used, sl_max(2 * m->chunk, MIN_ROWS));
}

void sl_routed_take_tables(struct sl_moe *m, struct sl_arena *arena)
{
    const struct sl_config *c = m->config;
    size_t choices = m->span * c->experts_used;
    m->chosen = sl_arena_take(arena, choices, sizeof(uint32_t));
    m->weight = sl_arena_take(arena, choices, sizeof(float));
    m->first = sl_arena_take(arena, c->experts + 1, sizeof(uint32_t));
    m->row_token = sl_arena_take(arena, choices, sizeof(uint32_t));
    m->row_of = sl_arena_take(arena, choices, sizeof(uint32_t));
    m->todo = sl_arena_take(arena, sl_routed_rows(m), sizeof(uint32_t));
    m->used = sl_arena_take(arena, c->experts, sizeof(uint32_t));
    m->uses = sl_arena_take(arena, c->experts, sizeof(uint32_t));
    m->blocks = sl_arena_take(arena, m->wave, sizeof *m->blocks);
    m->ready = sl_arena_take(arena, m->wave, sizeof *m->ready);
    m->matrices = sl_arena_take(arena, 2 * m->wave, sizeof *m->matrices);
    m->products = sl_arena_take(arena, m->wave, sizeof *m->products);
}

void sl_routed_take_scratch(struct sl_moe *m, struct sl_arena *arena)
{
    size_t rows = sl_routed_rows(m);
    sl_ffn_take(&m->routed, arena, rows, m->config->moe_inner);
    m->routed_out = sl_arena_take(arena, rows * m->config->hidden, sizeof(float));
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* Sorts the choices of N tokens by expert, tokens in order.  Returns how many experts are used. */
static size_t sort_rows(struct sl_moe *m, size_t n)
{
    size_t experts = m->config->experts, used = m->config->experts_used, n_used = 0;
    uint32_t *first = m->first;
    memset(first, 0, (experts + 1) * sizeof *first);
    for (size_t i = 0; i < n * used; i++)
        first[m->chosen[i] + 1]++;
    for (size_t e = 0; e < experts; e++) {
        if (first[e + 1] > 0) {
            m->used[n_used] = (uint32_t)e;
            m->uses[n_used++] = first[e + 1];
        }
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

/* Rows [first, first + n); the scratch begins with row BASE. */
struct rows {
    size_t first, n, base;
};

/* Of expert ID, those from BASE on that are no more than MOST behind it. */
static struct rows rows_of(const struct sl_moe *m, uint32_t id, size_t base, size_t most)
{
    size_t first = sl_max(m->first[id], base), end = sl_min(m->first[id + 1], base + most);
    return (struct rows){first, end > first ? end - first : 0, base};
}

/* One half of an expert over ROWS. */
static struct sl_product product_of(struct sl_moe *m, const struct sl_matrix *w, bool down,
                                    struct rows rows, const float *x)
{
    size_t hidden = m->config->hidden, row = rows.first - rows.base;
    struct sl_ffn_scratch *f = &m->routed;
    struct sl_product p = {.w = w, .n = rows.n};
    if (down) {
        p.x = sl_acts_for(w, &f->inner_codes, f->inner, f->inner_dim);
        p.x = sl_acts_at(p.x, row * p.x.ld);
        p.y = m->routed_out + row * hidden;
        p.ldy = hidden;
    } else {
        p.x = sl_acts_for(w, &m->x_codes, x, hidden);
        p.x.row = m->row_token + rows.first;
        p.y = f->gate_up + row * f->gate_up_ld;
        p.ldy = f->gate_up_ld;
    }
    return p;
}

/* Adds the outputs of ROWS to the tokens. */
struct add_phase {
    const struct sl_moe *m;
    struct rows rows;
    float *out;
};

static void add_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct add_phase *p = arg;
    const struct sl_moe *m = p->m;
    size_t hidden = m->config->hidden, used = m->config->experts_used;
    (void)thread;
    for (size_t i = begin * used; i < end * used; i++) {
        size_t row = m->row_of[i] - p->rows.base; /* huge when it comes before */
        if (row < p->rows.n)
            m->compute->ops->axpy(m->weight[i], m->routed_out + row * hidden, hidden,
                                  p->out + i / used * hidden);
    }
}

static void add_rows(struct sl_moe *m, struct rows rows, size_t n_tokens, float *out)
{
    struct add_phase phase = {m, rows, out};
    sl_team_run(&m->compute->team, n_tokens, 1, add_work, &phase);
}

/* ---- accounts ------------------------------------------------------------------------------- */

/* A prompt will want nearly all experts of LAYER: the first of them are read while attention is
 * computed. */
static void expect_all(struct sl_moe *m, unsigned layer)
{
    if (!sl_experts_has(m->experts, layer))
        return;
    for (uint32_t e = 0; e < m->config->experts; e++)
        m->used[e] = e;
    sl_experts_expect(m->experts, layer, m->used, m->config->experts, 0);
}

void sl_moe_begin(struct sl_moe *m, size_t n, const atomic_int *stop)
{
    const struct sl_config *c = m->config;
    m->since = sl_now();
    if (!m->experts)
        return;
    bool most = n * c->experts_used >= 2 * (size_t)c->experts; /* even choices miss an eighth */
    sl_experts_pass(m->experts, n, most, stop);
    if (most)
        expect_all(m, c->dense_layers);
}

/* The choice is made. */
static double open_event(struct sl_moe *m, unsigned layer, size_t n)
{
    double now = sl_now();
    m->event = (struct sluice_expert_event){
        .layer = (int32_t)layer, .tokens = n, .before = now - m->since};
    return now;
}

/* … at CHOICE; computing what landed last began at LAST. */
static void close_event(struct sl_moe *m, double choice, double last)
{
    const struct sl_asked asked = sl_experts_asked(m->experts);
    struct sluice_expert_event *e = &m->event;
    e->hits = asked.hits;
    e->misses = asked.misses;
    e->ahead = asked.ahead;
    e->bytes = asked.bytes;
    e->reading = asked.landed > choice ? asked.landed - choice : 0;
    m->since = sl_now();
    e->all = m->since - choice;
    e->rest = asked.misses + asked.ahead > 0 ? m->since - last : 0;
}

/* ---- many tokens: in order ------------------------------------------------------------------ */

/* Puts the matrices of a block at [2 · i]. */
static void bind(struct sl_moe *m, const struct sl_expert_layout *layout, size_t i,
                 const uint8_t *block)
{
    m->matrices[2 * i] = (struct sl_matrix){layout->gate_up, block};
    m->matrices[2 * i + 1] = (struct sl_matrix){layout->down, block + layout->down_offset};
}

/* The end of the batch that begins with row BASE: that of an expert if it can be, so that its
 * weights are read once. */
static size_t batch_end(const struct sl_moe *m, const uint32_t *ids, size_t n, size_t base)
{
    size_t most = base + sl_routed_rows(m), end = base;
    for (size_t i = 0; i < n && m->first[ids[i] + 1] <= most; i++)
        end = sl_max(end, m->first[ids[i] + 1]);
    return end > base ? end : sl_min(most, m->first[ids[n - 1] + 1]);
}

static void run_half(struct sl_moe *m, const uint32_t *ids, size_t n, struct rows batch, bool down,
                     const float *x)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        struct rows rows = rows_of(m, ids[i], batch.base, batch.n);
        if (rows.n > 0)
            m->products[count++] = product_of(m, &m->matrices[2 * i + down], down, rows, x);
    }
    sl_multiply(m->compute, m->products, count);
}

/* Computes the experts at hand, ids[0..n), for the tokens whose rows are sorted. */
static void run_wave(struct sl_moe *m, const uint32_t *ids, size_t n, const float *x,
                     size_t n_tokens, float *out)
{
    size_t end = m->first[ids[n - 1] + 1];
    for (size_t base = m->first[ids[0]], next; base < end; base = next) {
        next = batch_end(m, ids, n, base);
        struct rows batch = {base, next - base, base};
        run_half(m, ids, n, batch, false, x);
        sl_activate(m, &m->routed, m->config->moe_inner, NULL, batch.n);
        run_half(m, ids, n, batch, true, x);
        add_rows(m, batch, n_tokens, out);
    }
    sl_meter_lap(m->compute->meter, SLUICE_PART_EXPERTS);
}

static int run_in_order(struct sl_moe *m, unsigned layer, const float *x, size_t n, size_t n_used,
                        float *out, struct sluice_err *err)
{
    const struct sl_expert_layout *layout = sl_experts_layout(m->experts, layer);
    const struct sl_ask ask = {layer, m->used, m->uses, n_used, .in_order = true};
    double choice = open_event(m, layer, n), last = choice;
    int taken, status = sl_experts_ask(m->experts, &ask, err);
    if (status < 0)
        return status;
    while ((taken = sl_experts_take(m->experts, m->ready, m->wave, err)) > 0) {
        sl_meter_lap(m->compute->meter, SLUICE_PART_IO);
        for (int i = 0; i < taken; i++)
            bind(m, layout, (size_t)i, m->ready[i].block);
        last = sl_now();
        run_wave(m, m->used + m->ready[0].index, (size_t)taken, x, n, out);
    }
    sl_experts_release(m->experts);
    close_event(m, choice, last);
    if (taken == 0 && 8 * n_used >= 7 * m->config->experts)
        expect_all(m, layer + 1);
    return taken;
}

/* ---- few tokens: as they come --------------------------------------------------------------- */

/* The halves of what was just taken. */
static void run_taken(struct sl_moe *m, size_t n, bool down, const float *x)
{
    size_t count = 0, todo = 0;
    for (size_t i = 0; i < n; i++) {
        const struct sl_ready *r = &m->ready[i];
        struct rows rows = rows_of(m, m->used[r->index], 0, sl_routed_rows(m));
        if (!(down ? r->down : r->gate_up))
            continue;
        m->products[count++] = product_of(m, &m->matrices[2 * r->index + down], down, rows, x);
        for (size_t row = rows.first; !down && row < rows.first + rows.n; row++)
            m->todo[todo++] = (uint32_t)row;
    }
    if (count > 0)
        sl_multiply(m->compute, m->products, count);
    if (todo > 0)
        sl_activate(m, &m->routed, m->config->moe_inner, m->todo, todo);
}

static bool any_in_memory(const struct sl_moe *m, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!m->ready[i].read)
            return true;
    return false;
}

static int run_as_they_come(struct sl_moe *m, const struct sl_layer_weights *w, unsigned layer,
                            const float *x, size_t n, size_t n_used, float *out,
                            struct sluice_err *err)
{
    const struct sl_expert_layout *layout = sl_experts_layout(m->experts, layer);
    const struct sl_ask ask = {layer, m->used, m->uses, n_used, .in_order = false};
    double choice = open_event(m, layer, n), last = choice;
    int taken, status = sl_experts_ask(m->experts, &ask, err);
    if (status < 0)
        return status;
    sl_moe_guess(m, layer);
    sl_shared_run(m, w, x, 0, n);
    m->event.resident = sl_now() - choice;
    while ((taken = sl_experts_take(m->experts, m->ready, m->wave, err)) > 0) {
        sl_meter_lap(m->compute->meter, SLUICE_PART_IO);
        for (int i = 0; i < taken; i++)
            bind(m, layout, m->ready[i].index, m->ready[i].block);
        last = sl_now();
        run_taken(m, (size_t)taken, false, x);
        run_taken(m, (size_t)taken, true, x);
        sl_meter_lap(m->compute->meter, SLUICE_PART_EXPERTS);
        if (any_in_memory(m, (size_t)taken))
            m->event.resident = sl_now() - choice;
    }
    sl_experts_release(m->experts);
    if (taken < 0)
        return taken;
    add_rows(m, (struct rows){0, n * m->config->experts_used, 0}, n, out);
    sl_meter_lap(m->compute->meter, SLUICE_PART_EXPERTS);
    sl_shared_put(m, n, out);
    close_event(m, choice, last);
    return 0;
}

int sl_experts_run(struct sl_moe *m, const struct sl_layer_weights *w, unsigned layer,
                   const float *x, size_t n, float *out, struct sluice_err *err)
{
    size_t n_used = sort_rows(m, n);
    memset(out, 0, n * m->config->hidden * sizeof *out);
    if (n * m->config->experts_used <= sl_routed_rows(m) &&
        n_used <= sl_min(m->wave, sl_experts_at_once(m->experts)))
        return run_as_they_come(m, w, layer, x, n, n_used, out, err);
    int status = run_in_order(m, layer, x, n, n_used, out, err);
    if (status < 0)
        return status;
    for (size_t t = 0; t < n; t += m->chunk) {
        size_t count = sl_min(m->chunk, n - t);
        sl_shared_run(m, w, x, t, count);
        sl_shared_put(m, count, out + t * m->config->hidden);
    }
    return 0;
}

/* ---- in pieces, for the evaluator ----------------------------------------------------------- */

int sl_experts_bring(struct sl_moe *m, unsigned layer, const uint32_t *ids, size_t n,
                     struct sluice_err *err)
{
    const struct sl_expert_layout *layout = sl_experts_layout(m->experts, layer);
    int status = sl_experts_fetch(m->experts, layer, ids, n, m->blocks, err);
    sl_meter_lap(m->compute->meter, SLUICE_PART_IO);
    for (size_t i = 0; status == 0 && i < n; i++)
        bind(m, layout, i, m->blocks[i]);
    return status;
}

void sl_experts_add(struct sl_moe *m, const uint32_t *ids, size_t n, const float *x,
                    size_t n_tokens, float *out)
{
    sl_moe_encode(m, x, 0, n_tokens);
    sort_rows(m, n_tokens);
    run_wave(m, ids, n, x, n_tokens, out);
}
