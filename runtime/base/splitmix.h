/* SPDX-License-Identifier: MIT */
/* Reproducible noise for measurements: SplitMix64 (Steele, Lea, Flood). */
#ifndef SL_BASE_SPLITMIX_H
#define SL_BASE_SPLITMIX_H

#include <stdint.h>

/* The next 64 bits of *STATE, which may begin with any value. */
static inline uint64_t sl_splitmix(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

#endif
