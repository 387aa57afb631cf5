/* SPDX-License-Identifier: MIT */
/* The arena: anonymous memory, so that untouched cache rows cost nothing yet. */
#include "runtime/base/arena.h"

#include <sys/mman.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"

enum { ALIGN = 64 };

void *sl_arena_take(struct sl_arena *a, size_t count, size_t size)
{
    size_t bytes, end;
    if (!sl_mul(count, size, &bytes) || bytes > SIZE_MAX - ALIGN ||
        !sl_add(a->used, sl_round_up(bytes, ALIGN), &end)) {
        a->overflow = 1;
        return NULL;
    }
    void *piece = a->base ? a->base + a->used : NULL;
    a->used = end;
    return piece;
}

int sl_arena_allocate(struct sl_arena *a, const char *what, struct sluice_err *err)
{
    if (a->overflow)
        return sl_fail(err, SLUICE_ENOMEM, "%s would need more than 2^64 bytes", what);
    a->size = sl_max(a->used, 1);
    void *base = mmap(NULL, a->size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return sl_fail_nomem(err, what, a->size);
    a->base = base;
    a->used = 0;
    return 0;
}

void sl_arena_forget(struct sl_arena *a)
{
    madvise(a->base, a->size, MADV_DONTNEED);
}

void sl_arena_free(struct sl_arena *a)
{
    if (a->base)
        munmap(a->base, a->size);
    *a = (struct sl_arena){0};
}
