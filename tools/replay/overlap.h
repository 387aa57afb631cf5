/* SPDX-License-Identifier: MIT */
/* How well reading was hidden behind computing, from the times in a trace. */
#ifndef SL_TOOLS_OVERLAP_H
#define SL_TOOLS_OVERLAP_H

#include "tools/common/trace.h"

struct sl_overlap {
    uint64_t tokens;
    uint64_t memory, read, ahead; /* experts, as in struct sl_trace_event */
    double bytes;
    /* Seconds. */
    double measured;
    /* Of passes whose RESIDENT was taken, answers: */
    double ideal; /* each layer's work and reads at the same time, one layer after the other */
    double floor; /* all work and all reads of a pass at the same time */
    /* The pass that is being added. */
    struct sl_trace_event last;
    double computing, reading;
};

/* Adds the next event of a kind; the last one is followed by sl_overlap_end(). */
void sl_overlap_add(struct sl_overlap *o, const struct sl_trace_event *event);
void sl_overlap_end(struct sl_overlap *o);

#endif
