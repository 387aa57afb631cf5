/* SPDX-License-Identifier: MIT */
/* What the networks of ffn.c and the routed experts of routed.c share. */
#ifndef SL_MOE_PRIVATE_H
#define SL_MOE_PRIVATE_H

#include "runtime/moe/moe.h"

/* Scratch for CAPACITY rows of a network of inner size INNER. */
void sl_ffn_take(struct sl_ffn_scratch *f, struct sl_arena *arena, size_t capacity, size_t inner);

/* The INT8 form of x[n][hidden], as tokens [first, first + n) of the span, into m->x_codes. */
void sl_moe_encode(struct sl_moe *m, const float *x, size_t first, size_t n);

/* F's inner values, and their INT8 form, of N finished gate_up rows: rows[0..n), or the first N
 * when ROWS is NULL.  INNER ≤ f->inner_dim. */
void sl_activate(struct sl_moe *m, struct sl_ffn_scratch *f, size_t inner, const uint32_t *rows,
                 size_t n);

/* m->own_out[n][hidden] = the shared expert of tokens [first, first + n), n ≤ chunk, whose INT8
 * form is in m->x_codes; X: the floats of all tokens, where the matrices want them. */
void sl_shared_run(struct sl_moe *m, const struct sl_layer_weights *w, const float *x, size_t first,
                   size_t n);

/* Adds m->own_out. */
void sl_shared_put(struct sl_moe *m, size_t n, float *out);

/* Guesses which experts the layer after LAYER will want, by its router, and lets them be read. */
void sl_moe_guess(struct sl_moe *m, unsigned layer);
void sl_guess_take(struct sl_moe *m, struct sl_arena *arena);

/* Rows of routed experts that the scratch has room for. */
size_t sl_routed_rows(const struct sl_moe *m);

/* The tables and scratch of routed experts. */
void sl_routed_take_tables(struct sl_moe *m, struct sl_arena *arena);
void sl_routed_take_scratch(struct sl_moe *m, struct sl_arena *arena);

#endif
