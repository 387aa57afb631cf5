/* SPDX-License-Identifier: MIT */
/* How much memory the system can give. */
#ifndef SL_BASE_MEMINFO_H
#define SL_BASE_MEMINFO_H

#include <stdint.h>

/* MemAvailable of /proc/meminfo in bytes; 0 when unknown. */
uint64_t sl_available_memory(void);

#endif
