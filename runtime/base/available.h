/* SPDX-License-Identifier: MIT */
/* How much memory there is to plan with. */
#ifndef SL_BASE_AVAILABLE_H
#define SL_BASE_AVAILABLE_H

#include <stdint.h>

/* MemAvailable of /proc/meminfo in bytes; 0 when unknown. */
uint64_t sl_memory_available(void);

/* What is left of it for a model: all but the larger of 4 GiB and a tenth, at least half.
 */
uint64_t sl_memory_budget(uint64_t available);

#endif
