/* SPDX-License-Identifier: MIT */
/*
 * Scales and codes of one group of weights: the quantiser's inner loop.
 *
 * Order of operations.  All sums run in 16 lanes: lane i takes elements i, i + 16, … in sequence,
 * then sl_tree16() combines the lanes.  No fmaf.  The search works on u = x · (1 / max|x|), so that
 * its candidates are constants of the codebook.  For each multiplier m in turn: value_i = the
 * codebook value nearest to u_i · m (on a tie the smaller), a = Σ (w_i · u_i) · value_i,
 * b = Σ w_i · (value_i · value_i).  With the least-squares scale a/b the error is Σ w u² less a²/b,
 * so the largest a · (a/b) wins, the first among equals, and the result is (a/b) · max|x|.
 */
#include <string.h>

#include "simd/ref/codes.h"
#include "simd/ref/sums.h"
#include "simd/ref/ref.h"

enum {
    LANES = 16,
    MAX_GROUP = 128,
    LUT_CANDIDATES = 10, /* for each sign of the scale; 19 are no better, 5 lose 0.03 points */
    INT8_CANDIDATES = 7,
};

/* A group padded to whole rounds of lanes with zeros of weight zero, and its codebook. */
struct group {
    size_t n; /* a multiple of LANES */
    float u[MAX_GROUP];
    float w[MAX_GROUP];
    int8_t code[MAX_GROUP];
    float value[MAX_GROUP]; /* of the codes */
    bool lut;
    float codebook[SL_CODEBOOK];
    float middle[SL_CODEBOOK - 1]; /* between neighbours; exact */
};

/* u = x · FACTOR. */
static void load_group(struct group *g, const struct sl_fit *fit, float factor)
{
    g->n = (fit->n + LANES - 1) / LANES * LANES;
    for (size_t i = 0; i < fit->n; i++) {
        g->u[i] = fit->x[i] * factor;
        g->w[i] = fit->weight ? fit->weight[i] : 1.0f;
    }
    for (size_t i = fit->n; i < g->n; i++)
        g->u[i] = g->w[i] = 0;
    g->lut = fit->codebook != NULL;
    for (int j = 0; g->lut && j < SL_CODEBOOK; j++)
        g->codebook[j] = fit->codebook[j];
    for (int j = 0; g->lut && j < SL_CODEBOOK - 1; j++)
        g->middle[j] = 0.5f * (g->codebook[j] + g->codebook[j + 1]);
}

/* The index is the number of middles below u · m, found by halving. */
static void nearest_lut(struct group *g, float m)
{
    const float *middle = g->middle;
    for (size_t i = 0; i < g->n; i++) {
        float t = g->u[i] * m;
        size_t k = (size_t)(t > middle[7]) << 3;
        k += (size_t)(t > middle[k + 3]) << 2;
        k += (size_t)(t > middle[k + 1]) << 1;
        k += t > middle[k];
        g->code[i] = (int8_t)k;
        g->value[i] = g->codebook[k];
    }
}

/* u · m within ±127, rounded to nearest even: adding 1.5 · 2^23 drops the fraction. */
static void nearest_int8(struct group *g, float m)
{
    const float magic = 0x1.8p23f;
    for (size_t i = 0; i < g->n; i++) {
        float t = g->u[i] * m;
        t = t < 127.0f ? t : 127.0f;
        t = t > -127.0f ? t : -127.0f;
        g->value[i] = (t + magic) - magic;
        g->code[i] = (int8_t)g->value[i];
    }
}

static void nearest(struct group *g, float m)
{
    if (g->lut)
        nearest_lut(g, m);
    else
        nearest_int8(g, m);
}

/* The best least-squares scale so far, in units of u. */
struct best {
    float gain;
    float scale;
};

static void try_multiplier(struct group *g, float m, struct best *best)
{
    float a[LANES] = {0}, b[LANES] = {0};
    nearest(g, m);
    for (size_t i0 = 0; i0 < g->n; i0 += LANES)
        for (size_t i = 0; i < LANES; i++) {
            float v = g->value[i0 + i], w = g->w[i0 + i];
            a[i] += (w * g->u[i0 + i]) * v;
            b[i] += w * (v * v);
        }
    float sum_a = sl_tree16(a), sum_b = sl_tree16(b);
    float scale = sum_b > 0 ? sum_a / sum_b : 0, gain = sum_a * scale;
    if (gain > best->gain)
        *best = (struct best){.gain = gain, .scale = scale};
}

/* Multipliers put |u| = 1 at 0.84 … 1.18 of the codebook's far end, with either sign: a lopsided
 * codebook often fits better mirrored. */
static void search_lut(struct group *g, struct best *best)
{
    float low = -g->codebook[0], high = g->codebook[SL_CODEBOOK - 1];
    float end = low > high ? low : high;
    for (int i = 0; i < LUT_CANDIDATES; i++) {
        float m = end * (0.84f + (float)i * 0.038f);
        try_multiplier(g, m, best);
        try_multiplier(g, -m, best);
    }
}

/* Multipliers 124 … 130: clipping the extreme a little can pay. */
static void search_int8(struct group *g, struct best *best)
{
    for (int i = 0; i < INT8_CANDIDATES; i++)
        try_multiplier(g, (float)(127 - INT8_CANDIDATES / 2 + i), best);
}

float sl_ref_fit_scale(const struct sl_fit *fit, int8_t *code)
{
    struct best best = {0, 0};
    float max = sl_max_abs(fit->x, fit->n);
    if (max >= sl_tiny) {
        struct group g;
        load_group(&g, fit, 1.0f / max);
        if (g.lut)
            search_lut(&g, &best);
        else
            search_int8(&g, &best);
    }
    float s = best.scale * max;
    if (code)
        sl_ref_fit_codes(fit, s, code);
    return s;
}

/* |s| < 2^-120 counts as zero, so that 1/s is finite.  Returns Σ w_i · (x_i − s · value_i)². */
float sl_ref_fit_codes(const struct sl_fit *fit, float s, int8_t *code)
{
    struct group g;
    float lane[LANES] = {0};
    load_group(&g, fit, 1.0f);
    nearest(&g, fabsf(s) < 0x1p-120f ? 0 : 1.0f / s);
    for (size_t i0 = 0; i0 < g.n; i0 += LANES)
        for (size_t i = 0; i < LANES; i++) {
            float d = g.u[i0 + i] - s * g.value[i0 + i];
            lane[i] += g.w[i0 + i] * (d * d);
        }
    memcpy(code, g.code, fit->n);
    return sl_tree16(lane);
}
