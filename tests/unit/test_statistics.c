/* SPDX-License-Identifier: MIT */
/* The line at the end of an answer, and the same as JSON. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "tools/common/drive_name.h"
#include "tools/common/statistics.h"

static const struct sl_machine machine = {
    .measured = true, .memory_all = 40e9, .drive_pread = 2e9, .memory_one = 1, .drive_uring = 4e9};

/* 41 tokens in 10 s touch 284 GB and read 17.6 GB: 71 % and 88 % of the machine. */
static void make_stats(struct sluice_stats *prompt, struct sluice_stats *end)
{
    *prompt = (struct sluice_stats){
        .prefill_tokens = 812,
        .prefill_seconds = 14.2,
        .expert_hits = 1000,
        .expert_misses = 7000,
        .expert_bytes = 1 << 30,
        .kv_bytes = 1234,
        .multiplier = "kernels",
        .part_bytes = {[SLUICE_PART_PROJECTIONS] = 5000, [SLUICE_PART_HEAD] = 7},
    };
    *end = *prompt;
    end->decode_tokens = 41;
    end->decode_seconds = 10;
    end->expert_hits += 914;
    end->expert_misses += 86;
    end->expert_bytes += 17600000000;
    end->part_bytes[SLUICE_PART_PROJECTIONS] += 84000000000;
    end->part_bytes[SLUICE_PART_EXPERTS] += 200000000000;
}

static void expect_line(const struct sl_answer *a, const char *wanted)
{
    char line[512];
    sl_answer_print(a, line, sizeof line);
    assert_string_equal(line, wanted);
}

static void whole_line(void **unused)
{
    (void)unused;
    struct sluice_stats prompt, end;
    make_stats(&prompt, &end);
    struct sl_answer a = sl_answer_make(&prompt, &end, 42, "pread", &machine);
    expect_line(&a, "42 tok · 4.1 tok/s · prefill 812 tok 14.2 s · RAM 71 % · NVMe 88 % · experts "
                    "91.4 % hit, 16.4 GiB read");
    a = sl_answer_make(&prompt, &end, 42, "pread", &sl_machine_typical); /* not measured */
    expect_line(&a, "42 tok · 4.1 tok/s · prefill 812 tok 14.2 s · RAM 28.4 GB/s · NVMe 1.8 GB/s · "
                    "experts 91.4 % hit, 16.4 GiB read");
}

static void tells_how_experts_were_kept(void **unused)
{
    (void)unused;
    struct sluice_stats prompt, end;
    make_stats(&prompt, &end);
    prompt.expert_slots = 40;
    end.expert_slots = 31;
    end.expert_misses -= 43; /* half of them were guessed */
    end.expert_ahead += 43;
    end.guessing = -1;
    end.guess_seconds[0] = 0.8;
    end.guess_seconds[1] = 1.0;
    struct sl_answer a = sl_answer_make(&prompt, &end, 42, "pread", &machine);
    expect_line(&a, "42 tok · 4.1 tok/s · prefill 812 tok 14.2 s · RAM 71 % · NVMe 88 % · experts "
                    "91.4 % hit, 16.4 GiB read · look-ahead off (+25 % waiting) · memory was "
                    "short: 31 experts per layer kept, of 40");
    json_t *json = sl_answer_json(&a);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "look_ahead")), "off");
    assert_int_equal(json_integer_value(json_object_get(json, "expert_slots")), 31);
    assert_true(fabs(json_real_value(json_object_get(json, "expert_ahead")) - 0.043) < 1e-12);
    json_decref(json);
}

static void tells_what_drafts_gave(void **unused)
{
    (void)unused;
    struct sluice_stats prompt, end;
    make_stats(&prompt, &end);
    end.expert_bytes = prompt.expert_bytes;
    end.expert_misses = prompt.expert_misses;
    end.drafts = 20;
    end.drafts_right = 15;
    struct sl_answer a = sl_answer_make(&prompt, &end, 42, "memory", &machine);
    expect_line(&a,
                "42 tok · 4.1 tok/s · prefill 812 tok 14.2 s · RAM 71 % · experts 100.0 % hit · "
                "drafts trying (75 % right)");
    end.drafting = 1;
    end.draft_seconds[0] = 0.25;
    end.draft_seconds[1] = 0.1785;
    end.draft_experts[0] = 464;
    end.draft_experts[1] = 533.6;
    a = sl_answer_make(&prompt, &end, 42, "memory", &machine);
    expect_line(&a,
                "42 tok · 4.1 tok/s · prefill 812 tok 14.2 s · RAM 71 % · experts 100.0 % hit · "
                "drafts on (75 % right, 250 → 178 ms/tok, +15 % experts)");
    json_t *json = sl_answer_json(&a), *drafts = json_object_get(json, "drafts");
    assert_string_equal(json_string_value(json_object_get(drafts, "state")), "on");
    assert_int_equal(json_integer_value(json_object_get(drafts, "made")), 20);
    assert_int_equal(json_integer_value(json_object_get(drafts, "right")), 15);
    assert_true(json_real_value(json_object_get(drafts, "seconds_without")) == 0.25);
    assert_true(json_real_value(json_object_get(drafts, "seconds_with")) == 0.1785);
    assert_true(json_real_value(json_object_get(drafts, "experts_without")) == 464);
    assert_true(json_real_value(json_object_get(drafts, "experts_with")) == 533.6);
    json_decref(json);
    end.drafting = -1;
    a = sl_answer_make(&prompt, &end, 42, "memory", &machine);
    assert_int_equal(a.drafting, -1);
    end.drafts = end.drafts_right = 0;
    a = sl_answer_make(&prompt, &end, 42, "memory", &machine);
    json = sl_answer_json(&a);
    assert_true(json_is_null(json_object_get(json, "drafts")));
    json_decref(json);
}

static void parts_that_do_not_apply_are_left_out(void **unused)
{
    (void)unused;
    struct sluice_stats prompt, end;
    make_stats(&prompt, &end);
    struct sl_answer a = sl_answer_make(&prompt, &prompt, 1, "pread", &machine);
    expect_line(&a, "1 tok · prefill 812 tok 14.2 s");
    a.prefill_seconds = 200;
    expect_line(&a, "1 tok · prefill 812 tok 3 min 20 s");
    a.reused_tokens = 30;
    expect_line(&a, "1 tok · prefill 812 tok 3 min 20 s, 30 reused");
    a.reused_tokens = 0;
    a.multiplier = "oneDNN 3.2.0, brg:x";
    a.multiplier_products = 2;
    expect_line(&a, "1 tok · prefill 812 tok 3 min 20 s by oneDNN 3.2.0, brg:x");
    end.expert_bytes = prompt.expert_bytes; /* all in memory */
    end.expert_misses = prompt.expert_misses;
    a = sl_answer_make(&prompt, &end, 42, "memory", &machine);
    expect_line(&a, "42 tok · 4.1 tok/s · prefill 812 tok 14.2 s · RAM 71 % · experts 100.0 % hit");
    end.expert_hits = prompt.expert_hits; /* no experts at all */
    a = sl_answer_make(&prompt, &end, 42, "none", &machine);
    expect_line(&a, "42 tok · 4.1 tok/s · prefill 812 tok 14.2 s · RAM 71 %");
}

static void a_short_room_cuts_the_line(void **unused)
{
    (void)unused;
    struct sluice_stats prompt, end;
    char line[16];
    memset(line, 'x', sizeof line);
    make_stats(&prompt, &end);
    struct sl_answer a = sl_answer_make(&prompt, &end, 42, "pread", &machine);
    sl_answer_print(&a, line, 10);
    assert_non_null(memchr(line, 0, 10));
    assert_int_equal(line[10], 'x');
}

/* 2 GB/s were measured for pread and 4 GB/s for io_uring. */
static void slow_drives_are_named(void **unused)
{
    (void)unused;
    struct sluice_stats prompt, end;
    make_stats(&prompt, &end);
    struct sl_answer a = sl_answer_make(&prompt, &prompt, 1, "pread", &machine);
    sl_answer_add_drive(&a, "nvme0n1", 4100000000, 3);
    sl_answer_add_drive(&a, "nvme1n1", 4300000000, 3);
    sl_answer_add_drive(&a, "nvme2n1", 100, 1.9);
    expect_line(&a, "1 tok · prefill 812 tok 14.2 s · nvme0n1 gives 68 % of its speed: too hot?");
    a = sl_answer_make(&prompt, &prompt, 1, "uring", &machine);
    sl_answer_add_drive(&a, "nvme1n1", 4300000000, 3);
    expect_line(&a, "1 tok · prefill 812 tok 14.2 s · nvme1n1 gives 36 % of its speed: too hot?");
    a = sl_answer_make(&prompt, &prompt, 1, "uring", &sl_machine_typical); /* not measured */
    sl_answer_add_drive(&a, "nvme1n1", 1, 3);
    expect_line(&a, "1 tok · prefill 812 tok 14.2 s");
    for (int i = 0; i < 2 * SL_ANSWER_DRIVES; i++)
        sl_answer_add_drive(&a, "x", 1, 1);
    assert_int_equal(a.n_drives, SL_ANSWER_DRIVES);
}

/* As /sys has it: links by number; a partition lies in its drive. */
static void drives_have_names(void **unused)
{
    (void)unused;
    static const char *const folders[] = {
        "dev",        "dev/block", "devices", "devices/nvme0n1", "devices/nvme0n1/nvme0n1p2",
        "devices/md0"};
    char name[32];
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        assert_int_equal(mkdir(at(folders[i]), 0700), 0);
    put_text("devices/nvme0n1/nvme0n1p2/partition", "2\n");
    assert_int_equal(symlink("../../devices/nvme0n1", at("dev/block/259:0")), 0);
    assert_int_equal(symlink("../../devices/nvme0n1/nvme0n1p2", at("dev/block/259:2")), 0);
    assert_int_equal(symlink("../../devices/md0", at("dev/block/9:0")), 0);
    sl_device_name(root, makedev(259, 0), name, sizeof name);
    assert_string_equal(name, "nvme0n1");
    sl_device_name(root, makedev(259, 2), name, sizeof name);
    assert_string_equal(name, "nvme0n1");
    sl_device_name(root, makedev(9, 0), name, sizeof name);
    assert_string_equal(name, "md0");
    sl_device_name(root, makedev(0, 31), name, sizeof name); /* a file system without a drive */
    assert_string_equal(name, "the drive");
}

static double number(const json_t *object, const char *key)
{
    assert_true(json_is_number(json_object_get(object, key)));
    return json_number_value(json_object_get(object, key));
}

static void the_object_has_the_same(void **unused)
{
    (void)unused;
    struct sluice_stats prompt, end;
    make_stats(&prompt, &end);
    end.multiplier_products = 9;
    prompt.reused_tokens = 31;
    struct sl_answer a = sl_answer_make(&prompt, &end, 42, "pread", &machine);
    sl_answer_add_drive(&a, "sda", 3000000000, 2);
    json_t *o = sl_answer_json(&a);
    assert_int_equal(number(o, "tokens"), 42);
    assert_true(fabs(number(o, "tps") - 4.1) < 1e-12);
    assert_int_equal(number(o, "prefill_tokens"), 812);
    assert_true(fabs(number(o, "prefill_seconds") - 14.2) < 1e-12);
    assert_int_equal(number(o, "decode_tokens"), 41);
    assert_true(fabs(number(o, "decode_seconds") - 10) < 1e-12);
    assert_true(fabs(number(o, "mem_gbps") - 28.4) < 1e-12);
    assert_true(fabs(number(o, "mem_fraction") - 0.71) < 1e-12);
    assert_true(fabs(number(o, "io_gbps") - 1.76) < 1e-12);
    assert_true(fabs(number(o, "io_fraction") - 0.88) < 1e-12);
    assert_true(fabs(number(o, "expert_hit") - 0.914) < 1e-12);
    assert_true(number(o, "read_bytes") == 17.6e9);
    assert_true(number(o, "prefill_read_bytes") == (double)(1 << 30));
    assert_int_equal(number(o, "kv_bytes"), 1234);
    assert_string_equal(json_string_value(json_object_get(o, "reader")), "pread");
    assert_string_equal(json_string_value(json_object_get(o, "multiplier")), "kernels");
    assert_int_equal(number(o, "multiplier_products"), 9);
    assert_int_equal(number(o, "reused_tokens"), 31);
    assert_int_equal(json_array_size(json_object_get(o, "drives")), 1);
    const json_t *drive = json_array_get(json_object_get(o, "drives"), 0);
    assert_string_equal(json_string_value(json_object_get(drive, "name")), "sda");
    assert_true(number(drive, "read_bytes") == 3e9);
    assert_true(number(drive, "read_seconds") == 2);
    assert_true(number(drive, "gbps") == 1.5);
    assert_true(number(drive, "fraction") == 0.75);
    json_decref(o);
    a = sl_answer_make(&prompt, &prompt, 1, "none", &sl_machine_typical);
    o = sl_answer_json(&a);
    static const char *const nulls[] = {"tps",     "mem_gbps",    "mem_fraction",
                                        "io_gbps", "io_fraction", "expert_hit"};
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        assert_true(json_is_null(json_object_get(o, nulls[i])));
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_line),
        cmocka_unit_test(tells_how_experts_were_kept),
        cmocka_unit_test(tells_what_drafts_gave),
        cmocka_unit_test(parts_that_do_not_apply_are_left_out),
        cmocka_unit_test(a_short_room_cuts_the_line),
        cmocka_unit_test(slow_drives_are_named),
        cmocka_unit_test(drives_have_names),
        cmocka_unit_test(the_object_has_the_same),
    };
    return cmocka_run_group_tests_name("statistics", tests, make_root, remove_root);
}
