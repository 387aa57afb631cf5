/* SPDX-License-Identifier: MIT */
/* Reading small texts of the kernel. */
#include "runtime/base/system_text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/file.h"

bool sl_system_text(const char *root, char *out, size_t size, const char *format, ...)
{
    char path[SL_PATH_MAX];
    va_list args;
    out[0] = 0;
    size_t n = (size_t)snprintf(path, sizeof path, "%s", root);
    if (n >= sizeof path)
        return false;
    va_start(args, format);
    int more = vsnprintf(path + n, sizeof path - n, format, args);
    va_end(args);
    FILE *f = more >= 0 && n + (size_t)more < sizeof path ? fopen(path, "re") : NULL;
    if (!f)
        return false;
    n = fread(out, 1, size - 1, f);
    fclose(f);
    out[n] = 0;
    if (n > 0 && out[n - 1] == '\n')
        out[n - 1] = 0;
    return out[0] != 0;
}

bool sl_text_number(const char *text, const char *key, double *number)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        char *end;
        if (strncmp(line, key, n) != 0)
            continue;
        *number = strtod(line + n, &end);
        return end != line + n && isfinite(*number);
    }
    return false;
}

bool sl_list_has(const char *list, unsigned n)
{
    char *end;
    for (;; list = end + 1) {
        unsigned long first = strtoul(list, &end, 10), last = first;
        if (end == list)
            return false;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        if (n >= first && n <= last)
            return true;
        if (*end != ',')
            return false;
    }
}

unsigned sl_list_count(const char *list)
{
    unsigned count = 0;
    for (unsigned i = 0; i < SL_CPUS_MAX; i++)
        count += sl_list_has(list, i);
    return count;
}
