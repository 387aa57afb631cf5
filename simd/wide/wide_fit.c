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
    TOGETHER = 4, /* multipliers tried at once: each is a chain of steps that wait for each other */
};

/* A group padded to whole parts with zeros of weight zero, and its codebook. */
struct group {
    size_t parts;
    vf u[MAX_PARTS];
    vf w[MAX_PARTS];
    vf wu[MAX_PARTS];
    float codebook[SL_CODEBOOK];
    /* The middle between value k and the next one; between those of k + 1; of k + 3; of 7. */
    float middle[SL_CODEBOOK], middle1[SL_CODEBOOK], middle3[SL_CODEBOOK], half;
};

static const int8_t no_codebook[SL_CODEBOOK]; /* INT8 */

/* Whole tables of 16, loaded as they were stored, so that no load waits for several stores.  Where
 * nothing follows, the last one is repeated. */
static inline void load_codebook(struct group *g, const int8_t *codebook)
{
    static const uint8_t next[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 15},
                         third[] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 15, 15, 15};
    vf value = vf_load_s8(codebook);
    vf_store(g->codebook, value);
    value = vf_mul(vf_set(0.5f), vf_add(value, vf_lookup(g->codebook, vi_load_u8(next))));
    vf_store(g->middle, value);
    vf_store(g->middle1, vf_lookup(g->middle, vi_load_u8(next)));
    vf_store(g->middle3, vf_lookup(g->middle, vi_load_u8(third)));
    g->half = 0.5f * (float)(codebook[7] + codebook[8]);
}

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
    load_codebook(g, fit->codebook ? fit->codebook : no_codebook);
}

/* One step of the halving below for N values of t. */
SL_INLINE void halve(const vf *t, size_t n, const float *middle, int32_t step, vi *k)
{
    SL_UNROLL
    for (size_t i = 0; i < n; i++)
        k[i] = vi_add_if(vf_gt(t[i], vf_lookup(middle, k[i])), k[i], step);
}

/* Indices of the codebook values nearest to N values of t: the numbers of middles below, found by
 * halving. */
SL_INLINE void nearest_lut(const struct group *g, const vf *t, size_t n, vi *k)
{
    const vf half = vf_set(g->half);
    SL_UNROLL
    for (size_t i = 0; i < n; i++)
        k[i] = vi_add_if(vf_gt(t[i], half), vi_set(0), 8);
    halve(t, n, g->middle3, 4, k);
    halve(t, n, g->middle1, 2, k);
    halve(t, n, g->middle, 1, k);
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

SL_INLINE void try_multipliers(const struct group *g, bool lut, const float *m, struct sums *s)
{
    SL_UNROLL
    for (size_t c = 0; c < TOGETHER; c++)
        s[c] = (struct sums){vf_set(0), vf_set(0)};
    for (size_t p = 0; p < g->parts; p++) {
        vf t[TOGETHER];
        vi k[TOGETHER];
        SL_UNROLL
        for (size_t c = 0; c < TOGETHER; c++)
            t[c] = vf_mul(g->u[p], vf_set(m[c]));
        if (lut)
            nearest_lut(g, t, TOGETHER, k);
        SL_UNROLL
        for (size_t c = 0; c < TOGETHER; c++) {
            vf v = lut ? vf_lookup(g->codebook, k[c]) : nearest_int8(t[c]);
            s[c].a = vf_add(s[c].a, vf_mul(g->wu[p], v));
            s[c].b = vf_add(s[c].b, vf_mul(g->w[p], vf_mul(v, v)));
        }
    }
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

/* Lanes 0, 8, 1, 9, … */
static inline vf in_order(vf x)
{
    vf low, high;
    vf_zip(x, vf_swap8(x), &low, &high);
    return low;
}

/* The first of the largest gains, if it is above the best.  No branch for each: a guess at which
 * of them is a new best would often be wrong. */
static inline void keep_best(vf gain, vf scale, struct best *best)
{
    float scales[SL_LANES];
    gain = vf_select(vf_gt(gain, vf_set(0)), gain, vf_set(0)); /* no NaN */
    float largest = vf_largest(gain);
    uint32_t lanes = vm_bits(vf_ge(gain, vf_set(largest)));
    vf_store(scales, scale);
    if (largest > best->gain)
        *best = (struct best){.gain = largest, .scale = scales[__builtin_ctz(lanes)]};
}

enum { PAIRS = SL_LANES / 2 };

/* Tries the multipliers m[0 … 2 · pairs), in this order; pairs is even.  Number c ends in lane
 * c mod 2 · 8 + c / 2. */
SL_INLINE void try_pairs(const struct group *g, bool lut, const float *m, size_t pairs,
                         struct best *best)
{
    const vf none = vf_set(0);
    struct sums s[PAIRS];
    for (size_t p = 0; p < pairs; p += TOGETHER / 2) {
        struct sums part[TOGETHER];
        try_multipliers(g, lut, m + 2 * p, part);
        s[p] = join(part[0], part[1]);
        s[p + 1] = join(part[2], part[3]);
    }
    for (size_t p = pairs; p < PAIRS; p++)
        s[p] = (struct sums){none, none};
    struct sums even = join(join(s[0], s[4]), join(s[2], s[6]));
    struct sums all = join(even, join(join(s[1], s[5]), join(s[3], s[7])));
    vf ratio = vf_select(vf_gt(all.b, none), vf_div(all.a, all.b), none);
    keep_best(in_order(vf_mul(all.a, ratio)), in_order(ratio), best);
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
    if (code)
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
            vi k;
            nearest_lut(&g, &t, 1, &k);
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
