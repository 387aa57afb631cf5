/* SPDX-License-Identifier: MIT */
/* moe.h: the feed-forward half of a layer: dense FFN, or router, routed and shared experts. */
#ifndef SL_MOE_H
#define SL_MOE_H

#include "runtime/model/matmul.h"
#include "runtime/model/weights.h"
#include "runtime/stream/stream.h"

/* One token's choice. */
struct sl_route {
    uint32_t *experts; /* [experts_used], ascending */
    float *weights;    /* [experts_used] */
};

/*
 * Chooses experts from router logits[experts] (DeepSeek-V3 "noaux_tc"): sigmoid scores, plus BIAS
 * for the choice only; groups ranked by the sum of their two best; the best groups_used keep their
 * experts; the experts_used best are taken, weights normalised (unbiased scores) and scaled.
 * Ties: lower index.  SCRATCH: float[2 · experts].
 */
void sl_route_choose(const struct sl_config *c, const struct sl_ops *ops, const float *logits,
                     const float *bias, float *scratch, struct sl_route route);

/* Scratch of one SwiGLU network for up to `capacity` rows. */
struct sl_ffn_scratch {
    float *gate_up; /* [capacity][gate_up_ld] */
    size_t gate_up_ld;
    float *inner; /* [capacity][inner] */
    struct sl_codes inner_codes;
    size_t inner_dim;
};

/* From what the experts of the layer after are guessed: its weights, and the residual stream of the
 * one token before this layer's own experts; NEXT may be NULL. */
struct sl_guess {
    const struct sl_layer_weights *next;
    const float *hidden; /* [hidden] */
};

struct sl_moe {
    const struct sl_config *config;
    const struct sl_compute *compute;
    struct sl_experts *experts; /* NULL: the model has none */
    size_t wave;                /* experts computed together; 0: the model has none */
    size_t chunk;               /* most tokens that the router or one network meets at a time, */
    size_t span;                /* and that a routed expert does */

    struct sl_codes x_codes;   /* [span]: the normed input */
    struct sl_ffn_scratch own; /* dense FFN and shared expert, chunk rows */
    float *own_out;            /* [chunk][hidden]: shared expert */
    float *logits;             /* [chunk][experts] */
    float *route_scratch;      /* [threads][2 · experts] */
    uint32_t *chosen;          /* [span][experts_used], ascending */
    float *weight;             /* [span][experts_used] */

    /* Tokens sorted by expert: expert e has rows [first[e], first[e + 1]). */
    uint32_t *first;              /* [experts + 1] */
    uint32_t *row_token;          /* [span · experts_used]: token of a row */
    uint32_t *row_of;             /* [span][experts_used]: row of a choice */
    struct sl_ffn_scratch routed; /* rows of a batch of experts */
    float *routed_out;            /* [rows][hidden] */
    uint32_t *todo;               /* [rows]: those whose gate_up is finished */
    uint32_t *used;               /* [experts]: those with rows, ascending */
    uint32_t *uses;               /* [experts]: how many rows each of those has */
    const uint8_t **blocks;       /* [wave] */
    struct sl_ready *ready;       /* [wave] */
    struct sl_matrix *matrices;   /* [2 · wave]: gate_up and down of the experts at hand */
    struct sl_product *products;  /* [wave] */

    struct sl_guess guess;
    float *guess_x;         /* [hidden] */
    float *guess_logits;    /* [experts] */
    uint32_t *guess_chosen; /* [experts_used] */
    float *guess_weight;    /* [experts_used] */

    struct sluice_expert_event event; /* of the last call of sl_experts_run() */
    double since;                     /* the end of the layer with experts before, sl_now() */
};

/* Blocks of LAYER, from the container DIR, must have the shapes that the configuration demands. */
int sl_experts_check(const struct sl_experts *x, const struct sl_config *c, const char *dir,
                     unsigned layer, struct sluice_err *err);

/* Experts computed together in a model of LAYERS layers; 0: none of these has experts. */
size_t sl_moe_wave(const struct sl_config *c, uint32_t layers);

/* Takes scratch from ARENA; config, compute, experts, wave, chunk and span are set before. */
void sl_moe_take(struct sl_moe *m, struct sl_arena *arena);

/* A pass over N tokens begins, which STOP ends when it is no longer 0. */
void sl_moe_begin(struct sl_moe *m, size_t n, const atomic_int *stop);

/* out[n][hidden] = dense FFN of x[n][hidden], n ≤ chunk. */
void sl_dense_run(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t n,
                  float *out);

/*
 * Routes x[n][hidden], n ≤ chunk, as tokens [first, first + n) of the span: into m->chosen and
 * m->weight.  Split from sl_experts_run() so that callers may look at the choice.
 */
void sl_router_run(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t first,
                   size_t n);

/*
 * out[n][hidden] = Σ weight · expert(x), experts in ascending id, then + shared expert, of the N
 * tokens routed.  X: their float[n][hidden], looked at by experts of floats only.  Fails when an
 * expert cannot be read.
 */
int sl_experts_run(struct sl_moe *m, const struct sl_layer_weights *w, unsigned layer,
                   const float *x, size_t n, float *out, struct sluice_err *err);

/*
 * The same in pieces, for callers that have an expert at hand for more tokens than a chunk: bring
 * some experts, ids[0..n) ascending, n ≤ wave; add them to each chunk, whose choices the caller
 * puts into m->chosen and m->weight; bring the next; at last add the shared expert.  No expert that
 * a chunk uses may be missing between ids[0] and ids[n - 1].  OUT is the caller's to clear before.
 */
int sl_experts_bring(struct sl_moe *m, unsigned layer, const uint32_t *ids, size_t n,
                     struct sluice_err *err);
void sl_experts_add(struct sl_moe *m, const uint32_t *ids, size_t n, const float *x,
                    size_t n_tokens, float *out);
void sl_shared_add(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t n,
                   float *out);

#endif
