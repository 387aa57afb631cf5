/* SPDX-License-Identifier: MIT */
/* Divides matrix products into panels.  A row's sum is never divided: results cannot depend on
 * the number of threads. */
#include "runtime/model/matmul.h"

#include "runtime/base/arith.h"

/* Panels handed to a thread at a time.  With many vectors two of them are work enough.  With one
 * vector a piece has to be long for its streams of addresses (simd/wide/wide_gemv.c, which likes
 * fours), but short enough for threads to end together. */
enum { GRAIN = 2, FOUR = 4, PIECE_BYTES = 512 << 10, PIECES = 16 /* per thread, or more */ };

struct phase {
    const struct sl_ops *ops;
    const struct sl_product *products;
};

static size_t product_panels(const struct sl_product *p)
{
    return sl_panel_count(&p->w->packing) * p->w->packing.count;
}

/* Panels [begin, end) of one product, where panel numbers run through its stack. */
static void multiply_range(const struct sl_ops *ops, const struct sl_product *p, size_t begin,
                           size_t end)
{
    size_t panels = sl_panel_count(&p->w->packing);
    while (begin < end) {
        size_t i = begin / panels, first = begin % panels;
        size_t count = sl_min(end - begin, panels - first);
        struct sl_matrix w = sl_matrix_at(p->w, i);
        ops->gemm(&w, first, first + count, sl_acts_at(p->x, i * p->x_step), p->n,
                  p->y + i * p->y_step, p->ldy);
        begin += count;
    }
}

static void multiply_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct phase *phase = arg;
    (void)thread;
    size_t base = 0; /* number of the first panel of *p */
    for (const struct sl_product *p = phase->products; base < end; p++) {
        size_t next = base + product_panels(p);
        size_t first = sl_max(begin, base), last = sl_min(end, next);
        if (first < last && p->n > 0)
            multiply_range(phase->ops, p, first - base, last - base);
        base = next;
    }
}

/* Of PANELS panels with BYTES bytes in all. */
static size_t grain_for_one(size_t panels, size_t bytes, unsigned threads)
{
    size_t most = sl_round_up(sl_ceil_div(PIECE_BYTES * panels, sl_max(bytes, 1)), FOUR);
    size_t grain = sl_min(panels / (PIECES * threads), most);
    return grain > FOUR ? grain / FOUR * FOUR : sl_max(grain, 1);
}

static void multiply_by_kernels(const struct sl_compute *c, const struct sl_product *products,
                                size_t n)
{
    struct phase phase = {c->ops, products};
    size_t panels = 0, bytes = 0, vectors = 0;
    for (size_t i = 0; i < n; i++) {
        panels += product_panels(&products[i]);
        bytes += sl_packing_bytes(&products[i].w->packing);
        vectors = sl_max(vectors, products[i].n);
    }
    size_t grain = vectors > 1 ? GRAIN : grain_for_one(panels, bytes, c->team.threads);
    sl_team_run(&c->team, panels, grain, multiply_work, &phase);
}

void sl_multiply(const struct sl_compute *c, const struct sl_product *products, size_t n)
{
    size_t done = 0;
    for (size_t i = 0; i < n; i++) {
        sl_meter_bytes(c->meter, sl_packing_bytes(&products[i].w->packing));
        if (c->multiplier && c->multiplier->multiply(c->multiplier, &c->team, &products[i])) {
            c->multiplier->products++;
            multiply_by_kernels(c, products + done, i - done);
            done = i + 1;
        }
    }
    multiply_by_kernels(c, products + done, n - done);
}

void sl_codes_take(struct sl_codes *codes, struct sl_arena *arena, size_t capacity, size_t inputs)
{
    codes->ld = sl_row_bytes(sl_padded_cols(inputs));
    codes->q = sl_arena_take(arena, capacity, codes->ld);
    codes->scale = sl_arena_take(arena, capacity, codes->ld / SL_BLOCK * sizeof(float));
    codes->sum = sl_arena_take(arena, capacity, codes->ld / SL_BLOCK * sizeof(int32_t));
}

struct sl_codes sl_codes_at(const struct sl_codes *codes, size_t t)
{
    size_t at = t * codes->ld, block = at / SL_BLOCK;
    return (struct sl_codes){codes->q + at, codes->scale + block, codes->sum + block, codes->ld};
}

void sl_codes_put(const struct sl_codes *codes, const struct sl_ops *ops, size_t t, size_t col,
                  const float *x, size_t n)
{
    size_t at = t * codes->ld + col, block = at / SL_BLOCK;
    ops->quantize_acts(x, n, codes->q + at, codes->scale + block, codes->sum + block);
}

struct sl_acts sl_acts_for(const struct sl_matrix *w, const struct sl_codes *codes, const float *x,
                           size_t ldx)
{
    if (!sl_is_integer(w->packing.code))
        return (struct sl_acts){.f = x, .ld = ldx};
    return (struct sl_acts){
        .q = codes->q, .scale = codes->scale, .sum = codes->sum, .ld = codes->ld};
}
