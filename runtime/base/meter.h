/* SPDX-License-Identifier: MIT */
/* Where the time goes, and how many bytes of weights and caches are touched: a stop watch that is
 * told at the end of each piece of work which part it belonged to. */
#ifndef SL_BASE_METER_H
#define SL_BASE_METER_H

#include "runtime/base/clock.h"
#include "runtime/sluice.h"

struct sl_meter {
    double seconds[SLUICE_PARTS];
    uint64_t bytes[SLUICE_PARTS];
    double since;         /* the end of the last piece */
    uint64_t since_bytes; /* touched since then */
};

/* Begins a run of pieces; M may be NULL here and below. */
static inline void sl_meter_start(struct sl_meter *m)
{
    if (!m)
        return;
    m->since = sl_now();
    m->since_bytes = 0;
}

/* What happened since the last call was PART. */
static inline void sl_meter_lap(struct sl_meter *m, enum sluice_part part)
{
    if (!m)
        return;
    double now = sl_now();
    m->seconds[part] += now - m->since;
    m->bytes[part] += m->since_bytes;
    m->since = now;
    m->since_bytes = 0;
}

/* The piece at work touches BYTES. */
static inline void sl_meter_bytes(struct sl_meter *m, uint64_t bytes)
{
    if (m)
        m->since_bytes += bytes;
}

#endif
