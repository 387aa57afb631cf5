/* SPDX-License-Identifier: MIT */
/* Memory of huge pages, where the system has them: for what is large and goes over all the time. */
#ifndef SL_BASE_HUGE_H
#define SL_BASE_HUGE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

struct sl_huge {
    uint8_t *base; /* at a multiple of 2 MiB; NULL: closed */
    size_t size;
};

/* SIZE zeroed bytes, which come into use when they are first written.  WHAT is for the message. */
int sl_huge_open(struct sl_huge *h, size_t size, const char *what, struct sluice_err *err);
void sl_huge_close(struct sl_huge *h);

#endif
