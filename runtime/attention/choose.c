/* SPDX-License-Identifier: MIT */
/*
 * Choosing the index_topk best keys for each query of a tile, exactly.  Most keys are far from
 * being among them.  Scoring leaves the largest scores of groups of keys; the index_topk-th largest
 * of these is a bar that no chosen score is below.  The keys that reach it are collected, by
 * several threads for a query if there are more threads than queries, and the best of these few are
 * chosen.  They stay in ascending order all the time, so that ties go to the lower index.
 */
#include <math.h>
#include <string.h>

#include "runtime/attention/call.h"
#include "runtime/base/arith.h"

enum {
    GROUPS_PER_KEY = 2, /* fewer: more keys reach the bar; more: it takes longer to find */
    LEAST_GROUP = 4,    /* keys; smaller ones would keep too few keys out */
    PART_KEYS = 64,     /* keys are divided among threads by so many */
};

size_t sl_choice_groups(const struct sl_attention *a, size_t items)
{
    size_t all = GROUPS_PER_KEY * (size_t)a->config->index_topk;
    size_t groups = sl_round_up(sl_ceil_div(all, items), SL_KEY_PANEL);
    return groups <= SL_ITEM_KEYS / LEAST_GROUP ? groups : 0;
}

void sl_choice_take(struct sl_attention *a, struct sl_arena *arena)
{
    struct sl_choice *c = &a->choice;
    c->stride = sl_round_up(a->capacity, SL_KEY_PANEL);
    c->most_groups = sl_ceil_div(a->capacity, SL_ITEM_KEYS) * (SL_ITEM_KEYS / LEAST_GROUP);
    c->score = sl_arena_take(arena, SL_QUERY_TILE * c->stride, sizeof(float));
    c->largest = sl_arena_take(arena, SL_QUERY_TILE * c->most_groups, sizeof(float));
    c->bar = sl_arena_take(arena, SL_QUERY_TILE, sizeof(float));
    c->index = sl_arena_take(arena, SL_QUERY_TILE * c->stride, sizeof(uint32_t));
    c->value = sl_arena_take(arena, SL_QUERY_TILE * c->stride, sizeof(float));
    c->found = sl_arena_take(arena, SL_QUERY_TILE + a->compute->team.threads, sizeof(size_t));
}

static uint32_t *chosen(const struct sl_query_tile *tile, size_t i)
{
    const struct sl_attention *a = tile->call->a;
    return a->selected + tile->token[i] * a->config->index_topk;
}

/* ---- phase: the bar ------------------------------------------------------------------------- */

/* −infinity when too few groups have a number. */
static void bar_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_query_tile *tile = arg;
    const struct sl_attention *a = tile->call->a;
    size_t k = a->config->index_topk;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const float *largest = a->choice.largest + i * a->choice.most_groups;
        uint32_t *best = chosen(tile, i);
        float bar = INFINITY;
        a->compute->ops->topk(largest, tile->items * tile->groups, k, best);
        for (size_t j = 0; j < k; j++)
            bar = largest[best[j]] < bar ? largest[best[j]] : bar;
        a->choice.bar[i] = bar;
    }
}

/* ---- phase: what reaches it ----------------------------------------------------------------- */

/* Threads that collect for one query. */
static size_t parts_of(const struct sl_query_tile *tile)
{
    return sl_ceil_div(tile->call->a->compute->team.threads, tile->n);
}

/* The first key of part P of query I's; of the part behind the last: the number of keys. */
static size_t part_begin(const struct sl_query_tile *tile, size_t i, size_t p)
{
    size_t keys = sl_visible(tile, i);
    size_t each = sl_round_up(sl_ceil_div(keys, parts_of(tile)), PART_KEYS);
    return sl_min(p * each, keys);
}

static void reach_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_query_tile *tile = arg;
    const struct sl_attention *a = tile->call->a;
    const struct sl_choice *c = &a->choice;
    size_t parts = parts_of(tile);
    (void)thread;
    for (size_t item = begin; item < end; item++) {
        size_t i = item / parts, p = item % parts, first = part_begin(tile, i, p);
        size_t at = i * c->stride + first;
        if (c->bar[i] > -INFINITY)
            c->found[item] = a->compute->ops->reach(c->score + at,
                                                    part_begin(tile, i, p + 1) - first, c->bar[i],
                                                    c->index + at, c->value + at);
    }
}

/* ---- phase: the best of that ---------------------------------------------------------------- */

/* Brings the parts of query I together at the front of its row; returns how many keys they have. */
static size_t join_parts(const struct sl_query_tile *tile, size_t i)
{
    const struct sl_choice *c = &tile->call->a->choice;
    uint32_t *index = c->index + i * c->stride;
    float *value = c->value + i * c->stride;
    size_t parts = parts_of(tile), n = 0;
    for (size_t p = 0; p < parts; p++) {
        size_t found = c->found[i * parts + p], first = part_begin(tile, i, p);
        memmove(value + n, value + first, found * sizeof *value);
        for (size_t j = 0; j < found; j++)
            index[n + j] = (uint32_t)first + index[first + j];
        n += found;
    }
    return n;
}

static void choose_reached(const struct sl_query_tile *tile, size_t i)
{
    const struct sl_attention *a = tile->call->a;
    const uint32_t *index = a->choice.index + i * a->choice.stride;
    size_t k = a->config->index_topk, n = join_parts(tile, i);
    uint32_t *best = chosen(tile, i);
    a->compute->ops->topk(a->choice.value + i * a->choice.stride, n, k, best);
    for (size_t j = 0; j < k; j++)
        best[j] = index[best[j]];
}

static void choose_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct sl_query_tile *tile = arg;
    const struct sl_attention *a = tile->call->a;
    (void)thread;
    for (size_t i = begin; i < end; i++)
        if (tile->groups > 0 && a->choice.bar[i] > -INFINITY)
            choose_reached(tile, i);
        else
            a->compute->ops->topk(a->choice.score + i * a->choice.stride, sl_visible(tile, i),
                                  a->config->index_topk, chosen(tile, i));
}

void sl_choose(const struct sl_query_tile *tile)
{
    const struct sl_team *team = &tile->call->a->compute->team;
    void *arg = (void *)(uintptr_t)tile;
    if (tile->groups > 0) {
        sl_team_run(team, tile->n, 1, bar_work, arg);
        sl_team_run(team, tile->n * parts_of(tile), 1, reach_work, arg);
    }
    sl_team_run(team, tile->n, 1, choose_work, arg);
}
