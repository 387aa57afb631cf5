/* SPDX-License-Identifier: MIT */
/* Norms, activation functions, rotation: everything over one vector. */
#include <math.h>

#include "simd/wide/wide_kernels.h"

/* Σ (x − mean)² in 16 lanes. */
static float square_sum(const float *x, float mean, size_t n)
{
    vf lane = vf_set(0), m = vf_set(mean);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES) {
        vf d = vf_sub(vf_load(x + i), m);
        lane = vf_fma(d, d, lane);
    }
    if (i < n) {
        vf d = vf_first(vf_sub(vf_load_n(x + i, n - i), m), n - i);
        lane = vf_fma(d, d, lane);
    }
    return vf_tree(lane);
}

static float sum16(const float *x, size_t n)
{
    vf lane = vf_set(0);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        lane = vf_add(lane, vf_load(x + i));
    if (i < n)
        lane = vf_add(lane, vf_load_n(x + i, n - i));
    return vf_tree(lane);
}

void SL_WIDE(rmsnorm)(const float *x, const float *w, float eps, size_t n, float *y)
{
    vf r = vf_set(1.0f / sqrtf(square_sum(x, 0, n) / (float)n + eps));
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        vf_store(y + i, vf_mul(vf_load(w + i), vf_mul(vf_load(x + i), r)));
    if (i < n) {
        vf out = vf_mul(vf_load_n(w + i, n - i), vf_mul(vf_load_n(x + i, n - i), r));
        vf_store_n(y + i, out, n - i);
    }
}

void SL_WIDE(layernorm)(const float *x, const float *w, const float *b, float eps, size_t n,
                        float *y)
{
    float m = sum16(x, n) / (float)n;
    vf r = vf_set(1.0f / sqrtf(square_sum(x, m, n) / (float)n + eps)), mean = vf_set(m);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES) {
        vf d = vf_mul(vf_sub(vf_load(x + i), mean), r);
        vf_store(y + i, vf_fma(d, vf_load(w + i), vf_load(b + i)));
    }
    if (i < n) {
        size_t left = n - i;
        vf d = vf_mul(vf_sub(vf_load_n(x + i, left), mean), r);
        vf_store_n(y + i, vf_fma(d, vf_load_n(w + i, left), vf_load_n(b + i, left)), left);
    }
}

static inline vf sigmoid(vf x)
{
    const vf one = vf_set(1.0f);
    vf minus = vi_as_f(vi_xor(vf_bits(x), vi_set(INT32_MIN)));
    return vf_div(one, vf_add(one, vf_exp(minus)));
}

void SL_WIDE(sigmoid)(const float *x, size_t n, float *y)
{
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        vf_store(y + i, sigmoid(vf_load(x + i)));
    if (i < n)
        vf_store_n(y + i, sigmoid(vf_load_n(x + i, n - i)), n - i);
}

void SL_WIDE(swiglu)(const float *gate_up, size_t n, float *y)
{
    for (size_t i = 0; i < n; i += SL_PANEL, gate_up += 2 * SL_PANEL) {
        vf gate = vf_load(gate_up), up = vf_load(gate_up + SL_PANEL);
        vf out = vf_mul(vf_mul(gate, sigmoid(gate)), up);
        if (n - i < SL_PANEL)
            vf_store_n(y + i, out, n - i);
        else
            vf_store(y + i, out);
    }
}

void SL_WIDE(axpy)(float a, const float *x, size_t n, float *y)
{
    vf scale = vf_set(a);
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        vf_store(y + i, vf_fma(scale, vf_load(x + i), vf_load(y + i)));
    if (i < n)
        vf_store_n(y + i, vf_fma(scale, vf_load_n(x + i, n - i), vf_load_n(y + i, n - i)), n - i);
}

void SL_WIDE(add)(const float *x, size_t n, float *y)
{
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        vf_store(y + i, vf_add(vf_load(y + i), vf_load(x + i)));
    if (i < n)
        vf_store_n(y + i, vf_add(vf_load_n(y + i, n - i), vf_load_n(x + i, n - i)), n - i);
}

/* (a, b) turned by the angle: a' = a·cos − b·sin, b' = a·sin + b·cos. */
static inline void turn(vf *a, vf *b, vf cosine, vf sine)
{
    vf old = *a, minus = vi_as_f(vi_xor(vf_bits(vf_mul(*b, sine)), vi_set(INT32_MIN)));
    *a = vf_fma(old, cosine, minus);
    *b = vf_fma(old, sine, vf_mul(*b, cosine));
}

/* Up to 16 pairs at X, N of them real. */
static inline void turn_pairs(float *x, const float *cosine, const float *sine, size_t n)
{
    float both[2 * SL_LANES] = {0};
    vf p, q, a, b;
    memcpy(both, x, 2 * n * sizeof *x);
    vf_unzip(vf_load(both), vf_load(both + SL_LANES), &a, &b);
    turn(&a, &b, vf_load_n(cosine, n), vf_load_n(sine, n));
    vf_zip(a, b, &p, &q);
    vf_store(both, p);
    vf_store(both + SL_LANES, q);
    memcpy(x, both, 2 * n * sizeof *x);
}

void SL_WIDE(rope_interleaved)(float *x, const float *cosine, const float *sine, size_t pairs)
{
    size_t i = 0;
    for (; i + SL_LANES <= pairs; i += SL_LANES) {
        vf p, q, a, b;
        vf_unzip(vf_load(x + 2 * i), vf_load(x + 2 * i + SL_LANES), &a, &b);
        turn(&a, &b, vf_load(cosine + i), vf_load(sine + i));
        vf_zip(a, b, &p, &q);
        vf_store(x + 2 * i, p);
        vf_store(x + 2 * i + SL_LANES, q);
    }
    if (i < pairs)
        turn_pairs(x + 2 * i, cosine + i, sine + i, pairs - i);
}

void SL_WIDE(rope_half)(float *x, const float *cosine, const float *sine, size_t pairs)
{
    size_t i = 0;
    for (; i + SL_LANES <= pairs; i += SL_LANES) {
        vf a = vf_load(x + i), b = vf_load(x + pairs + i);
        turn(&a, &b, vf_load(cosine + i), vf_load(sine + i));
        vf_store(x + i, a);
        vf_store(x + pairs + i, b);
    }
    if (i < pairs) {
        size_t n = pairs - i;
        vf a = vf_load_n(x + i, n), b = vf_load_n(x + pairs + i, n);
        turn(&a, &b, vf_load_n(cosine + i, n), vf_load_n(sine + i, n));
        vf_store_n(x + i, a, n);
        vf_store_n(x + pairs + i, b, n);
    }
}

/* Distances below 16, one after the other, for vectors shorter than the lanes. */
static void hadamard_short(float *x, size_t n)
{
    for (size_t half = 1; half < n; half *= 2)
        for (size_t i = 0; i < n; i++)
            if (!(i & half)) {
                float a = x[i], b = x[i + half];
                x[i] = a + b;
                x[i + half] = a - b;
            }
    float scale = 1.0f / sqrtf((float)n);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}

/* The four butterflies within 16 lanes.  Lanes whose bit HALF is clear get x + other, the others
 * other − x: a product with ±1 is exact, so that fma is but an addition. */
static inline vf hadamard16(vf x)
{
    static const float sign[4][SL_LANES] = {
        {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
        {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
        {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
        {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1},
    };
    x = vf_fma(x, vf_load(sign[0]), vf_swap1(x));
    x = vf_fma(x, vf_load(sign[1]), vf_swap2(x));
    x = vf_fma(x, vf_load(sign[2]), vf_swap4(x));
    return vf_fma(x, vf_load(sign[3]), vf_swap8(x));
}

/* All butterflies of PARTS vectors, a power of two, and a factor. */
SL_INLINE void hadamard_parts(float *x, size_t parts, float factor)
{
    vf v[8], scale = vf_set(factor);
    SL_UNROLL
    for (size_t i = 0; i < parts; i++)
        v[i] = hadamard16(vf_load(x + i * SL_LANES));
    SL_UNROLL
    for (size_t half = 1; half < parts; half *= 2)
        SL_UNROLL
    for (size_t i = 0; i < parts; i++)
        if (!(i & half)) {
            vf a = v[i], b = v[i + half];
            v[i] = vf_add(a, b);
            v[i + half] = vf_sub(a, b);
        }
    SL_UNROLL
    for (size_t i = 0; i < parts; i++)
        vf_store(x + i * SL_LANES, vf_mul(v[i], scale));
}

/* Butterflies of distances from 128 on, through memory. */
static void hadamard_far(float *x, size_t n, float factor)
{
    vf scale = vf_set(factor);
    for (size_t half = 8 * SL_LANES; half < n; half *= 2)
        for (size_t i = 0; i < n; i += 2 * half)
            for (size_t j = i; j < i + half; j += SL_LANES) {
                vf a = vf_load(x + j), b = vf_load(x + j + half);
                vf_store(x + j, vf_add(a, b));
                vf_store(x + j + half, vf_sub(a, b));
            }
    for (size_t i = 0; i < n; i += SL_LANES)
        vf_store(x + i, vf_mul(vf_load(x + i), scale));
}

void SL_WIDE(hadamard)(float *x, size_t n)
{
    float factor = 1.0f / sqrtf((float)n);
    if (n < SL_LANES) {
        hadamard_short(x, n);
    } else if (n == SL_LANES) {
        hadamard_parts(x, 1, factor);
    } else if (n == 2 * SL_LANES) {
        hadamard_parts(x, 2, factor);
    } else if (n == 4 * SL_LANES) {
        hadamard_parts(x, 4, factor);
    } else if (n == 8 * SL_LANES) {
        hadamard_parts(x, 8, factor);
    } else {
        for (size_t i = 0; i < n; i += 8 * SL_LANES)
            hadamard_parts(x + i, 8, 1);
        hadamard_far(x, n, factor);
    }
}
