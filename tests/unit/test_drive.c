/* SPDX-License-Identifier: MIT */
/*
 * Measuring drives: every piece once a round and never past the end, the bytes that were counted
 * are the bytes that the kernel says were read, and files that cannot be measured are named.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "tests/unit/confine.h"
#include "tests/unit/scratch.h"
#include "tools/measure/drive.h"
#include "tools/measure/pieces.h"

enum { KB = 1 << 10, MB = 1 << 20, PIECE = 64 * KB };

/* Synced: dirty pages would not leave the page cache. */
static void put_file(const char *name, size_t bytes)
{
    char *data = malloc(bytes);
    assert_non_null(data);
    memset(data, 7, bytes);
    put(name, data, bytes);
    free(data);
    int fd = open(at(name), O_RDONLY);
    assert_int_equal(fsync(fd), 0);
    close(fd);
}

/* ---- the order of pieces -------------------------------------------------------------------- */

static void orders_are_permutations(void **unused)
{
    (void)unused;
    for (uint64_t total = 1; total < 3000; total += 1 + total / 7) {
        uint8_t *seen = calloc(total, 1);
        assert_non_null(seen);
        for (uint64_t i = 0; i < total; i++) {
            uint64_t at_i = sl_shuffled(i, total);
            assert_true(at_i < total);
            assert_int_equal(seen[at_i]++, 0);
        }
        free(seen);
    }
    for (uint64_t i = 0; i < 100; i++)
        assert_true(sl_shuffled(i, (1ull << 40) + 5) < (1ull << 40) + 5);
}

/* Neighbours in the order are far apart in the file: a drive that reads ahead gains nothing. */
static void orders_are_no_sequences(void **unused)
{
    (void)unused;
    const uint64_t total = 100000;
    uint64_t near = 0;
    for (uint64_t i = 1; i < total; i++) {
        int64_t step = (int64_t)(sl_shuffled(i, total) - sl_shuffled(i - 1, total));
        near += llabs(step) <= 100;
    }
    /* 201 steps of 200,000 are near: of a random order 0.2 % */
    assert_true(near > total / 1000 && near < total / 250);
}

static void pieces_cover_the_files(void **unused)
{
    (void)unused;
    put_file("a", 3 * PIECE + 100);
    put_file("b", PIECE);
    const char *const paths[] = {at("a"), at("b")};
    struct sl_pieces p;
    struct sluice_err err = {0};
    unsigned seen[2][3] = {0};
    assert_int_equal(sl_pieces_open(&p, paths, 2, PIECE, false, &err), 0);
    assert_int_equal(p.total, 4);
    for (int i = 0; i < 8; i++) {
        struct sl_piece piece = sl_pieces_take(&p);
        assert_int_equal(piece.offset % PIECE, 0);
        assert_in_range(piece.offset / PIECE, 0, 2);
        seen[piece.file - p.files][piece.offset / PIECE]++;
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(seen[0][i], 2); /* rounds */
    assert_int_equal(seen[1][0], 2);
    sl_pieces_close(&p);
}

/* ---- measuring ------------------------------------------------------------------------------ */

/* A counter of /proc/self/io; false when there is none. */
static bool io_counter(const char *name, uint64_t *value)
{
    char line[128], key[64];
    FILE *f = fopen("/proc/self/io", "re");
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f))
        found = sscanf(line, "%63[^:]: %" SCNu64, key, value) == 2 && strcmp(key, name) == 0;
    if (f)
        fclose(f);
    return found;
}

static struct sl_drive_result measure(enum sl_drive_reader reader, unsigned depth)
{
    const char *const paths[] = {at("big"), at("other")};
    const struct sl_drive_test test = {reader, PIECE, depth, 0.1};
    struct sl_drive_result r;
    struct sluice_err err = {0};
    double begin = sl_now();
    int status = sl_drive_measure(paths, 2, &test, &r, &err);
    double seconds = sl_now() - begin;
    if (status < 0)
        fail_msg("%s: %s", sl_drive_readers[reader], err.msg);
    assert_true(r.bytes >= PIECE && r.bytes % PIECE == 0);
    assert_true(r.latency_mean > 0 && r.latency_max >= r.latency_mean);
    /* no longer than the call, no shorter than it was to take */
    assert_true((double)r.bytes / r.rate <= seconds && (double)r.bytes / r.rate >= test.seconds);
    /* reads in flight took no longer than the whole: the mean of one, times their number */
    assert_true(r.latency_mean * (double)(r.bytes / PIECE) <= seconds * depth);
    return r;
}

static void pread_counts_what_was_read(void **unused)
{
    (void)unused;
    for (unsigned depth = 1; depth <= 8; depth *= 8) {
        uint64_t before = 0, after = 0;
        bool known = io_counter("rchar", &before);
        struct sl_drive_result r = measure(SL_DRIVE_PREAD, depth);
        if (!known || !io_counter("rchar", &after))
            continue;
        /* besides: one trial of O_DIRECT per file, and reading /proc */
        assert_true(after - before >= r.bytes);
        assert_true(after - before <= r.bytes + 2 * PIECE + 4 * KB);
    }
}

/* In memory there is nothing that could be forgotten. */
static bool on_a_drive(void)
{
    struct statfs fs;
    assert_int_equal(statfs(root, &fs), 0);
    return fs.f_type != 0x01021994 && fs.f_type != 0x858458f6; /* tmpfs, ramfs */
}

/* The files are read several times over, each time from the drive. */
static void mapped_pages_come_from_the_drive(void **unused)
{
    (void)unused;
    uint64_t before = 0, after = 0;
    bool known = io_counter("read_bytes", &before);
    struct sl_drive_result r = measure(SL_DRIVE_MMAP, 1);
    assert_false(r.direct);
    if (known && on_a_drive() && io_counter("read_bytes", &after))
        assert_true(after - before >= r.bytes - r.bytes / 8);
    measure(SL_DRIVE_MMAP, 4);
}

static void uring_reads_or_says_why(void **unused)
{
    (void)unused;
    const char *const paths[] = {at("big")};
    const struct sl_drive_test test = {SL_DRIVE_URING, PIECE, 4, 0.05};
    struct sl_drive_result r;
    struct sluice_err err = {0};
    int status = sl_drive_measure(paths, 1, &test, &r, &err);
    if (status == SLUICE_EUNSUPPORTED) {
        print_message("io_uring: %s\n", err.msg);
        assert_true(strstr(err.msg, "liburing") || sl_drive_uring_errno() != 0);
        return;
    }
    assert_int_equal(sl_drive_uring_errno(), 0);
    uint64_t before = 0, after = 0;
    bool known = io_counter("read_bytes", &before);
    r = measure(SL_DRIVE_URING, 8);
    if (known && on_a_drive() && r.direct && io_counter("read_bytes", &after)) {
        assert_true(after - before >= r.bytes);
        assert_true(after - before <= r.bytes + 2 * PIECE + 64 * KB);
    }
}

static void refuses(const char *path, struct sl_drive_test test, const char *word)
{
    struct sl_drive_result r;
    struct sluice_err err = {0};
    for (int reader = 0; reader < SL_DRIVE_READERS; reader++) {
        test.reader = (enum sl_drive_reader)reader;
        assert_true(sl_drive_measure(&path, 1, &test, &r, &err) < 0);
        expect_text(err.msg, word);
    }
}

static void what_cannot_be_measured_is_named(void **unused)
{
    (void)unused;
    const struct sl_drive_test good = {SL_DRIVE_PREAD, PIECE, 2, 0.01};
    struct sl_drive_test bad = good;
    struct sl_drive_result r;
    struct sluice_err err = {0};
    put_file("small", PIECE - 1);
    refuses(at("small"), good, "small: smaller than one read of 65536 bytes");
    refuses(at("missing"), good, "missing");
    bad.bytes = 1000;
    refuses(at("big"), bad, "4096");
    bad = good;
    bad.depth = 0;
    refuses(at("big"), bad, "in flight");
    bad.depth = SL_DRIVE_DEPTH_MAX + 1;
    refuses(at("big"), bad, "in flight");
    assert_int_equal(sl_drive_measure(NULL, 0, &good, &r, &err), SLUICE_EARG);
}

static void *cut_soon(void *path)
{
    usleep(50000);
    assert_int_equal(truncate(path, 100), 0);
    return NULL;
}

/* A read that fails ends the measurement at once, and the message names the file. */
static void a_failing_read_is_reported(void **unused)
{
    (void)unused;
    for (int reader = SL_DRIVE_PREAD; reader <= SL_DRIVE_URING; reader++) {
        struct sluice_err err = {0};
        struct sl_drive_result r;
        pthread_t cutter;
        put_file("cut", 4 * MB);
        const char *const paths[] = {at("big"), at("cut")};
        const struct sl_drive_test test = {(enum sl_drive_reader)reader, PIECE, 4, 60};
        assert_int_equal(pthread_create(&cutter, NULL, cut_soon, (void *)(uintptr_t)paths[1]), 0);
        int status = sl_drive_measure(paths, 2, &test, &r, &err);
        pthread_join(cutter, NULL);
        if (reader == SL_DRIVE_URING && status == SLUICE_EUNSUPPORTED)
            continue;
        assert_int_equal(status, SLUICE_EFORMAT);
        expect_text(err.msg, paths[1]);
        expect_text(err.msg, "truncated");
    }
}

/* The last test: the refusals stay, of io_uring as by Docker.  The page cache is used, but never
 * what it held before. */
static void refusals_are_told(void **unused)
{
    (void)unused;
    const char *const paths[] = {at("big")};
    const struct sl_drive_test test = {SL_DRIVE_URING, PIECE, 4, 0.05};
    struct sl_drive_result r;
    struct sluice_err err = {0};
    uint64_t before = 0, after = 0;
    if (!refuse_uring(EPERM) || !refuse_direct())
        skip();
    assert_int_equal(sl_drive_uring_errno(), EPERM);
    assert_int_equal(sl_drive_measure(paths, 1, &test, &r, &err), SLUICE_EUNSUPPORTED);
    bool known = io_counter("read_bytes", &before);
    r = measure(SL_DRIVE_PREAD, 1);
    assert_false(r.direct);
    if (known && on_a_drive() && io_counter("read_bytes", &after))
        assert_true(after - before >= r.bytes - r.bytes / 8);
}

/* ---- finding files -------------------------------------------------------------------------- */

static void the_largest_files_are_found(void **unused)
{
    (void)unused;
    struct sl_drive_files f;
    struct sluice_err err = {0};
    char name[32];
    assert_int_equal(mkdir(at("many"), 0777), 0);
    assert_int_equal(sl_drive_files_find(&f, at("many"), &err), SLUICE_EARG);
    expect_text(err.msg, "many: no file of 4 MiB or more");
    for (int i = 0; i < SL_DRIVE_FILES_MAX + 3; i++) {
        snprintf(name, sizeof name, "many/%02d", i * 5 % 11);
        put(name, "x", 1);
        assert_int_equal(truncate(at(name), (off_t)SL_DRIVE_FILE_MIN - 1 + i / 2), 0);
    }
    assert_int_equal(mkdir(at("many/folder"), 0777), 0);
    assert_int_equal(sl_drive_files_find(&f, at("many"), &err), 0);
    assert_int_equal(f.n, SL_DRIVE_FILES_MAX);
    for (size_t i = 0; i < f.n; i++) {
        struct stat st;
        assert_int_equal(stat(f.paths[i], &st), 0);
        assert_int_equal(st.st_size, f.bytes[i]);
        /* 11 files of 0,0,1,1,…,5 bytes more: the two smallest are below, the largest is single */
        assert_int_equal(f.bytes[i], SL_DRIVE_FILE_MIN + 4 - (i + 1) / 2);
        if (i > 0 && f.bytes[i] == f.bytes[i - 1])
            assert_true(strcmp(f.paths[i - 1], f.paths[i]) < 0);
    }
    sl_drive_files_close(&f);
    assert_int_equal(sl_drive_files_find(&f, at("big"), &err), 0);
    assert_int_equal(f.n, 1);
    assert_string_equal(f.paths[0], at("big"));
    sl_drive_files_close(&f);
    assert_true(sl_drive_files_find(&f, at("nowhere"), &err) < 0);
    expect_text(err.msg, "nowhere");
}

static int make_files(void **state)
{
    if (make_root(state) < 0)
        return -1;
    put_file("big", 4 * MB + 12345);
    put_file("other", MB);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orders_are_permutations),
        cmocka_unit_test(orders_are_no_sequences),
        cmocka_unit_test(pieces_cover_the_files),
        cmocka_unit_test(pread_counts_what_was_read),
        cmocka_unit_test(mapped_pages_come_from_the_drive),
        cmocka_unit_test(uring_reads_or_says_why),
        cmocka_unit_test(what_cannot_be_measured_is_named),
        cmocka_unit_test(a_failing_read_is_reported),
        cmocka_unit_test(the_largest_files_are_found),
        cmocka_unit_test(refusals_are_told),
    };
    return cmocka_run_group_tests(tests, make_files, remove_root);
}
