/* SPDX-License-Identifier: MIT */
/* Calls of kernels with everything they need, ready to be timed.  Private to tools/measure/. */
#ifndef SL_TOOLS_KERNEL_CASES_H
#define SL_TOOLS_KERNEL_CASES_H

#include "quant/quant.h"
#include "runtime/base/arena.h"
#include "runtime/base/team.h"
#include "simd/simd.h"
#include "tools/measure/packed_product.h"

/* A stack of equal matrices, of which a call multiplies PER_CALL with the same vectors. */
struct sl_matrix_data {
    struct sl_packing packing;
    size_t per_call;
    uint8_t *bytes;
    float *x, *y; /* [n][cols], [per_call][n][rows] */
    int8_t *q;    /* the INT8 form of x, with the next two */
    float *scale;
    int32_t *sum;
};

/* Index keys and queries, scores and what is chosen by them. */
struct sl_index_data {
    size_t keys, topk;
    size_t groups; /* of the scores that an item of the work makes */
    uint8_t *panels;
    int8_t *q;         /* [n][heads · dim] */
    float *weight;     /* [n][heads] */
    float *score;      /* [n][keys] */
    float *largest;    /* [n][items][groups] */
    float *bar;        /* [n] */
    uint32_t *reached; /* [n][keys]: which reach the bar, in parts; and their scores: */
    float *value;
    uint32_t *chosen;          /* [n][topk] */
    size_t first, tile, parts; /* queries at work, and parts of each one's keys */
    size_t *found;             /* [tile][parts] */
};

/* A cache, selections of its rows, absorbed queries. */
struct sl_attend_data {
    struct sl_kv kv;
    struct sl_kv_block all_rows;
    size_t rows, topk;
    uint32_t *index; /* [selections][topk] */
    float *query;    /* [n · heads][latent + rope] */
    int8_t *q;       /* the INT8 form of its latent part, with the next */
    float *q_scale;
    float *out;       /* [n · heads][latent] */
    float *block;     /* [threads][heads · (latent + 2)] */
    uint8_t *scratch; /* [threads][scratch_bytes] */
    size_t scratch_bytes;
    int8_t *code; /* the INT8 form of out, with the next two */
    float *code_scale;
    int32_t *code_sum;
};

/* Arrays with room for ROOM values of whatever a vector kernel reads and writes. */
struct sl_vector_data {
    size_t room;
    float *x, *y, *w, *sine, *spare;
    uint8_t *rows; /* of a cache; or codes of FP8 or BF16 weights */
    int8_t *code;
    float *scale;
    int32_t *sum;
};

/* A panel to be quantised. */
struct sl_quantize_data {
    struct sl_fp8_rows rows;
    uint8_t *code; /* of the rows */
    uint8_t *panel, *scratch;
};

/* One call: a phase of the team. */
struct sl_call {
    const void *detail; /* of the case */
    const struct sl_ops *ops;
    struct sl_team team;
    size_t n;      /* vectors or queries */
    size_t shrink; /* to divide sizes by */
    char shape[96];
    sl_work_fn *work;
    void (*run)(struct sl_call *); /* or several phases, instead of `work` */
    sl_work_fn *without; /* what of it does not count: a phase of as many items; or NULL */
    size_t items, grain;
    double amount;        /* in the case's unit */
    size_t number, parts; /* calls so far; successive calls go over the parts of a set in turn */

    /* The least that a call has to do, by plain loops. */
    const uint8_t *set; /* part i is bytes from set + i · bytes on */
    size_t bytes;       /* to read */
    double dots, fmas;  /* multiply-adds */
    size_t rows, cols;  /* of a matrix that oneDNN multiplies, if it is there, instead of dots */
    size_t inputs, outputs; /* bytes in caches: read from `in`, write to `spare`; the slower one */
    const uint8_t *in;
    uint8_t *spare;
    struct sl_packed_product *packed;
    void (*producer)(struct sl_call *); /* makes its input */

    union {
        struct sl_matrix_data matrix;
        struct sl_index_data index;
        struct sl_attend_data attend;
        struct sl_vector_data vector;
        struct sl_quantize_data quantize;
    };
};

struct sl_kernel_case {
    const char *kernel; /* the slot's name, or of several; behind a blank what its data are */
    const char *unit;   /* of 10^9 times what `amount` counts, as in struct sl_kernel_row */
    size_t n;
    const void *detail;
    /* Lays the call out; runs twice, as sl_arena_take() wants it. */
    void (*lay)(struct sl_call *call, struct sl_arena *arena);
    void (*fill)(struct sl_call *call); /* makes the contents */
};

/* {0} behind the last. */
extern const struct sl_kernel_case sl_matrix_cases[], sl_index_cases[], sl_attention_cases[],
    sl_vector_cases[], sl_quantize_cases[];

/* Reproducible noise: N bytes; N floats in (−SIZE, SIZE). */
void sl_random_bytes(uint64_t seed, void *out, size_t n);
void sl_random_floats(uint64_t seed, float size, float *out, size_t n);

#endif
