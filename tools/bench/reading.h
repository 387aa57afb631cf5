/* SPDX-License-Identifier: MIT */
/* What rows say about reading from drives. */
#ifndef SL_TOOLS_BENCH_READING_H
#define SL_TOOLS_BENCH_READING_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/sluice.h"

/* Bytes that the kernel brought from drives for this process so far; 0 when it does not tell. */
uint64_t sl_bytes_from_drives(void);

/* How the engine reads experts. */
struct sl_reading {
    bool mapped; /* page faults */
    bool uring;  /* or else pread */
    unsigned drives;
    unsigned depth; /* chunks or faults at a time, of all drives */
};
void sl_reading_of(struct sl_reading *r, const sluice_engine *engine,
                   const struct sluice_model_info *info);

/* Bytes per second that drives give to such reading of DIR's experts.  0, and a line on stderr with
 * the reason, when it cannot be measured. */
double sl_drive_limit(const char *dir, const struct sl_reading *how);

#endif
