/* SPDX-License-Identifier: MIT */
/*
 * How much memory this process may still take: of the machine, and of its control group and those
 * above.  The files stay open, so that looking is cheap and allocates nothing.
 */
#ifndef SL_BASE_HEADROOM_H
#define SL_BASE_HEADROOM_H

#include <stdbool.h>
#include <stdint.h>

enum { SL_ROOMS_MAX = 16 };

/* Bytes in all, and of them free or easily made so: page cache is dropped when it must be. */
struct sl_room {
    uint64_t all, free;
};

struct sl_headroom {
    int meminfo; /* −1: none; likewise below */
    int pressure;
    unsigned n;
    struct sl_group_files {
        bool old; /* version 1 */
        int limit, high, usage, stat;
    } groups[SL_ROOMS_MAX - 1];
};

/* ROOT is "" but for tests. */
void sl_headroom_open(struct sl_headroom *h, const char *root);
void sl_headroom_close(struct sl_headroom *h);

/* The rooms that have a limit now; returns their number. */
unsigned sl_headroom_look(const struct sl_headroom *h, struct sl_room rooms[SL_ROOMS_MAX]);

/* Percent of the last ten seconds in which something waited for memory; 0 when it is not told. */
double sl_headroom_pressure(const struct sl_headroom *h);

#endif
