/* SPDX-License-Identifier: MIT */
/*
 * Scratch memory that sessions of an engine share: they run one at a time, and nothing in it is of
 * use between two calls of one.  Each session divides it up by itself.
 */
#ifndef SL_WORKBENCH_H
#define SL_WORKBENCH_H

#include "runtime/base/arena.h"
#include "runtime/engine.h"

struct sl_workbench {
    struct sl_arena arena;
    unsigned sessions; /* that have it */
    struct sl_workbench *next;
};

/* One of the engine's that has as much as was COUNTED, or NULL. */
struct sl_workbench *sl_workbench_find(const sluice_engine *e, const struct sl_arena *counted);

/* The same for a session to have, made if there is none. */
int sl_workbench_enter(struct sl_workbench **bench, sluice_engine *e,
                       const struct sl_arena *counted, struct sluice_err *err);

/* The session goes; the last one closes it.  NULL is fine. */
void sl_workbench_leave(struct sl_workbench **bench, sluice_engine *e);

#endif
