/* SPDX-License-Identifier: MIT */
/* Inside attention/: the parts of one layer's attention. */
#ifndef SL_ATTENTION_CALL_H
#define SL_ATTENTION_CALL_H

#include "runtime/attention/attention.h"

/* One call of sl_attention_run() or _keep(), handed to the phases. */
struct sl_attention_call {
    struct sl_attention *a;
    const struct sl_layer_weights *w;
    struct sl_places places;
    unsigned layer;
    size_t n;       /* tokens */
    const float *x; /* [n][hidden] */
    bool keep;      /* caches only: nothing attends */
};

/* True when the query at POSITION attends to a selection. */
static inline bool sl_is_sparse(const struct sl_attention *a, size_t position)
{
    return a->types.index && position + 1 > a->config->index_topk;
}

/* Normalises, rotates and stores the index key of token T. */
void sl_index_put_key(const struct sl_attention_call *call, size_t t);

/* Chooses the keys of every sparse query of the call into a->selected. */
void sl_index_select(const struct sl_attention_call *call);

enum { SL_ITEM_KEYS = 1024 }; /* keys that one item of scoring goes over: a multiple of 16 */

/* Queries at work. */
struct sl_query_tile {
    const struct sl_attention_call *call;
    size_t n;
    size_t token[SL_QUERY_TILE]; /* [n]: of the call, ascending */
    size_t items;                /* pieces of SL_ITEM_KEYS keys, as many as a query sees at most */
    size_t groups;               /* groups of scores of each item, or 0 */
};

/* Keys that query I of the tile sees. */
static inline size_t sl_visible(const struct sl_query_tile *tile, size_t i)
{
    return sl_place_of(&tile->call->places, tile->token[i]).position + 1;
}

/* Into how many groups to divide the scores of each of a query's ITEMS items; 0: not worth it. */
size_t sl_choice_groups(const struct sl_attention *a, size_t items);

/* Takes a->choice from ARENA. */
void sl_choice_take(struct sl_attention *a, struct sl_arena *arena);

/* Chooses the keys of the tile's queries into a->selected, after scoring: a->choice.score, and
 * `largest` if there are groups, those of an item beside each other. */
void sl_choose(const struct sl_query_tile *tile);

#endif
