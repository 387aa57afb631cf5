/* SPDX-License-Identifier: MIT */
/* One allocation carved into aligned pieces: what a session will ever need, sized before use. */
#ifndef SL_BASE_ARENA_H
#define SL_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

/*
 * Used twice with the same sequence of sl_arena_take(): first with base == NULL to add up the
 * bytes, then, after sl_arena_allocate(), to hand out the pieces.
 */
struct sl_arena {
    uint8_t *base;
    size_t used;
    size_t size;
    int overflow; /* some product or sum did not fit in size_t */
};

/* COUNT elements of SIZE bytes, 64-byte aligned, zeroed; NULL during the counting pass. */
void *sl_arena_take(struct sl_arena *a, size_t count, size_t size);

/* Ends the counting pass: allocates what was counted.  WHAT is for the message. */
int sl_arena_allocate(struct sl_arena *a, const char *what, struct sluice_err *err);
/* Gives back the pages that came into use: they are zeros again. */
void sl_arena_forget(struct sl_arena *a);
void sl_arena_free(struct sl_arena *a);

#endif
