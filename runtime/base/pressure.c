/* SPDX-License-Identifier: MIT */
/*
 * A room, the machine or a control group, is to keep a 32nd of itself free, 16 MiB to 1 GiB.  When
 * less is free, what is missing is given back and a quarter more, so that it ends.  While tasks
 * wait for memory, twice as much has to be free.
 */
#include "runtime/base/pressure.h"

#include "runtime/base/arith.h"

enum { PART = 32, LEAST = 16 << 20, MOST = 1 << 30 };

static const double interval = 0.1;    /* seconds */
static const double much_waiting = 10; /* percent */

void sl_pressure_open(struct sl_pressure *p, const char *root)
{
    sl_headroom_open(&p->headroom, root);
    p->next = 0;
}

void sl_pressure_close(struct sl_pressure *p)
{
    sl_headroom_close(&p->headroom);
}

static uint64_t missing(const struct sl_room *room, bool waiting)
{
    uint64_t kept = sl_min(sl_max(room->all / PART, LEAST), MOST);
    uint64_t wanted = waiting ? 2 * kept : kept;
    return room->free < wanted ? wanted - room->free + kept / 4 : 0;
}

uint64_t sl_pressure_check(struct sl_pressure *p, double now)
{
    struct sl_room rooms[SL_ROOMS_MAX];
    uint64_t most = 0;
    if (now < p->next)
        return 0;
    p->next = now + interval;
    unsigned n = sl_headroom_look(&p->headroom, rooms);
    bool waiting = sl_headroom_pressure(&p->headroom) > much_waiting;
    for (unsigned i = 0; i < n; i++)
        most = sl_max(most, missing(&rooms[i], waiting));
    return most;
}
