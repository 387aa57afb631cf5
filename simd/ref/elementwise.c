/* SPDX-License-Identifier: MIT */
/* Norms, activation functions, rotation: everything over one vector. */
#include <math.h>

#include "simd/ref/sums.h"
#include "simd/ref/ref.h"

/* Σ (x − mean)² in 16 lanes. */
static float square_sum(const float *x, float mean, size_t n)
{
    float lane[16] = {0};
    for (size_t i = 0; i < n; i++) {
        float d = x[i] - mean;
        lane[i % 16] = fmaf(d, d, lane[i % 16]);
    }
    return sl_tree16(lane);
}

static float sum16(const float *x, size_t n)
{
    float lane[16] = {0};
    for (size_t i = 0; i < n; i++)
        lane[i % 16] += x[i];
    return sl_tree16(lane);
}

void sl_ref_rmsnorm(const float *x, const float *w, float eps, size_t n, float *y)
{
    float r = 1.0f / sqrtf(square_sum(x, 0, n) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = w[i] * (x[i] * r);
}

void sl_ref_layernorm(const float *x, const float *w, const float *b, float eps, size_t n, float *y)
{
    float mean = sum16(x, n) / (float)n;
    float r = 1.0f / sqrtf(square_sum(x, mean, n) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = fmaf((x[i] - mean) * r, w[i], b[i]);
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + sl_expf(-x));
}

void sl_ref_sigmoid(const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = sigmoid(x[i]);
}

void sl_ref_swiglu(const float *gate_up, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++) {
        const float *panel = gate_up + i / SL_PANEL * (2 * SL_PANEL);
        float gate = panel[i % SL_PANEL], up = panel[SL_PANEL + i % SL_PANEL];
        y[i] = gate * sigmoid(gate) * up;
    }
}

void sl_ref_axpy(float a, const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = fmaf(a, x[i], y[i]);
}

void sl_ref_add(const float *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

/* (a, b) turned by the angle: a' = a·cos − b·sin, b' = a·sin + b·cos. */
static void turn(float *a, float *b, float cosine, float sine)
{
    float old = *a;
    *a = fmaf(old, cosine, -(*b * sine));
    *b = fmaf(old, sine, *b * cosine);
}

void sl_ref_rope_interleaved(float *x, const float *cosine, const float *sine, size_t pairs)
{
    for (size_t i = 0; i < pairs; i++)
        turn(&x[2 * i], &x[2 * i + 1], cosine[i], sine[i]);
}

void sl_ref_rope_half(float *x, const float *cosine, const float *sine, size_t pairs)
{
    for (size_t i = 0; i < pairs; i++)
        turn(&x[i], &x[i + pairs], cosine[i], sine[i]);
}

void sl_ref_hadamard(float *x, size_t n)
{
    for (size_t half = 1; half < n; half *= 2)
        for (size_t i = 0; i < n; i += 2 * half)
            for (size_t j = i; j < i + half; j++) {
                float a = x[j], b = x[j + half];
                x[j] = a + b;
                x[j + half] = a - b;
            }
    float scale = 1.0f / sqrtf((float)n);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}
