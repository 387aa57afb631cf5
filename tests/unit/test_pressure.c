/* SPDX-License-Identifier: MIT */
/*
 * How much memory a process may still take, by files that are made up and by a real control group,
 * and when some has to be given back.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/available.h"
#include "runtime/base/cgroup.h"
#include "runtime/base/huge.h"
#include "runtime/base/pressure.h"
#include "tests/unit/scratch.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* Writes root/MACHINE/PATH with the folders in front of it; an open file keeps its identity. */
static void say(const char *machine, const char *path, const char *format, ...)
{
    char name[300], text[1000];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(name, sizeof name, "%s%s", machine, path);
    for (char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(at(name), 0777);
        *slash = '/';
    }
    put_text(name, text);
}

static void say_meminfo(const char *machine, uint64_t all, uint64_t available)
{
    say(machine, "/proc/meminfo", "MemTotal: %llu kB\nMemFree: 5 kB\nMemAvailable: %llu kB\n",
        (unsigned long long)all / 1024, (unsigned long long)available / 1024);
}

/* ---- what is available ----------------------------------------------------------------------- */

static void without_groups(void **unused)
{
    (void)unused;
    mkdir(at("bare"), 0777);
    assert_int_equal(sl_memory_available_at(at("bare")), 0);
    say_meminfo("bare", 64 * GIB, 40 * GIB);
    assert_int_equal(sl_memory_available_at(at("bare")), 40 * GIB);
    say("bare", "/proc/self/cgroup", "0::/\n"); /* and no files */
    assert_int_equal(sl_memory_available_at(at("bare")), 40 * GIB);
}

static void groups_of_version_2(void **unused)
{
    (void)unused;
    say_meminfo("new", 64 * GIB, 40 * GIB);
    say("new", "/proc/self/cgroup", "0::/a/b\n");
    say("new", "/sys/fs/cgroup/a/b/memory.max", "max\n");
    say("new", "/sys/fs/cgroup/a/b/memory.current", "%llu\n", 3ull << 30);
    assert_int_equal(sl_memory_available_at(at("new")), 40 * GIB);
    /* 20 GiB − (3 GiB − 1 GiB of page cache) */
    say("new", "/sys/fs/cgroup/a/b/memory.max", "%llu\n", 20ull << 30);
    say("new", "/sys/fs/cgroup/a/b/memory.stat",
        "anon 7\ninactive_file 805306368\nactive_file 268435456\nslab 9\n");
    assert_int_equal(sl_memory_available_at(at("new")), 18 * GIB);
    say("new", "/sys/fs/cgroup/a/b/memory.high", "%llu\n", 19ull << 30);
    assert_int_equal(sl_memory_available_at(at("new")), 17 * GIB);
    /* Those above count as well. */
    say("new", "/sys/fs/cgroup/a/memory.max", "%llu\n", 30ull << 30);
    say("new", "/sys/fs/cgroup/a/memory.current", "%llu\n", 29ull << 30);
    assert_int_equal(sl_memory_available_at(at("new")), 1 * GIB);
    say("new", "/sys/fs/cgroup/a/memory.current", "%llu\n", 31ull << 30);
    assert_int_equal(sl_memory_available_at(at("new")), 0);
}

static void groups_of_version_1(void **unused)
{
    (void)unused;
    say_meminfo("old", 64 * GIB, 40 * GIB);
    say("old", "/proc/self/cgroup", "5:cpu:/\n4:memory,hugetlb:/x\n0::/y\n");
    say("old", "/sys/fs/cgroup/y/memory.max", "1\n"); /* not where memory is counted */
    say("old", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "%llu\n", 10ull << 30);
    say("old", "/sys/fs/cgroup/memory/x/memory.usage_in_bytes", "%llu\n", 4ull << 30);
    say("old", "/sys/fs/cgroup/memory/x/memory.stat",
        "inactive_file 1\ntotal_inactive_file 1073741824\ntotal_active_file 1073741824\n");
    say("old", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(sl_memory_available_at(at("old")), 8 * GIB);
    /* Another place, of which only a part is seen. */
    say("old", "/proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "35 31 0:32 /x /memory-groups rw,relatime shared:9 - cgroup cgroup rw,memory,hugetlb\n");
    say("old", "/memory-groups/memory.limit_in_bytes", "%llu\n", 2ull << 30);
    say("old", "/memory-groups/memory.usage_in_bytes", "%llu\n", 1ull << 30);
    assert_int_equal(sl_memory_available_at(at("old")), 1 * GIB);
}

static void budgets(void **unused)
{
    (void)unused;
    assert_int_equal(sl_memory_budget(100 * GIB), 90 * GIB);
    assert_int_equal(sl_memory_budget(40 * GIB), 36 * GIB);
    assert_int_equal(sl_memory_budget(20 * GIB), 16 * GIB);
    assert_int_equal(sl_memory_budget(8 * GIB), 4 * GIB);
    assert_int_equal(sl_memory_budget(2 * GIB), 1 * GIB);
    assert_int_equal(sl_memory_budget(0), 0);
}

/* ---- pressure -------------------------------------------------------------------------------- */

static void memory_becomes_short(void **unused)
{
    (void)unused;
    struct sl_pressure p;
    say_meminfo("short", 32 * GIB, 8 * GIB);
    sl_pressure_open(&p, at("short"));
    assert_int_equal(sl_pressure_check(&p, 100), 0);
    say_meminfo("short", 32 * GIB, 1 * GIB); /* just enough: a 32nd */
    assert_int_equal(sl_pressure_check(&p, 101), 0);
    say_meminfo("short", 32 * GIB, 1 * GIB - 64 * MIB);
    assert_int_equal(sl_pressure_check(&p, 101.05), 0); /* not looked yet */
    assert_int_equal(sl_pressure_check(&p, 101.2), 64 * MIB + 256 * MIB);
    say_meminfo("short", 32 * GIB, 2 * GIB - 4096);
    assert_int_equal(sl_pressure_check(&p, 102), 0);
    sl_pressure_close(&p);
    /* The same while tasks wait. */
    say("short", "/proc/pressure/memory", "some avg10=10.50 avg60=0.00 avg300=0.00 total=1\n");
    sl_pressure_open(&p, at("short"));
    assert_int_equal(sl_pressure_check(&p, 0), 4096 + 256 * MIB);
    say("short", "/proc/pressure/memory", "some avg10=9.50 avg60=99.00 avg300=0.00 total=1\n");
    assert_int_equal(sl_pressure_check(&p, 1), 0);
    say_meminfo("short", 512 * GIB, 1 * GIB - MIB); /* never more than 1 GiB */
    assert_int_equal(sl_pressure_check(&p, 2), MIB + 256 * MIB);
    sl_pressure_close(&p);
}

static void groups_become_short(void **unused)
{
    (void)unused;
    struct sl_pressure p;
    say_meminfo("group", 32 * GIB, 30 * GIB);
    say("group", "/proc/self/cgroup", "0::/g\n");
    say("group", "/sys/fs/cgroup/g/memory.max", "max\n");
    say("group", "/sys/fs/cgroup/g/memory.current", "%llu\n", 4ull << 30);
    sl_pressure_open(&p, at("group"));
    assert_int_equal(sl_pressure_check(&p, 1), 0);
    say("group", "/sys/fs/cgroup/g/memory.max", "%llu\n", 3ull << 30); /* lowered meanwhile */
    assert_int_equal(sl_pressure_check(&p, 2), 96 * MIB + 24 * MIB);
    say("group", "/sys/fs/cgroup/g/memory.current", "%llu\n", 1ull << 30);
    assert_int_equal(sl_pressure_check(&p, 3), 0);
    sl_pressure_close(&p);
}

static void nothing_is_told(void **unused)
{
    (void)unused;
    struct sl_pressure p;
    mkdir(at("empty"), 0777);
    sl_pressure_open(&p, at("empty"));
    assert_int_equal(sl_pressure_check(&p, 1), 0);
    sl_pressure_close(&p);
    say("empty", "/proc/meminfo", "MemTotal: -1\nMemAvailable: nan\n");
    say("empty", "/proc/self/cgroup", ":::\n0::\n9:memory\n");
    say("empty", "/proc/pressure/memory", "some avg10=x\n");
    sl_pressure_open(&p, at("empty"));
    assert_int_equal(sl_pressure_check(&p, 1), 0);
    sl_pressure_close(&p);
}

/* ---- a real group ---------------------------------------------------------------------------- */

static char group[300]; /* of version 1; "": it cannot be made here */

static bool write_group(const char *file, uint64_t value)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", group, file);
    FILE *f = fopen(path, "we");
    if (!f)
        return false;
    bool written = fprintf(f, "%llu\n", (unsigned long long)value) > 0;
    return fclose(f) == 0 && written;
}

/* In a child: holds memory and gives it back as it is told while the limit falls. */
static int live_in_group(void)
{
    struct sl_pressure p;
    struct sl_huge memory;
    uint64_t held = 192 * MIB, given;
    if (!write_group("cgroup.procs", (uint64_t)getpid()) || sl_memory_available() > 256 * MIB ||
        sl_memory_available() < 128 * MIB || sl_huge_open(&memory, held, "memory", NULL) < 0)
        return 1;
    memset(memory.base, 1, held);
    sl_pressure_open(&p, "");
    if (sl_pressure_check(&p, 0) != 0)
        return 2;
    for (int step = 1; step <= 4; step++) {
        /* First there must be room for a lower limit, as for an administrator. */
        uint64_t limit = (256 - 16 * (uint64_t)step) * MIB;
        if (!write_group("memory.limit_in_bytes", limit))
            return 3;
        given = sl_pressure_check(&p, step);
        if (given > held || (limit < held + 8 * MIB && given == 0))
            return 4;
        if (given > 0)
            madvise(memory.base + (held - given) / 4096 * 4096, given, MADV_DONTNEED);
        held -= given;
        if (sl_pressure_check(&p, step + 0.5) != 0)
            return 5;
    }
    sl_pressure_close(&p);
    sl_huge_close(&memory);
    return held < 180 * MIB ? 0 : 6;
}

static void a_real_group_shrinks(void **unused)
{
    struct sl_cgroup g;
    int how = 0;
    const char *sanitize = getenv("SANITIZE");
    (void)unused;
    if (sanitize && *sanitize)
        skip(); /* its shadow counts as memory */
    if (!sl_cgroup_find(&g, "", "memory") || g.version != 1)
        skip();
    g.path[g.top] = 0;
    snprintf(group, sizeof group, "%.200s/sluice-test-%d", g.path, (int)getpid());
    if (mkdir(group, 0755) != 0 || !write_group("memory.limit_in_bytes", 256 * MIB)) {
        rmdir(group);
        skip();
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(live_in_group());
    waitpid(child, &how, 0);
    for (int i = 0; i < 100 && rmdir(group) != 0 && errno == EBUSY; i++)
        usleep(10000);
    assert_true(WIFEXITED(how));
    assert_int_equal(WEXITSTATUS(how), 0);
}

/* ---- huge pages ------------------------------------------------------------------------------ */

static unsigned long kib_of_huge_pages(const void *at_address)
{
    char line[256];
    unsigned long from, to, kib = 0, found = 0;
    bool inside = false;
    FILE *f = fopen("/proc/self/smaps", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = from <= (unsigned long)(uintptr_t)at_address &&
                     (unsigned long)(uintptr_t)at_address < to;
        else if (inside && sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
            found = kib;
    }
    if (f)
        fclose(f);
    return found;
}

static void huge_pages_are_used(void **unused)
{
    (void)unused;
    struct sl_huge h;
    char text[64] = "";
    assert_int_equal(sl_huge_open(&h, 8 * MIB + 5, "memory", NULL), 0);
    assert_int_equal((uintptr_t)h.base % (2 * MIB), 0);
    assert_int_equal(h.size, 8 * MIB + 4096);
    memset(h.base, 1, h.size);
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
    if (f && fgets(text, sizeof text, f) && !strstr(text, "[never]"))
        assert_in_range(kib_of_huge_pages(h.base), 2048, 8192);
    if (f)
        fclose(f);
    sl_huge_close(&h);
    assert_null(h.base);
    sl_huge_close(&h);
    struct sluice_err err = {0};
    assert_int_equal(sl_huge_open(&h, SIZE_MAX - 5, "memory", &err), SLUICE_ENOMEM);
    assert_null(h.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_groups),       cmocka_unit_test(groups_of_version_2),
        cmocka_unit_test(groups_of_version_1),  cmocka_unit_test(budgets),
        cmocka_unit_test(memory_becomes_short), cmocka_unit_test(groups_become_short),
        cmocka_unit_test(nothing_is_told),      cmocka_unit_test(a_real_group_shrinks),
        cmocka_unit_test(huge_pages_are_used),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
