/* SPDX-License-Identifier: MIT */
/* Reproducible random numbers for tests: a linear congruential generator's upper half. */
#ifndef SL_TESTS_RANDOM_H
#define SL_TESTS_RANDOM_H

#include <stdint.h>

/* Each program has its own state; it may set another seed. */
static uint64_t random_state = 0x853c49e6748fea9bu;

static inline uint32_t random_bits(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

/* (−1, 1) */
static inline float uniform(void)
{
    return (float)((double)random_bits() / 2147483648.0 - 1.0);
}

#endif
