/* SPDX-License-Identifier: MIT */
/* Overflow-checked size arithmetic and rounding, for numbers that come from files. */
#ifndef SL_BASE_ARITH_H
#define SL_BASE_ARITH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = a * b (a + b); false when the true result does not fit. */
static inline bool sl_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool sl_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* Rounds N up to a multiple of UNIT (> 0).  The caller knows that the result fits. */
static inline size_t sl_round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static inline size_t sl_ceil_div(size_t n, size_t unit)
{
    return n / unit + (n % unit != 0);
}

static inline size_t sl_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t sl_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
