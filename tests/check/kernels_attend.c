/* SPDX-License-Identifier: MIT */
/* Trials of latent attention: storing rows, one block of keys, merging blocks. */
#include <string.h>

#include "tests/check/trial.h"

#define TYPES                                                                                      \
    {                                                                                              \
        "type", EVERY, 0, MORE(SL_CACHE_INT8, SL_CACHE_BF16, SL_CACHE_F32)                         \
    }
#define ROPES                                                                                      \
    {                                                                                              \
        "rope", SOME, 20, MORE(63, 64, 67)                                                         \
    }

/* The first arguments of every trial with a cache. */
enum { TYPE, DIM, ROPE, GAP, VALUES, OWN };
enum { LATENT, TAIL };

/* The cache without its rows, which lie GAP bytes apart. */
static struct sl_kv cache_of(const struct trial *t)
{
    enum sl_cache type = (enum sl_cache)arg(t, TYPE);
    size_t dim = arg(t, DIM), rope = arg(t, ROPE), gap = arg(t, GAP);
    return (struct sl_kv){.type = type,
                          .latent_dim = (uint32_t)dim,
                          .rope_dim = (uint32_t)rope,
                          .shift = SL_ONE_BLOCK,
                          .latent_stride = sl_kv_latent_bytes(type, dim) + gap,
                          .tail_stride = sl_kv_tail_bytes(type, dim, rope) + gap};
}

/* ---- store ---------------------------------------------------------------------------------- */

/* Rows up to S, of which the last may change; the memory ends with its BYTES. */
static void add_stored(struct trial *t, const char *name, size_t s, size_t stride, size_t bytes)
{
    output(t, name, KIND_BYTES, s * stride + bytes);
    set_rule(t, 0, s * stride, RULE_KEEP);
}

static bool prepare_kv_store(struct trial *t)
{
    struct sl_kv kv = cache_of(t);
    size_t gap = arg(t, GAP), s = arg(t, OWN);
    add_stored(t, "latent rows", s, kv.latent_stride, kv.latent_stride - gap);
    add_stored(t, "tail rows", s, kv.tail_stride, kv.tail_stride - gap);
    input_floats(t, "latent", kv.latent_dim, t->arg[VALUES]);
    input_floats(t, "rope", kv.rope_dim, t->arg[VALUES]);
    return true;
}

static void run_kv_store(const struct sl_ops *ops, const struct trial *t)
{
    struct sl_kv kv = cache_of(t);
    struct sl_kv_block rows = {at(t, LATENT), at(t, TAIL)};
    kv.block = &rows;
    ops->kv_store(&kv, arg(t, OWN), at(t, 2), at(t, 3));
}

/* ---- one block of keys ---------------------------------------------------------------------- */

enum { KEYS = OWN, GATHERED, HEADS, NO_OUT };
enum { INDEX = 2, QUERY, QUERY_SCALE, QUERY_ROPE, OUT, MAX, SUM, SCRATCH };

enum {
    FIRST_ROW = 3, /* of a call without index */
    BLOCK_SHIFT = 4,
    MOST_BLOCKS = (SL_ATTEND_BLOCK + 5) / (1 << BLOCK_SHIFT) + 1,
    ROPE_GAP = 5, /* floats between the rope parts of heads */
};

static size_t cache_rows(const struct trial *t)
{
    return arg(t, KEYS) + (arg(t, GATHERED) ? 5 : FIRST_ROW);
}

/* One row's tail: scales in an INT8 cache, then the rope part. */
static void fill_tail(const struct trial *t, const struct sl_kv *kv, uint8_t *tail)
{
    size_t scales = sl_kv_tail_bytes(kv->type, kv->latent_dim, 0);
    enum sl_cache rope = kv->type == SL_CACHE_F32 ? SL_CACHE_F32 : SL_CACHE_BF16;
    fill_stored(SL_CACHE_F32, tail, scales / 4, t->arg[VALUES]);
    fill_stored(rope, tail + scales, kv->rope_dim, t->arg[VALUES]);
}

static void add_cache(struct trial *t)
{
    struct sl_kv kv = cache_of(t);
    size_t rows = cache_rows(t), gap = arg(t, GAP);
    uint8_t *latent = input(t, "latent rows", KIND_BYTES, rows * kv.latent_stride - gap);
    uint8_t *tail = input(t, "tail rows", KIND_BYTES, rows * kv.tail_stride - gap);
    for (size_t s = 0; s < rows; s++) { /* INT8: any codes, as of a hostile file */
        if (kv.type != SL_CACHE_INT8)
            fill_stored(kv.type, latent + s * kv.latent_stride, kv.latent_dim, t->arg[VALUES]);
        else if (t->arg[VALUES] == VALUES_MINUS)
            memset(latent + s * kv.latent_stride, 0x80, kv.latent_dim);
        fill_tail(t, &kv, tail + s * kv.tail_stride);
    }
}

/* Row numbers, repetitions and the last row among them. */
static void add_index(struct trial *t)
{
    size_t n = arg(t, KEYS), rows = cache_rows(t);
    if (!arg(t, GATHERED)) {
        absent(t);
        return;
    }
    uint32_t *index = input(t, "index", KIND_WORDS, n);
    for (size_t i = 0; i < n; i++)
        index[i] = i == n / 2 ? (uint32_t)rows - 1 : random_word() % (uint32_t)rows;
}

static void add_queries(struct trial *t)
{
    size_t dim = arg(t, DIM), heads = arg(t, HEADS);
    if (t->arg[TYPE] == SL_CACHE_INT8) {
        fill_codes(input(t, "query codes", KIND_BYTES, heads * dim), heads * dim, t->arg[VALUES]);
        input_floats(t, "query scales", heads * sl_latent_groups(dim), t->arg[VALUES]);
    } else {
        input_floats(t, "query", heads * dim, t->arg[VALUES]);
        absent(t);
    }
    size_t ropes = heads * (arg(t, ROPE) + ROPE_GAP);
    input_floats(t, "query rope", ropes ? ropes - ROPE_GAP : 0, t->arg[VALUES]);
}

static bool prepare_attend(struct trial *t)
{
    add_cache(t);
    add_index(t);
    add_queries(t);
    if (arg(t, NO_OUT))
        absent(t);
    else
        output(t, "out", KIND_FLOATS, arg(t, HEADS) * arg(t, DIM));
    output(t, "max", KIND_FLOATS, arg(t, HEADS));
    output(t, "sum", KIND_FLOATS, arg(t, HEADS));
    struct sl_kv kv = cache_of(t);
    output(t, "scratch", KIND_MATRIX, sl_attend_scratch(&kv));
    set_rule(t, 0, sl_attend_scratch(&kv), RULE_ANY);
    return true;
}

/* Divides the rows into blocks, in every other trial that is not a real one; the last block comes
 * first in memory. */
static void divide(const struct trial *t, struct sl_kv *kv)
{
    uint8_t *latent = at(t, LATENT), *tail = at(t, TAIL);
    size_t rows = cache_rows(t), each = rows;
    bool real = t->number + t->kernel->reals >= trial_count(t->kernel);
    if (t->number % 2 && !real) {
        kv->shift = BLOCK_SHIFT;
        each = (size_t)1 << BLOCK_SHIFT;
    }
    for (size_t first = 0, b = 0; first < rows; first += each, b++) {
        size_t place = rows - (first + each < rows ? first + each : rows);
        kv->block[b].latent = latent + place * kv->latent_stride;
        kv->block[b].tail = tail + place * kv->tail_stride;
    }
}

static void run_attend(const struct sl_ops *ops, const struct trial *t)
{
    struct sl_kv_block blocks[MOST_BLOCKS];
    struct sl_kv kv = cache_of(t);
    kv.block = blocks;
    divide(t, &kv);
    struct sl_queries queries = {.heads = (uint32_t)arg(t, HEADS),
                                 .rope = at(t, QUERY_ROPE),
                                 .rope_ld = arg(t, ROPE) + ROPE_GAP};
    const struct sl_attended result = {at(t, OUT), at(t, MAX), at(t, SUM)};
    if (kv.type == SL_CACHE_INT8)
        queries.q = at(t, QUERY), queries.scale = at(t, QUERY_SCALE);
    else
        queries.f = at(t, QUERY);
    ops->attend(&kv, &queries, 0.1352337f, at(t, INDEX), FIRST_ROW, arg(t, KEYS), &result,
                at(t, SCRATCH));
}

static double attend_operations(const struct trial *t)
{
    return 2.0 * (double)(arg(t, HEADS) * arg(t, KEYS) * (2 * arg(t, DIM) + arg(t, ROPE)));
}

/* ---- blocks --------------------------------------------------------------------------------- */

enum { N, MERGE_VALUES };

static bool prepare_merge(struct trial *t)
{
    long values = t->arg[MERGE_VALUES];
    output_floats(t, "out_a", arg(t, N), values);
    output_floats(t, "max_a", 1, values);
    output_floats(t, "sum_a", 1, values);
    input_floats(t, "out_b", arg(t, N), values);
    input_floats(t, "max_b, sum_b", 2, values);
    return true;
}

static void run_merge(const struct sl_ops *ops, const struct trial *t)
{
    const float *b = at(t, 4);
    ops->attend_merge(at(t, 0), at(t, 1), at(t, 2), at(t, 3), b[0], b[1], arg(t, N));
}

static bool prepare_finish(struct trial *t)
{
    output_floats(t, "out", arg(t, N), t->arg[MERGE_VALUES]);
    float *sum = input_floats(t, "sum", 1, t->arg[MERGE_VALUES]);
    if (t->arg[MERGE_VALUES] == VALUES_UNIFORM) /* like a softmax's */
        *sum += 2;
    return true;
}

static void run_finish(const struct sl_ops *ops, const struct trial *t)
{
    const float *sum = at(t, 1);
    ops->attend_finish(at(t, 0), *sum, arg(t, N));
}

/* ---- table ---------------------------------------------------------------------------------- */

/* clang-format off */
static const long real_kv_store[][AXES] = {
    {SL_CACHE_INT8, 512, 64, 0, 0, 3}, {SL_CACHE_BF16, 512, 64, 0, 0, 3},
};
static const long real_attend[][AXES] = {
    {SL_CACHE_INT8, 512, 64, 0, 0, 512, 0, 64}, {SL_CACHE_INT8, 512, 64, 0, 0, 512, 1, 64},
    {SL_CACHE_BF16, 512, 64, 0, 0, 512, 0, 8}, {SL_CACHE_BF16, 512, 64, 0, 0, 512, 1, 8},
    {SL_CACHE_F32, 512, 64, 0, 0, 512, 0, 8}, {SL_CACHE_INT8, 512, 64, 0, 0, 97, 0, 64},
};
static const long latent[][AXES] = {{512}};

#define TAILS 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
#define LENGTHS {"n", EVERY, 80, MORE(128, 200, 511, 512, 513)}
#define ALL_VALUES {"values", EVERY, VALUES_KINDS, NULL, 0}
const struct kernel attend_kernels[] = {
    {"kv_store",
     {TYPES, {"dim", EVERY, 0, MORE(TAILS, 15, 16, 17, 64, 100, 127, 128, 129, 200, 512, 576)},
      ROPES, {"gap", SOME, 0, MORE(0, 1, 2, 64)}, ALL_VALUES, {"row", EVERY, 0, MORE(0, 3)}},
     REAL(real_kv_store), prepare_kv_store, run_kv_store, NULL},
    {"attend",
     {TYPES, {"dim", EVERY, 0, MORE(TAILS, 31, 64, 66, 127, 128, 129, 321, 512)}, ROPES,
      {"gap", SOME, 0, MORE(0, 1, 2, 64)}, {"values", SOME, VALUES_KINDS, NULL, 0},
      {"keys", EVERY, 37, MORE(63, 64, 101, 511, 512)}, {"gathered", SOME, 2, NULL, 0},
      {"heads", SOME, 0, MORE(0, 1, 2, 4, 8, 9, 13)}, {"no out", SOME, 2, NULL, 0}},
     REAL(real_attend), prepare_attend, run_attend, attend_operations},
    {"attend_merge", {LENGTHS, ALL_VALUES}, REAL(latent), prepare_merge, run_merge, NULL},
    {"attend_finish", {LENGTHS, ALL_VALUES}, REAL(latent), prepare_finish, run_finish, NULL},
    {0},
};
/* clang-format on */
