/* SPDX-License-Identifier: MIT */
#include "runtime/session/workbench.h"

#include <stdlib.h>

#include "runtime/base/err.h"

struct sl_workbench *sl_workbench_find(const sluice_engine *e, const struct sl_arena *counted)
{
    struct sl_workbench *bench = counted->overflow ? NULL : e->benches;
    while (bench && bench->arena.size < counted->used)
        bench = bench->next;
    return bench;
}

int sl_workbench_enter(struct sl_workbench **bench, sluice_engine *e,
                       const struct sl_arena *counted, struct sluice_err *err)
{
    struct sl_workbench *b = *bench = sl_workbench_find(e, counted);
    if (b) {
        b->sessions++;
        return 0;
    }
    if (!(b = calloc(1, sizeof *b)))
        return sl_fail_nomem(err, "scratch", sizeof *b);
    b->arena = *counted;
    int status = sl_arena_allocate(&b->arena, "scratch of sessions", err);
    if (status < 0) {
        free(b);
        return status;
    }
    e->session_bytes += b->arena.size;
    b->sessions = 1;
    b->next = e->benches;
    *bench = e->benches = b;
    return 0;
}

void sl_workbench_leave(struct sl_workbench **bench, sluice_engine *e)
{
    struct sl_workbench *b = *bench, **link = &e->benches;
    *bench = NULL;
    if (!b || --b->sessions > 0)
        return;
    while (*link != b)
        link = &(*link)->next;
    *link = b->next;
    e->session_bytes -= b->arena.size;
    sl_arena_free(&b->arena);
    free(b);
}
