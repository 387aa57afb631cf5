/* SPDX-License-Identifier: MIT */
/* How much memory there is for a model, and how the kernel hands it out. */
#include <string.h>

#include "tools/common/status.h"
#include "tools/doctor/doctor.h"
#include "runtime/base/available.h"
#include "runtime/base/system_text.h"

/* RAM and what of it is free for a model; 0 when not known. */
static double check_ram(struct sl_findings *f, const char *root)
{
    char text[SL_SYSTEM_TEXT];
    double total, available;
    sl_system_text(root, text, sizeof text, "/proc/meminfo");
    if (!sl_text_number(text, "MemTotal:", &total) ||
        !sl_text_number(text, "MemAvailable:", &available) || total <= 0 || available < 0) {
        sl_find(f, SL_FINE, "memory", NULL, "not known");
        return 0;
    }
    bool taken = available < total / 2;
    sl_find(f, taken ? SL_WARN : SL_FINE, "memory",
            taken ? "end what holds it: models run from what is available" : NULL,
            "%s, %s available", sl_human_bytes((uint64_t)(1024 * total)).text,
            sl_human_bytes((uint64_t)(1024 * available)).text);
    return 1024 * available;
}

static void check_limit(struct sl_findings *f, const char *root, double available)
{
    double limit;
    if (!sl_cgroup_limit(root, "memory", "memory.max", "memory.limit_in_bytes", &limit)) {
        sl_find(f, SL_FINE, "memory limit", NULL, "none");
        return;
    }
    bool less = available == 0 || limit < available;
    sl_find(f, less ? SL_WARN : SL_FINE, "memory limit",
            less ? "give the container or service more: docker --memory, systemd MemoryMax" : NULL,
            "the control group may have %s", sl_human_bytes((uint64_t)limit).text);
}

/* Share of the last minute in which something waited for RESOURCE; false: not known. */
static bool pressure(const char *root, const char *resource, double *percent)
{
    char text[256];
    const char *value;
    return sl_system_text(root, text, sizeof text, "/proc/pressure/%s", resource) &&
           (value = strstr(text, "avg60=")) && sl_text_number(value, "avg60=", percent);
}

static void check_pressure(struct sl_findings *f, const char *root)
{
    double memory, io;
    if (!pressure(root, "memory", &memory) || !pressure(root, "io", &io)) {
        sl_find(f, SL_FINE, "pressure", NULL, "not known");
        return;
    }
    bool high = memory > 5 || io > 20;
    sl_find(f, high ? SL_WARN : SL_FINE, "pressure",
            high ? "other work wants the memory or the drives: end it before measuring" : NULL,
            "in the last minute tasks waited for memory %.0f %%, for drives %.0f %% of the time",
            memory, io);
}

static void check_huge_pages(struct sl_findings *f, const char *root)
{
    char text[128];
    if (!sl_system_text(root, text, sizeof text, "/sys/kernel/mm/transparent_hugepage/enabled")) {
        sl_find(f, SL_FINE, "huge pages", NULL, "not known");
        return;
    }
    bool never = strstr(text, "[never]") != NULL;
    sl_find(f, never ? SL_WARN : SL_FINE, "huge pages",
            never ? "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled" : NULL,
            "transparent: %s", text);
}

double sl_doctor_memory(struct sl_findings *f, const char *root)
{
    double available = check_ram(f, root);
    check_limit(f, root, available);
    check_pressure(f, root);
    check_huge_pages(f, root);
    return (double)sl_memory_available_at(root);
}
