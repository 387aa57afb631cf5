/* SPDX-License-Identifier: MIT */
/* The indexer at depth 131,072: scoring keys, choosing among them as runtime/attention/ does. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "tools/measure/kernel_cases.h"

enum {
    KEYS = 131072,
    TOPK = 2048,
    HEADS = 64,
    DIM = 128,
    ITEM_KEYS = 1024, /* how the runtime divides the work */
    QUERY_TILE = 8,
    GROUPS_PER_KEY = 2,
    PART_KEYS = 64,
};

static const char *plural(size_t n)
{
    return n == 1 ? "query" : "queries";
}

static size_t key_items(const struct sl_index_data *d)
{
    return sl_ceil_div(d->keys, ITEM_KEYS);
}

/* ---- scores --------------------------------------------------------------------------------- */

static void score_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_call *c = arg;
    const struct sl_index_data *d = &c->index;
    (void)thread;
    for (size_t item = begin; item < end; item++) {
        size_t t = d->first + item % d->tile, k = item / d->tile, s0 = k * ITEM_KEYS;
        size_t s1 = sl_min(s0 + ITEM_KEYS, d->keys);
        float *score = d->score + t * d->keys;
        struct sl_index_query query = {
            .q = d->q + t * HEADS * DIM,
            .weight = d->weight + t * HEADS,
            .heads = HEADS,
            .dim = DIM,
        };
        c->ops->index_score(SL_CACHE_INT8, &query, d->panels, s0, s1, score);
        c->ops->group_max(score + s0, s1 - s0, d->groups,
                          d->largest + (t * key_items(d) + k) * d->groups);
    }
}

static void next_tile(struct sl_call *c, size_t first)
{
    c->index.first = first;
    c->index.tile = sl_min(QUERY_TILE, c->n - first);
    c->index.parts = sl_ceil_div(c->team.threads, c->index.tile);
}

static void score(struct sl_call *c)
{
    for (size_t first = 0; first < c->n; first += QUERY_TILE) {
        next_tile(c, first);
        sl_team_run(&c->team, c->index.tile * key_items(&c->index), 1, score_work, c);
    }
}

/* ---- choice --------------------------------------------------------------------------------- */

static void bar_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_call *c = arg;
    const struct sl_index_data *d = &c->index;
    size_t all = key_items(d) * d->groups;
    (void)thread;
    for (size_t t = d->first + begin; t < d->first + end; t++) {
        const float *largest = d->largest + t * all;
        uint32_t *best = d->chosen + t * d->topk;
        float bar = INFINITY;
        c->ops->topk(largest, all, d->topk, best);
        for (size_t j = 0; j < d->topk; j++)
            bar = largest[best[j]] < bar ? largest[best[j]] : bar;
        d->bar[t] = bar;
    }
}

static size_t part_begin(const struct sl_index_data *d, size_t p)
{
    return sl_min(p * sl_round_up(sl_ceil_div(d->keys, d->parts), PART_KEYS), d->keys);
}

static void reach_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_call *c = arg;
    const struct sl_index_data *d = &c->index;
    (void)thread;
    for (size_t item = begin; item < end; item++) {
        size_t t = d->first + item / d->parts, p = item % d->parts, first = part_begin(d, p);
        size_t at = t * d->keys + first;
        d->found[item] = c->ops->reach(d->score + at, part_begin(d, p + 1) - first, d->bar[t],
                                       d->reached + at, d->value + at);
    }
}

static void choose_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_call *c = arg;
    const struct sl_index_data *d = &c->index;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t t = d->first + i, n = 0;
        uint32_t *reached = d->reached + t * d->keys, *best = d->chosen + t * d->topk;
        float *value = d->value + t * d->keys;
        for (size_t p = 0; p < d->parts; p++) {
            size_t found = d->found[i * d->parts + p], first = part_begin(d, p);
            memmove(value + n, value + first, found * sizeof *value);
            for (size_t j = 0; j < found; j++)
                reached[n + j] = (uint32_t)first + reached[first + j];
            n += found;
        }
        c->ops->topk(value, n, d->topk, best);
        for (size_t j = 0; j < d->topk; j++)
            best[j] = reached[best[j]];
    }
}

static void choose(struct sl_call *c)
{
    const struct sl_index_data *d = &c->index;
    for (size_t first = 0; first < c->n; first += QUERY_TILE) {
        next_tile(c, first);
        sl_team_run(&c->team, d->tile, 1, bar_work, c);
        sl_team_run(&c->team, d->tile * d->parts, 1, reach_work, c);
        sl_team_run(&c->team, d->tile, 1, choose_work, c);
    }
}

/* ---- its parts ------------------------------------------------------------------------------ */

static void largest_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_call *c = arg;
    const struct sl_index_data *d = &c->index;
    (void)thread;
    for (size_t k = begin; k < end; k++)
        c->ops->group_max(d->score + k * ITEM_KEYS, sl_min(ITEM_KEYS, d->keys - k * ITEM_KEYS),
                          d->groups, d->largest + k * d->groups);
}

/* ---- cases ---------------------------------------------------------------------------------- */

static void lay(struct sl_call *c, struct sl_arena *arena)
{
    struct sl_index_data *d = &c->index;
    d->keys = sl_round_up(KEYS / c->shrink, SL_KEY_PANEL);
    d->topk = TOPK / c->shrink;
    d->groups = sl_round_up(sl_ceil_div(GROUPS_PER_KEY * d->topk, key_items(d)), SL_KEY_PANEL);
    d->panels = sl_arena_take(arena, sl_ceil_div(d->keys, SL_KEY_PANEL),
                              sl_key_panel_bytes(SL_CACHE_INT8, DIM));
    d->q = sl_arena_take(arena, c->n, HEADS * DIM);
    d->weight = sl_arena_take(arena, c->n * HEADS, sizeof(float));
    d->score = sl_arena_take(arena, c->n * d->keys, sizeof(float));
    d->largest = sl_arena_take(arena, c->n * key_items(d) * d->groups, sizeof(float));
    d->bar = sl_arena_take(arena, c->n, sizeof(float));
    d->reached = sl_arena_take(arena, c->n * d->keys, sizeof(uint32_t));
    d->value = sl_arena_take(arena, c->n * d->keys, sizeof(float));
    d->found = sl_arena_take(arena, QUERY_TILE + c->team.threads, sizeof(size_t));
    d->chosen = sl_arena_take(arena, c->n * d->topk, sizeof(uint32_t));
    next_tile(c, 0);
}

static void lay_score(struct sl_call *c, struct sl_arena *arena)
{
    lay(c, arena);
    c->run = score;
    c->amount = c->dots = (double)(c->n * c->index.keys * HEADS * DIM);
    snprintf(c->shape, sizeof c->shape, "%zu keys, %d heads × %d, %zu %s", c->index.keys, HEADS,
             DIM, c->n, plural(c->n));
}

/* Choosing waits for the scores: their making is its measure. */
static void lay_topk(struct sl_call *c, struct sl_arena *arena)
{
    lay(c, arena);
    c->run = choose;
    c->producer = score;
    c->amount = (double)(c->n * c->index.keys);
    snprintf(c->shape, sizeof c->shape, "%zu of %zu, %zu %s", c->index.topk, c->index.keys, c->n,
             plural(c->n));
}

/* One query's scores are read. */
static void lay_part(struct sl_call *c, struct sl_arena *arena)
{
    lay(c, arena);
    c->inputs = c->index.keys * sizeof(float);
    c->amount = (double)c->inputs;
    c->in = (const uint8_t *)c->index.score;
    c->spare = (uint8_t *)c->index.value;
}

static void lay_group_max(struct sl_call *c, struct sl_arena *arena)
{
    lay_part(c, arena);
    c->work = largest_work;
    c->items = key_items(&c->index);
    snprintf(c->shape, sizeof c->shape, "%zu in groups of %d", c->index.keys,
             ITEM_KEYS / (int)c->index.groups);
}

static void lay_reach(struct sl_call *c, struct sl_arena *arena)
{
    lay_part(c, arena);
    c->work = reach_work;
    c->items = c->index.parts;
    snprintf(c->shape, sizeof c->shape, "%zu, the bar for %zu", c->index.keys, c->index.topk);
}

static void fill(struct sl_call *c)
{
    struct sl_index_data *d = &c->index;
    float key[DIM], query[DIM], unused;
    for (size_t s = 0; s < d->keys; s++) {
        sl_random_floats(s, 1, key, DIM);
        c->ops->index_store(SL_CACHE_INT8, key, DIM, d->panels, s);
    }
    for (size_t i = 0; i < c->n * HEADS; i++) {
        sl_random_floats(~i, 1, query, DIM);
        c->ops->quantize_groups(query, DIM, DIM, d->q + i * DIM, &unused);
    }
    sl_random_floats(1, 0x1p-12f, d->weight, c->n * HEADS);
    score(c);
    choose(c);
}

/* clang-format off */
const struct sl_kernel_case sl_index_cases[] = {
    {"index_score int8", "GMAC/s",   1,  NULL, lay_score,     fill},
    {"index_score int8", "GMAC/s",   32, NULL, lay_score,     fill},
    {"topk",             "Gscore/s", 1,  NULL, lay_topk,      fill},
    {"topk",             "Gscore/s", 32, NULL, lay_topk,      fill},
    {"group_max",        "GB/s",     1,  NULL, lay_group_max, fill},
    {"reach",            "GB/s",     1,  NULL, lay_reach,     fill},
    {0},
};
/* clang-format on */
