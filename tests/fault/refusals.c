/* SPDX-License-Identifier: MIT */
/*
 * `sluice` where the system refuses what readers would like: io_uring as in default containers or
 * old kernels, direct reads, locked memory.  The answers are those of every other reader, or the
 * message says what to do.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/file.h"
#include "tests/fault/process.h"
#include "tests/unit/confine.h"
#include "tests/unit/scratch.h"

static char *wanted; /* the logits by the reader "memory" */
static size_t wanted_size;

static void logits(struct outcome *o, char *reader)
{
    RUN(o, "eval", "logits", "-m", "model", "--tokens", "ids", "--out", "out", "--threads", "1",
        "--reader", reader);
}

static int make_model(void **state)
{
    static const int32_t ids[] = {292, 438, 41, 350, 9, 320, 375, 315, 134, 384, 484, 100};
    struct outcome o;
    if (make_root(state) != 0)
        return -1;
    link_checkpoint("source", "tiny-v32");
    RUN(&o, "quantize", "source", "model", "--fast");
    if (o.code != 0)
        fail_msg("%s", o.text);
    put("ids", ids, sizeof ids);
    logits(&o, "memory");
    if (o.code != 0)
        fail_msg("%s", o.text);
    return sl_file_read(at("out"), 1 << 26, &wanted, &wanted_size, NULL);
}

static int remove_model(void **state)
{
    free(wanted);
    return remove_root(state);
}

static void expect_logits(char *reader)
{
    struct outcome o;
    char *found;
    size_t size;
    put("out", "", 0);
    logits(&o, reader);
    if (o.code != 0)
        fail_msg("%s", o.text);
    assert_int_equal(sl_file_read(at("out"), 1 << 26, &found, &size, NULL), 0);
    assert_int_equal(size, wanted_size);
    assert_memory_equal(found, wanted, size);
    free(found);
}

/* Whether --reader uring works here and now; *o: what it said. */
static bool has_uring(struct outcome *o)
{
    logits(o, "uring");
    return o->code == 0;
}

/* Skips the test where confining does not work. */
static void confine(bool (*refuse)(void))
{
    struct outcome o;
    before_sluice = refuse;
    RUN(&o, "--version");
    if (o.code == 126) {
        before_sluice = NULL;
        skip();
    }
    assert_int_equal(o.code, 0);
}

static int set_free(void **state)
{
    (void)state;
    before_sluice = NULL;
    return 0;
}

static bool as_in_containers(void)
{
    return refuse_uring(EPERM);
}

static bool as_in_old_kernels(void)
{
    return refuse_uring(ENOSYS);
}

static void expect_no_uring(int errnum)
{
    struct outcome o;
    assert_false(has_uring(&o));
    if (!strstr(o.text, "built without liburing")) {
        expect_text(o.text, "io_uring is not allowed here");
        expect_text(o.text, "kernel.io_uring_disabled=0");
        expect_text(o.text, strerror(errnum));
    }
    expect_logits("pread");
    expect_logits("auto");
}

static void io_uring_is_forbidden(void **state)
{
    (void)state;
    confine(as_in_containers);
    expect_no_uring(EPERM);
}

static void io_uring_is_unknown(void **state)
{
    (void)state;
    confine(as_in_old_kernels);
    expect_no_uring(ENOSYS);
}

static void expect_all(void)
{
    struct outcome o;
    expect_logits("pread");
    if (has_uring(&o))
        expect_logits("uring");
    else
        expect_text(o.text, "io_uring");
}

static void direct_reads_are_refused(void **state)
{
    (void)state;
    confine(refuse_direct);
    expect_all();
}

static void memory_cannot_be_locked(void **state)
{
    (void)state;
    confine(refuse_locking);
    expect_all();
}

static void nothing_is_refused(void **state)
{
    (void)state;
    expect_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_refused),
        cmocka_unit_test_teardown(io_uring_is_forbidden, set_free),
        cmocka_unit_test_teardown(io_uring_is_unknown, set_free),
        cmocka_unit_test_teardown(direct_reads_are_refused, set_free),
        cmocka_unit_test_teardown(memory_cannot_be_locked, set_free),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
