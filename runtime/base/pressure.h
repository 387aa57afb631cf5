/* SPDX-License-Identifier: MIT */
/* Whether memory becomes short while this process runs, and how much of it to give back. */
#ifndef SL_BASE_PRESSURE_H
#define SL_BASE_PRESSURE_H

#include "runtime/base/headroom.h"

struct sl_pressure {
    struct sl_headroom headroom;
    double next; /* when to look again */
};

/* ROOT is "" but for tests.  Where the system tells nothing, nothing is ever short. */
void sl_pressure_open(struct sl_pressure *p, const char *root);
void sl_pressure_close(struct sl_pressure *p);

/*
 * Bytes to give back now; 0: none.  NOW is sl_now().  Looks ten times a second at most, however
 * often it is called; allocates nothing.
 */
uint64_t sl_pressure_check(struct sl_pressure *p, double now);

#endif
