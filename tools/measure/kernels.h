/* SPDX-License-Identifier: MIT */
/*
 * How fast the kernels are at the shapes of the 671-billion-parameter models (V3.2), called as the
 * runtime calls them, and what limits them: a plain loop that does no more than they have to do.
 */
#ifndef SL_TOOLS_KERNELS_H
#define SL_TOOLS_KERNELS_H

#include "runtime/sluice.h"
#include "tools/measure/machine.h"

/* One kernel at one shape.  Strings live until the callback returns. */
struct sl_kernel_row {
    const char *kernel; /* as sl_kernel_name() has it, and what its data are */
    const char *rung;   /* whose code it is */
    const char *shape;
    double ms;            /* of a call */
    double rate;          /* UNIT per second */
    const char *unit;     /* "GB/s", "GMAC/s" (multiply-adds), "Gscore/s", "Gweight/s" */
    double limit;         /* in UNIT; 0: not known */
    const char *limit_by; /* "loop", "oneDNN 2.6.3"; NULL: not known */
    double fraction;      /* rate / limit; of topk: its time as a share of the indexer's */
};

struct sl_kernel_options {
    unsigned threads; /* as sl_team_make() */
    double seconds; /* to time each kernel for, half of it its limit; at least one call of either */
    size_t shrink;  /* 1: true shapes; tests divide what makes them large */
};

/* Sees each row as it is measured; anything but 0 ends the work and is its result. */
typedef int sl_kernel_row_fn(void *user, const struct sl_kernel_row *row, struct sluice_err *err);

int sl_measure_kernel_rows(const struct sl_kernel_options *options, sl_kernel_row_fn *row,
                           void *user, struct sluice_err *err);

/* The rung, threads, and all rates of *m but the drive's: means, what work that goes on gets.
 * Takes a few seconds. */
int sl_measure_kernels(struct sl_machine *m, unsigned threads, struct sluice_err *err);

#endif
