/* SPDX-License-Identifier: MIT */
/* Latent caches: storing rows, attention over rows of floats, merging blocks.  (INT8 rows, which is
 * what matters for speed: wide_attend_int8.c.)  Scores take four keys at a time, values
 * SL_VALUE_TILE × 16 outputs; orders of operations: docs/kernels.md. */
#include "simd/ref/codes.h"
#include "simd/wide/softmax.h"
#include "simd/wide/wide_kernels.h"

/* ---- storing -------------------------------------------------------------------------------- */

/* Writes N floats at P as BF16, or as they are. */
static void store_floats(enum sl_cache type, const float *x, size_t n, uint8_t *p)
{
    if (type == SL_CACHE_F32) {
        memcpy(p, x, 4 * n);
        return;
    }
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        vi_store_u16(p + 2 * i, vf_to_bf16(vf_load(x + i)));
    if (i < n) {
        uint16_t half[SL_LANES];
        vi_store_u16(half, vf_to_bf16(vf_load_n(x + i, n - i)));
        memcpy(p + 2 * i, half, 2 * (n - i));
    }
}

void SL_WIDE(kv_store)(const struct sl_kv *kv, size_t s, const float *latent, const float *rope)
{
    uint8_t *codes = sl_kv_latent(kv, s), *tail = sl_kv_tail(kv, s);
    if (kv->type == SL_CACHE_INT8) {
        for (size_t i = 0; i < kv->latent_dim; i += SL_LATENT_GROUP, tail += 4) {
            float scale;
            size_t n = sl_least(kv->latent_dim - i, SL_LATENT_GROUP);
            SL_WIDE(quantize_groups)(latent + i, n, n, (int8_t *)codes + i, &scale);
            memcpy(tail, &scale, 4);
        }
    } else {
        store_floats(kv->type, latent, kv->latent_dim, codes);
    }
    store_floats(kv->type, rope, kv->rope_dim, tail);
}

/* ---- scores --------------------------------------------------------------------------------- */

/* Where the rows of one call lie: all heads go over them. */
struct rows {
    const struct sl_kv *kv;
    size_t n;
    const uint8_t *codes[SL_ATTEND_BLOCK], *tail[SL_ATTEND_BLOCK];
};

static void find_rows(struct rows *r, const struct sl_kv *kv, const uint32_t *index, size_t s0,
                      size_t n)
{
    r->kv = kv;
    r->n = n;
    for (size_t j = 0; j < n; j++) {
        size_t s = index ? index[j] : s0 + j;
        r->codes[j] = sl_kv_latent(kv, s);
        r->tail[j] = sl_kv_tail(kv, s);
    }
}

/* Element I of floats stored at P. */
static inline float stored_float(enum sl_cache type, const uint8_t *p, size_t i)
{
    uint16_t half;
    float f;
    if (type == SL_CACHE_F32) {
        memcpy(&f, p + 4 * i, 4);
        return f;
    }
    memcpy(&half, p + 2 * i, 2);
    return sl_from_bf16(half);
}

/* out[key] = Q · the floats stored at ROW[key], in four chains per key: lane 4·key + chain. */
SL_INLINE void dot_floats(enum sl_cache type, const float *q, const uint8_t *const row[4], size_t n,
                          float out[4])
{
    size_t i = 0, size = type == SL_CACHE_F32 ? 4 : 2;
    vf acc = vf_set(0);
    for (; i + 4 <= n; i += 4) {
        const uint8_t *a = row[0] + i * size, *b = row[1] + i * size;
        const uint8_t *c = row[2] + i * size, *d = row[3] + i * size;
        vf key = type == SL_CACHE_F32
                     ? vf_join4((const float *)(const void *)a, (const float *)(const void *)b,
                                (const float *)(const void *)c, (const float *)(const void *)d)
                     : vf_join4_bf16(a, b, c, d);
        acc = vf_fma(vf_splat4(q + i), key, acc);
    }
    float chain[4 * 4];
    vf_store(chain, acc);
    for (size_t key = 0; key < 4; key++) {
        float *at = chain + 4 * key;
        for (size_t k = i; k < n; k++)
            at[k % 4] = fmaf(q[k], stored_float(type, row[key], k), at[k % 4]);
        out[key] = (at[0] + at[1]) + (at[2] + at[3]);
    }
}

/* The rows of keys J … J + 3; behind the last key, the last one again. */
struct four {
    const uint8_t *codes[4], *tail[4];
};

static inline struct four four_rows(const struct rows *r, size_t j)
{
    struct four f;
    SL_UNROLL
    for (size_t i = 0; i < 4; i++) {
        size_t at = sl_least(j + i, r->n - 1);
        f.codes[i] = r->codes[at];
        f.tail[i] = r->tail[at];
    }
    return f;
}

/* The scores of all rows. */
SL_INLINE void score_rows(enum sl_cache type, const struct rows *r, const float *query,
                          const float *query_rope, float scale, float *score)
{
    const struct sl_kv *kv = r->kv;
    for (size_t j = 0; j < r->n; j += 4) {
        struct four f = four_rows(r, j);
        float latent[4], rope[4];
        dot_floats(type, query, f.codes, kv->latent_dim, latent);
        dot_floats(type, query_rope, f.tail, kv->rope_dim, rope);
        SL_UNROLL
        for (size_t key = 0; key < 4; key++)
            score[j + key] = (latent[key] + rope[key]) * scale;
    }
}

/* ---- values --------------------------------------------------------------------------------- */

SL_INLINE vf load_value(enum sl_cache type, const uint8_t *codes, size_t i)
{
    return type == SL_CACHE_BF16 ? vf_load_bf16(codes + 2 * i) : vf_load(codes + 4 * i);
}

/* out[i … i + 16·TILE) = Σ_j weight[j] · value. */
SL_INLINE void add_values(enum sl_cache type, const struct rows *r, const float *weight, size_t i,
                          size_t tile, float *out)
{
    vf acc[SL_VALUE_TILE];
    SL_UNROLL
    for (size_t t = 0; t < tile; t++)
        acc[t] = vf_set(0);
    for (size_t j = 0; j < r->n; j++) {
        const uint8_t *codes = r->codes[j];
        vf w = vf_set(weight[j]);
        SL_UNROLL
        for (size_t t = 0; t < tile; t++)
            acc[t] = vf_fma(w, load_value(type, codes, i + t * SL_LANES), acc[t]);
    }
    SL_UNROLL
    for (size_t t = 0; t < tile; t++)
        vf_store(out + i + t * SL_LANES, acc[t]);
}

/* The last outputs, fewer than 16. */
static void add_last_values(enum sl_cache type, const struct rows *r, const float *weight, size_t i,
                            float *out)
{
    for (; i < r->kv->latent_dim; i++) {
        float acc = 0;
        for (size_t j = 0; j < r->n; j++) {
            acc = fmaf(weight[j], stored_float(type, r->codes[j], i), acc);
        }
        out[i] = acc;
    }
}

SL_INLINE void add_all_values(enum sl_cache type, const struct rows *r, const float *weight,
                              float *out)
{
    size_t i = 0, end = r->kv->latent_dim;
    for (; i + SL_VALUE_TILE * SL_LANES <= end; i += SL_VALUE_TILE * SL_LANES)
        add_values(type, r, weight, i, SL_VALUE_TILE, out);
    for (; i + SL_LANES <= end; i += SL_LANES)
        add_values(type, r, weight, i, 1, out);
    add_last_values(type, r, weight, i, out);
}

SL_INLINE void attend_floats(enum sl_cache type, const struct rows *r,
                             const struct sl_queries *queries, float scale,
                             const struct sl_attended *result)
{
    float score[SL_ATTEND_BLOCK];
    size_t dim = r->kv->latent_dim;
    for (size_t h = 0; h < queries->heads; h++) {
        score_rows(type, r, queries->f + h * dim, queries->rope + h * queries->rope_ld, scale,
                   score);
        result->max[h] = sl_largest_score(score, r->n);
        result->sum[h] = sl_exp_scores(score, r->n, result->max[h]);
        if (result->out)
            add_all_values(type, r, score, result->out + h * dim);
    }
}

void SL_WIDE(attend)(const struct sl_kv *kv, const struct sl_queries *queries, float scale,
                     const uint32_t *index, size_t s0, size_t n, const struct sl_attended *result,
                     void *scratch)
{
    struct rows rows;
    if (kv->type == SL_CACHE_INT8) {
        SL_WIDE(attend_int8)(kv, queries, scale, index, s0, n, result, scratch);
        return;
    }
    find_rows(&rows, kv, index, s0, n);
    if (kv->type == SL_CACHE_BF16)
        attend_floats(SL_CACHE_BF16, &rows, queries, scale, result);
    else
        attend_floats(SL_CACHE_F32, &rows, queries, scale, result);
}

void SL_WIDE(attend_merge)(float *out_a, float *max_a, float *sum_a, const float *out_b,
                           float max_b, float sum_b, size_t n)
{
    float max = *max_a > max_b ? *max_a : max_b;
    float a = sl_expf(*max_a - max), b = sl_expf(max_b - max);
    vf wa = vf_set(a), wb = vf_set(b);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        vf_store(out_a + i, vf_fma(vf_load(out_b + i), wb, vf_mul(vf_load(out_a + i), wa)));
    if (i < n) {
        size_t left = n - i;
        vf y = vf_mul(vf_load_n(out_a + i, left), wa);
        vf_store_n(out_a + i, vf_fma(vf_load_n(out_b + i, left), wb, y), left);
    }
    *sum_a = fmaf(sum_b, b, *sum_a * a);
    *max_a = max;
}

void SL_WIDE(attend_finish)(float *out, float sum, size_t n)
{
    vf s = vf_set(sum);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        vf_store(out + i, vf_div(vf_load(out + i), s));
    if (i < n)
        vf_store_n(out + i, vf_div(vf_load_n(out + i, n - i), s), n - i);
}
