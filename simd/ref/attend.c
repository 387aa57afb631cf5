/* SPDX-License-Identifier: MIT */
/* Absorbed latent attention of one head over cached rows, and storing such rows. */
#include <math.h>
#include <string.h>

#include "simd/ref/codes.h"
#include "simd/ref/sums.h"
#include "simd/ref/ref.h"

/* Writes N floats at P as BF16, or as they are. */
static void store_floats(enum sl_cache type, const float *x, size_t n, uint8_t *p)
{
    if (type == SL_CACHE_F32) {
        memcpy(p, x, 4 * n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t half = sl_to_bf16(x[i]);
        memcpy(p + 2 * i, &half, 2);
    }
}

void sl_ref_kv_store(const struct sl_kv *kv, size_t s, const float *latent, const float *rope)
{
    uint8_t *codes = sl_kv_latent(kv, s), *tail = sl_kv_tail(kv, s);
    if (kv->type == SL_CACHE_INT8) {
        for (size_t i = 0; i < kv->latent_dim; i += SL_LATENT_GROUP, tail += 4) {
            size_t n = kv->latent_dim - i < SL_LATENT_GROUP ? kv->latent_dim - i : SL_LATENT_GROUP;
            float max = sl_max_abs(latent + i, n), scale = sl_code_scale(max);
            for (size_t j = i; j < i + n; j++)
                codes[j] = (uint8_t)sl_code_of(latent[j] * sl_code_inverse(max));
            memcpy(tail, &scale, 4);
        }
    } else {
        store_floats(kv->type, latent, kv->latent_dim, codes);
    }
    store_floats(kv->type, rope, kv->rope_dim, tail);
}

/* Element I of N floats stored at P. */
static float stored_float(enum sl_cache type, const uint8_t *p, size_t i)
{
    if (type == SL_CACHE_F32) {
        float f;
        memcpy(&f, p + 4 * i, 4);
        return f;
    }
    uint16_t half;
    memcpy(&half, p + 2 * i, 2);
    return sl_from_bf16(half);
}

static float scale_of(const uint8_t *tail, size_t group)
{
    float f;
    memcpy(&f, tail + 4 * group, 4);
    return f;
}

/* Query · stored floats, in four chains. */
static float dot_floats(enum sl_cache type, const float *q, const uint8_t *p, size_t n)
{
    float chain[4] = {0};
    for (size_t i = 0; i < n; i++)
        chain[i % 4] = fmaf(q[i], stored_float(type, p, i), chain[i % 4]);
    return sl_chains4(chain);
}

/* Latent part of head H's score: integer dots per group of 128, or float chains. */
static float dot_latent(const struct sl_kv *kv, const struct sl_queries *queries, size_t h,
                        const uint8_t *codes, const uint8_t *tail)
{
    if (kv->type != SL_CACHE_INT8)
        return dot_floats(kv->type, queries->f + h * kv->latent_dim, codes, kv->latent_dim);
    size_t groups = sl_latent_groups(kv->latent_dim);
    const int8_t *q = queries->q + h * kv->latent_dim;
    const float *scale = queries->scale + h * groups;
    float score = 0;
    for (size_t g = 0; g < groups; g++) {
        int32_t dot = 0;
        size_t end = (g + 1) * SL_LATENT_GROUP;
        for (size_t i = g * SL_LATENT_GROUP; i < end && i < kv->latent_dim; i++)
            dot += q[i] * (int8_t)codes[i];
        score = fmaf((float)dot, scale[g] * scale_of(tail, g), score);
    }
    return score;
}

/* out += p · latent. */
static void add_latent(const struct sl_kv *kv, float p, const uint8_t *codes, const uint8_t *tail,
                       float *out)
{
    if (kv->type == SL_CACHE_INT8) {
        for (size_t i = 0; i < kv->latent_dim; i++) {
            float weight = p * scale_of(tail, i / SL_LATENT_GROUP);
            out[i] = fmaf(weight, (float)(int8_t)codes[i], out[i]);
        }
    } else {
        for (size_t i = 0; i < kv->latent_dim; i++)
            out[i] = fmaf(p, stored_float(kv->type, codes, i), out[i]);
    }
}

static void attend_head(const struct sl_kv *kv, const struct sl_queries *queries, size_t h,
                        float scale, const uint32_t *index, size_t s0, size_t n, float *out,
                        float *max, float *sum)
{
    size_t rope_at = sl_kv_tail_bytes(kv->type, kv->latent_dim, 0);
    float score[SL_ATTEND_BLOCK], lane[16] = {0};
    *max = -INFINITY;
    for (size_t j = 0; j < n; j++) {
        size_t s = index ? index[j] : s0 + j;
        const uint8_t *codes = sl_kv_latent(kv, s), *tail = sl_kv_tail(kv, s);
        score[j] = (dot_latent(kv, queries, h, codes, tail) +
                    dot_floats(kv->type, queries->rope + h * queries->rope_ld, tail + rope_at,
                               kv->rope_dim)) *
                   scale;
        *max = score[j] > *max ? score[j] : *max;
    }
    *max += 0.0f; /* one zero, whichever came first */
    if (out)
        memset(out, 0, kv->latent_dim * sizeof *out);
    for (size_t j = 0; j < n; j++) {
        size_t s = index ? index[j] : s0 + j;
        float p = sl_expf(score[j] - *max);
        lane[j % 16] += p;
        if (out)
            add_latent(kv, p, sl_kv_latent(kv, s), sl_kv_tail(kv, s), out);
    }
    *sum = sl_tree16(lane);
}

void sl_ref_attend(const struct sl_kv *kv, const struct sl_queries *queries, float scale,
                   const uint32_t *index, size_t s0, size_t n, const struct sl_attended *result,
                   void *scratch)
{
    (void)scratch;
    for (size_t h = 0; h < queries->heads; h++)
        attend_head(kv, queries, h, scale, index, s0, n,
                    result->out ? result->out + h * kv->latent_dim : NULL, &result->max[h],
                    &result->sum[h]);
}

void sl_ref_attend_merge(float *out_a, float *max_a, float *sum_a, const float *out_b, float max_b,
                         float sum_b, size_t n)
{
    float max = *max_a > max_b ? *max_a : max_b;
    float a = sl_expf(*max_a - max), b = sl_expf(max_b - max);
    for (size_t i = 0; i < n; i++)
        out_a[i] = fmaf(out_b[i], b, out_a[i] * a);
    *sum_a = fmaf(sum_b, b, *sum_a * a);
    *max_a = max;
}

void sl_ref_attend_finish(float *out, float sum, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] /= sum;
}
