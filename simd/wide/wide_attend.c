/* SPDX-License-Identifier: MIT */
/* Absorbed latent attention of one head over cached rows, and storing such rows.  Scores take four
 * keys at a time, values SL_VALUE_TILE × 16 outputs; orders of operations: docs/kernels.md. */
#include "simd/ref/codes.h"
#include "simd/wide/wide_kernels.h"

#include <math.h>

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
    uint8_t *codes = kv->latent + s * kv->latent_stride, *tail = kv->tail + s * kv->tail_stride;
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

/* Where the rows of one call lie. */
struct rows {
    const struct sl_kv *kv;
    const uint32_t *index;
    size_t s0, n;
};

static inline size_t row_of(const struct rows *r, size_t j)
{
    return r->index ? r->index[j] : r->s0 + j;
}

static inline const uint8_t *codes_at(const struct rows *r, size_t j)
{
    return r->kv->latent + row_of(r, j) * r->kv->latent_stride;
}

static inline const uint8_t *tail_at(const struct rows *r, size_t j)
{
    return r->kv->tail + row_of(r, j) * r->kv->tail_stride;
}

static inline float scale_of(const uint8_t *tail, size_t group)
{
    float f;
    memcpy(&f, tail + 4 * group, 4);
    return f;
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
        f.codes[i] = codes_at(r, at);
        f.tail[i] = tail_at(r, at);
    }
    return f;
}

/* dot[key] = integer dot products of N ≤ 128 codes of a query with four rows, from code AT on. */
static inline void dot_group(const int8_t *q, const struct four *f, size_t at, size_t n,
                             int32_t bias, int32_t dot[4])
{
    vi acc[4];
    size_t i = 0;
    SL_UNROLL
    for (size_t key = 0; key < 4; key++)
        acc[key] = vi_set(0);
    for (; i + 64 <= n; i += 64)
        SL_UNROLL
    for (size_t key = 0; key < 4; key++)
        acc[key] = vw_dot(acc[key], vw_load(f->codes[key] + at + i), vx_load(q + at + i));
    if (i < n)
        SL_UNROLL
    for (size_t key = 0; key < 4; key++)
        acc[key] = vw_dot(acc[key], vw_load_n(f->codes[key] + at + i, n - i),
                          vx_load_n(q + at + i, n - i));
    vi_sum4(acc[0], acc[1], acc[2], acc[3], dot);
    SL_UNROLL
    for (size_t key = 0; key < 4; key++)
        dot[key] += bias;
}

/* Adds one group's part to the scores of all rows. */
static void score_group(const struct rows *r, const struct sl_query *query, size_t g, float *score)
{
    size_t at = g * SL_LATENT_GROUP, n = sl_least(r->kv->latent_dim - at, SL_LATENT_GROUP);
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += query->q[at + i];
    for (size_t j = 0; j < r->n; j += 4) {
        struct four f = four_rows(r, j);
        int32_t dot[4];
        dot_group(query->q, &f, at, n, vw_bias(sum), dot);
        SL_UNROLL
        for (size_t key = 0; key < 4; key++)
            score[j + key] = fmaf((float)dot[key], query->scale[g] * scale_of(f.tail[key], g),
                                  score[j + key]);
    }
}

/* The scores of all rows, and zeros up to a multiple of 16. */
SL_INLINE void score_rows(enum sl_cache type, const struct rows *r, const struct sl_query *query,
                          float scale, float *score)
{
    const struct sl_kv *kv = r->kv;
    size_t rope_at = sl_kv_tail_bytes(type, kv->latent_dim, 0);
    memset(score, 0, (r->n + SL_LANES - 1) / SL_LANES * SL_LANES * sizeof *score);
    for (size_t g = 0; type == SL_CACHE_INT8 && g < sl_latent_groups(kv->latent_dim); g++)
        score_group(r, query, g, score);
    for (size_t j = 0; j < r->n; j += 4) {
        struct four f = four_rows(r, j);
        float latent[4], rope[4];
        if (type != SL_CACHE_INT8)
            dot_floats(type, query->f, f.codes, kv->latent_dim, latent);
        SL_UNROLL
        for (size_t key = 0; key < 4; key++)
            f.tail[key] += rope_at;
        dot_floats(type, query->rope, f.tail, kv->rope_dim, rope);
        SL_UNROLL
        for (size_t key = 0; key < 4; key++)
            score[j + key] = ((type == SL_CACHE_INT8 ? score[j + key] : latent[key]) + rope[key]) *
                             scale;
    }
}

/* ---- values --------------------------------------------------------------------------------- */

static float largest_of(const float *score, size_t n)
{
    vf max = vf_set(-INFINITY);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        max = vf_max(vf_load(score + i), max);
    if (i < n)
        max = vf_max(vf_load_or(score + i, n - i, -INFINITY), max);
    return vf_largest(max) + 0.0f;
}

/* score[j] becomes p_j = exp(score_j − max); returns their sum. */
static float exp_scores(float *score, size_t n, float max)
{
    vf sum = vf_set(0), m = vf_set(max);
    for (size_t i = 0; i < n; i += SL_LANES) {
        size_t left = sl_least(n - i, SL_LANES);
        vf p = vf_exp(vf_sub(vf_load(score + i), m));
        if (left < SL_LANES)
            p = vf_first(p, left);
        sum = vf_add(sum, p);
        vf_store(score + i, p);
    }
    return vf_tree(sum);
}

SL_INLINE vf load_value(enum sl_cache type, const uint8_t *codes, size_t i)
{
    if (type == SL_CACHE_INT8)
        return vf_load_s8(codes + i);
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
        const uint8_t *codes = codes_at(r, j);
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
                            size_t end, float *out)
{
    for (; i < end; i++) {
        float acc = 0;
        for (size_t j = 0; j < r->n; j++) {
            const uint8_t *codes = codes_at(r, j);
            float value = type == SL_CACHE_INT8 ? (float)(int8_t)codes[i]
                                                : stored_float(type, codes, i);
            acc = fmaf(weight[j], value, acc);
        }
        out[i] = acc;
    }
}

/* Outputs [i, end), which share the weights. */
SL_INLINE void add_range(enum sl_cache type, const struct rows *r, const float *weight, size_t i,
                         size_t end, float *out)
{
    for (; i + SL_VALUE_TILE * SL_LANES <= end; i += SL_VALUE_TILE * SL_LANES)
        add_values(type, r, weight, i, SL_VALUE_TILE, out);
    for (; i + SL_LANES <= end; i += SL_LANES)
        add_values(type, r, weight, i, 1, out);
    add_last_values(type, r, weight, i, end, out);
}

/* An INT8 group's weights carry the scales of its rows. */
static void add_int8(const struct rows *r, const float *p, float *out)
{
    float weight[SL_ATTEND_BLOCK];
    size_t dim = r->kv->latent_dim;
    for (size_t g = 0; g < sl_latent_groups(dim); g++) {
        for (size_t j = 0; j < r->n; j++)
            weight[j] = p[j] * scale_of(tail_at(r, j), g);
        add_range(SL_CACHE_INT8, r, weight, g * SL_LATENT_GROUP,
                  sl_least(dim, (g + 1) * SL_LATENT_GROUP), out);
    }
}

SL_INLINE void attend_rows(enum sl_cache type, const struct rows *r, const struct sl_query *query,
                           float scale, float *out, float *max, float *sum)
{
    float score[SL_ATTEND_BLOCK];
    score_rows(type, r, query, scale, score);
    *max = largest_of(score, r->n);
    *sum = exp_scores(score, r->n, *max);
    if (type == SL_CACHE_INT8)
        add_int8(r, score, out);
    else
        add_range(type, r, score, 0, r->kv->latent_dim, out);
}

void SL_WIDE(attend)(const struct sl_kv *kv, const struct sl_query *query, float scale,
                     const uint32_t *index, size_t s0, size_t n, float *out, float *max, float *sum)
{
    const struct rows rows = {kv, index, s0, n};
    if (kv->type == SL_CACHE_INT8)
        attend_rows(SL_CACHE_INT8, &rows, query, scale, out, max, sum);
    else if (kv->type == SL_CACHE_BF16)
        attend_rows(SL_CACHE_BF16, &rows, query, scale, out, max, sum);
    else
        attend_rows(SL_CACHE_F32, &rows, query, scale, out, max, sum);
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
