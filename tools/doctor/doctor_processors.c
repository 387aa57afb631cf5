/* SPDX-License-Identifier: MIT */
/* What stands between the threads and the processors. */
#include <stdio.h>
#include <string.h>

#include "tools/doctor/doctor.h"
#include "runtime/base/system_text.h"

struct cpus {
    const char *root;
    char online[4096]; /* "0-7" */
    unsigned n;
};

void sl_doctor_cpu_name(const char *root, char *out, size_t size)
{
    static const char *const keys[] = {"\nmodel name", "\nModel Name", "\nCPU part"};
    char text[SL_SYSTEM_TEXT];
    snprintf(out, size, "not known");
    sl_system_text(root, text, sizeof text, "/proc/cpuinfo");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *line = strstr(text, keys[i]);
        const char *value = line ? strstr(line, ": ") : NULL;
        if (value) {
            snprintf(out, size, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
            return;
        }
    }
}

/* Processors that are the first of their core; 0 when not known. */
static unsigned count_cores(const struct cpus *cpus)
{
    char siblings[256];
    unsigned cores = 0;
    for (unsigned i = 0; i < SL_CPUS_MAX; i++) {
        double first;
        if (!sl_list_has(cpus->online, i))
            continue;
        if (!sl_system_text(cpus->root, siblings, sizeof siblings,
                            "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", i) ||
            !sl_text_number(siblings, "", &first))
            return 0;
        cores += first == i;
    }
    return cores;
}

static void check_cores(struct sl_findings *f, const struct cpus *cpus, unsigned threads)
{
    char fix[128];
    unsigned cores = count_cores(cpus);
    if (cpus->n == 0)
        sl_find(f, SL_FINE, "processors", NULL, "not known; %u threads", threads);
    else if (cores == 0)
        sl_find(f, SL_FINE, "processors", NULL, "%u, cores not known; %u threads", cpus->n,
                threads);
    else if (cores == cpus->n || threads <= cores)
        sl_find(f, SL_FINE, "processors", NULL, "%u on %u cores; %u threads", cpus->n, cores,
                threads);
    else {
        snprintf(fix, sizeof fix, "two on a core share it: compare 'sluice bench -t %u' with -t %u",
                 cores, threads);
        sl_find(f, SL_WARN, "processors", fix, "%u on %u cores (SMT is on); %u threads", cpus->n,
                cores, threads);
    }
}

static void check_share(struct sl_findings *f, const char *root, unsigned threads)
{
    char fix[64];
    double limit;
    if (!sl_cgroup_limit(root, "cpu", "cpu.max", NULL, &limit)) {
        sl_find(f, SL_FINE, "processor limit", NULL, "none known");
        return;
    }
    snprintf(fix, sizeof fix, "raise the limit, or -t %.0f", limit < 1 ? 1 : limit);
    sl_find(f, limit < threads ? SL_WARN : SL_FINE, "processor limit", limit < threads ? fix : NULL,
            "the control group may use %.3g processors; %u threads", limit, threads);
}

/* Drivers whose "powersave" still follows the load. */
static bool powersave_scales(const char *driver)
{
    return strstr(driver, "pstate") != NULL;
}

static void check_governor(struct sl_findings *f, const struct cpus *cpus)
{
    char governor[64], driver[64], found[64] = "";
    unsigned slow = 0;
    sl_system_text(cpus->root, driver, sizeof driver,
                   "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver");
    for (unsigned i = 0; i < SL_CPUS_MAX; i++) {
        if (!sl_list_has(cpus->online, i) ||
            !sl_system_text(cpus->root, governor, sizeof governor,
                            "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor", i))
            continue;
        bool saves = strcmp(governor, "powersave") == 0 && !powersave_scales(driver);
        if (found[0] == 0 || (saves && slow == 0))
            snprintf(found, sizeof found, "%s", governor);
        slow += saves;
    }
    if (slow > 0)
        sl_find(f, SL_WARN, "governor", "cpupower frequency-set -g performance",
                "%s on %u of %u processors", found, slow, cpus->n);
    else
        sl_find(f, SL_FINE, "governor", NULL, "%s",
                found[0] ? found : "not known (a virtual machine?)");
}

static void check_numa(struct sl_findings *f, const char *root)
{
    char text[256];
    unsigned nodes = 0;
    if (sl_system_text(root, text, sizeof text, "/sys/devices/system/node/has_memory"))
        nodes = sl_list_count(text);
    if (nodes == 0)
        sl_find(f, SL_FINE, "NUMA", NULL, "not known");
    else
        sl_find(f, nodes > 1 ? SL_WARN : SL_FINE, "NUMA",
                nodes > 1 ? "numactl --interleave=all sluice …" : NULL, "%u node%s with memory",
                nodes, nodes > 1 ? "s" : "");
}

static void check_load(struct sl_findings *f, const char *root, unsigned processors)
{
    char text[256];
    double load;
    if (!sl_system_text(root, text, sizeof text, "/proc/loadavg") ||
        !sl_text_number(text, "", &load)) {
        sl_find(f, SL_FINE, "load", NULL, "not known");
        return;
    }
    bool busy = load > processors / 4.0;
    sl_find(f, busy ? SL_WARN : SL_FINE, "load",
            busy ? "other work slows what is measured below: end it, or wait a minute" : NULL,
            "%.2f in the last minute, %u processors", load, processors);
}

void sl_doctor_processors(struct sl_findings *f, const char *root, unsigned threads)
{
    struct cpus cpus = {.root = root};
    sl_system_text(root, cpus.online, sizeof cpus.online, "/sys/devices/system/cpu/online");
    cpus.n = sl_list_count(cpus.online);
    check_load(f, root, cpus.n ? cpus.n : threads);
    check_cores(f, &cpus, threads);
    check_share(f, root, threads);
    check_governor(f, &cpus);
    check_numa(f, root);
}
