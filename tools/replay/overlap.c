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
    const double unit = 1e-6, before = (double)e->before, all = (double)e->all;
    const double resident = (double)e->resident, reading = (double)e->reading;
    const double rest = (double)e->rest;
    if (o->tokens == 0 || e->position != o->last.position || e->layer <= o->last.layer) {
        sl_overlap_end(o);
        o->tokens += e->tokens;
    }
    o->last = *e;
    o->memory += e->memory;
    o->read += e->read;
    o->ahead += e->ahead;
    o->bytes += (double)e->bytes;
    o->measured += unit * (before + all);
    o->ideal += unit * (before + fmin(all, fmax(resident, reading) + rest));
    o->computing += unit * (before + fmin(all, resident + rest));
    o->reading += unit * reading;
}
