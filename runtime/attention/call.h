/* SPDX-License-Identifier: MIT */
/* Inside attention/: the parts of one layer's attention. */
#ifndef SL_ATTENTION_CALL_H
#define SL_ATTENTION_CALL_H

#include "runtime/attention/attention.h"

/* One call of sl_attention_run(), handed to the phases. */
struct sl_attention_call {
    struct sl_attention *a;
    const struct sl_layer_weights *w;
    struct sl_layer_cache *cache;
    unsigned layer;
    size_t position; /* of the first token */
    size_t n;        /* tokens */
    const float *x;  /* [n][hidden] */
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

#endif
