/* SPDX-License-Identifier: MIT */
/*
 * layer.h: the inner door: one transformer layer over a block of hidden states.  Used by sessions,
 * the MTP layer and the evaluator.
 */
#ifndef SL_LAYER_H
#define SL_LAYER_H

#include <stdatomic.h>

#include "runtime/attention/attention.h"
#include "runtime/moe/moe.h"

/*
 * Everything a layer needs beside its weights and caches.  It goes over a span of tokens: all but
 * the routed experts chunk by chunk, in scratch for a chunk; those meet the tokens of all chunks,
 * so that each is brought once.
 */
struct sl_workspace {
    const struct sl_config *config;
    size_t chunk;
    bool floats; /* routed or shared experts want floats of the span, not INT8 */
    struct sl_compute compute;
    struct sl_attention attention;
    struct sl_moe moe;
    struct sl_owner *owner;      /* of consecutive tokens; or NULL */
    const atomic_int *cancelled; /* stops sl_layer_run() between two chunks; or NULL */
    /* The layer after the one that runs, whose experts may be guessed; or NULL. */
    const struct sl_layer_weights *next;
    float *normed; /* [chunk][hidden]; of floats, [span][hidden] */
    float *update; /* [span][hidden]: what a half adds to the residual stream */
};

struct sl_workspace_opts {
    const struct sl_config *config;
    struct sl_compute compute;
    struct sl_experts *experts; /* NULL when no layer has experts, or only sizes are wanted */
    size_t wave;                /* sl_moe_wave() */
    struct sl_cache_types types;
    size_t chunk, span; /* chunk ≤ span */
    bool floats;
    size_t capacity; /* tokens of a cache */
};

/* Takes the workspace: what lasts from LASTING, and what is of no use between two passes from
 * SCRATCH, which may be the same; called in both passes of the arenas. */
void sl_workspace_take(struct sl_workspace *ws, struct sl_arena *lasting, struct sl_arena *scratch,
                       const struct sl_workspace_opts *opts);

/* Computes constants; once, after the second pass. */
void sl_workspace_init(struct sl_workspace *ws);

/* The first half of sl_layer_run() below, for n ≤ chunk: hidden += attention(norm(hidden)). */
void sl_layer_attend(struct sl_workspace *ws, const struct sl_layer_weights *w,
                     struct sl_layer_cache *cache, unsigned layer, size_t position, size_t n,
                     float *hidden);

/*
 * hidden[n][hidden] → the same after LAYER, for positions [position, position + n), n ≤ span.
 * CACHE receives the positions and must hold all earlier ones.  Fails when an expert cannot be
 * read, and when it is cancelled.  _at: for tokens anywhere.
 */
int sl_layer_run(struct sl_workspace *ws, const struct sl_layer_weights *w,
                 struct sl_layer_cache *cache, unsigned layer, size_t position, size_t n,
                 float *hidden, struct sluice_err *err);
int sl_layer_run_at(struct sl_workspace *ws, const struct sl_layer_weights *w,
                    const struct sl_places *places, unsigned layer, size_t n, float *hidden,
                    struct sluice_err *err);

/*
 * Only the caches of LAYER receive what sl_layer_run() would leave there, to the bit: of
 * hidden[n][hidden], the residual stream before it, which stays as it is.
 */
void sl_layer_keep(struct sl_workspace *ws, const struct sl_layer_weights *w,
                   struct sl_layer_cache *cache, size_t position, size_t n, const float *hidden);

/* y[n][hidden] = rmsnorm(x[n][hidden]) · w, over the team. */
void sl_norm_rows(const struct sl_workspace *ws, const float *x, const float *w, size_t n,
                  float *y);

#endif
