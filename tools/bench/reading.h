/* SPDX-License-Identifier: MIT */
/* What rows say about reading from drives. */
#ifndef SL_TOOLS_BENCH_READING_H
#define SL_TOOLS_BENCH_READING_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes that the kernel brought from drives for this process so far; 0 when it does not tell. */
uint64_t sl_bytes_from_drives(void);

/*
 * Bytes per second that the drive gives to the engine's reader of DIR's experts: page faults on
 * THREADS threads if they are MAPPED, or else the reads of `pread`.  0, and a line on stderr with
 * the reason, when it cannot be measured.
 */
double sl_drive_limit(const char *dir, bool mapped, unsigned threads);

#endif
