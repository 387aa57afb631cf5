/* SPDX-License-Identifier: MIT */
/* What the readers of tools/measure/drive*.c share. */
#ifndef SL_TOOLS_DRIVE_PRIVATE_H
#define SL_TOOLS_DRIVE_PRIVATE_H

#include "tools/measure/drive.h"
#include "tools/measure/pieces.h"

/* Reads that were made. */
struct sl_drive_tally {
    uint64_t reads;
    double seconds, longest; /* summed over reads in flight; of the longest one */
};

/* One read took from BEGIN to END, seconds of sl_now(). */
void sl_drive_count(struct sl_drive_tally *tally, double begin, double end);

/* One measurement under way. */
struct sl_drive_run {
    const struct sl_drive_test *test;
    struct sl_pieces pieces;
    uint8_t *buffers; /* [depth][bytes]; NULL for a mapping */
    double deadline;  /* on the clock of sl_now() */
    struct sl_drive_tally tally;
};

/* Both read until the deadline, at least one piece, and wait for what is in flight. */
int sl_drive_threads(struct sl_drive_run *run, struct sluice_err *err);
int sl_drive_uring(struct sl_drive_run *run, struct sluice_err *err);

#endif
