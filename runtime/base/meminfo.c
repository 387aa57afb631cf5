/* SPDX-License-Identifier: MIT */
/* Reads /proc/meminfo. */
#include "runtime/base/meminfo.h"

#include <stdio.h>

uint64_t sl_available_memory(void)
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
