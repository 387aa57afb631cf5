/* SPDX-License-Identifier: MIT */
/* Scales and codes of one group of weights: the quantiser's inner loop.  Order of operations:
 * simd/ref/fit.c and docs/kernels.md. */
#include <math.h>

#include "simd/ref/codes.h"
#include "simd/wide/wide_kernels.h"

enum {
    MAX_PARTS = 128 / SL_LANES, /* of a group */
    LUT_CANDIDATES = 10,
    INT8_CANDIDATES = 7,
};

/* A group padded to whole parts with zeros of weight zero, and its codebook. */
struct group {
    size_t parts;
    vf u[MAX_PARTS];
    vf w[MAX_PARTS];
    vf wu[MAX_PARTS];
    float codebook[SL_CODEBOOK];
    float middle[SL_CODEBOOK]; /* between neighbours; the last is not used */
};

/* u = x · FACTOR. */
static inline void load_group(struct group *g, const struct sl_fit *fit, float factor)
{
    vf f = vf_set(factor);
    g->parts = (fit->n + SL_LANES - 1) / SL_LANES;
    for (size_t p = 0; p < g->parts; p++) {
        size_t i = p * SL_LANES, n = sl_least(fit->n - i, SL_LANES);
        g->u[p] = vf_mul(vf_load_n(fit->x + i, n), f);
        g->w[p] = fit->weight ? vf_load_n(fit->weight + i, n) : vf_first(vf_set(1.0f), n);
        g->wu[p] = vf_mul(g->w[p], g->u[p]);
    }
    if (fit->codebook) {
        for (int j = 0; j < SL_CODEBOOK; j++)
            g->codebook[j] = fit->codebook[j];
        for (int j = 0; j < SL_CODEBOOK - 1; j++)
            g->middle[j] = 0.5f * (g->codebook[j] + g->codebook[j + 1]);
        g->middle[SL_CODEBOOK - 1] = 0;
    }
}

/* Index of the codebook value nearest to T: the number of middles below, found by halving. */
static inline vi nearest_lut(const struct group *g, vf t)
{
    const float *middle = g->middle;
    vi k = vi_add_if(vf_gt(t, vf_set(middle[7])), vi_set(0), 8);
    k = vi_add_if(vf_gt(t, vf_lookup(middle, vi_add(k, vi_set(3)))), k, 4);
    k = vi_add_if(vf_gt(t, vf_lookup(middle, vi_add(k, vi_set(1)))), k, 2);
    return vi_add_if(vf_gt(t, vf_lookup(middle, k)), k, 1);
}

/* T within ±127, rounded to nearest even. */
static inline vf nearest_int8(vf t)
{
    const vf magic = vf_set(0x1.8p23f);
    t = vf_max(vf_min(t, vf_set(127.0f)), vf_set(-127.0f));
    return vf_sub(vf_add(t, magic), magic);
}

/* The best least-squares scale so far, in units of u. */
struct best {
    float gain;
    float scale;
};

/* Sums for one multiplier in lanes; or, joined, those of several. */
struct sums {
    vf a, b;
};

SL_INLINE struct sums try_multiplier(const struct group *g, bool lut, float m)
{
    struct sums s = {vf_set(0), vf_set(0)};
    vf factor = vf_set(m);
    for (size_t p = 0; p < g->parts; p++) {
        vf t = vf_mul(g->u[p], factor);
        vf v = lut ? vf_lookup(g->codebook, nearest_lut(g, t)) : nearest_int8(t);
        s.a = vf_add(s.a, vf_mul(g->wu[p], v));
        s.b = vf_add(s.b, vf_mul(g->w[p], vf_mul(v, v)));
    }
    return s;
}

/* Lanes i + lanes i + 8 of two vectors, in turn.  After four of these the lanes of one vector are
 * what vf_tree() makes of sixteen. */
static inline vf join_lanes(vf x, vf y)
{
    vf low, high;
    vf_zip(x, y, &low, &high);
    return vf_add(low, high);
}

static inline struct sums join(struct sums x, struct sums y)
{
    return (struct sums){join_lanes(x.a, y.a), join_lanes(x.b, y.b)};
}

enum { PAIRS = SL_LANES / 2 };

/* Tries the multipliers m[0 … 2 · pairs), in this order.  Number c ends in lane
 * c mod 2 · 8 + c / 2. */
SL_INLINE void try_pairs(const struct group *g, bool lut, const float *m, size_t pairs,
                         struct best *best)
{
    const vf none = vf_set(0);
    struct sums s[PAIRS];
    float gain[SL_LANES], scale[SL_LANES];
    for (size_t p = 0; p < pairs; p++)
        s[p] = join(try_multiplier(g, lut, m[2 * p]), try_multiplier(g, lut, m[2 * p + 1]));
    for (size_t p = pairs; p < PAIRS; p++)
        s[p] = (struct sums){none, none};
    struct sums even = join(join(s[0], s[4]), join(s[2], s[6]));
    struct sums all = join(even, join(join(s[1], s[5]), join(s[3], s[7])));
    vf ratio = vf_select(vf_gt(all.b, none), vf_div(all.a, all.b), none);
    vf_store(scale, ratio);
    vf_store(gain, vf_mul(all.a, ratio));
    for (size_t c = 0; c < 2 * pairs; c++) {
        size_t lane = c % 2 * PAIRS + c / 2;
        if (gain[lane] > best->gain)
            *best = (struct best){.gain = gain[lane], .scale = scale[lane]};
    }
}

static void search_lut(const struct group *g, struct best *best)
{
    float low = -g->codebook[0], high = g->codebook[SL_CODEBOOK - 1];
    float end = low > high ? low : high, m[2 * LUT_CANDIDATES];
    for (int i = 0; i < LUT_CANDIDATES; i++) {
        m[2 * i] = end * (0.84f + (float)i * 0.038f);
        m[2 * i + 1] = -m[2 * i];
    }
    try_pairs(g, true, m, PAIRS, best);
    try_pairs(g, true, m + SL_LANES, LUT_CANDIDATES - PAIRS, best);
}

/* The last of the pairs has a multiplier of 0, which gains nothing. */
static void search_int8(const struct group *g, struct best *best)
{
    float m[INT8_CANDIDATES + 1] = {0};
    for (int i = 0; i < INT8_CANDIDATES; i++)
        m[i] = (float)(127 - INT8_CANDIDATES / 2 + i);
    try_pairs(g, false, m, (INT8_CANDIDATES + 1) / 2, best);
}

float SL_WIDE(fit_scale)(const struct sl_fit *fit, int8_t *code)
{
    struct best best = {0, 0};
    float max = vf_max_abs(fit->x, fit->n);
    if (max >= sl_tiny) {
        struct group g;
        load_group(&g, fit, 1.0f / max);
        if (fit->codebook)
            search_lut(&g, &best);
        else
            search_int8(&g, &best);
    }
    float s = best.scale * max;
    SL_WIDE(fit_codes)(fit, s, code);
    return s;
}

float SL_WIDE(fit_codes)(const struct sl_fit *fit, float s, int8_t *code)
{
    struct group g;
    load_group(&g, fit, 1.0f);
    vf lane = vf_set(0), scale = vf_set(s), m = vf_set(fabsf(s) < 0x1p-120f ? 0 : 1.0f / s);
    for (size_t p = 0; p < g.parts; p++) {
        int8_t all[SL_LANES];
        vf v, t = vf_mul(g.u[p], m);
        if (fit->codebook) {
            vi k = nearest_lut(&g, t);
            v = vf_lookup(g.codebook, k);
            vi_store_s8(all, k);
        } else {
            v = nearest_int8(t);
            vi_store_s8(all, vf_to_i(v));
        }
        vf d = vf_sub(g.u[p], vf_mul(scale, v));
        lane = vf_add(lane, vf_mul(g.w[p], vf_mul(d, d)));
        memcpy(code + p * SL_LANES, all, sl_least(fit->n - p * SL_LANES, SL_LANES));
    }
    return vf_tree(lane);
}
