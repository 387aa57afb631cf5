/* SPDX-License-Identifier: MIT */
/* How much memory there is to plan with. */
#ifndef SL_BASE_AVAILABLE_H
#define SL_BASE_AVAILABLE_H

#include <stdint.h>

/* Bytes that this process may still take, of the machine and within the limits of its control
 * groups; 0 when unknown. */
uint64_t sl_memory_available(void);

/* The same of the machine whose files are below ROOT. */
uint64_t sl_memory_available_at(const char *root);

/* What is left of it for a model: all but the larger of 4 GiB and a tenth, at least half. */
uint64_t sl_memory_budget(uint64_t available);

#endif
