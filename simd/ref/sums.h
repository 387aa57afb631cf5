/* SPDX-License-Identifier: MIT */
/*
 * The two reduction orders of the numerics contract (docs/kernels.md).  Every floating-point sum
 * in simd/ uses one of them, or runs in plain sequence with one accumulator per output.
 */
#ifndef SL_SIMD_SUMS_H
#define SL_SIMD_SUMS_H

#include <math.h>
#include <stddef.h>

/* Tree over 16 lanes: lane i += lane i + 8, then + 4, + 2, + 1.  Destroys LANE. */
static inline float sl_tree16(float lane[16])
{
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

/* Four chains, element k into chain k mod 4, combined as (0 + 1) + (2 + 3). */
static inline float sl_chains4(const float chain[4])
{
    return (chain[0] + chain[1]) + (chain[2] + chain[3]);
}

#endif
