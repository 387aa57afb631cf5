/* SPDX-License-Identifier: MIT */
/*
 * A trial is one call of one kernel: arguments, buffers, and what the call may do to them.  A
 * kernel's row says which trials there are; the same trials are compared and timed.
 *
 * To add a kernel: a row in one of the kernels_*.c, its prepare and its run function.
 */
#ifndef SL_TESTS_TRIAL_H
#define SL_TESTS_TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "simd/simd.h"
#include "tests/check/guard.h"
#include "tests/check/values.h"

enum { AXES = 9, BUFFERS = GUARD_SLOTS };

enum kind {
    KIND_BYTES,
    KIND_HALVES,
    KIND_WORDS,
    KIND_FLOATS, /* all NaN are equal */
    KIND_MATRIX, /* bytes, 64-byte aligned */
};

/* What may happen to an element. */
enum rule {
    RULE_KEEP, /* nothing */
    RULE_SAME, /* what ref does */
    RULE_ANY,
};

struct buffer {
    const char *name;
    enum kind kind;
    size_t n;        /* elements */
    uint8_t *before; /* contents before the call; owns the memory of the next two */
    uint8_t *want;   /* after the call of ref */
    uint8_t *rule;   /* an enum rule per element */
    uint8_t *at;     /* where the call finds it */
};

struct trial {
    const struct kernel *kernel;
    size_t number;
    long arg[AXES];
    size_t buffers;
    struct buffer buffer[BUFFERS];
};

/* An argument and its values: 0 … upto − 1, then MORE.  Trials take EVERY combination, and of the
 * other arguments whatever the seed picks. */
struct axis {
    const char *name;
    enum { EVERY, SOME } choice;
    long upto;
    const long *more;
    size_t mores;
};
#define MORE(...) (const long[]){__VA_ARGS__}, sizeof((const long[]){__VA_ARGS__}) / sizeof(long)

struct kernel {
    const char *name; /* as sl_kernel_name() has it */
    struct axis axis[AXES];
    const long (*real)[AXES]; /* arguments as in the real models */
    size_t reals;
    bool (*prepare)(struct trial *t); /* false: no such combination */
    void (*run)(const struct sl_ops *ops, const struct trial *t);
    double (*operations)(const struct trial *t); /* per call; NULL: only bytes matter */
};
#define REAL(table) table, sizeof table / sizeof *table

/* The kernels, NULL behind the last. */
const struct kernel *kernel_at(size_t i);
extern const struct kernel gemm_kernels[], vector_kernels[], index_kernels[], attend_kernels[],
    fit_kernels[];

/* How many trials a kernel has; the last `reals` of them are the real ones. */
size_t trial_count(const struct kernel *k);

/* Makes trial NUMBER; false when there is no such combination.  Close it in either case. */
bool trial_open(struct trial *t, const struct kernel *k, size_t number, uint64_t seed);
void trial_close(struct trial *t);

/* Lays the buffers out with their contents before the call. */
void trial_place(struct trial *t, enum place place);

/* Calls OPS' kernel, with the buffers laid out anew. */
void trial_run(struct trial *t, const struct sl_ops *ops);

/* Seconds per call of CALLS that follow a first one. */
double trial_time(struct trial *t, const struct sl_ops *ops, size_t calls);

/* "name=value …" of the arguments. */
void trial_describe(const struct trial *t, char *text, size_t size);

size_t buffer_size(const struct buffer *b); /* of one element */
size_t buffer_bytes(const struct buffer *b);

/* ---- for prepare and run functions ---------------------------------------------------------- */

/* The next buffer, full of noise: an input, which nobody may change, or an output. */
void *input(struct trial *t, const char *name, enum kind kind, size_t n);
void *output(struct trial *t, const char *name, enum kind kind, size_t n);

/* The same with floats in it; the output is also an input. */
float *input_floats(struct trial *t, const char *name, size_t n, long values);
float *output_floats(struct trial *t, const char *name, size_t n, long values);

/* What may happen to elements [from, from + n) of the newest buffer. */
void set_rule(struct trial *t, size_t from, size_t n, enum rule rule);

/* Argument I, and the place of buffer I, NULL when it is absent. */
static inline size_t arg(const struct trial *t, size_t i)
{
    return (size_t)t->arg[i];
}

static inline void *at(const struct trial *t, size_t i)
{
    return i < t->buffers && t->buffer[i].name ? t->buffer[i].at : NULL;
}

/* A buffer that this trial does not have. */
void absent(struct trial *t);

#endif
