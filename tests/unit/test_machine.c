/* SPDX-License-Identifier: MIT */
/* The file of measurements: what is written is read, nothing else is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "tools/measure/machine.h"

static void comes_back(void **unused)
{
    (void)unused;
    struct sl_machine m = sl_machine_typical, found;
    struct sluice_err err = {0};
    const char *path = at("cache/sluice/machine.json");
    assert_int_equal(sl_machine_load(&found, path, &err), 0); /* no such file */
    assert_false(found.measured);
    assert_true(found.memory_all == sl_machine_typical.memory_all);
    m.memory_one = 12345678912.0;
    m.attend = 0;
    snprintf(m.cpu, sizeof m.cpu, "a \"quoted\" name");
    assert_int_equal(sl_machine_save(&m, path, &err), 0);
    assert_int_equal(sl_machine_load(&found, path, &err), 1);
    assert_true(found.measured);
    assert_true(found.memory_one > 0.99999 * m.memory_one);
    assert_true(found.memory_one < 1.00001 * m.memory_one);
    assert_true(found.attend == 0);
    assert_int_equal(found.threads, m.threads);
    assert_string_equal(found.cpu, m.cpu);
    assert_string_equal(found.rung, m.rung);
}

static void refuses(const char *text, const char *word)
{
    struct sl_machine m;
    struct sluice_err err = {0};
    put_text("bad.json", text);
    assert_int_equal(sl_machine_load(&m, at("bad.json"), &err), SLUICE_EFORMAT);
    expect_text(err.msg, word);
    expect_text(err.msg, "sluice doctor");
}

static void nonsense_is_refused(void **unused)
{
    (void)unused;
    refuses("{", "bad.json");
    refuses("{}", "sluice_machine");
    refuses("{\"sluice_machine\": 2, \"threads\": 2}", "sluice_machine");
    refuses("{\"sluice_machine\": 1, \"threads\": 0}", "threads");
    refuses("{\"sluice_machine\": 1, \"threads\": 2, \"attend\": -1}", "attend");
    refuses("{\"sluice_machine\": 1, \"threads\": 2, \"attend\": \"x\"}", "attend");
    refuses("{\"sluice_machine\": 1, \"threads\": 2, \"rung\": \"ééééééééé\"}", "rung");
}

static void the_path_is_found(void **unused)
{
    (void)unused;
    char path[64];
    struct sluice_err err = {0};
    setenv("HOME", "/home/a", 1);
    setenv("XDG_CACHE_HOME", "relative", 1); /* to be ignored, says the specification */
    unsetenv("SLUICE_MACHINE");
    assert_int_equal(sl_machine_path(path, sizeof path, &err), 0);
    assert_string_equal(path, "/home/a/.cache/sluice/machine.json");
    setenv("XDG_CACHE_HOME", "/x", 1);
    assert_int_equal(sl_machine_path(path, sizeof path, &err), 0);
    assert_string_equal(path, "/x/sluice/machine.json");
    setenv("SLUICE_MACHINE", "here", 1);
    assert_int_equal(sl_machine_path(path, sizeof path, &err), 0);
    assert_string_equal(path, "here");
    assert_int_equal(sl_machine_path(path, 4, &err), SLUICE_EARG);
    unsetenv("SLUICE_MACHINE");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    assert_int_equal(sl_machine_path(path, sizeof path, &err), SLUICE_EARG);
}

static void unknown_rates_are_typical(void **unused)
{
    struct sl_machine m = sl_machine_typical;
    char names[160];
    (void)unused;
    m.attend = 0;
    m.lut4_few[5] = 0;
    m.drive_uring = 0; /* the other reader is known */
    sl_machine_fill(&m, names, sizeof names);
    assert_string_equal(names, "attend, lut4_7");
    assert_true(m.attend == sl_machine_typical.attend);
    assert_true(m.lut4_few[5] == sl_machine_typical.lut4_few[5]);
    assert_true(m.drive_uring == 0);
    m.drive_pread = 0;
    sl_machine_fill(&m, names, 8);
    assert_string_equal(names, "drive_p");
    assert_true(m.drive_pread > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(the_path_is_found),
        cmocka_unit_test(unknown_rates_are_typical),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
