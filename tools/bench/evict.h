/* SPDX-License-Identifier: MIT */
/* Making a container cold. */
#ifndef SL_TOOLS_BENCH_EVICT_H
#define SL_TOOLS_BENCH_EVICT_H

#include "runtime/sluice.h"

/*
 * Drops what the page cache holds of the files in DIR.  Fails when pages stay: files of a file
 * system that lives in memory, or that another process has mapped.
 */
int sl_evict_directory(const char *dir, struct sluice_err *err);

#endif
