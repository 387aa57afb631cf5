/* SPDX-License-Identifier: MIT */
/*
 * The rungs that are checked: those that run here, and one that only tests have.  `avx512vl` is
 * the source of avxvnni with AVX-512's encoding of vpdpbusd on registers of 256 bits, so that
 * processors without AVX-VNNI check that source, too.
 */
#ifndef SL_TESTS_LADDER_H
#define SL_TESTS_LADDER_H

#include "simd/simd.h"

/* As sl_rung_at(), with the tests' own rung behind the last. */
const struct sl_rung *checked_rung_at(size_t i);

/* The rung called NAME; NULL when it cannot run here. */
const struct sl_rung *checked_rung_find(const char *name);

#endif
