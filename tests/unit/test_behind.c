/* SPDX-License-Identifier: MIT */
/* runtime/base/behind: what is appended, in whatever portions, is what the file holds; a drive that
 * fails is reported, and nobody waits for it for ever. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "runtime/base/behind.h"
#include "runtime/base/splitmix.h"
#include "tests/unit/scratch.h"

enum { MIB = 1 << 20, MOST = 60 * MIB }; /* more than the ring has */

static uint8_t *noise;

static int set_up(void **state)
{
    uint64_t random = 1;
    noise = malloc(MOST);
    for (size_t i = 0; noise && i < MOST; i += 8) {
        uint64_t word = sl_splitmix(&random);
        memcpy(noise + i, &word, 8);
    }
    return noise ? make_root(state) : -1;
}

static int tear_down(void **state)
{
    free(noise);
    return remove_root(state);
}

/* N bytes from offset START on, in portions of at most PORTION, then a first byte. */
static void write_file(const char *path, uint64_t start, size_t n, size_t portion, bool direct)
{
    struct sl_newfile file;
    struct sl_behind *b;
    struct sluice_err err = {0};
    uint64_t random = portion;
    assert_int_equal(sl_newfile_open(&file, path, &err), 0);
    assert_int_equal(sl_behind_open(&b, &file, start, direct, &err), 0);
    for (size_t done = 0, some; done < n; done += some) {
        some = 1 + sl_splitmix(&random) % portion;
        some = some < n - done ? some : n - done;
        assert_int_equal(sl_behind_append(b, noise + done, some, &err), 0);
    }
    assert_int_equal(sl_behind_finish(b, &err), 0);
    sl_behind_close(&b);
    assert_null(b);
    assert_int_equal(sl_newfile_write_at(&file, "!", 1, 0, &err), 0);
    assert_int_equal(sl_newfile_commit(&file, &err), 0);
    sl_newfile_close(&file);
}

static void expect_file(const char *path, uint64_t start, size_t n)
{
    struct sl_map map;
    assert_int_equal(sl_map_open(&map, path, NULL), 0);
    assert_int_equal(map.size, start + n);
    assert_int_equal(map.data[0], '!');
    assert_memory_equal(map.data + start, noise, n);
    sl_map_close(&map);
}

static void writes_everything(void **state)
{
    static const struct {
        uint64_t start;
        size_t n, portion;
    } cases[] = {
        {4096, 1, 1},
        {4096, 5000, 100},
        {4096, 8 * MIB, 3 * MIB},
        {4096, MOST, 24 * MIB},
        {8192, MOST - 1, 4 * MIB},
        {100, 17 * MIB + 3, MIB}, /* not direct */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int direct = 0; direct < 2; direct++) {
            write_file(at("file"), cases[i].start, cases[i].n, cases[i].portion, direct);
            expect_file(at("file"), cases[i].start, cases[i].n);
        }
}

/* The limit of a file's size stands for a full drive: writes fail from there on. */
static void reports_failure(void **state)
{
    struct sl_newfile file;
    struct sl_behind *b;
    struct sluice_err err = {0};
    struct rlimit old, small = {20 * MIB, RLIM_INFINITY};
    int status = 0;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(sl_newfile_open(&file, at("big"), &err), 0);
    assert_int_equal(sl_behind_open(&b, &file, 4096, true, &err), 0);
    for (int i = 0; i < 4 && status == 0; i++)
        status = sl_behind_append(b, noise, MOST, &err);
    assert_int_equal(status, SLUICE_EIO);
    expect_text(err.msg, "cannot write");
    expect_text(err.msg, "big");
    assert_int_equal(sl_behind_append(b, noise, MIB, NULL), SLUICE_EIO);
    err = (struct sluice_err){0};
    assert_int_equal(sl_behind_finish(b, &err), SLUICE_EIO);
    expect_text(err.msg, "cannot write");
    sl_behind_close(&b);
    sl_newfile_close(&file);
    assert_false(sl_file_exists(at("big")));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
}

/* Closed with pieces under way. */
static void gives_up(void **state)
{
    struct sl_newfile file;
    struct sl_behind *b;
    struct sluice_err err = {0};
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sl_newfile_open(&file, at("none"), &err), 0);
        assert_int_equal(sl_behind_open(&b, &file, 4096, true, &err), 0);
        assert_int_equal(sl_behind_append(b, noise, 40 * MIB, &err), 0);
        sl_behind_close(&b);
        sl_newfile_close(&file);
        assert_false(sl_file_exists(at("none")));
    }
    sl_behind_close(&b); /* nothing to close */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_everything),
        cmocka_unit_test(reports_failure),
        cmocka_unit_test(gives_up),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
