/* SPDX-License-Identifier: MIT */
/* The lightning indexer: storing keys in panels of 16 and scoring them.  Lanes are keys.  All heads
 * pass over SL_SCORE_PANELS panels, SL_SCORE_HEADS at a time: a load of keys serves that many
 * heads, a load of a head's codes that many panels. */
#include "simd/ref/codes.h"
#include "simd/wide/wide_kernels.h"

enum { MOST_HEADS = 64 }; /* whose sums of codes are kept */

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

/* Some heads of a query. */
struct heads {
    const int8_t *q; /* [n][dim] */
    const float *weight;
    size_t n, dim;
    int32_t sum[MOST_HEADS]; /* of their codes */
};

/* acc[p] += TILE heads from H on, in order, for PANELS panels that lie BYTES apart. */
SL_INLINE void add_heads(const struct heads *heads, size_t h, size_t tile, const uint8_t *panel,
                         size_t bytes, size_t panels, vf *acc)
{
    size_t dim = heads->dim;
    const int8_t *q = heads->q + h * dim;
    vi dot[SL_SCORE_HEADS][SL_SCORE_PANELS];
    SL_UNROLL
    for (size_t t = 0; t < tile; t++)
        SL_UNROLL
    for (size_t p = 0; p < panels; p++)
        dot[t][p] = vi_set(vw_bias(heads->sum[h + t]));
    for (size_t k = 0; k < dim; k += 4) {
        vw key[SL_SCORE_PANELS];
        SL_UNROLL
        for (size_t p = 0; p < panels; p++)
            key[p] = vw_load(panel + p * bytes + k * SL_KEY_PANEL);
        SL_UNROLL
        for (size_t t = 0; t < tile; t++) {
            vi four = vx_load4(q + t * dim + k);
            SL_UNROLL
            for (size_t p = 0; p < panels; p++)
                dot[t][p] = vw_dot(dot[t][p], key[p], four);
        }
    }
    SL_UNROLL
    for (size_t t = 0; t < tile; t++) {
        vf weight = vf_set(heads->weight[h + t]);
        SL_UNROLL
        for (size_t p = 0; p < panels; p++)
            acc[p] = vf_fma(vi_to_f(vi_max(dot[t][p], vi_set(0))), weight, acc[p]);
    }
}

/* score += all heads, for PANELS panels that lie BYTES apart.  Meanwhile as many of those behind
 * them are fetched, some for each tile of heads: the processor itself does not look far enough. */
SL_INLINE void score_tile(const struct heads *heads, const uint8_t *panel, size_t bytes,
                          size_t panels, float *score)
{
    const uint8_t *next = panel + panels * bytes;
    size_t share = panels * bytes * SL_SCORE_HEADS / heads->n, h = 0;
    vf acc[SL_SCORE_PANELS];
    SL_UNROLL
    for (size_t p = 0; p < panels; p++)
        acc[p] = vf_load(score + p * SL_KEY_PANEL);
    for (; h + SL_SCORE_HEADS <= heads->n; h += SL_SCORE_HEADS, next += share) {
        for (size_t i = 0; i < share; i += 64)
            __builtin_prefetch(next + i);
        add_heads(heads, h, SL_SCORE_HEADS, panel, bytes, panels, acc);
    }
    for (; h < heads->n; h++)
        add_heads(heads, h, 1, panel, bytes, panels, acc);
    SL_UNROLL
    for (size_t p = 0; p < panels; p++)
        vf_store(score + p * SL_KEY_PANEL, acc[p]);
}

/* Score += some heads, for PANELS panels. */
static void score_heads(const struct heads *heads, const uint8_t *keys, size_t panels, float *score)
{
    size_t bytes = sl_key_panel_bytes(SL_CACHE_INT8, heads->dim), p = 0;
    for (; p + SL_SCORE_PANELS <= panels; p += SL_SCORE_PANELS)
        score_tile(heads, keys + p * bytes, bytes, SL_SCORE_PANELS, score + p * SL_KEY_PANEL);
    for (; p < panels; p++)
        score_tile(heads, keys + p * bytes, bytes, 1, score + p * SL_KEY_PANEL);
}

static void score_int8(const struct sl_index_query *query, const uint8_t *keys, size_t panels,
                       float *score)
{
    size_t bytes = sl_key_panel_bytes(SL_CACHE_INT8, query->dim);
    for (size_t p = 0; p < panels; p++)
        vf_store(score + p * SL_KEY_PANEL, vf_set(0));
    for (size_t h = 0; h < query->heads; h += MOST_HEADS) {
        struct heads heads = {.q = query->q + h * query->dim,
                              .weight = query->weight + h,
                              .n = sl_least(query->heads - h, MOST_HEADS),
                              .dim = query->dim};
        for (size_t i = 0; i < heads.n; i++)
            heads.sum[i] = vw_sum(heads.q + i * heads.dim, heads.dim);
        score_heads(&heads, keys, panels, score);
    }
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
