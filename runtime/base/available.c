/* SPDX-License-Identifier: MIT */
#include "runtime/base/available.h"

#include <stdio.h>

#include "runtime/base/arith.h"

enum { RESERVE_GIB = 4, RESERVE_PART = 10 };

uint64_t sl_memory_available(void)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
        ;
    fclose(f);
    return kib * 1024;
}

uint64_t sl_memory_budget(uint64_t available)
{
    uint64_t reserve = sl_max((uint64_t)RESERVE_GIB << 30, available / RESERVE_PART);
    return available - sl_min(reserve, available / 2);
}
