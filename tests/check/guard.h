/* SPDX-License-Identifier: MIT */
/*
 * Memory that notices: buffers between pages that nobody may touch and canaries, and calls whose
 * crash is an answer instead of an end.
 */
#ifndef SL_TESTS_GUARD_H
#define SL_TESTS_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GUARD_SLOTS = 10 };

/* Where a buffer lies between its two guard pages. */
enum place {
    PLACE_END,   /* its last byte right before the second page */
    PLACE_START, /* its first byte right behind the first page */
    PLACE_SHIFTED,
    PLACES,
};

/* Room for BYTES in slot SLOT, SHIFT steps of STEP bytes behind where PLACE_START would lie; ends
 * the program when memory is short. */
uint8_t *guard_place(size_t slot, size_t bytes, enum place place, size_t step, size_t shift);

/* A byte outside of the buffer in slot SLOT that was written, relative to its first byte; false
 * when there is none. */
bool guard_written(size_t slot, ptrdiff_t *offset);

/* A signal that ended a call, and if it was an access near a buffer, where. */
struct crash {
    int signal; /* 0: none */
    size_t slot;
    ptrdiff_t offset; /* from the buffer's first byte */
    bool known;       /* slot and offset are */
};

/* CALL(CONTEXT), which may crash.  A sanitizer that ends the program prints NAME first. */
struct crash guard_call(void (*call)(const void *context), const void *context, const char *name);

#endif
