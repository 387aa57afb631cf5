/* SPDX-License-Identifier: MIT */
/*
 * Attention of some heads over rows of an INT8 latent cache.  The rows of a block are first brought
 * into the order of computing, once for all heads: keys in panels of 16, one per lane, as the
 * indexer has them; values in columns.  Then SL_HEAD_TILE heads at a time share every load.
 * Orders of operations: docs/kernels.md, attend.
 */
#include "simd/wide/softmax.h"
#include "simd/wide/wide_kernels.h"

enum {
    KEYS = SL_COLUMN_TILE * SL_LANES,           /* rows that are scored together */
    COLUMN = SL_COLUMN_TILE * SL_LANES,         /* values of a row that are added together */
    STRIPE = SL_ATTEND_BLOCK * COLUMN * 2 + 64, /* bytes of a column, out of step with the
                                                 * sets of a cache */
    SCORES = SL_ATTEND_BLOCK + SL_LANES,        /* floats from one head to the next, likewise */
    CODES = 64,                                 /* of a row that are transposed at a time */
    ROPES = 32,                                 /* likewise, of a rope part */
};

_Static_assert(SL_LATENT_GROUP % COLUMN == 0, "columns do not cross groups");
_Static_assert(SL_ATTEND_BLOCK % KEYS == 0, "a block is whole tiles of rows");
_Static_assert((int)SL_HEAD_TILE <= (int)SL_HEADS_MAX && (int)COLUMN <= (int)SL_COLUMN_MAX,
               "sl_attend_scratch()");

/* A block of rows and the heads at work, all in the caller's scratch. */
struct block {
    size_t n, dim, rope_dim, groups;
    size_t key_bytes; /* of a panel of latent codes */
    uint8_t *keys;    /* [panels][round_up(dim, 64)/4][16][4] */
    float *rope;      /* [panels][round_up(rope_dim, 32)][16] */
    float *scale;     /* [groups][SL_ATTEND_BLOCK] */
    uint8_t *values;  /* [columns][pairs of rows][COLUMN][2] BF16, columns STRIPE bytes apart */
    float *score;     /* [SL_HEAD_TILE][SCORES]; then the softmax */
    float *weight;    /* [SL_HEAD_TILE][SCORES]: softmax times one group's scales */
    int8_t *query;    /* [SL_HEAD_TILE][round_up(dim, 64)], zeros behind dim */
};

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static void *take(uint8_t **scratch, size_t bytes)
{
    uint8_t *p = *scratch;
    *scratch += round_up(bytes, 64);
    return p;
}

static struct block lay_out(const struct sl_kv *kv, size_t n, uint8_t *scratch)
{
    struct block b = {
        .n = n,
        .dim = kv->latent_dim,
        .rope_dim = kv->rope_dim,
        .groups = sl_latent_groups(kv->latent_dim),
        .key_bytes = round_up(kv->latent_dim, CODES) * SL_LANES,
    };
    b.keys = take(&scratch, SL_ATTEND_BLOCK / SL_LANES * b.key_bytes);
    b.rope = take(&scratch, sizeof(float) * SL_ATTEND_BLOCK * round_up(b.rope_dim, ROPES));
    b.scale = take(&scratch, sizeof(float) * SL_ATTEND_BLOCK * b.groups);
    b.values = take(&scratch, round_up(b.dim, COLUMN) / COLUMN * STRIPE);
    b.score = take(&scratch, sizeof(float) * SL_HEAD_TILE * SCORES);
    b.weight = take(&scratch, sizeof(float) * SL_HEAD_TILE * SCORES);
    b.query = take(&scratch, SL_HEAD_TILE * round_up(b.dim, CODES));
    return b;
}

/* ---- bringing rows into order --------------------------------------------------------------- */

/* The rows of one panel; behind the last row, it again: nothing is read of its scores. */
struct sixteen {
    const uint8_t *latent[SL_LANES], *tail[SL_LANES];
};

static struct sixteen sixteen_rows(const struct sl_kv *kv, const uint32_t *index, size_t s0,
                                   size_t n, size_t j)
{
    struct sixteen rows;
    for (size_t i = 0; i < SL_LANES; i++) {
        size_t at = sl_least(j + i, n - 1), s = index ? index[at] : s0 + at;
        rows.latent[i] = sl_kv_latent(kv, s);
        rows.tail[i] = sl_kv_tail(kv, s);
    }
    return rows;
}

/* Lane j of vector i ↔ lane i of vector j.  A pass turns the eight bits (vector, lane) by one. */
SL_INLINE void transpose(vf x[SL_LANES])
{
    SL_UNROLL
    for (size_t pass = 0; pass < 4; pass++) {
        vf y[SL_LANES];
        SL_UNROLL
        for (size_t i = 0; i < SL_LANES / 2; i++)
            vf_zip(x[i], x[i + SL_LANES / 2], &y[2 * i], &y[2 * i + 1]);
        SL_UNROLL
        for (size_t i = 0; i < SL_LANES; i++)
            x[i] = y[i];
    }
}

/* Words of sixteen rows, BYTES of each from AT on and zeros behind: x[i] has word i of each. */
SL_INLINE void take_words(const uint8_t *const row[SL_LANES], size_t at, size_t bytes,
                          vf x[SL_LANES])
{
    uint8_t last[SL_LANES * 4] = {0};
    SL_UNROLL
    for (size_t i = 0; i < SL_LANES; i++)
        x[i] = vf_load(bytes < sizeof last ? memcpy(last, row[i] + at, bytes) : row[i] + at);
    transpose(x);
}

static void put_keys(const struct block *b, const struct sixteen *rows, uint8_t *out)
{
    for (size_t i = 0; i < b->dim; i += CODES, out += CODES * SL_LANES) {
        vf x[SL_LANES];
        take_words(rows->latent, i, sl_least(b->dim - i, CODES), x);
        SL_UNROLL
        for (size_t k = 0; k < SL_LANES; k++)
            vf_store((float *)(void *)(out + k * CODES), x[k]);
    }
}

/* Floats of the even and the odd ones of 32 BF16 numbers. */
SL_INLINE void split(vf pairs, vf *even, vf *odd)
{
    *even = vi_as_f(vi_shl(vf_bits(pairs), 16));
    *odd = vi_as_f(vi_and(vf_bits(pairs), vi_set((int32_t)0xffff0000)));
}

/* The rope parts, BF16 behind the scales. */
static void put_rope(const struct block *b, const struct sixteen *rows, float *out)
{
    for (size_t i = 0; i < b->rope_dim; i += ROPES, out += ROPES * SL_LANES) {
        vf x[SL_LANES], even, odd;
        take_words(rows->tail, 4 * b->groups + 2 * i, 2 * sl_least(b->rope_dim - i, ROPES), x);
        SL_UNROLL
        for (size_t k = 0; k < SL_LANES; k++) {
            split(x[k], &even, &odd);
            vf_store(out + 2 * k * SL_LANES, even);
            vf_store(out + (2 * k + 1) * SL_LANES, odd);
        }
    }
}

static void put_scales(const struct block *b, const struct sixteen *rows, size_t j)
{
    for (size_t g = 0; g < b->groups; g++)
        for (size_t lane = 0; lane < SL_LANES; lane++)
            memcpy(&b->scale[g * SL_ATTEND_BLOCK + j + lane], rows->tail[lane] + 4 * g, 4);
}

/* Sixteen values of two rows, as words: codes are BF16 without rounding. */
SL_INLINE void put_pair(const uint8_t *even, const uint8_t *odd, uint8_t *out)
{
    vi low = vf_bits(vf_load_s8(even)), high = vf_bits(vf_load_s8(odd));
    vf_store((float *)(void *)out, vi_as_f(vi_or(vi_shr(low, 16), high)));
}

/* The values of rows J and J + 1, zeros behind the last one. */
static void put_values(const struct block *b, const uint8_t *even, const uint8_t *odd, size_t j)
{
    uint8_t last[2][COLUMN] = {{0}};
    uint8_t *out = b->values + j * COLUMN * 2;
    for (size_t i = 0; i < b->dim; i += COLUMN, out += STRIPE) {
        const uint8_t *x = even + i, *y = odd + i;
        if (i + COLUMN > b->dim) {
            x = memcpy(last[0], x, b->dim - i);
            y = memcpy(last[1], y, b->dim - i);
        }
        SL_UNROLL
        for (size_t v = 0; v < SL_COLUMN_TILE; v++)
            put_pair(x + v * SL_LANES, y + v * SL_LANES, out + v * SL_LANES * 4);
    }
}

/* Inline: gcc 12 drops calls of a function that does nothing but this. */
SL_INLINE void fetch_bytes(const uint8_t *p, size_t n)
{
    enum { LINE = 64, SECOND_LEVEL = 2 /* the first has no room for a panel */ };
    for (size_t at = 0; at < n; at += LINE)
        __builtin_prefetch(p + at, 0, SECOND_LEVEL);
    __builtin_prefetch(p + n - 1, 0, SECOND_LEVEL);
}

/* Rows that are wanted soon; processors do not foresee where they are. */
SL_INLINE void fetch(const struct sl_kv *kv, const struct sixteen *rows)
{
    size_t tail = sl_kv_tail_bytes(SL_CACHE_INT8, kv->latent_dim, kv->rope_dim);
    for (size_t i = 0; i < SL_LANES; i++) {
        fetch_bytes(rows->latent[i], kv->latent_dim);
        fetch_bytes(rows->tail[i], tail);
    }
}

static void gather(const struct block *b, const struct sl_kv *kv, const uint32_t *index, size_t s0)
{
    for (size_t j = 0; j < round_up(b->n, KEYS); j += SL_LANES) {
        struct sixteen rows = sixteen_rows(kv, index, s0, b->n, j);
        struct sixteen next = sixteen_rows(kv, index, s0, b->n, j + SL_LANES);
        fetch(kv, &next);
        put_keys(b, &rows, b->keys + j / SL_LANES * b->key_bytes);
        put_rope(b, &rows, b->rope + j * round_up(b->rope_dim, ROPES));
        put_scales(b, &rows, j);
        for (size_t i = 0; i < SL_LANES; i += 2)
            put_values(b, rows.latent[i], rows.latent[i + 1], j + i);
    }
}

/* ---- scores --------------------------------------------------------------------------------- */

/* The heads at work. */
struct tile {
    const float *scale; /* [tile][groups] */
    const float *rope;  /* [tile], rope_ld apart */
    size_t rope_ld;
    int32_t bias[SL_HEAD_TILE]; /* of the group at hand */
};

/* Adds group G's part to the scores of all rows. */
SL_INLINE void score_group(const struct block *b, const struct tile *t, size_t g, size_t tile)
{
    size_t at = g * SL_LATENT_GROUP, ld = round_up(b->dim, CODES);
    size_t n = round_up(sl_least(b->dim - at, SL_LATENT_GROUP), 4);
    const int8_t *q = b->query + at;
    for (size_t j = 0; j < b->n; j += KEYS) {
        const uint8_t *key = b->keys + j / SL_LANES * b->key_bytes + at * SL_LANES;
        vi dot[SL_HEAD_TILE][SL_COLUMN_TILE];
        SL_UNROLL
        for (size_t h = 0; h < tile; h++)
            SL_UNROLL
        for (size_t v = 0; v < SL_COLUMN_TILE; v++)
            dot[h][v] = vi_set(t->bias[h]);
        for (size_t k = 0; k < n; k += 4, key += CODES) {
            vw codes[SL_COLUMN_TILE];
            SL_UNROLL
            for (size_t v = 0; v < SL_COLUMN_TILE; v++)
                codes[v] = vw_load(key + v * b->key_bytes);
            SL_UNROLL
            for (size_t h = 0; h < tile; h++) {
                vi four = vx_load4(q + h * ld + k);
                SL_UNROLL
                for (size_t v = 0; v < SL_COLUMN_TILE; v++)
                    dot[h][v] = vw_dot(dot[h][v], codes[v], four);
            }
        }
        SL_UNROLL
        for (size_t v = 0; v < SL_COLUMN_TILE; v++) {
            vf scale = vf_load(b->scale + g * SL_ATTEND_BLOCK + j + v * SL_LANES);
            SL_UNROLL
            for (size_t h = 0; h < tile; h++) {
                float *score = b->score + h * SCORES + j + v * SL_LANES;
                vf factor = vf_mul(vf_set(t->scale[h * b->groups + g]), scale);
                vf_store(score, vf_fma(vi_to_f(dot[h][v]), factor, vf_load(score)));
            }
        }
    }
}

/* sum[tile][…] = chain C of the rope parts of the rows from KEY on. */
SL_INLINE void rope_chain(const struct block *b, const struct tile *t, const float *key, size_t c,
                          size_t tile, vf sum[][SL_COLUMN_TILE])
{
    size_t panel = round_up(b->rope_dim, ROPES) * SL_LANES;
    vf acc[SL_HEAD_TILE][SL_COLUMN_TILE];
    SL_UNROLL
    for (size_t h = 0; h < tile; h++)
        SL_UNROLL
    for (size_t v = 0; v < SL_COLUMN_TILE; v++)
        acc[h][v] = vf_set(0);
    for (size_t k = c; k < b->rope_dim; k += 4) {
        vf x[SL_COLUMN_TILE];
        SL_UNROLL
        for (size_t v = 0; v < SL_COLUMN_TILE; v++)
            x[v] = vf_load(key + v * panel + k * SL_LANES);
        SL_UNROLL
        for (size_t h = 0; h < tile; h++) {
            vf q = vf_set(t->rope[h * t->rope_ld + k]);
            SL_UNROLL
            for (size_t v = 0; v < SL_COLUMN_TILE; v++)
                acc[h][v] = vf_fma(x[v], q, acc[h][v]);
        }
    }
    SL_UNROLL
    for (size_t h = 0; h < tile; h++)
        SL_UNROLL
    for (size_t v = 0; v < SL_COLUMN_TILE; v++)
        sum[h][v] = acc[h][v];
}

/* Adds the rope parts to the scores of all rows, and scales them. */
SL_INLINE void score_rope(const struct block *b, const struct tile *t, float scale, size_t tile)
{
    for (size_t j = 0; j < b->n; j += KEYS) {
        const float *key = b->rope + j * round_up(b->rope_dim, ROPES);
        vf sum[4][SL_HEAD_TILE][SL_COLUMN_TILE];
        for (size_t c = 0; c < 4; c++)
            rope_chain(b, t, key, c, tile, sum[c]);
        SL_UNROLL
        for (size_t h = 0; h < tile; h++)
            SL_UNROLL
        for (size_t v = 0; v < SL_COLUMN_TILE; v++) {
            float *score = b->score + h * SCORES + j + v * SL_LANES;
            vf rope = vf_add(vf_add(sum[0][h][v], sum[1][h][v]),
                             vf_add(sum[2][h][v], sum[3][h][v]));
            vf_store(score, vf_mul(vf_add(vf_load(score), rope), vf_set(scale)));
        }
    }
}

SL_INLINE void score_tile(const struct block *b, struct tile *t, float scale, size_t tile)
{
    size_t ld = round_up(b->dim, CODES);
    for (size_t h = 0; h < tile; h++)
        memset(b->score + h * SCORES, 0, round_up(b->n, SL_LANES) * sizeof(float));
    for (size_t g = 0; g < b->groups; g++) {
        size_t at = g * SL_LATENT_GROUP, n = sl_least(b->dim - at, SL_LATENT_GROUP);
        for (size_t h = 0; h < tile; h++)
            t->bias[h] = vw_bias(vw_sum(b->query + h * ld + at, n));
        score_group(b, t, g, tile);
    }
    score_rope(b, t, scale, tile);
}

/* ---- values --------------------------------------------------------------------------------- */

/* The values of two rows. */
SL_INLINE void load_pair(const uint8_t *values, vf even[SL_COLUMN_TILE], vf odd[SL_COLUMN_TILE])
{
    SL_UNROLL
    for (size_t v = 0; v < SL_COLUMN_TILE; v++)
        split(vf_load(values + v * SL_LANES * 4), &even[v], &odd[v]);
}

/* acc[tile] += weight[tile][j] · value. */
SL_INLINE void add_row(const struct block *b, size_t j, size_t tile, const vf value[SL_COLUMN_TILE],
                       vf acc[][SL_COLUMN_TILE])
{
    SL_UNROLL
    for (size_t h = 0; h < tile; h++) {
        vf weight = vf_set(b->weight[h * SCORES + j]);
        SL_UNROLL
        for (size_t v = 0; v < SL_COLUMN_TILE; v++)
            acc[h][v] = vf_fma(weight, value[v], acc[h][v]);
    }
}

/* out[tile][COLUMN] = Σ_j weight[tile][j] · values[j], of which N outputs are wanted. */
SL_INLINE void add_column(const struct block *b, const uint8_t *values, size_t tile, float *out,
                          size_t n)
{
    vf acc[SL_HEAD_TILE][SL_COLUMN_TILE];
    SL_UNROLL
    for (size_t h = 0; h < tile; h++)
        SL_UNROLL
    for (size_t v = 0; v < SL_COLUMN_TILE; v++)
        acc[h][v] = vf_set(0);
    size_t j = 0;
    vf even[SL_COLUMN_TILE], odd[SL_COLUMN_TILE];
    for (; j + 2 <= b->n; j += 2, values += COLUMN * 4) {
        load_pair(values, even, odd);
        add_row(b, j, tile, even, acc);
        add_row(b, j + 1, tile, odd, acc);
    }
    if (j < b->n) {
        load_pair(values, even, odd);
        add_row(b, j, tile, even, acc);
    }
    SL_UNROLL
    for (size_t h = 0; h < tile; h++)
        SL_UNROLL
    for (size_t v = 0; v < SL_COLUMN_TILE; v++)
        if (v * SL_LANES < n)
            vf_store_n(out + h * b->dim + v * SL_LANES, acc[h][v],
                       sl_least(n - v * SL_LANES, SL_LANES));
}

SL_INLINE void add_tile(const struct block *b, size_t tile, float *out)
{
    for (size_t g = 0; g < b->groups; g++) {
        const float *scale = b->scale + g * SL_ATTEND_BLOCK;
        for (size_t h = 0; h < tile; h++)
            for (size_t j = 0; j < b->n; j += SL_LANES)
                vf_store(b->weight + h * SCORES + j,
                         vf_mul(vf_load(b->score + h * SCORES + j), vf_load(scale + j)));
        size_t end = sl_least(b->dim, (g + 1) * SL_LATENT_GROUP);
        for (size_t i = g * SL_LATENT_GROUP; i < end; i += COLUMN)
            add_column(b, b->values + i / COLUMN * STRIPE, tile, out + i, end - i);
    }
}

/* ---- heads ---------------------------------------------------------------------------------- */

SL_INLINE void attend_tile(const struct block *b, const struct sl_queries *queries, size_t h,
                           size_t tile, float scale, const struct sl_attended *result)
{
    size_t ld = round_up(b->dim, CODES);
    struct tile t = {
        .scale = queries->scale + h * b->groups,
        .rope = queries->rope + h * queries->rope_ld,
        .rope_ld = queries->rope_ld,
    };
    for (size_t i = 0; i < tile; i++) {
        memcpy(b->query + i * ld, queries->q + (h + i) * b->dim, b->dim);
        memset(b->query + i * ld + b->dim, 0, ld - b->dim);
    }
    score_tile(b, &t, scale, tile);
    for (size_t i = 0; i < tile; i++) {
        float *score = b->score + i * SCORES;
        result->max[h + i] = sl_largest_score(score, b->n);
        result->sum[h + i] = sl_exp_scores(score, b->n, result->max[h + i]);
    }
    if (result->out)
        add_tile(b, tile, result->out + h * b->dim);
}

void SL_WIDE(attend_int8)(const struct sl_kv *kv, const struct sl_queries *queries, float scale,
                          const uint32_t *index, size_t s0, size_t n,
                          const struct sl_attended *result, void *scratch)
{
    const struct block b = lay_out(kv, n, scratch);
    gather(&b, kv, index, s0);
    size_t h = 0;
    for (; h + SL_HEAD_TILE <= queries->heads; h += SL_HEAD_TILE)
        attend_tile(&b, queries, h, SL_HEAD_TILE, scale, result);
    for (; h < queries->heads; h++)
        attend_tile(&b, queries, h, 1, scale, result);
}
