/* SPDX-License-Identifier: MIT */
/* The lightning indexer: storing keys in panels of 16 and scoring them. */
#include <string.h>

#include "simd/ref/codes.h"
#include "simd/ref/sums.h"
#include "simd/ref/ref.h"

static void store_int8(const float *x, size_t dim, uint8_t *panel, size_t lane)
{
    float max = sl_max_abs(x, dim), inverse = sl_code_inverse(max), scale = sl_code_scale(max);
    for (size_t i = 0; i < dim; i++)
        panel[i / 4 * 64 + lane * 4 + i % 4] = (uint8_t)sl_code_of(x[i] * inverse);
    memcpy(panel + dim * SL_KEY_PANEL + 4 * lane, &scale, 4);
}

void sl_ref_index_store(enum sl_cache type, const float *x, size_t dim, uint8_t *keys, size_t s)
{
    uint8_t *panel = keys + s / SL_KEY_PANEL * sl_key_panel_bytes(type, dim);
    size_t lane = s % SL_KEY_PANEL;
    if (type == SL_CACHE_INT8) {
        store_int8(x, dim, panel, lane);
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

static void score_int8(const struct sl_index_query *query, const uint8_t *panel,
                       float score[SL_KEY_PANEL])
{
    size_t dim = query->dim;
    float acc[SL_KEY_PANEL] = {0}, scale[SL_KEY_PANEL];
    memcpy(scale, panel + dim * SL_KEY_PANEL, sizeof scale);
    for (size_t h = 0; h < query->heads; h++) {
        const int8_t *q = query->q + h * dim;
        int32_t dot[SL_KEY_PANEL] = {0};
        for (size_t k = 0; k < dim; k += 4)
            for (size_t s = 0; s < SL_KEY_PANEL; s++)
                for (size_t i = 0; i < 4; i++)
                    dot[s] += (int8_t)panel[k * SL_KEY_PANEL + s * 4 + i] * q[k + i];
        for (size_t s = 0; s < SL_KEY_PANEL; s++)
            acc[s] = fmaf((float)(dot[s] > 0 ? dot[s] : 0), query->weight[h], acc[s]);
    }
    for (size_t s = 0; s < SL_KEY_PANEL; s++)
        score[s] = acc[s] * scale[s];
}

/* Element (DIM I, key S) of a float panel. */
static float key_value(enum sl_cache type, const uint8_t *panel, size_t i, size_t s)
{
    if (type == SL_CACHE_F32) {
        float f;
        memcpy(&f, panel + 4 * (i * SL_KEY_PANEL + s), 4);
        return f;
    }
    uint16_t half;
    memcpy(&half, panel + 2 * (i * SL_KEY_PANEL + s), 2);
    return sl_from_bf16(half);
}

static void score_float(enum sl_cache type, const struct sl_index_query *query,
                        const uint8_t *panel, float score[SL_KEY_PANEL])
{
    memset(score, 0, SL_KEY_PANEL * sizeof *score);
    for (size_t h = 0; h < query->heads; h++) {
        const float *q = query->f + h * query->dim;
        for (size_t s = 0; s < SL_KEY_PANEL; s++) {
            float chain[4] = {0};
            for (size_t k = 0; k < query->dim; k++)
                chain[k % 4] = fmaf(key_value(type, panel, k, s), q[k], chain[k % 4]);
            float dot = sl_chains4(chain);
            score[s] = fmaf(dot > 0 ? dot : 0, query->weight[h], score[s]);
        }
    }
}

void sl_ref_index_score(enum sl_cache type, const struct sl_index_query *query, const uint8_t *keys,
                        size_t s0, size_t s1, float *score)
{
    size_t bytes = sl_key_panel_bytes(type, query->dim);
    for (size_t s = s0; s < s1; s += SL_KEY_PANEL) {
        const uint8_t *panel = keys + s / SL_KEY_PANEL * bytes;
        if (type == SL_CACHE_INT8)
            score_int8(query, panel, score + s);
        else
            score_float(type, query, panel, score + s);
    }
}
