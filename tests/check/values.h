/* SPDX-License-Identifier: MIT */
/* What kernels meet: floats, codes, codebooks and weights of every kind, from one seed. */
#ifndef SL_TESTS_VALUES_H
#define SL_TESTS_VALUES_H

#include <stddef.h>
#include <stdint.h>

#include "simd/simd.h"

enum values {
    VALUES_UNIFORM,
    VALUES_PLUS,        /* all 127 */
    VALUES_MINUS,       /* all −127 */
    VALUES_ALTERNATING, /* ±127 */
    VALUES_ZERO_GROUPS, /* every other 16 are zero, now and then */
    VALUES_OUTLIERS,
    VALUES_HALVES, /* ties of rounding to integers, when the largest is 127 */
    VALUES_ZEROS,  /* of both signs */
    VALUES_RANGE,  /* where exp neither overflows nor vanishes */
    VALUES_DENORMAL,
    VALUES_TINY, /* about 2^-100, below which groups become zero */
    VALUES_HUGE,
    VALUES_EXPONENTS, /* of every magnitude */
    VALUES_SPECIAL,   /* NaN, infinities, limits */
    VALUES_KINDS,
};

/* The same seed gives the same values from here on. */
void seed_values(uint64_t seed);
uint32_t random_word(void);
void fill_bytes(void *p, size_t n);

void fill_floats(float *x, size_t n, long values);

/* Floats as a cache or a matrix of type SL_CACHE_BF16 or SL_CACHE_F32 stores them. */
void fill_stored(enum sl_cache type, void *p, size_t n, long values);

/* Activation codes, −127 … 127. */
void fill_codes(int8_t *q, size_t n, long values);

/* Ascending codebooks: with both ends, constant ones, a real one, random ones. */
enum { BOOKS = 7 };
void fill_book(int8_t book[SL_CODEBOOK], long which);

/* A packed matrix: any codes, scales of kind VALUES, padding rows without meaning. */
void fill_matrix(const struct sl_packing *p, uint8_t *data, long values);

#endif
