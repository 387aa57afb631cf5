/* SPDX-License-Identifier: MIT */
/* How fast this machine reads memory: the limit that decoding is measured against. */
#ifndef SL_TOOLS_BANDWIDTH_H
#define SL_TOOLS_BANDWIDTH_H

#include "runtime/sluice.h"

/*
 * Bytes per second of a plain loop over 512 MiB, larger than any cache, on THREADS threads; the
 * best of several passes.  Takes about a second.
 */
int sl_read_bandwidth(unsigned threads, double *bytes_per_second, struct sluice_err *err);

#endif
