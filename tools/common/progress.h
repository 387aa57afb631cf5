/* SPDX-License-Identifier: MIT */
/* One line that tells how far a job is; quiet when its stream is not a terminal. */
#ifndef SL_TOOLS_PROGRESS_H
#define SL_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum sl_progress_unit {
    SL_PROGRESS_BYTES,
    SL_PROGRESS_TOKENS,
    SL_PROGRESS_SHARE, /* nothing to count: the percentage only */
};

struct sl_progress {
    FILE *out;
    const char *what; /* borrowed */
    enum sl_progress_unit unit;
    bool terminal;  /* otherwise nothing is shown */
    bool drawn;     /* the terminal's line holds something to clear */
    bool begun;     /* the first update came */
    double started; /* seconds of CLOCK_MONOTONIC at the first update */
    double drawn_at;
    uint64_t first; /* done at the first update: work of an earlier run is no measure of speed */
};

/* OUT is stderr, but for tests. */
void sl_progress_open(struct sl_progress *progress, FILE *out, const char *what,
                      enum sl_progress_unit unit);

/*
 * DONE of TOTAL units.  Call once before the work with what is done already (0, or more when the
 * job goes on from an earlier run), then as often as you like: it draws at most 5 times a second.
 */
void sl_progress_update(struct sl_progress *progress, uint64_t done, uint64_t total);

/* Clears the line.  Call it before printing results or errors; may be called twice. */
void sl_progress_close(struct sl_progress *progress);

#endif
