/* SPDX-License-Identifier: MIT */
/* The lightning indexer: storing keys in panels of 16 and scoring them.  Lanes are keys; a block of
 * panels stays in the first-level cache while all heads pass over it, SL_HEAD_TILE at a time. */
#include "simd/ref/codes.h"
#include "simd/wide/wide_kernels.h"

enum { BLOCK = 8 }; /* panels: 16 KiB of INT8 keys of 128 dimensions */

/* Codes of x[0..n) into lane LANE of a panel: 4 of them lie together, 64 bytes apart. */
static void store_codes(const float *x, size_t n, float inverse, uint8_t *panel, size_t lane)
{
    for (size_t i = 0; i < n; i += SL_LANES) {
        uint8_t code[SL_LANES];
        size_t have = sl_least(n - i, SL_LANES);
        vi_store_s8(code, vf_codes(vf_load_n(x + i, have), inverse));
        for (size_t j = 0; j < have; j += 4)
            memcpy(panel + (i + j) * SL_KEY_PANEL + 4 * lane, code + j, 4);
    }
}

void SL_WIDE(index_store)(enum sl_cache type, const float *x, size_t dim, uint8_t *keys, size_t s)
{
    uint8_t *panel = keys + s / SL_KEY_PANEL * sl_key_panel_bytes(type, dim);
    size_t lane = s % SL_KEY_PANEL;
    if (type == SL_CACHE_INT8) {
        float max = vf_max_abs(x, dim), scale = sl_code_scale(max);
        store_codes(x, dim, sl_code_inverse(max), panel, lane);
        memcpy(panel + dim * SL_KEY_PANEL + 4 * lane, &scale, 4);
        return;
    }
    for (size_t i = 0; i < dim; i++) {
        uint16_t half = sl_to_bf16(x[i]);
        if (type == SL_CACHE_BF16)
            memcpy(panel + 2 * (i * SL_KEY_PANEL + lane), &half, 2);
        else
            memcpy(panel + 4 * (i * SL_KEY_PANEL + lane), &x[i], 4);
    }
}

/* Sum of N codes, a multiple of 4. */
static int32_t code_sum(const int8_t *q, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += q[i];
    return sum;
}

/* acc + Σ of TILE heads from H on, in order. */
SL_INLINE vf add_heads(const struct sl_index_query *query, const uint8_t *panel, size_t h,
                       const int32_t *sum, size_t tile, vf acc)
{
    size_t dim = query->dim;
    const int8_t *q = query->q + h * dim;
    vi dot[SL_HEAD_TILE];
    SL_UNROLL
    for (size_t t = 0; t < tile; t++)
        dot[t] = vi_set(vw_bias(sum[t]));
    for (size_t k = 0; k < dim; k += 4) {
        vw key = vw_load(panel + k * SL_KEY_PANEL);
        SL_UNROLL
        for (size_t t = 0; t < tile; t++)
            dot[t] = vw_dot(dot[t], key, vx_load4(q + t * dim + k));
    }
    SL_UNROLL
    for (size_t t = 0; t < tile; t++)
        acc = vf_fma(vi_to_f(vi_max(dot[t], vi_set(0))), vf_set(query->weight[h + t]), acc);
    return acc;
}

/* Scores of PANELS panels before the keys' scales. */
static void score_block(const struct sl_index_query *query, const uint8_t *keys, size_t panels,
                        float *score)
{
    size_t bytes = sl_key_panel_bytes(SL_CACHE_INT8, query->dim);
    for (size_t p = 0; p < panels; p++)
        vf_store(score + p * SL_KEY_PANEL, vf_set(0));
    for (size_t h = 0, tile; h < query->heads; h += tile) {
        int32_t sum[SL_HEAD_TILE];
        tile = query->heads - h < SL_HEAD_TILE ? 1 : SL_HEAD_TILE;
        for (size_t t = 0; t < tile; t++)
            sum[t] = code_sum(query->q + (h + t) * query->dim, query->dim);
        for (size_t p = 0; p < panels; p++) {
            float *at = score + p * SL_KEY_PANEL;
            vf acc = vf_load(at);
            acc = tile == 1 ? add_heads(query, keys + p * bytes, h, sum, 1, acc)
                            : add_heads(query, keys + p * bytes, h, sum, SL_HEAD_TILE, acc);
            vf_store(at, acc);
        }
    }
}

static void score_int8(const struct sl_index_query *query, const uint8_t *keys, size_t panels,
                       float *score)
{
    size_t bytes = sl_key_panel_bytes(SL_CACHE_INT8, query->dim);
    for (size_t p = 0; p < panels; p += BLOCK)
        score_block(query, keys + p * bytes, sl_least(panels - p, BLOCK), score + p * SL_KEY_PANEL);
    for (size_t p = 0; p < panels; p++, keys += bytes) {
        vf scale = vf_load(keys + query->dim * SL_KEY_PANEL);
        vf_store(score + p * SL_KEY_PANEL, vf_mul(vf_load(score + p * SL_KEY_PANEL), scale));
    }
}

/* Scores of one panel of float keys; dim is a multiple of 4. */
SL_INLINE vf score_float(const struct sl_index_query *query, const uint8_t *panel, bool bf16)
{
    size_t bytes = SL_KEY_PANEL * (bf16 ? 2 : 4);
    vf score = vf_set(0);
    for (size_t h = 0; h < query->heads; h++) {
        const float *q = query->f + h * query->dim;
        const uint8_t *key = panel;
        vf chain[4];
        SL_UNROLL
        for (size_t c = 0; c < 4; c++)
            chain[c] = vf_set(0);
        for (size_t k = 0; k < query->dim; k += 4)
            SL_UNROLL
        for (size_t c = 0; c < 4; c++, key += bytes)
            chain[c] = vf_fma(bf16 ? vf_load_bf16(key) : vf_load(key), vf_set(q[k + c]), chain[c]);
        vf dot = vf_add(vf_add(chain[0], chain[1]), vf_add(chain[2], chain[3]));
        score = vf_fma(vf_max(dot, vf_set(0)), vf_set(query->weight[h]), score);
    }
    return score;
}

void SL_WIDE(index_score)(enum sl_cache type, const struct sl_index_query *query,
                          const uint8_t *keys, size_t s0, size_t s1, float *score)
{
    size_t bytes = sl_key_panel_bytes(type, query->dim);
    if (s0 >= s1)
        return;
    if (type == SL_CACHE_INT8) {
        score_int8(query, keys + s0 / SL_KEY_PANEL * bytes,
                   (s1 - s0 + SL_KEY_PANEL - 1) / SL_KEY_PANEL, score + s0);
        return;
    }
    for (size_t s = s0; s < s1; s += SL_KEY_PANEL) {
        const uint8_t *panel = keys + s / SL_KEY_PANEL * bytes;
        vf_store(score + s, type == SL_CACHE_BF16 ? score_float(query, panel, true)
                                                  : score_float(query, panel, false));
    }
}
