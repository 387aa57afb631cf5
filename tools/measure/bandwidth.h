/* SPDX-License-Identifier: MIT */
/* How fast this machine reads memory: the limit that decoding is measured against. */
#ifndef SL_TOOLS_BANDWIDTH_H
#define SL_TOOLS_BANDWIDTH_H

#include "runtime/base/team.h"
#include "runtime/sluice.h"
#include "simd/simd.h"

/*
 * Bytes per second of a plain loop over 512 MiB, larger than any cache, on THREADS threads; the
 * best of several passes.  Takes about a second.
 */
int sl_read_bandwidth(unsigned threads, double *bytes_per_second, struct sluice_err *err);

/* That loop: reads N bytes at DATA once, but for a rest below SL_PEAK_BYTES. */
void sl_read_once(const struct sl_team *team, const struct sl_peaks *peaks, const void *data,
                  size_t n);

#endif
