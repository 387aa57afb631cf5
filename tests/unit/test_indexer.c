/* SPDX-License-Identifier: MIT */
/*
 * runtime/attention: which keys are chosen, against a slow choice: score every key that a query
 * sees with the reference kernel, sort, take the first.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/attention/call.h"
#include "tests/random.h"

enum { HEADS = 3, DIM = 8, ROPE = 4, CHUNK = 11, KEYS = 4200, MOST_THREADS = 5 };
enum { SHIFT = 6, BLOCKS = (KEYS >> SHIFT) + 1, PANELS = (1 << SHIFT) / SL_KEY_PANEL };

enum kind {
    RANDOM,      /* the only one for float keys */
    TWINS,       /* few different keys: many ties */
    WEIGHTLESS,  /* all scores are zeros, of both signs */
    FEW_NUMBERS, /* the scale of most keys is NaN */
    NO_NUMBERS,
    RECENT, /* the last keys score highest */
    KINDS,
};

/* A layer's indexer with nothing around it. */
struct indexer {
    struct sl_config config;
    struct sl_compute compute;
    struct sl_attention a;
    uint8_t *panels; /* of all keys, in order; */
    uint8_t *keys[BLOCKS];
    struct sl_layer_cache cache; /* has copies of them, a block here and a block there */
    struct sl_arena arena;
};

static void take(struct indexer *x)
{
    sl_attention_take_tables(&x->a, &x->arena);
    sl_attention_take_scratch(&x->a, &x->arena);
    x->panels = sl_arena_take(&x->arena, KEYS / SL_KEY_PANEL + 1, x->cache.panel_bytes);
    for (size_t b = BLOCKS; b-- > 0;)
        x->keys[b] = sl_arena_take(&x->arena, PANELS, x->cache.panel_bytes);
}

static void set_up(struct indexer *x, enum sl_cache type, uint32_t topk)
{
    struct sluice_err err;
    *x = (struct indexer){
        .config = {.hidden = 32, .heads = 1, .q_lora = 32, .kv_lora = 32, .nope = 16, .v_dim = 16},
        .compute = {.ops = sl_rung_find(NULL)->ops, .team = {MOST_THREADS}},
        .a = {.types = {SL_CACHE_INT8, type}, .chunk = CHUNK, .capacity = KEYS},
    };
    x->config.rope = ROPE;
    x->config.index_heads = HEADS;
    x->config.index_dim = DIM;
    x->config.index_topk = topk;
    x->a.config = &x->config;
    x->a.compute = &x->compute;
    x->cache.kv.shift = SHIFT;
    x->cache.keys = x->keys;
    x->cache.panel_bytes = sl_key_panel_bytes(type, DIM);
    take(x);
    assert_int_equal(sl_arena_allocate(&x->arena, "an indexer", &err), 0);
    take(x);
}

/* ---- inputs --------------------------------------------------------------------------------- */

static void fill(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = uniform();
}

static void spoil_scale(struct indexer *x, size_t s)
{
    const float nan = NAN;
    uint8_t *panel = x->panels + s / SL_KEY_PANEL * x->cache.panel_bytes;
    memcpy(panel + DIM * SL_KEY_PANEL + s % SL_KEY_PANEL * sizeof nan, &nan, sizeof nan);
}

static void fill_keys(struct indexer *x, enum kind kind)
{
    enum sl_cache type = x->a.types.index;
    for (size_t s = 0; s < KEYS; s++) {
        float key[DIM];
        random_state = kind == TWINS ? s % 7 : s;
        fill(key, DIM);
        for (size_t i = 0; kind == RECENT && i < DIM; i++)
            key[i] += (float)s * 0x1p-8f;
        x->compute.ops->index_store(type, key, DIM, x->panels, s);
        if (kind == NO_NUMBERS || (kind == FEW_NUMBERS && random_bits() % 50 > 0))
            spoil_scale(x, s);
    }
    for (size_t p = 0; p < KEYS / SL_KEY_PANEL + 1; p++)
        memcpy(x->keys[p / PANELS] + p % PANELS * x->cache.panel_bytes,
               x->panels + p * x->cache.panel_bytes, x->cache.panel_bytes);
}

/* Queries of N tokens as projection leaves them, rotated by nothing. */
static void fill_queries(struct indexer *x, size_t n, enum kind kind)
{
    random_state = n;
    fill(x->a.index_q, n * HEADS * DIM);
    fill(x->a.index_weight, n * HEADS);
    for (size_t i = 0; kind == WEIGHTLESS && i < n * HEADS; i++)
        x->a.index_weight[i] = i % 2 ? 0.0f : -0.0f;
    for (size_t i = 0; i < n * ROPE / 2; i++)
        x->a.cosine[i] = 1, x->a.sine[i] = 0;
}

/* ---- the slow choice ------------------------------------------------------------------------ */

static float score[KEYS + SL_KEY_PANEL];

static float number(uint32_t s)
{
    return isnan(score[s]) ? -INFINITY : score[s];
}

static int better_first(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    if (number(i) != number(j))
        return number(i) > number(j) ? -1 : 1;
    return i < j ? -1 : 1;
}

static int lower_first(const void *a, const void *b)
{
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

/* The keys of token T's query, which the call has prepared; it sees N of them. */
static void slow_choice(const struct indexer *x, size_t t, size_t n, uint32_t *best)
{
    const struct sl_index_query query = {x->a.index_q_codes + t * HEADS * DIM,
                                         x->a.index_q + t * HEADS * DIM,
                                         x->a.index_weight + t * HEADS, HEADS, DIM};
    sl_rung_find("ref")->ops->index_score(x->a.types.index, &query, x->panels, 0, n, score);
    for (size_t s = 0; s < n; s++)
        best[s] = (uint32_t)s;
    qsort(best, n, sizeof *best, better_first);
    qsort(best, x->config.index_topk, sizeof *best, lower_first);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void check_call(struct indexer *x, size_t position, size_t n, enum kind kind)
{
    static const unsigned threads[] = {1, 2, 3, MOST_THREADS};
    static uint32_t best[CHUNK][KEYS];
    size_t topk = x->config.index_topk, first = topk > position ? topk - position : 0;
    struct sl_attention_call call = {
        .a = &x->a, .places.first = {&x->cache, position, NULL}, .n = n};
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        x->compute.team.threads = threads[i];
        fill_queries(x, n, kind);
        memset(x->a.selected, 0xff, n * topk * sizeof *x->a.selected);
        sl_index_select(&call);
        for (size_t t = first; t < n; t++) {
            if (i == 0)
                slow_choice(x, t, position + t + 1, best[t]);
            if (memcmp(best[t], x->a.selected + t * topk, topk * sizeof **best) != 0)
                fail_msg("type %d, %u threads, %zu keys, position %zu + %zu, kind %d",
                         (int)x->a.types.index, threads[i], topk, position, t, (int)kind);
        }
    }
}

/* Numbers of keys around those of panels and items; calls that begin before the first selection;
 * more tokens than a tile, and a single one. */
static void check_kind(struct indexer *x, enum kind kind)
{
    static const size_t last[] = {40, 353, 1030, KEYS - 1};
    fill_keys(x, kind);
    for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
        if (last[i] + 1 <= x->config.index_topk)
            continue;
        check_call(x, last[i], 1, kind);
        check_call(x, last[i] - CHUNK + 1, CHUNK, kind);
        check_call(x, last[i] - 2, 3, kind);
    }
}

static void the_best_are_chosen(void **unused)
{
    static const uint32_t topk[] = {1, 16, 35, 350};
    struct indexer x;
    (void)unused;
    for (int type = SL_CACHE_INT8; type <= SL_CACHE_F32; type++)
        for (size_t i = 0; i < sizeof topk / sizeof *topk; i++) {
            set_up(&x, (enum sl_cache)type, topk[i]);
            for (int kind = 0; kind < (type == SL_CACHE_INT8 ? KINDS : 1); kind++)
                check_kind(&x, (enum kind)kind);
            sl_arena_free(&x.arena);
        }
}

/* With few enough keys to choose there is a bar; else everything is looked at. */
static void groups_are_worth_it(void **unused)
{
    struct indexer x;
    (void)unused;
    set_up(&x, SL_CACHE_INT8, 16);
    assert_int_equal(sl_choice_groups(&x.a, 1), 32);
    assert_int_equal(sl_choice_groups(&x.a, 100), 16);
    sl_arena_free(&x.arena);
    set_up(&x, SL_CACHE_INT8, 350);
    assert_int_equal(sl_choice_groups(&x.a, 2), 0);
    assert_int_equal(sl_choice_groups(&x.a, 3), 240);
    sl_arena_free(&x.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_are_chosen),
        cmocka_unit_test(groups_are_worth_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
