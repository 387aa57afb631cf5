/* SPDX-License-Identifier: MIT */
/* The parts of check_rungs besides the comparison: its own test, and the benchmark. */
#ifndef SL_TESTS_CHECK_RUNGS_H
#define SL_TESTS_CHECK_RUNGS_H

#include "tests/check/judge.h"

/* The rungs asked for that have code of their own for kernel K; ref is not among them. */
enum { MOST_RUNGS = 8 };
size_t rungs_of(const struct kernel *k, struct subject subjects[MOST_RUNGS]);

/* Makes every mistake in every buffer of kernel K; returns how many went unnoticed. */
unsigned test_judge(const struct kernel *k, uint64_t seed);

/* Prints how long trial NUMBER of kernel K takes on ref and all rungs. */
void bench_case(const struct kernel *k, size_t number, uint64_t seed);

#endif
