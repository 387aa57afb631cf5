/* SPDX-License-Identifier: MIT */
/* The indexer's scores: tiles of 4 panels and 4 heads, the heads of a tile added in any order.
 * INT8, heads a multiple of 4 and at most 64, keys a multiple of 64. */
#include "tests/bench/equality/by_hand.h"
#include "tests/bench/equality/free_lanes.h"

enum { TILE = 4, HEADS = 64 };

SL_INLINE void add_tile(const struct sl_index_query *query, const uint8_t *key, size_t bytes,
                        size_t h, const int32_t *bias, __m512 acc[TILE])
{
    __m512i dot[TILE][TILE], w[TILE];
    SL_UNROLL
    for (size_t j = 0; j < TILE * TILE; j++)
        dot[j / TILE][j % TILE] = vi_set(bias[h + j % TILE]);
    for (size_t k = 0; k < query->dim; k += 4, key += 64) {
        SL_UNROLL
        for (size_t p = 0; p < TILE; p++)
            w[p] = vw_load(key + p * bytes);
        SL_UNROLL
        for (size_t t = 0; t < TILE; t++) {
            __m512i x = vx_load4(query->q + (h + t) * query->dim + k);
            SL_UNROLL
            for (size_t p = 0; p < TILE; p++)
                dot[p][t] = vw_dot(dot[p][t], w[p], x);
        }
    }
    SL_UNROLL
    for (size_t t = 0; t < TILE; t++)
        SL_UNROLL
    for (size_t p = 0; p < TILE; p++)
        acc[p] = vf_fma(vi_to_f(vi_max(dot[p][t], vi_set(0))), vf_set(query->weight[h + t]),
                        acc[p]);
}

void free_index_score(enum sl_cache type, const struct sl_index_query *query, const uint8_t *keys,
                      size_t s0, size_t s1, float *score)
{
    size_t bytes = sl_key_panel_bytes(type, query->dim);
    int32_t bias[HEADS] = {0};
    for (size_t h = 0; h < query->heads; h++)
        for (size_t k = 0; k < query->dim; k++)
            bias[h] -= 128 * query->q[h * query->dim + k];
    for (size_t s = s0; s < s1; s += TILE * SL_LANES) {
        const uint8_t *panel = keys + s / SL_LANES * bytes;
        __m512 acc[TILE] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
        for (size_t h = 0; h < query->heads; h += TILE)
            add_tile(query, panel, bytes, h, bias, acc);
        SL_UNROLL
        for (size_t p = 0; p < TILE; p++)
            vf_store(score + s + p * SL_LANES,
                     vf_mul(acc[p], vf_load(panel + p * bytes + query->dim * SL_LANES)));
    }
}
