/* SPDX-License-Identifier: MIT */
#include "runtime/base/available.h"

#include "runtime/base/arith.h"
#include "runtime/base/headroom.h"

enum { RESERVE_GIB = 4, RESERVE_PART = 10 };

uint64_t sl_memory_available_at(const char *root)
{
    struct sl_headroom h;
    struct sl_room rooms[SL_ROOMS_MAX];
    uint64_t least = UINT64_MAX;
    sl_headroom_open(&h, root);
    unsigned n = sl_headroom_look(&h, rooms);
    for (unsigned i = 0; i < n; i++)
        least = sl_min(least, rooms[i].free);
    sl_headroom_close(&h);
    return n ? least : 0;
}

uint64_t sl_memory_available(void)
{
    return sl_memory_available_at("");
}

uint64_t sl_memory_budget(uint64_t available)
{
    uint64_t reserve = sl_max((uint64_t)RESERVE_GIB << 30, available / RESERVE_PART);
    return available - sl_min(reserve, available / 2);
}
