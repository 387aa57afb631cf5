/* SPDX-License-Identifier: MIT */
/* Attention at depth 131,072 to the keys that an indexer chose. */
#include <stdio.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "tools/measure/kernel_cases.h"

enum {
    KEYS = 131072,
    TOPK = 2048,
    HEADS = 128,
    LATENT = 512,
    ROPE = 64,
    GROUPS = LATENT / SL_LATENT_GROUP,
    SELECTIONS = 32, /* of rows: each call has others, as each layer has */
};

static const char *plural(size_t n)
{
    return n == 1 ? "query" : "queries";
}

/* ---- attention ------------------------------------------------------------------------------ */

static size_t group_heads(const struct sl_call *c)
{
    return sl_attend_heads(HEADS, c->n, c->team.threads);
}

static const uint32_t *rows_of(const struct sl_call *c, size_t t)
{
    return c->attend.index + (c->number * c->n + t) % SELECTIONS * c->attend.topk;
}

static void encode_out(const struct sl_attend_data *d, const struct sl_ops *ops, size_t i)
{
    ops->quantize_acts(d->out + i * LATENT, LATENT, d->code + i * LATENT,
                       d->code_scale + i * LATENT / SL_BLOCK, d->code_sum + i * LATENT / SL_BLOCK);
}

/* What it does for HEADS heads from I on, of one token. */
static void attend_group(const struct sl_call *c, size_t i, size_t heads, unsigned thread)
{
    const struct sl_attend_data *d = &c->attend;
    const uint32_t *index = rows_of(c, i / HEADS);
    const float *query = d->query + i * (LATENT + ROPE);
    float *block = d->block + (size_t)thread * HEADS * (LATENT + 2);
    float max[HEADS], sum[HEADS];
    const struct sl_queries q = {.heads = (uint32_t)heads,
                                 .q = d->q + i * LATENT,
                                 .scale = d->q_scale + i * GROUPS,
                                 .rope = query + LATENT,
                                 .rope_ld = LATENT + ROPE};
    const struct sl_attended all = {d->out + i * LATENT, max, sum};
    const struct sl_attended next = {block, block + HEADS * LATENT, block + HEADS * (LATENT + 1)};
    for (size_t h = 0; h < heads; h++)
        c->ops->quantize_groups(query + h * (LATENT + ROPE), LATENT, SL_LATENT_GROUP,
                                d->q + (i + h) * LATENT, d->q_scale + (i + h) * GROUPS);
    for (size_t s = 0; s < d->topk; s += SL_ATTEND_BLOCK) {
        c->ops->attend(&d->kv, &q, 0.125f, index + s, s, sl_min(SL_ATTEND_BLOCK, d->topk - s),
                       s ? &next : &all, d->scratch + (size_t)thread * d->scratch_bytes);
        for (size_t h = 0; s > 0 && h < heads; h++)
            c->ops->attend_merge(all.out + h * LATENT, &max[h], &sum[h], next.out + h * LATENT,
                                 next.max[h], next.sum[h], LATENT);
    }
    for (size_t h = 0; h < heads; h++) {
        c->ops->attend_finish(all.out + h * LATENT, sum[h], LATENT);
        encode_out(d, c->ops, i + h);
    }
}

/* Calls of the kernel as attend_group() makes them, HEADS heads and perhaps no OUT. */
static void attend_blocks(const struct sl_call *c, size_t i, size_t heads, float *out,
                          unsigned thread)
{
    const struct sl_attend_data *d = &c->attend;
    const uint32_t *index = rows_of(c, i / HEADS);
    float max[HEADS], sum[HEADS];
    const struct sl_queries q = {.heads = (uint32_t)heads,
                                 .q = d->q + i * LATENT,
                                 .scale = d->q_scale + i * GROUPS,
                                 .rope = d->query + i * (LATENT + ROPE) + LATENT,
                                 .rope_ld = LATENT + ROPE};
    const struct sl_attended result = {out, max, sum};
    for (size_t s = 0; s < d->topk; s += SL_ATTEND_BLOCK)
        c->ops->attend(&d->kv, &q, 0.125f, index + s, s, sl_min(SL_ATTEND_BLOCK, d->topk - s),
                       &result, d->scratch + (size_t)thread * d->scratch_bytes);
}

/* A group of heads of one token. */
struct group {
    size_t i, heads;
};

static struct group group_at(const struct sl_call *c, size_t item)
{
    size_t size = group_heads(c), groups = sl_ceil_div(HEADS, size), first = item % groups * size;
    return (struct group){item / groups * HEADS + first, sl_min(size, HEADS - first)};
}

static void attend_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    for (size_t item = begin; item < end; item++) {
        struct group g = group_at(arg, item);
        attend_group(arg, g.i, g.heads, thread);
    }
}

/* The kernel alone; */
static void blocks_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_call *c = arg;
    for (size_t item = begin; item < end; item++) {
        struct group g = group_at(c, item);
        attend_blocks(c, g.i, g.heads, c->attend.out + g.i * LATENT, thread);
    }
}

/* without the values; */
static void scores_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    for (size_t item = begin; item < end; item++) {
        struct group g = group_at(arg, item);
        attend_blocks(arg, g.i, g.heads, NULL, thread);
    }
}

/* without the scores either: only bringing rows into order. */
static void rows_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    for (size_t item = begin; item < end; item++)
        attend_blocks(arg, group_at(arg, item).i, 0, NULL, thread);
}

/* What of attention a case times, and its multiply-adds for a head and a row. */
struct part {
    sl_work_fn *work, *without;
    size_t dots, fmas;
};
static const struct part whole = {attend_work, NULL, LATENT, ROPE + LATENT},
                         scores = {scores_work, rows_work, LATENT, ROPE},
                         values = {blocks_work, scores_work, 0, LATENT};

static void take_attend(struct sl_call *c, struct sl_arena *arena)
{
    struct sl_attend_data *d = &c->attend;
    size_t heads = c->n * HEADS;
    d->rows = KEYS / c->shrink;
    d->topk = TOPK / c->shrink;
    d->kv = (struct sl_kv){.type = SL_CACHE_INT8, .latent_dim = LATENT, .rope_dim = ROPE};
    d->kv.shift = SL_ONE_BLOCK;
    d->kv.block = &d->all_rows;
    d->kv.latent_stride = sl_kv_latent_bytes(SL_CACHE_INT8, LATENT);
    d->kv.tail_stride = sl_kv_tail_bytes(SL_CACHE_INT8, LATENT, ROPE);
    d->all_rows.latent = sl_arena_take(arena, d->rows, d->kv.latent_stride);
    d->all_rows.tail = sl_arena_take(arena, d->rows, d->kv.tail_stride);
    d->index = sl_arena_take(arena, SELECTIONS * d->topk, sizeof(uint32_t));
    d->query = sl_arena_take(arena, heads * (LATENT + ROPE), sizeof(float));
    d->q = sl_arena_take(arena, heads, LATENT);
    d->q_scale = sl_arena_take(arena, heads * GROUPS, sizeof(float));
    d->out = sl_arena_take(arena, heads * LATENT, sizeof(float));
    d->block = sl_arena_take(arena, c->team.threads * HEADS * (LATENT + 2), sizeof(float));
    d->scratch_bytes = sl_round_up(sl_attend_scratch(&d->kv), 64);
    d->scratch = sl_arena_take(arena, c->team.threads, d->scratch_bytes);
    d->code = sl_arena_take(arena, heads, LATENT);
    d->code_scale = sl_arena_take(arena, heads * LATENT / SL_BLOCK, sizeof(float));
    d->code_sum = sl_arena_take(arena, heads * LATENT / SL_BLOCK, sizeof(int32_t));
}

static void lay_attend(struct sl_call *c, struct sl_arena *arena)
{
    const struct sl_attend_data *d = &c->attend;
    const struct part *part = c->detail;
    take_attend(c, arena);
    c->work = part->work;
    c->without = part->without;
    c->items = c->n * sl_ceil_div(HEADS, group_heads(c));
    c->dots = (double)(c->n * HEADS * d->topk * part->dots);
    c->fmas = (double)(c->n * HEADS * d->topk * part->fmas);
    c->amount = c->dots + c->fmas;
    snprintf(c->shape, sizeof c->shape, "%zu of %zu rows, %d heads × (%d + %d), %zu %s", d->topk,
             d->rows, HEADS, LATENT, ROPE, c->n, plural(c->n));
}

/* The rows are read. */
static void lay_rows(struct sl_call *c, struct sl_arena *arena)
{
    const struct sl_attend_data *d = &c->attend;
    take_attend(c, arena);
    c->work = rows_work;
    c->items = c->n * sl_ceil_div(HEADS, group_heads(c));
    c->set = d->all_rows.latent;
    c->bytes = c->items * d->topk * (d->kv.latent_stride + d->kv.tail_stride);
    c->parts = d->rows * d->kv.latent_stride / c->bytes;
    c->amount = (double)c->bytes;
    snprintf(c->shape, sizeof c->shape, "%zu × %zu of %zu rows, %zu %s", c->items, d->topk, d->rows,
             c->n, plural(c->n));
}

/* One row out of each stretch of as many: ascending, as topk leaves them. */
static void choose_rows(struct sl_attend_data *d, size_t t)
{
    uint32_t *index = d->index + t * d->topk;
    size_t stretch = d->rows / d->topk;
    sl_random_bytes(t, index, d->topk * sizeof *index);
    for (size_t j = 0; j < d->topk; j++)
        index[j] = (uint32_t)(j * stretch + index[j] % stretch);
}

static void fill_attend(struct sl_call *c)
{
    struct sl_attend_data *d = &c->attend;
    float row[LATENT + ROPE];
    for (size_t s = 0; s < d->rows; s++) {
        sl_random_floats(s, 1, row, LATENT + ROPE);
        c->ops->kv_store(&d->kv, s, row, row + LATENT);
    }
    for (size_t t = 0; t < SELECTIONS; t++)
        choose_rows(d, t);
    sl_random_floats(1, 1, d->query, c->n * HEADS * (LATENT + ROPE));
    sl_team_run(&c->team, c->items, 1, attend_work, c); /* quantises the queries */
}

/* clang-format off */
const struct sl_kernel_case sl_attention_cases[] = {
    {"attend int8",      "GMAC/s",   1,  &whole, lay_attend, fill_attend},
    {"attend int8",      "GMAC/s",   32, &whole, lay_attend, fill_attend},
    {"attend int8 rows", "GB/s",     1,  NULL, lay_rows, fill_attend},
    {"attend int8 rows", "GB/s",     32, NULL, lay_rows, fill_attend},
    {"attend int8 scores", "GMAC/s", 1,  &scores, lay_attend, fill_attend},
    {"attend int8 scores", "GMAC/s", 32, &scores, lay_attend, fill_attend},
    {"attend int8 values", "GMAC/s", 1,  &values, lay_attend, fill_attend},
    {"attend int8 values", "GMAC/s", 32, &values, lay_attend, fill_attend},
    {0},
};
/* clang-format on */
