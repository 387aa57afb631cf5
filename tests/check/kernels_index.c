/* SPDX-License-Identifier: MIT */
/* Trials of the lightning indexer: storing keys, scoring them, choosing the best. */
#include <math.h>
#include <string.h>

#include "tests/check/trial.h"

#define TYPES                                                                                      \
    {                                                                                              \
        "type", EVERY, 0, MORE(SL_CACHE_INT8, SL_CACHE_BF16, SL_CACHE_F32)                         \
    }

static enum sl_cache type_of(const struct trial *t)
{
    return (enum sl_cache)arg(t, 0);
}

/* ---- store ---------------------------------------------------------------------------------- */

enum { STORE_TYPE, STORE_DIM, STORE_KEY, STORE_VALUES };

/* The bytes of key S, and of no other key. */
static void only_key(struct trial *t, size_t s)
{
    enum sl_cache type = type_of(t);
    size_t dim = arg(t, STORE_DIM), panel_bytes = sl_key_panel_bytes(type, dim);
    size_t panel = s / SL_KEY_PANEL * panel_bytes, lane = s % SL_KEY_PANEL;
    size_t size = type == SL_CACHE_BF16 ? 2 : 4; /* INT8: four codes */
    size_t steps = type == SL_CACHE_INT8 ? dim / 4 + 1 : dim;
    set_rule(t, 0, panel + panel_bytes, RULE_KEEP);
    for (size_t i = 0; i < steps; i++)
        set_rule(t, panel + (i * SL_KEY_PANEL + lane) * size, size, RULE_SAME);
}

static bool prepare_index_store(struct trial *t)
{
    size_t dim = arg(t, STORE_DIM), s = arg(t, STORE_KEY);
    input_floats(t, "x", dim, t->arg[STORE_VALUES]);
    output(t, "keys", KIND_BYTES, (s / SL_KEY_PANEL + 1) * sl_key_panel_bytes(type_of(t), dim));
    only_key(t, s);
    return true;
}

static void run_index_store(const struct sl_ops *ops, const struct trial *t)
{
    ops->index_store(type_of(t), at(t, 0), arg(t, STORE_DIM), at(t, 1), arg(t, STORE_KEY));
}

/* ---- score ---------------------------------------------------------------------------------- */

enum { SCORE_TYPE, SCORE_HEADS, SCORE_DIM, SCORE_KEYS, SCORE_START, SCORE_VALUES };
enum { SCORE_PANELS, SCORE_QUERY, SCORE_WEIGHT, SCORE_OUT };

static size_t score_end(const struct trial *t)
{
    return arg(t, SCORE_START) + arg(t, SCORE_KEYS);
}

/* Any codes, as of a hostile file; only the keys that exist have a meaning. */
static void add_keys(struct trial *t)
{
    enum sl_cache type = type_of(t);
    long values = t->arg[SCORE_VALUES];
    size_t dim = arg(t, SCORE_DIM), bytes = sl_key_panel_bytes(type, dim);
    size_t panels = (score_end(t) + SL_KEY_PANEL - 1) / SL_KEY_PANEL;
    uint8_t *keys = input(t, "keys", KIND_BYTES, panels * bytes);
    for (size_t p = 0; p < panels; p++, keys += bytes) {
        float scale[SL_KEY_PANEL];
        if (type != SL_CACHE_INT8) {
            fill_stored(type, keys, dim * SL_KEY_PANEL, values);
            continue;
        }
        if (values == VALUES_PLUS || values == VALUES_MINUS)
            memset(keys, values == VALUES_PLUS ? 0x7f : 0x80, dim * SL_KEY_PANEL);
        fill_floats(scale, SL_KEY_PANEL, values);
        memcpy(keys + dim * SL_KEY_PANEL, scale, sizeof scale);
    }
}

static bool prepare_index_score(struct trial *t)
{
    size_t heads = arg(t, SCORE_HEADS), dim = arg(t, SCORE_DIM), s0 = arg(t, SCORE_START);
    size_t end = score_end(t), room = sl_padded_rows(end);
    if (arg(t, SCORE_KEYS) == 0)
        room = end;
    add_keys(t);
    if (type_of(t) == SL_CACHE_INT8)
        fill_codes(input(t, "q", KIND_BYTES, heads * dim), heads * dim, t->arg[SCORE_VALUES]);
    else
        input_floats(t, "f", heads * dim, t->arg[SCORE_VALUES]);
    input_floats(t, "weight", heads, t->arg[SCORE_VALUES]);
    output(t, "score", KIND_FLOATS, room);
    set_rule(t, 0, s0, RULE_KEEP);
    set_rule(t, end, room - end, RULE_ANY);
    return true;
}

static void run_index_score(const struct sl_ops *ops, const struct trial *t)
{
    struct sl_index_query query = {.weight = at(t, SCORE_WEIGHT),
                                   .heads = (uint32_t)arg(t, SCORE_HEADS),
                                   .dim = (uint32_t)arg(t, SCORE_DIM)};
    if (type_of(t) == SL_CACHE_INT8)
        query.q = at(t, SCORE_QUERY);
    else
        query.f = at(t, SCORE_QUERY);
    ops->index_score(type_of(t), &query, at(t, SCORE_PANELS), arg(t, SCORE_START), score_end(t),
                     at(t, SCORE_OUT));
}

static double score_operations(const struct trial *t)
{
    return 2.0 * (double)(arg(t, SCORE_HEADS) * arg(t, SCORE_DIM) * arg(t, SCORE_KEYS));
}

/* ---- top k ---------------------------------------------------------------------------------- */

enum { TOPK_N, TOPK_K, TOPK_SCORES };

enum scores {
    SCORES_RANDOM,
    SCORES_FEW, /* many ties */
    SCORES_ZEROS,
    SCORES_EQUAL,
    SCORES_SPECIAL,
    SCORES_NAN,
    SCORES_DENORMAL,
    SCORES_RISING,
    SCORES_FALLING,
    SCORES_ANY,
    SCORES_KINDS,
};

/* Negative k: relative to n. */
enum { ALL = -1, BUT_ONE = -2, HALF = -3, THIRD = -4 };

static size_t topk_of(const struct trial *t)
{
    size_t n = arg(t, TOPK_N);
    switch (t->arg[TOPK_K]) {
    case ALL:
        return n;
    case BUT_ONE:
        return n ? n - 1 : 0;
    case HALF:
        return n / 2;
    case THIRD:
        return n / 3;
    default:
        return arg(t, TOPK_K);
    }
}

static float one_score(enum scores kind, size_t i)
{
    uint32_t u = random_word();
    float f;
    /* clang-format off */
    switch (kind) {
    case SCORES_FEW:     return (float)(u % 5) - 2;
    case SCORES_ZEROS:   return u % 7 ? (u & 64 ? 0.0f : -0.0f) : (float)(u % 3) - 1;
    case SCORES_EQUAL:   return -3;
    case SCORES_NAN:     return u % 9 ? NAN : -INFINITY;
    case SCORES_RISING:  return (float)i;
    case SCORES_FALLING: return -(float)i;
    case SCORES_ANY:     memcpy(&f, &u, 4); return f;
    default:             break;
    }
    /* clang-format on */
    static const long values[SCORES_KINDS] = {
        [SCORES_SPECIAL] = VALUES_SPECIAL, [SCORES_DENORMAL] = VALUES_DENORMAL};
    fill_floats(&f, 1, values[kind]);
    return f;
}

static void fill_scores(float *score, size_t n, enum scores kind)
{
    for (size_t i = 0; i < n; i++)
        score[i] = one_score(kind, i);
}

static bool prepare_topk(struct trial *t)
{
    size_t n = arg(t, TOPK_N), k = topk_of(t);
    if (k > n)
        return false;
    fill_scores(input(t, "score", KIND_FLOATS, n), n, (enum scores)arg(t, TOPK_SCORES));
    output(t, "out", KIND_WORDS, k);
    return true;
}

static void run_topk(const struct sl_ops *ops, const struct trial *t)
{
    ops->topk(at(t, 0), arg(t, TOPK_N), topk_of(t), at(t, 1));
}

/* ---- few scores of many --------------------------------------------------------------------- */

enum { FEW_N, FEW_SCORES, FEW_OWN };

static bool prepare_group_max(struct trial *t)
{
    size_t n = arg(t, FEW_N);
    fill_scores(input(t, "score", KIND_FLOATS, n), n, (enum scores)arg(t, FEW_SCORES));
    output(t, "out", KIND_FLOATS, arg(t, FEW_OWN));
    return true;
}

static void run_group_max(const struct sl_ops *ops, const struct trial *t)
{
    ops->group_max(at(t, 0), arg(t, FEW_N), arg(t, FEW_OWN), at(t, 1));
}

enum bar { BAR_SOME, BAR_NONE, BAR_ALL, BAR_ZERO, BAR_FEW, BARS };

/* BAR_SOME: one of the scores; BAR_FEW: one in fifty random scores reaches it. */
static float bar_of(const struct trial *t)
{
    const float *score = (const float *)(const void *)t->buffer[0].before;
    static const float bars[BARS] = {
        [BAR_NONE] = INFINITY, [BAR_ALL] = -INFINITY, [BAR_ZERO] = -0.0f, [BAR_FEW] = 0.96f};
    enum bar bar = (enum bar)arg(t, FEW_OWN);
    return bar == BAR_SOME && arg(t, FEW_N) > 0 ? score[arg(t, FEW_N) / 2] : bars[bar];
}

static bool prepare_reach(struct trial *t)
{
    size_t n = arg(t, FEW_N), found = 0;
    float *score = input(t, "score", KIND_FLOATS, n);
    fill_scores(score, n, (enum scores)arg(t, FEW_SCORES));
    for (size_t i = 0; i < n; i++)
        found += score[i] >= bar_of(t);
    output(t, "index", KIND_WORDS, n);
    set_rule(t, found, n - found, RULE_ANY);
    output(t, "value", KIND_FLOATS, n);
    set_rule(t, found, n - found, RULE_ANY);
    output(t, "found", KIND_WORDS, 1);
    return true;
}

static void run_reach(const struct sl_ops *ops, const struct trial *t)
{
    uint32_t *found = at(t, 3);
    *found = (uint32_t)ops->reach(at(t, 0), arg(t, FEW_N), bar_of(t), at(t, 1), at(t, 2));
}

/* ---- table ---------------------------------------------------------------------------------- */

/* clang-format off */
static const long real_store[][AXES] = {{SL_CACHE_INT8, 128}, {SL_CACHE_BF16, 128}};
static const long real_score[][AXES] = {
    {SL_CACHE_INT8, 64, 128, 1024, 0}, {SL_CACHE_BF16, 64, 128, 256, 0},
    {SL_CACHE_F32, 64, 128, 256, 0},
};
static const long real_topk[][AXES] = {
    {163840, 2048, SCORES_RANDOM}, {163840, 2048, SCORES_FEW}, {163840, 2048, SCORES_ZEROS},
    {163839, 2048, SCORES_ANY}, {32768, 2048, SCORES_RANDOM}, {4096, 2048, SCORES_RANDOM},
    {256, 8, SCORES_RANDOM}, {8, 4, SCORES_RANDOM},
};
static const long real_group_max[][AXES] = {{1024, SCORES_RANDOM, 32}};
static const long real_reach[][AXES] = {{131072, SCORES_RANDOM, BAR_FEW}};

const struct kernel index_kernels[] = {
    {"index_store",
     {TYPES, {"dim", EVERY, 0, MORE(4, 8, 12, 16, 20, 36, 64, 100, 124, 128, 132)},
      {"key", EVERY, 0, MORE(0, 1, 7, 15, 16, 33)}, {"values", EVERY, VALUES_KINDS, NULL, 0}},
     REAL(real_store), prepare_index_store, run_index_store, NULL},
    {"index_score",
     {TYPES, {"heads", EVERY, 0, MORE(1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 17, 64, 67)},
      {"dim", EVERY, 0, MORE(4, 12, 32, 68, 128)},
      {"keys", EVERY, 34, MORE(48, 49, 64, 80, 113, 127, 128, 129, 145)},
      {"start", SOME, 0, MORE(0, 16, 48)}, {"values", SOME, VALUES_KINDS, NULL, 0}},
     REAL(real_score), prepare_index_score, run_index_score, score_operations},
    {"topk",
     {{"n", EVERY, 50, MORE(63, 64, 65, 511, 512, 513, 2063)},
      {"k", EVERY, 5, MORE(15, 16, 17, 33, 500, ALL, BUT_ONE, HALF, THIRD)},
      {"scores", EVERY, SCORES_KINDS, NULL, 0}},
     REAL(real_topk), prepare_topk, run_topk, NULL},
    {"group_max",
     {{"n", EVERY, 70, MORE(127, 1000, 1023, 1024)}, {"scores", EVERY, SCORES_KINDS, NULL, 0},
      {"groups", EVERY, 0, MORE(16, 32, 48, 512)}},
     REAL(real_group_max), prepare_group_max, run_group_max, NULL},
    {"reach",
     {{"n", EVERY, 70, MORE(127, 128, 129, 200, 1000)}, {"scores", EVERY, SCORES_KINDS, NULL, 0},
      {"bar", EVERY, BARS, NULL, 0}},
     REAL(real_reach), prepare_reach, run_reach, NULL},
    {0},
};
/* clang-format on */
