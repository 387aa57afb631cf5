/* SPDX-License-Identifier: MIT */
/*
 * runtime/stream: both readers deliver the bytes that were written and nothing else, name damage,
 * refuse bad layouts, and leave neither files nor threads behind.  Works on a container of two
 * expert files that it writes by hand.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/err.h"
#include "runtime/stream/stream.h"
#include "tests/unit/scratch.h"
#include "tests/unit/stores.h"

/* ---- stores --------------------------------------------------------------------------------- */

static const enum sluice_reader kinds[2] = {SLUICE_READER_MEMORY, SLUICE_READER_PREAD};

/* With as many slots as blocks. */
static struct sl_experts *open_wave(unsigned first, unsigned n, enum sluice_reader kind,
                                    size_t wave)
{
    const struct sl_experts_opts opts = {
        .reader = kind, .wave = wave, .slots = (uint32_t)wave, .stages = SL_STAGES_MIN};
    return open_store(first, n, &opts);
}

static int by_id(const void *a, const void *b)
{
    return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : 1;
}

/* Of different ids in any order. */
static void fetch(struct sl_experts *x, const struct layer *l, const uint32_t *any, size_t n)
{
    uint32_t ids[SL_WAVE_MAX];
    memcpy(ids, any, n * sizeof *ids);
    qsort(ids, n, sizeof *ids, by_id);
    const uint8_t *blocks[SL_WAVE_MAX] = {NULL};
    struct sluice_err err = {0};
    if (sl_experts_fetch(x, l->number, ids, n, blocks, &err) != 0)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < n; i++)
        expect_block(l, ids[i], blocks[i]);
    for (size_t i = n; i < SL_WAVE_MAX; i++)
        assert_null(blocks[i]);
}

static void delivers_every_expert(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct sl_experts *x = open_wave(3, 2, kinds[k], SL_WAVE_MAX);
        uint64_t bytes = 0, fetched = 0;
        assert_string_equal(sl_experts_reader(x), k ? "pread" : "memory");
        assert_int_equal(sl_experts_wave(x), SL_WAVE_MAX);
        for (int l = 0; l < 2; l++) {
            const struct sl_expert_layout *layout = sl_experts_layout(x, layers[l].number);
            assert_int_equal(sl_experts_count(x, layers[l].number), layers[l].experts);
            assert_int_equal(layout->stride, layers[l].stride);
            assert_int_equal(layout->chunks, l ? 3 : 1);
            for (uint32_t e = 0; e < layers[l].experts; e++)
                fetch(x, &layers[l], &e, 1);
            bytes += layers[l].experts * layers[l].stride;
            fetched += layers[l].experts;
        }
        assert_int_equal(sl_experts_use(x).bytes_read, k ? bytes : 0);
        assert_int_equal(sl_experts_use(x).misses, k ? fetched : 0);
        assert_int_equal(sl_experts_use(x).hits, k ? 0 : fetched);
        sl_experts_close(&x);
        assert_null(x);
        sl_experts_close(&x);
    }
}

/* Waves of every length, ids in any order, again and again, between the layers. */
static void delivers_waves(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct sl_experts *x = open_wave(3, 2, kinds[k], SL_WAVE_MAX);
        uint32_t ids[SL_WAVE_MAX];
        for (uint32_t n = 1; n <= SL_WAVE_MAX; n++) {
            for (uint32_t i = 0; i < n; i++) /* 27 and 80 have no common divisor: no id twice */
                ids[i] = (n * 7 + i * 27) % 80;
            fetch(x, small, ids, n);
            if (n % 8)
                continue;
            for (uint32_t i = 0; i < 7; i++)
                ids[i] = (n + i * 3) % 7;
            fetch(x, large, ids, 1 + n / 8 % 7);
            fetch(x, large, ids, 1 + n / 8 % 7); /* repeated */
        }
        fetch(x, small, ids, 0);
        sl_experts_close(&x);
    }
}

static void limits_the_wave(void **state)
{
    static const size_t waves[][2] = {{0, 1}, {1, 1}, {8, 8}, {64, 64}, {65, 64}, {1 << 30, 64}};
    (void)state;
    for (size_t i = 0; i < sizeof waves / sizeof *waves; i++)
        for (int k = 0; k < 2; k++) {
            struct sl_experts *x = open_wave(3, 1, kinds[k], waves[i][0]);
            assert_int_equal(sl_experts_wave(x), waves[i][1]);
            uint32_t ids[SL_WAVE_MAX];
            for (uint32_t e = 0; e < waves[i][1]; e++)
                ids[e] = 79 - e;
            fetch(x, small, ids, waves[i][1]);
            sl_experts_close(&x);
        }
}

static void opens_part_of_the_layers(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        const uint32_t id = 6;
        struct sl_experts *x = open_wave(4, 1, kinds[k], 2);
        fetch(x, large, &id, 1);
        sl_experts_close(&x);
        x = open_wave(0, 0, kinds[k], 2); /* a model without experts */
        sl_experts_close(&x);
    }
}

/* ---- damage --------------------------------------------------------------------------------- */

static void expect_damage(struct sl_experts *x, const struct layer *l, const uint32_t *ids,
                          size_t n, const char *part)
{
    const uint8_t *blocks[SL_WAVE_MAX];
    struct sluice_err err = {0};
    assert_int_equal(sl_experts_fetch(x, l->number, ids, n, blocks, &err), SLUICE_EDAMAGED);
    assert_int_equal(err.code, SLUICE_EDAMAGED);
    expect_text(err.msg, part);
    expect_text(err.msg, at(l->name));
    assert_int_equal(sl_experts_fetch(x, l->number, ids, n, blocks, NULL), SLUICE_EDAMAGED);
}

static void names_damaged_chunks(void **state)
{
    static const struct {
        const struct layer *layer;
        uint32_t expert;
        size_t byte;
        const char *part;
    } cases[] = {
        {&layers[1], 2, (2 << 20) + 131071, "layer 4, expert 2, chunk 3 of 3: "},
        {&layers[1], 2, 2 << 20, "layer 4, expert 2, chunk 3 of 3: "},
        {&layers[1], 0, 0, "layer 4, expert 0, chunk 1 of 3: "},
        {&layers[1], 6, (2 << 20) - 1, "layer 4, expert 6, chunk 2 of 3: "},
        {&layers[0], 79, 8191, "layer 3, expert 79, chunk 1 of 1: "},
        {&layers[0], 0, 5000, "layer 3, expert 0, chunk 1 of 1: "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int k = 0; k < 2; k++) {
            const struct layer *l = cases[i].layer;
            size_t byte = offset_of(l, cases[i].expert, cases[i].byte);
            uint32_t good[3] = {(cases[i].expert + 3) % l->experts,
                                (cases[i].expert + 2) % l->experts,
                                (cases[i].expert + 1) % l->experts};
            uint32_t wave[3] = {good[0], cases[i].expert, good[1]};
            flip(l->name, byte, 3);
            struct sl_experts *x = open_wave(3, 2, kinds[k], 4);
            expect_damage(x, l, &cases[i].expert, 1, cases[i].part);
            fetch(x, l, good, 3);
            expect_damage(x, l, wave, 3, cases[i].part);
            fetch(x, l, good, 3);
            expect_damage(x, l, wave, 3, cases[i].part); /* it is not taken for checked */
            flip(l->name, byte, 3);                      /* repaired: the store need not know */
            fetch(x, l, wave, 3);
            sl_experts_close(&x);
        }
}

/* Two damaged experts of one wave: one of them is named, and nothing is left under way. */
static void survives_much_damage(void **state)
{
    uint32_t ids[SL_WAVE_MAX];
    (void)state;
    for (uint32_t e = 0; e < SL_WAVE_MAX; e++) {
        ids[e] = e;
        if (e % 2)
            flip(small->name, offset_of(small, e, e), 0);
    }
    for (int k = 0; k < 2; k++) {
        struct sl_experts *x = open_wave(3, 2, kinds[k], SL_WAVE_MAX);
        for (int round = 0; round < 20; round++)
            expect_damage(x, small, ids, SL_WAVE_MAX, "layer 3, expert ");
        const uint32_t even[] = {62, 0, 64, 30, 2};
        fetch(x, small, even, 5);
        sl_experts_close(&x);
    }
    put_layer(small);
}

/* Only the pread reader promises an error; a mapping would fault. */
static void survives_truncation_after_opening(void **state)
{
    const uint32_t first = 0, last = 6;
    const uint8_t *blocks[2];
    (void)state;
    struct sl_experts *x = open_wave(3, 2, SLUICE_READER_PREAD, 4);
    const size_t cuts[2] = {offset_of(large, 6, (1 << 20) + 17), 0};
    for (int i = 0; i < 2; i++) {
        struct sluice_err err = {0};
        assert_int_equal(truncate(at(large->name), (off_t)cuts[i]), 0);
        const uint32_t ids[2] = {first, last};
        assert_int_equal(sl_experts_fetch(x, 4, ids, 2, blocks, &err), SLUICE_EFORMAT);
        assert_int_equal(err.code, SLUICE_EFORMAT);
        expect_text(err.msg, "truncated");
        expect_text(err.msg, at(large->name));
        if (i == 0)
            fetch(x, large, &first, 1);
        fetch(x, small, &last, 1);
    }
    sl_experts_close(&x);
    put_layer(large);
}

/* ---- opening -------------------------------------------------------------------------------- */

static void expect_refusal(int code, const char *part)
{
    struct sl_manifest *m;
    struct sluice_err err = {0};
    if (sl_manifest_open(&m, root, &err) != 0)
        fail_msg("%s", err.msg);
    for (int k = 0; k < 2; k++) {
        struct sl_experts *x;
        err = (struct sluice_err){0};
        int status = open_experts(&x, root, m, 3, 2, kinds[k], 4, &err);
        if (status != code)
            fail_msg("%d, %d wanted for %s: %s", status, code, part, err.msg);
        assert_null(x);
        assert_int_equal(err.code, code);
        expect_text(err.msg, large->name);
        expect_text(err.msg, part);
        assert_int_equal(open_experts(&x, root, m, 3, 2, kinds[k], 4, NULL), code);
    }
    sl_manifest_close(&m);
}

static void expect_bad_form(struct file_form f, int code, const char *part)
{
    put_experts(large, &f);
    put_manifest(0, true);
    expect_refusal(code, part);
}

#define BAD(member, value, code, part)                                                             \
    do {                                                                                           \
        struct file_form f = form_of(large);                                                       \
        f.member = value;                                                                          \
        expect_bad_form(f, code, part);                                                            \
    } while (0)

static void refuses_bad_layouts(void **state)
{
    static const char huge[] = "panel16 f32 rows=16777216 cols=16777216 count=1";
    (void)state;
    BAD(gate_up, "panel16 f32 rows=512 cols=1056 count=1", SLUICE_EFORMAT, "tensor experts is not");
    BAD(gate_up, "panel16 f32 rows=496 cols=1024 count=1", SLUICE_EFORMAT, "tensor experts is not");
    BAD(down, "panel16 f32 rows=1024 cols=64 count=1", SLUICE_EFORMAT, "tensor experts is not");
    BAD(down, huge, SLUICE_EFORMAT, "tensor experts is not");
    BAD(down, NULL, SLUICE_EFORMAT, "pack:down: no packing descriptor");
    BAD(down, "panel16 f32 rows=0 cols=64 count=1", SLUICE_EFORMAT, "pack:down");
    BAD(gate_up, "panel16 int3 rows=1 cols=1 count=1", SLUICE_EUNSUPPORTED, "pack:gate_up");
    BAD(gate_up, "", SLUICE_EUNSUPPORTED, "pack:gate_up");
    BAD(stride, large->stride - PAGE, SLUICE_EFORMAT, "tensor experts is not");
    BAD(stride, large->stride + PAGE, SLUICE_EFORMAT, "tensor experts is not");
    BAD(experts, 0, SLUICE_EFORMAT, "tensor experts is not");
    BAD(shape_1d, true, SLUICE_EFORMAT, "tensor experts is not");
    BAD(dtype, "I8", SLUICE_EFORMAT, "tensor experts is not");
    BAD(align, 64, SLUICE_EFORMAT, "tensor experts is not");
    BAD(chunks, 2, SLUICE_EFORMAT, "tensor checksums is not U64 [7, 3]");
    BAD(chunks, 4, SLUICE_EFORMAT, "tensor checksums is not U64 [7, 3]");
    BAD(sums_dtype, "I64", SLUICE_EFORMAT, "tensor checksums is not U64 [7, 3]");
    BAD(sums_name, "sums", SLUICE_EFORMAT, "tensor checksums is not U64 [7, 3]");
    put_layer(large);
    put_manifest(0, true);
}

static void compares_with_the_manifest(void **state)
{
    (void)state;
    put_manifest(1, true);
    expect_refusal(SLUICE_EDAMAGED, "wanted");
    put_manifest(0, false);
    expect_refusal(SLUICE_EFORMAT, "does not list");
    put_manifest(0, true);
    flip(large->name, size_of(large->name) - 1, 7); /* in the checksum table */
    expect_refusal(SLUICE_EDAMAGED, "checksum table of layer 4");
    flip(large->name, size_of(large->name) - 1, 7);
    const size_t version = 8 + sizeof "{'__metadata__':{'sluice':'" - 1; /* in the header */
    flip(large->name, version, 0);
    expect_refusal(SLUICE_EDAMAGED, "header or checksum table of layer 4");
    flip(large->name, version, 0);
    assert_int_equal(rename(at(large->name), at("elsewhere")), 0);
    expect_refusal(SLUICE_EFORMAT, "cannot open");
    assert_int_equal(rename(at("elsewhere"), at(large->name)), 0);
    assert_int_equal(truncate(at(large->name), (off_t)size_of(large->name) - 1), 0);
    expect_refusal(SLUICE_EFORMAT, "truncated");
    put_layer(large);
    struct sl_experts *x = open_wave(3, 2, SLUICE_READER_MEMORY, 1);
    sl_experts_close(&x);
}

/* ---- what is left behind -------------------------------------------------------------------- */

static unsigned entries(const char *dir)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static unsigned threads_at_first;

static void expect_first_threads(void)
{
    const struct timespec pause = {0, 1000000};
    for (int i = 0; i < 2000 && entries("/proc/self/task") != threads_at_first; i++)
        nanosleep(&pause, NULL);
    assert_int_equal(entries("/proc/self/task"), threads_at_first);
}

static void leaves_nothing_behind(void **state)
{
    const uint32_t ids[3] = {5, 1, 3};
    struct sl_manifest *m;
    (void)state;
    if (access("/proc/self/fd", R_OK) != 0 || access("/proc/self/task", R_OK) != 0)
        skip();
    unsigned files = entries("/proc/self/fd");
    for (int round = 0; round < 30; round++)
        for (int k = 0; k < 2; k++) {
            struct sl_experts *x = open_wave(3, 2, kinds[k], 3);
            assert_true(entries("/proc/self/fd") > files);
            if (round % 3)
                fetch(x, large, ids, 3);
            sl_experts_close(&x);
            assert_int_equal(entries("/proc/self/fd"), files);
        }
    expect_first_threads();
    assert_int_equal(sl_manifest_open(&m, root, NULL), 0);
    for (int round = 0; round < 30; round++) { /* layer 5 does not exist: the others are closed */
        struct sl_experts *x;
        assert_true(open_experts(&x, root, m, 3, 3, kinds[round % 2], 3, NULL) < 0);
        assert_null(x);
        assert_int_equal(entries("/proc/self/fd"), files);
    }
    sl_manifest_close(&m);
    expect_first_threads();
}

static void *say_id(void *id)
{
    *(pid_t *)id = (pid_t)syscall(SYS_gettid);
    return NULL;
}

/* Threads are counted before the first test, since a joined one may still be listed for a moment,
 * but after one has come and gone: ThreadSanitizer adds a thread of its own then, for good. */
static int count_first_threads(void)
{
    char task[64];
    pthread_t thread;
    pid_t id;
    const struct timespec pause = {0, 1000000};
    if (pthread_create(&thread, NULL, say_id, &id) != 0 || pthread_join(thread, NULL) != 0)
        return -1;
    snprintf(task, sizeof task, "/proc/self/task/%d", (int)id);
    for (int i = 0; i < 2000 && access(task, F_OK) == 0; i++)
        nanosleep(&pause, NULL);
    threads_at_first = entries("/proc/self/task");
    return 0;
}

static int set_up(void **state)
{
    if (access("/proc/self/task", R_OK) == 0 && count_first_threads() != 0)
        return -1;
    return make_container(state);
}

/* ---- sources ------------------------------------------------------------------------------- */

static int make_block(void *user, unsigned layer, uint32_t expert, uint8_t *block,
                      struct sluice_err *err)
{
    size_t *made = user;
    ++*made;
    if (expert == 5)
        return sl_fail(err, SLUICE_EIO, "expert 5 of layer %u is the bad one", layer);
    memset(block, (int)expert, 3 * PAGE);
    return 0;
}

static void makes_blocks(void **state)
{
    size_t made = 0;
    struct sl_experts *x;
    struct sluice_err err = {0};
    const struct sl_expert_source source = {
        .user = &made, .layer = 9, .n_experts = 8, .layout.stride = 3 * PAGE, .make = make_block};
    const uint32_t ids[] = {2, 7}, bad[] = {1, 5, 6};
    const uint8_t *blocks[3];
    (void)state;
    assert_int_equal(sl_experts_open_source(&x, &source, 3, &err), 0);
    assert_int_equal(sl_experts_wave(x), 3);
    assert_int_equal(sl_experts_count(x, 9), 8);
    assert_int_equal(sl_experts_layout(x, 9)->stride, 3 * PAGE);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(sl_experts_fetch(x, 9, ids, 2, blocks, &err), 0);
        for (size_t i = 0; i < 2; i++)
            for (size_t at = 0; at < 3 * PAGE; at++)
                assert_int_equal(blocks[i][at], ids[i]);
    }
    assert_int_equal(made, 4);
    assert_int_equal(sl_experts_fetch(x, 9, bad, 3, blocks, &err), SLUICE_EIO);
    assert_int_equal(made, 6); /* nothing after the failure */
    expect_text(err.msg, "expert 5 of layer 9");
    sl_experts_close(&x);
    assert_null(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delivers_every_expert),
        cmocka_unit_test(delivers_waves),
        cmocka_unit_test(limits_the_wave),
        cmocka_unit_test(opens_part_of_the_layers),
        cmocka_unit_test(names_damaged_chunks),
        cmocka_unit_test(survives_much_damage),
        cmocka_unit_test(survives_truncation_after_opening),
        cmocka_unit_test(refuses_bad_layouts),
        cmocka_unit_test(compares_with_the_manifest),
        cmocka_unit_test(leaves_nothing_behind),
        cmocka_unit_test(makes_blocks),
    };
    return cmocka_run_group_tests(tests, set_up, remove_root);
}
