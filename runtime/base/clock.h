/* SPDX-License-Identifier: MIT */
/* Seconds on the monotonic clock. */
#ifndef SL_BASE_CLOCK_H
#define SL_BASE_CLOCK_H

#include <time.h>

static inline double sl_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif
