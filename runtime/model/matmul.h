/* SPDX-License-Identifier: MIT */
/* Matrix products over the thread team: several matrices in one wide phase. */
#ifndef SL_MODEL_MATMUL_H
#define SL_MODEL_MATMUL_H

#include "runtime/base/arena.h"
#include "runtime/base/meter.h"
#include "runtime/base/team.h"
#include "simd/simd.h"

/*
 * Y = W X for N vectors.  For a stack of matrices (packing.count > 1, one per head) matrix i reads
 * its inputs at x + i · x_step and writes at y + i · y_step.
 */
struct sl_product {
    const struct sl_matrix *w;
    struct sl_acts x;
    size_t n;
    float *y;
    size_t ldy;
    size_t x_step;
    size_t y_step;
};

/*
 * Another way to multiply, which need not give the bits of the kernels (docs/kernels.md): onednn.h
 * has one.  It is called outside of any phase and returns false for what it leaves to the kernels,
 * whatever it has written by then.
 */
struct sl_multiplier {
    const char *name;
    bool (*multiply)(struct sl_multiplier *m, const struct sl_team *team,
                     const struct sl_product *p);
    void (*close)(struct sl_multiplier *m);
    uint64_t products; /* computed so far */
};

/* What every computing room works with. */
struct sl_compute {
    const struct sl_ops *ops;
    struct sl_team team;
    struct sl_meter *meter;           /* of the session at work, or NULL */
    struct sl_multiplier *multiplier; /* asked before the kernels, or NULL */
};

/* Runs all products, those of the kernels as one phase, divided by panels.  Products must not write
 * the same rows. */
void sl_multiply(const struct sl_compute *c, const struct sl_product *products, size_t n);

/*
 * The distance for rows of N bytes that are gone over side by side.  Rows that lie a multiple of a
 * large power of two apart would all be in a few sets of the caches.
 */
static inline size_t sl_row_bytes(size_t n)
{
    return n % 2048 == 0 ? n + 64 : n;
}

/* Room for the INT8 form of CAPACITY vectors, LD inputs apart (a multiple of 32). */
struct sl_codes {
    int8_t *q;
    float *scale;
    int32_t *sum;
    size_t ld;
};

void sl_codes_take(struct sl_codes *codes, struct sl_arena *arena, size_t capacity, size_t inputs);

/* The room from vector T on. */
struct sl_codes sl_codes_at(const struct sl_codes *codes, size_t t);

/* Quantises x[0..n) as inputs [col, col + n) of vector T; COL is a multiple of 32. */
void sl_codes_put(const struct sl_codes *codes, const struct sl_ops *ops, size_t t, size_t col,
                  const float *x, size_t n);

/* The activations W wants: CODES for integer weights, X (LDX floats apart) for the others. */
struct sl_acts sl_acts_for(const struct sl_matrix *w, const struct sl_codes *codes, const float *x,
                           size_t ldx);

#endif
