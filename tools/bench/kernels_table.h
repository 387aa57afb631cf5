/* SPDX-License-Identifier: MIT */
/* `sluice bench --kernels`: how fast each kernel is at the shapes of the large models. */
#ifndef SL_TOOLS_BENCH_KERNELS_TABLE_H
#define SL_TOOLS_BENCH_KERNELS_TABLE_H

#include "tools/bench/report.h"

/* Prints a row per kernel and shape on stdout.  REPEAT: how much time to take. */
int sl_bench_kernels(size_t threads, size_t repeat, enum sl_bench_format format,
                     struct sluice_err *err);

#endif
