/* SPDX-License-Identifier: MIT */
#include "tools/replay/overlap.h"

#include <math.h>

void sl_overlap_end(struct sl_overlap *o)
{
    o->floor += fmax(o->computing, o->reading);
    o->computing = o->reading = 0;
}

void sl_overlap_add(struct sl_overlap *o, const struct sl_trace_event *e)
{
    const double unit = 1e-6;
    if (o->tokens == 0 || e->position != o->last.position || e->layer <= o->last.layer) {
        sl_overlap_end(o);
        o->tokens += e->tokens;
    }
    o->last = *e;
    o->memory += e->memory;
    o->read += e->read;
    o->ahead += e->ahead;
    o->bytes += (double)e->bytes;
    o->measured += unit * (double)(e->before + e->all);
    o->ideal += unit * ((double)e->before + fmax((double)e->resident, (double)e->reading) +
                        (double)e->rest);
    o->computing += unit * (double)(e->before + e->resident + e->rest);
    o->reading += unit * (double)e->reading;
}
