/* SPDX-License-Identifier: MIT */
/* `sluice bench --io PATH`: what a drive gives by size of reads, reads in flight and reader. */
#ifndef SL_TOOLS_BENCH_IO_TABLE_H
#define SL_TOOLS_BENCH_IO_TABLE_H

#include "tools/bench/report.h"

/* Measures with PATH or the largest files in it and prints a row per combination on stdout, files
 * and progress on stderr.  A reader that cannot be had here is a row that says why. */
int sl_bench_io(const char *path, enum sl_bench_format format, struct sluice_err *err);

#endif
