/* SPDX-License-Identifier: MIT */
/*
 * Elementary functions whose bits depend on nothing but this file: polynomials in a fixed order,
 * fused multiply-add only where written.  libm's differ between versions and machines.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "simd/simd.h"

/* 2^n for -1022 ≤ n ≤ 1023. */
static double power_of_two(int n)
{
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double d;
    memcpy(&d, &bits, 8);
    return d;
}

/* 2^n for -126 ≤ n ≤ 127. */
static float power_of_two_f(int n)
{
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/*
 * exp(x) = 2^n · e^r with n = round(x / ln 2), |r| ≤ ln 2 / 2; e^r by a minimax polynomial of
 * degree 6 in Horner form.  2^n is applied in two factors so that subnormal results come out.
 */
float sl_expf(float x)
{
    if (!(x > -104.0f))
        return x != x ? x : 0;
    if (x > 88.73f)
        return INFINITY;
    float n = rintf(x * 0x1.715476p+0f);
    float r = fmaf(n, -0x1.62e4p-1f, x); /* ln 2 in two parts, the first with 15 bits */
    r = fmaf(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.6a215ap-10f;
    p = fmaf(p, r, 0x1.123b9ap-7f);
    p = fmaf(p, r, 0x1.5558fcp-5f);
    p = fmaf(p, r, 0x1.55549p-3f);
    p = fmaf(p, r, 0x1.fffffcp-2f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    int whole = (int)n, half = whole / 2;
    return p * power_of_two_f(half) * power_of_two_f(whole - half);
}

/* Taylor series of sin(r)/r and cos(r) in r², |r| ≤ π/4. */
static double sine_near_0(double r)
{
    static const double c[] = {
        -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800, 1.0 / 362880,
        -1.0 / 5040,          1.0 / 120,        -1.0 / 6};
    double r2 = r * r, p = c[0];
    for (int i = 1; i < 7; i++)
        p = fma(p, r2, c[i]);
    return fma(p * r2, r, r);
}

static double cosine_near_0(double r)
{
    static const double c[] = {-1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320,
                               -1.0 / 720,         1.0 / 24,        -1.0 / 2};
    double r2 = r * r, p = c[0];
    for (int i = 1; i < 7; i++)
        p = fma(p, r2, c[i]);
    return fma(p, r2, 1.0);
}

void sl_sincosf(float x, float *sine, float *cosine)
{
    double n = rint((double)x * 0x1.45f306dc9c883p-1); /* quarter turns */
    double r = fma(n, -0x1.921fb54442d18p+0, (double)x);
    r = fma(n, -0x1.1a62633145c07p-54, r);
    double s = sine_near_0(r), c = cosine_near_0(r);
    int quarter = (int)((int64_t)n & 3);
    double sines[4] = {s, c, -s, -c};
    *sine = (float)sines[quarter];
    *cosine = (float)sines[(quarter + 1) & 3];
}

/* log(b) = n ln 2 + 2 atanh(s), s = (m − 1)/(m + 1), m in [√½, √2). */
double sl_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, 8);
    int n = (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffff) | (uint64_t)1023 << 52;
    double m;
    memcpy(&m, &bits, 8);
    if (m >= 1.4142135623730951) {
        m *= 0.5;
        n++;
    }
    double s = (m - 1) / (m + 1), s2 = s * s, p = 0;
    for (int k = 25; k >= 3; k -= 2)
        p = fma(p, s2, 1.0 / k);
    double tail = fma(2 * s * s2, p, (double)n * 0x1.abc9e3b39803fp-56);
    return fma((double)n, 0x1.62e42fefa39efp-1, 2 * s + tail);
}

double sl_pow(double b, double e)
{
    double x = e * sl_log(b);
    double n = rint(x * 0x1.71547652b82fep+0);
    double r = fma(n, -0x1.62e42fefa39efp-1, x);
    r = fma(n, -0x1.abc9e3b39803fp-56, r);
    double p = 1;
    for (int k = 15; k >= 1; k--)
        p = fma(p, r / k, 1.0);
    return p * power_of_two((int)n);
}
