/* SPDX-License-Identifier: MIT */
/*
 * What sluice doctor says about machines that are made of files: each kind of trouble is found and
 * has a remedy, what is not there is "not known", nonsense does no harm.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/container/container.h"
#include "tests/unit/scratch.h"
#include "tools/doctor/doctor.h"
#include "runtime/base/system_text.h"

static const double GiB = 1 << 30;

/* Writes root/MACHINE/PATH, "/proc/loadavg" say, with the folders in front of it. */
static void say(const char *machine, const char *path, const char *text)
{
    char name[300];
    snprintf(name, sizeof name, "%s%s", machine, path);
    for (char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(at(name), 0777);
        *slash = '/';
    }
    put_text(name, text);
}

/* Everything but the measurements; the findings are to be closed. */
static double examine(struct sl_findings *f, const char *machine, unsigned threads, int refused)
{
    char tree[400];
    snprintf(tree, sizeof tree, "%s", at(machine));
    sl_findings_open(f, NULL);
    sl_doctor_processors(f, tree, threads);
    double available = sl_doctor_memory(f, tree);
    sl_doctor_limits(f, tree, refused);
    assert_non_null(f->list);
    return available;
}

static const char *text_of(const json_t *finding, const char *key)
{
    const char *text = json_string_value(json_object_get(finding, key));
    return text ? text : "";
}

/* The only finding called NAME has STATUS, and FOUND in its text; there is a remedy unless OK. */
static void expect(const struct sl_findings *f, const char *name, const char *status,
                   const char *found)
{
    size_t i, seen = 0;
    const json_t *finding;
    json_array_foreach (f->list, i, finding) {
        if (strcmp(text_of(finding, "name"), name) != 0)
            continue;
        seen++;
        if (strcmp(text_of(finding, "status"), status) != 0)
            fail_msg("%s is %s: %s", name, text_of(finding, "status"), text_of(finding, "found"));
        expect_text(text_of(finding, "found"), found);
        assert_int_equal(text_of(finding, "fix")[0] != 0, strcmp(status, "OK") != 0);
    }
    assert_int_equal(seen, 1);
}

static void expect_fix(const struct sl_findings *f, const char *name, const char *fix)
{
    size_t i;
    const json_t *finding;
    json_array_foreach (f->list, i, finding)
        if (strcmp(text_of(finding, "name"), name) == 0)
            expect_text(text_of(finding, "fix"), fix);
}

static void nothing_is_known(void **unused)
{
    (void)unused;
    struct sl_findings f;
    char cpu[96];
    size_t i;
    const json_t *finding;
    mkdir(at("nothing"), 0777);
    assert_true(examine(&f, "nothing", 4, 0) == 0);
    assert_int_equal(f.count[SL_BAD], 0);
    json_array_foreach (f.list, i, finding)
        if (strcmp(text_of(finding, "name"), "io_uring") != 0)
            assert_string_equal(text_of(finding, "status"), "OK");
    static const char *const unknown[] = {"load",       "processors",    "governor",
                                          "NUMA",       "memory",        "pressure",
                                          "huge pages", "locked memory", NULL};
    for (i = 0; unknown[i]; i++)
        expect(&f, unknown[i], "OK", "not known");
    sl_findings_close(&f);
    sl_doctor_cpu_name(at("nothing"), cpu, sizeof cpu);
    assert_string_equal(cpu, "not known");
}

static void siblings(const char *machine, unsigned processors, const char *const *lists)
{
    char path[128];
    for (unsigned i = 0; i < processors; i++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list",
                 i);
        say(machine, path, lists[i]);
    }
}

static void governors(const char *machine, unsigned processors, const char *driver,
                      const char *governor)
{
    char path[128];
    say(machine, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", driver);
    for (unsigned i = 0; i < processors; i++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor", i);
        say(machine, path, governor);
    }
}

/* Four cores with two threads each, in good order. */
static void a_desktop(void **unused)
{
    (void)unused;
    static const char *const pairs[] = {"0,4\n", "1,5\n", "2,6\n", "3,7\n",
                                        "0,4\n", "1,5\n", "2,6\n", "3,7\n"};
    struct sl_findings f;
    char cpu[96];
    say("desktop", "/proc/cpuinfo",
        "processor\t: 0\nvendor_id\t: Abacus\nmodel name\t: Abacus 9000\nflags\t: avx2\n\n"
        "processor\t: 1\nmodel name\t: Other\n");
    say("desktop", "/proc/loadavg", "1.99 1.00 0.50 2/300 4711\n");
    say("desktop", "/proc/meminfo",
        "MemTotal:       65536000 kB\nMemFree:         1000 kB\nMemAvailable:   52428800 kB\n");
    say("desktop", "/proc/self/cgroup", "0::/user.slice/session-1.scope\n");
    say("desktop", "/sys/fs/cgroup/user.slice/memory.max", "max\n");
    say("desktop", "/sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
    say("desktop", "/proc/self/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max locked memory         unlimited            unlimited            bytes     \n"
        "Max file locks            8                    8                    locks     \n");
    say("desktop", "/proc/pressure/memory", "some avg10=9.00 avg60=5.00 avg300=9.00 total=1\n");
    say("desktop", "/proc/pressure/io", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n");
    say("desktop", "/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    say("desktop", "/sys/devices/system/cpu/online", "0-7\n");
    say("desktop", "/sys/devices/system/node/has_memory", "0\n");
    say("desktop", "/proc/sys/kernel/io_uring_disabled", "0\n");
    siblings("desktop", 8, pairs);
    governors("desktop", 8, "amd-pstate-epp\n", "powersave\n");

    assert_true(examine(&f, "desktop", 4, 0) == 50 * GiB);
    assert_int_equal(f.count[SL_BAD], 0);
    expect(&f, "processors", "OK", "8 on 4 cores; 4 threads");
    expect(&f, "processor limit", "OK", "none");
    expect(&f, "load", "OK", "1.99 in the last minute, 8 processors");
    expect(&f, "memory", "OK", "62.5 GiB, 50.0 GiB available");
    expect(&f, "memory limit", "OK", "none");
    expect(&f, "locked memory", "OK", "unlimited");
    expect(&f, "pressure", "OK", "memory 5 %, for drives 0 %");
    expect(&f, "huge pages", "OK", "[madvise]");
    expect(&f, "governor", "OK", "powersave"); /* which here follows the load */
    expect(&f, "NUMA", "OK", "1 node");
    sl_findings_close(&f);

    examine(&f, "desktop", 8, 0);
    expect(&f, "processors", "WARN", "8 on 4 cores (SMT is on); 8 threads");
    expect_fix(&f, "processors", "-t 4");
    sl_findings_close(&f);
    sl_doctor_cpu_name(at("desktop"), cpu, sizeof cpu);
    assert_string_equal(cpu, "Abacus 9000");
}

/* Two sockets, in a container with limits, nothing set up for speed. */
static void a_server(void **unused)
{
    (void)unused;
    static const char *const single[] = {"0", "1", "2", "3"};
    struct sl_findings f;
    say("server", "/proc/loadavg", "1.01 1.00 0.50 2/300 4711\n");
    say("server", "/proc/meminfo", "MemTotal:       65536000 kB\nMemAvailable:   1048576 kB\n");
    say("server", "/proc/self/cgroup", "0::/pods/one/two\n");
    say("server", "/sys/fs/cgroup/pods/one/two/memory.max", "max\n");
    say("server", "/sys/fs/cgroup/pods/one/memory.max", "536870912\n");
    say("server", "/sys/fs/cgroup/pods/memory.max", "805306368\n");
    say("server", "/sys/fs/cgroup/pods/one/two/cpu.max", "250000 100000\n");
    say("server", "/sys/fs/cgroup/pods/cpu.max", "400000 100000\n");
    say("server", "/proc/self/limits",
        "Max locked memory         8388608              unlimited            bytes     \n");
    say("server", "/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=9.00 total=1\n");
    say("server", "/proc/pressure/io", "some avg10=0.00 avg60=33.10 avg300=0.00 total=1\n");
    say("server", "/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
    say("server", "/sys/devices/system/cpu/online", "0-1,3,2\n");
    say("server", "/sys/devices/system/node/has_memory", "0,2\n");
    say("server", "/proc/sys/kernel/io_uring_disabled", "2\n");
    siblings("server", 4, single);
    governors("server", 4, "acpi-cpufreq\n", "performance\n");
    say("server", "/sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave\n");

    assert_true(examine(&f, "server", 4, EPERM) == 0.5 * GiB);
    expect(&f, "load", "WARN", "1.01");
    expect(&f, "processors", "OK", "4 on 4 cores");
    expect(&f, "processor limit", "WARN", "2.5 processors; 4 threads");
    expect_fix(&f, "processor limit", "-t 2");
    expect(&f, "governor", "WARN", "powersave on 1 of 4");
    expect(&f, "NUMA", "WARN", "2 nodes");
    expect(&f, "memory", "WARN", "62.5 GiB, 1.0 GiB available");
    expect(&f, "memory limit", "WARN", "512.0 MiB");
    expect(&f, "pressure", "WARN", "for drives 33 %");
    expect(&f, "huge pages", "WARN", "[never]");
    expect(&f, "locked memory", "WARN", "8.0 MiB");
    expect(&f, "io_uring", "WARN", "kernel.io_uring_disabled is 2");
    expect_fix(&f, "io_uring", "sysctl");
    sl_findings_close(&f);

    say("server", "/proc/sys/kernel/io_uring_disabled", "0\n");
    examine(&f, "server", 2, ENOSYS);
    expect(&f, "processor limit", "OK", "2.5 processors; 2 threads");
    expect(&f, "io_uring", "WARN", "not implemented");
    expect_fix(&f, "io_uring", "seccomp");
    sl_findings_close(&f);
}

static void control_groups_of_version_1(void **unused)
{
    (void)unused;
    double limit = 0;
    say("old", "/proc/self/cgroup",
        "9:name=systemd:/\n4:cpuset,memory:/a/b\n1:cpu,memoryless:/x\n0::/\n");
    say("old", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_false(
        sl_cgroup_limit(at("old"), "memory", "memory.max", "memory.limit_in_bytes", &limit));
    say("old", "/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n");
    assert_true(
        sl_cgroup_limit(at("old"), "memory", "memory.max", "memory.limit_in_bytes", &limit));
    assert_true(limit == GiB);
    assert_false(sl_cgroup_limit(at("old"), "cpu", "cpu.max", NULL, &limit));

    say("old", "/proc/self/cgroup", "0::/../../elsewhere\n"); /* seen from inside a container */
    say("old", "/sys/fs/cgroup/memory.max", "2147483648\n");
    assert_true(
        sl_cgroup_limit(at("old"), "memory", "memory.max", "memory.limit_in_bytes", &limit));
    assert_true(limit == 2 * GiB);
}

static void lists(void **unused)
{
    (void)unused;
    assert_int_equal(sl_list_count("0-3,8,10-11"), 7);
    assert_true(sl_list_has("0-3,8,10-11", 10));
    assert_false(sl_list_has("0-3,8,10-11", 9));
    assert_int_equal(sl_list_count(""), 0);
    assert_int_equal(sl_list_count("5-3"), 0);
    assert_int_equal(sl_list_count("0-99999999999999999999"), SL_CPUS_MAX);
}

/* Every file that is looked at has TEXT in it. */
static void all_say(const char *machine, const char *text)
{
    static const char *const files[] = {
        "/proc/cpuinfo",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/self/cgroup",
        "/proc/self/limits",
        "/proc/pressure/memory",
        "/proc/pressure/io",
        "/proc/sys/kernel/io_uring_disabled",
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/cpu.max",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/devices/system/node/has_memory",
        "/sys/devices/system/cpu/online",
        "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        say(machine, files[i], text);
}

static void nonsense_does_no_harm(void **unused)
{
    (void)unused;
    char *longest = malloc(3 * SL_SYSTEM_TEXT);
    assert_non_null(longest);
    memset(longest, 'x', 3 * SL_SYSTEM_TEXT - 1);
    longest[3 * SL_SYSTEM_TEXT - 1] = 0;
    const char *const texts[] = {
        "",
        "\n\n",
        ":",
        "::::",
        "-",
        "0-",
        ",,,",
        "nan inf",
        "-1 -1",
        "1e999",
        "0::/",
        "1:memory",
        "\x1b[2J\xff\xfe",
        "MemTotal: -5\nMemAvailable: x",
        "avg60=",
        "Max locked memory",
        "0::/%s%n/..",
        "[",
        "1 0",
        longest,
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct sl_findings f;
        char cpu[96];
        all_say("nonsense", texts[i]);
        double available = examine(&f, "nonsense", 2, EPERM);
        assert_true(available >= 0);
        assert_int_equal(f.count[SL_BAD], 0);
        char *text = json_dumps(f.list, 0);
        assert_non_null(text);
        assert_null(strchr(text, '\x1b'));
        free(text);
        sl_findings_close(&f);
        sl_doctor_cpu_name(at("nonsense"), cpu, sizeof cpu);
    }
    free(longest);
}

/* ---- where a model lies ---------------------------------------------------------------------- */

static json_t *file_of(double bytes)
{
    return json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "xxh3", "0123456789abcdef");
}

/* A container of 3 GiB that every token needs and 40 GiB of experts, in two files. */
static void put_container(const char *dir)
{
    char name[64];
    json_t *m = json_pack("{s:i, s:s, s:s, s:{}, s:{s:s, s:i, s:i}, s:{s:o, s:o, s:o, s:o}, s:{}}",
                          "format", 1, "tool", "sluice 0.1.0", "profile", "quality", "recipe",
                          "source", "digest", "xxh3:0123456789abcdef", "files", 3, "tensors", 99,
                          "files", "head.safetensors", file_of(GiB), "resident-00.safetensors",
                          file_of(2 * GiB), "experts-01.safetensors", file_of(10 * GiB),
                          "experts-02.safetensors", file_of(30 * GiB), "errors");
    char *text = sl_manifest_text(m);
    assert_non_null(text);
    assert_int_equal(mkdir(at(dir), 0777), 0);
    snprintf(name, sizeof name, "%s/sluice.json", dir);
    put_text(name, text);
    free(text);
    json_decref(m);
}

static void look_at(struct sl_findings *f, const char *name, double available)
{
    struct sl_doctor_target target;
    char path[400];
    snprintf(path, sizeof path, "%s", at(name));
    sl_findings_open(f, NULL);
    sl_doctor_target(f, &target, path, available);
    sl_drive_files_close(&target.files);
}

static void models_are_compared_with_memory(void **unused)
{
    (void)unused;
    struct sl_findings f;
    put_container("container");
    look_at(&f, "container", 80 * GiB);
    expect(&f, "model", "OK", "3.0 GiB for every token; experts, 40.0 GiB, are mapped: they fit");
    expect(&f, "files", "WARN", "no file of 4 MiB or more");
    sl_findings_close(&f);
    look_at(&f, "container", 43 * GiB / 0.9 + 16); /* a tenth is kept free */
    expect(&f, "model", "OK", "are mapped: they fit");
    sl_findings_close(&f);
    look_at(&f, "container", 43 * GiB / 0.9 - 16);
    expect(&f, "model", "OK", "experts, 40.0 GiB, are read from the drive when wanted");
    sl_findings_close(&f);
    look_at(&f, "container", 6 * GiB); /* half is */
    expect(&f, "model", "OK", "3.0 GiB for every token");
    sl_findings_close(&f);
    look_at(&f, "container", 6 * GiB - 2);
    expect(&f, "model", "FAIL",
           "3.0 GiB are needed for every token, 3.0 GiB of memory may be used");
    assert_int_equal(f.count[SL_BAD], 1);
    sl_findings_close(&f);
    look_at(&f, "container", 0);
    expect(&f, "model", "OK", "are in memory if they fit");
    sl_findings_close(&f);
    flip("container/sluice.json", 20, 0);
    look_at(&f, "container", 80 * GiB);
    expect(&f, "model", "FAIL", "container/sluice.json");
    sl_findings_close(&f);
    look_at(&f, "not here", 0);
    expect(&f, "files", "FAIL", "not here: No such file");
    sl_findings_close(&f);
}

/* Shards that are holes, as many as make half of them more than is free. */
static void checkpoints_are_compared_with_room(void **unused)
{
    (void)unused;
    struct sl_findings f;
    struct statfs fs;
    char name[64];
    assert_int_equal(mkdir(at("fp8"), 0777), 0);
    put_text("fp8/model.safetensors.index.json", "{}");
    put_text("fp8/model-0.safetensors", "x");
    look_at(&f, "fp8", 0);
    expect(&f, "space", "OK", "free");
    sl_findings_close(&f);
    assert_int_equal(statfs(root, &fs), 0);
    double left = 2 * (double)fs.f_blocks * (double)fs.f_bsize;
    for (int i = 0; left > 0; i++, left -= 1024 * GiB) {
        snprintf(name, sizeof name, "fp8/model-%d.safetensors", i);
        put_text(name, "x");
        assert_int_equal(truncate(at(name), 1ll << 40), 0);
    }
    look_at(&f, "fp8", 0);
    expect(&f, "space", "WARN", "free; a container of this checkpoint takes about");
    sl_findings_close(&f);
}

/* Lines for people and the array for programs say the same. */
static void findings_are_printed(void **unused)
{
    (void)unused;
    struct sl_findings f;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    sl_findings_open(&f, out);
    sl_find(&f, SL_FINE, "one", NULL, "%d%s", 1, "\x1b\xff");
    sl_find(&f, SL_WARN, "two", "mend it", "ä %s", "broken");
    fclose(out);
    assert_string_equal(text, "OK    one              1??\n"
                              "WARN  two              ä broken\n"
                              "                   fix: mend it\n");
    free(text);
    text = json_dumps(f.list, JSON_COMPACT);
    assert_string_equal(text,
                        "[{\"name\":\"one\",\"status\":\"OK\",\"found\":\"1??\",\"fix\":null},"
                        "{\"name\":\"two\",\"status\":\"WARN\",\"found\":\"ä broken\","
                        "\"fix\":\"mend it\"}]");
    free(text);
    assert_int_equal(f.count[SL_FINE], 1);
    assert_int_equal(f.count[SL_WARN], 1);
    assert_int_equal(f.count[SL_BAD], 0);
    sl_findings_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known),
        cmocka_unit_test(a_desktop),
        cmocka_unit_test(a_server),
        cmocka_unit_test(control_groups_of_version_1),
        cmocka_unit_test(lists),
        cmocka_unit_test(nonsense_does_no_harm),
        cmocka_unit_test(models_are_compared_with_memory),
        cmocka_unit_test(checkpoints_are_compared_with_room),
        cmocka_unit_test(findings_are_printed),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
