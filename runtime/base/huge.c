/* SPDX-License-Identifier: MIT */
#include "runtime/base/huge.h"

#include <string.h>
#include <sys/mman.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/system_text.h"

enum { HUGE_PAGE = 2 << 20, PAGE = 4096 };

/* Maps more than is wanted and gives back what is before and behind. */
int sl_huge_open(struct sl_huge *h, size_t size, const char *what, struct sluice_err *err)
{
    *h = (struct sl_huge){0};
    if (size > SIZE_MAX - 2 * HUGE_PAGE)
        return sl_fail_nomem(err, what, size);
    size_t whole = sl_round_up(sl_max(size, 1), PAGE), mapped = whole + HUGE_PAGE;
    uint8_t *start = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return sl_fail_nomem(err, what, size);
    size_t before = -(uintptr_t)start % HUGE_PAGE;
    if (before > 0)
        munmap(start, before);
    if (before < HUGE_PAGE)
        munmap(start + before + whole, HUGE_PAGE - before);
    *h = (struct sl_huge){start + before, whole};
    madvise(h->base, h->size, MADV_HUGEPAGE); /* refused: small pages do as well */
    return 0;
}

bool sl_huge_given(void)
{
    char text[128];
    return sl_system_text("", text, sizeof text, "/sys/kernel/mm/transparent_hugepage/enabled") &&
           !strstr(text, "[never]");
}

void sl_huge_close(struct sl_huge *h)
{
    if (h->base)
        munmap(h->base, h->size);
    *h = (struct sl_huge){0};
}

void sl_huge_advise(void *data, size_t bytes)
{
    uintptr_t begin = sl_round_up((uintptr_t)data, HUGE_PAGE);
    uintptr_t end = ((uintptr_t)data + bytes) / HUGE_PAGE * HUGE_PAGE;
    if (begin < end)
        madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* refused: small pages do as well */
}
