/* SPDX-License-Identifier: MIT */
/* Memory of huge pages, where the system has them: for what is large and goes over all the time. */
#ifndef SL_BASE_HUGE_H
#define SL_BASE_HUGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

struct sl_huge {
    uint8_t *base; /* at a multiple of 2 MiB; NULL: closed */
    size_t size;
};

/* SIZE zeroed bytes, which come into use when they are first written.  WHAT is for the message. */
int sl_huge_open(struct sl_huge *h, size_t size, const char *what, struct sluice_err *err);
/* Asks for huge pages where whole ones lie in the BYTES from DATA on, which are about to be
 * written: otherwise each 4 KiB of them costs a page fault. */
void sl_huge_advise(void *data, size_t bytes);
/* Whether the system gives huge pages to who asks for them. */
bool sl_huge_given(void);
void sl_huge_close(struct sl_huge *h);

#endif
