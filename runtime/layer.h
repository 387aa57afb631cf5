/* SPDX-License-Identifier: MIT */
/*
 * layer.h: the inner door: one transformer layer over a block of hidden states.  Used by sessions,
 * the MTP layer and the evaluator.
 */
#ifndef SL_LAYER_H
#define SL_LAYER_H

#include "runtime/attention/attention.h"
#include "runtime/moe/moe.h"

/* Everything a layer needs beside its weights and caches; scratch for chunks of `chunk` tokens. */
struct sl_workspace {
    const struct sl_config *config;
    struct sl_compute compute;
    struct sl_attention attention;
    struct sl_moe moe;
    const struct sl_hooks *hooks; /* or NULL */
    /* The layer after the one that runs, whose experts may be guessed; or NULL. */
    const struct sl_layer_weights *next;
    float *normed; /* [chunk][hidden] */
    float *update; /* [chunk][hidden]: what a half adds to the residual stream */
};

struct sl_workspace_opts {
    const struct sl_config *config;
    struct sl_compute compute;
    struct sl_experts *experts; /* NULL when no layer has experts, or only sizes are wanted */
    size_t wave;                /* sl_moe_wave() */
    struct sl_cache_types types;
    size_t chunk;
    size_t capacity; /* tokens of a cache */
};

/* Takes the workspace from ARENA; called in both of the arena's passes. */
void sl_workspace_take(struct sl_workspace *ws, struct sl_arena *arena,
                       const struct sl_workspace_opts *opts);

/* Computes constants; once, after the second pass. */
void sl_workspace_init(struct sl_workspace *ws);

/* The first half of sl_layer_run() below: hidden += attention(norm(hidden)). */
void sl_layer_attend(struct sl_workspace *ws, const struct sl_layer_weights *w,
                     struct sl_layer_cache *cache, unsigned layer, size_t position, size_t n,
                     float *hidden);

/*
 * hidden[n][hidden] → the same after LAYER, for positions [position, position + n), n ≤ chunk.
 * sl_attention_begin() must have been called for these positions.  CACHE receives the positions and
 * must hold all earlier ones.  Fails only when an expert cannot be read.
 */
int sl_layer_run(struct sl_workspace *ws, const struct sl_layer_weights *w,
                 struct sl_layer_cache *cache, unsigned layer, size_t position, size_t n,
                 float *hidden, struct sluice_err *err);

/* y[n][hidden] = rmsnorm(x[n][hidden]) · w, over the team. */
void sl_norm_rows(const struct sl_workspace *ws, const float *x, const float *w, size_t n,
                  float *y);

#endif
