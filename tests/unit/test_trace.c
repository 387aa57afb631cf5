/* SPDX-License-Identifier: MIT */
/* Traces of router choices: what is written is read, and nothing else is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "tests/unit/scratch.h"
#include "tools/common/trace.h"

static const struct sl_trace_model model = {.layers = 5, .dense = 2, .experts = 300, .used = 3};

/* The choice for a token and layer: ascending, and never the same twice in a row. */
static void choose(uint32_t position, uint32_t layer, uint32_t *experts)
{
    for (uint32_t i = 0; i < 3; i++)
        experts[i] = i * 100 + (position * 7 + layer * 13 + i) % 100;
}

static void write_trace(const char *path, uint32_t positions)
{
    struct sl_trace_writer *w;
    struct sluice_err err = {0};
    uint32_t experts[3];
    assert_int_equal(sl_trace_create(&w, path, &model, &err), 0);
    for (uint32_t p = 0; p < positions; p++)
        for (uint32_t layer = 2; layer < 5; layer++) {
            choose(p, layer, experts);
            sl_trace_write(w, &(struct sl_trace_route){p >= 10, p, layer, experts});
        }
    assert_int_equal(sl_trace_finish(&w, &err), 0);
    assert_null(w);
}

static void comes_back(void **unused)
{
    (void)unused;
    struct sl_trace *t;
    struct sl_trace_route r;
    struct sluice_err err = {0};
    uint32_t experts[3];
    write_trace(at("good.gz"), 40);
    assert_int_equal(sl_trace_open(&t, at("good.gz"), &err), 0);
    assert_memory_equal(sl_trace_model(t), &model, sizeof model);
    for (uint32_t p = 0; p < 40; p++)
        for (uint32_t layer = 2; layer < 5; layer++) {
            assert_int_equal(sl_trace_next(t, &r, &err), 1);
            choose(p, layer, experts);
            assert_int_equal(r.decode, p >= 10);
            assert_int_equal(r.position, p);
            assert_int_equal(r.layer, layer);
            assert_memory_equal(r.experts, experts, sizeof experts);
        }
    assert_int_equal(sl_trace_next(t, &r, &err), 0);
    assert_int_equal(sl_trace_next(t, &r, &err), 0);
    sl_trace_close(&t);
    assert_null(t);
}

/* An event whose every field is another, and as large as FACTOR makes it. */
static struct sl_trace_event event_of(bool decode, uint64_t factor)
{
    return (struct sl_trace_event){decode,      1,           2,          3,          4,
                                   5,           6,           7 * factor, 8 * factor, 9 * factor,
                                   10 * factor, 11 * factor, 12 * factor};
}

static void events_come_back(void **unused)
{
    (void)unused;
    static const uint64_t factors[] = {0, 1, 5000000000, 700000000000000};
    struct sl_trace_writer *w;
    struct sl_trace *t;
    struct sl_trace_record r;
    struct sluice_err err = {0};
    uint32_t experts[3];
    assert_int_equal(sl_trace_create(&w, at("events.gz"), &model, &err), 0);
    for (uint32_t i = 0; i < 4; i++) {
        struct sl_trace_event e = event_of(i % 2 == 0, factors[i]);
        choose(i, 3, experts);
        sl_trace_write(w, &(struct sl_trace_route){true, i, 3, experts});
        sl_trace_write_event(w, &e);
    }
    assert_int_equal(sl_trace_finish(&w, &err), 0);
    assert_int_equal(sl_trace_open(&t, at("events.gz"), &err), 0);
    for (uint32_t i = 0; i < 4; i++) {
        struct sl_trace_event e = event_of(i % 2 == 0, factors[i]), *got = &r.event;
        assert_int_equal(sl_trace_read(t, &r, &err), 1);
        assert_false(r.is_event);
        assert_int_equal(r.route.position, i);
        assert_int_equal(sl_trace_read(t, &r, &err), 1);
        assert_true(r.is_event);
        assert_true(got->decode == e.decode && got->position == 1 && got->tokens == 2 &&
                    got->layer == 3 && got->memory == 4 && got->read == 5 && got->ahead == 6);
        assert_true(got->bytes == e.bytes && got->before == e.before &&
                    got->resident == e.resident && got->reading == e.reading &&
                    got->rest == e.rest && got->all == e.all);
    }
    assert_int_equal(sl_trace_read(t, &r, &err), 0);
    sl_trace_close(&t);
}

/* The file is what docs/trace.md says, to the letter. */
static void is_readable_text(void **unused)
{
    (void)unused;
    struct sl_trace_writer *w;
    struct sluice_err err;
    const struct sl_trace_event event = event_of(true, 1);
    static const char wanted[] = "sluice-trace 1 layers 5 dense 2 experts 300 used 3\n"
                                 "p 0 2 26 127 228\n"
                                 "p 0 3 39 140 241\n"
                                 "p 0 4 52 153 254\n";
    char text[256];
    write_trace(at("text.gz"), 1);
    gzFile in = gzopen(at("text.gz"), "rb");
    assert_false(gzdirect(in)); /* compressed */
    int n = gzread(in, text, sizeof text);
    gzclose(in);
    assert_int_equal(n, sizeof wanted - 1);
    assert_memory_equal(text, wanted, sizeof wanted - 1);
    assert_int_equal(sl_trace_create(&w, at("text.gz"), &model, &err), 0);
    sl_trace_write_event(w, &event);
    assert_int_equal(sl_trace_finish(&w, &err), 0);
    in = gzopen(at("text.gz"), "rb");
    n = gzread(in, text, sizeof text - 1);
    gzclose(in);
    text[n] = 0;
    expect_text(text, "\ne d 1 2 3 4 5 6 7 8 9 10 11 12\n");
}

/* Reads to the end or to the first error, counting the choices. */
static int drain(const char *path, int *n, struct sluice_err *err)
{
    struct sl_trace *t;
    struct sl_trace_route r;
    int status = sl_trace_open(&t, path, err);
    *n = 0;
    if (status == 0)
        while ((status = sl_trace_next(t, &r, err)) > 0)
            ++*n;
    sl_trace_close(&t);
    return status;
}

#define HEAD "sluice-trace 1 layers 5 dense 2 experts 300 used 3\n"

static void refuses(const char *text, int code, const char *word)
{
    struct sluice_err err = {0};
    int n;
    put_text("bad", text);
    assert_int_equal(drain(at("bad"), &n, &err), code);
    expect_text(err.msg, word);
    expect_text(err.msg, "bad");
}

static void nonsense_is_refused(void **unused)
{
    (void)unused;
    refuses("", SLUICE_EFORMAT, "no trace");
    refuses("p 0 2 1 2 3\n", SLUICE_EFORMAT, "no trace");
    refuses("sluice-trace 2 routes\n", SLUICE_EVERSION, "version 2");
    refuses("sluice-trace 1 layers 5 dense 2 experts 300\n", SLUICE_EFORMAT, "line 1");
    refuses("sluice-trace 1 layers 5 dense 5 experts 300 used 3\n", SLUICE_EFORMAT, "line 1");
    refuses("sluice-trace 1 layers 5 dense 2 experts 3 used 4\n", SLUICE_EFORMAT, "line 1");
    refuses("sluice-trace 1 layers 5 dense 2 experts 300 used 0\n", SLUICE_EFORMAT, "line 1");
    refuses("sluice-trace 1 layers 99999999999999999999 dense 2 experts 300 used 3\n",
            SLUICE_EFORMAT, "line 1");
    refuses(HEAD "p 0 2 1 2 3", SLUICE_EFORMAT, "cut off");
    refuses(HEAD "p 0 2 1 2\n", SLUICE_EFORMAT, "line 2");
    refuses(HEAD "p 0 2 1 2 3 4\n", SLUICE_EFORMAT, "line 2");
    refuses(HEAD "p 0 2 1 2 3 \n", SLUICE_EFORMAT, "line 2");
    refuses(HEAD "p 0 2 1 2  3\n", SLUICE_EFORMAT, "line 2");
    refuses(HEAD "p 0 2 1 2 -3\n", SLUICE_EFORMAT, "line 2");
    refuses(HEAD "p 0 2 1 3 2\n", SLUICE_EFORMAT, "ascending");
    refuses(HEAD "p 0 2 1 2 2\n", SLUICE_EFORMAT, "ascending");
    refuses(HEAD "p 0 2 1 2 300\n", SLUICE_EFORMAT, "below 300");
    refuses(HEAD "d 0 1 1 2 3\n", SLUICE_EFORMAT, "from 2 to 4");
    refuses(HEAD "d 0 5 1 2 3\n", SLUICE_EFORMAT, "from 2 to 4");
    refuses(HEAD "p 4294967296 2 1 2 3\n", SLUICE_EFORMAT, "line 2");
    refuses(HEAD "e d 0 1 2 0 0 0 0 0 0 0 0\n", SLUICE_EFORMAT, "5 times");
    refuses(HEAD "e d 0 1 2 0 0 0 0 0 0 0 0 0 0\n", SLUICE_EFORMAT, "5 times");
    refuses(HEAD "e x 0 1 2 0 0 0 0 0 0 0 0 0\n", SLUICE_EFORMAT, "p or d");
    refuses(HEAD "e p 0 0 2 0 0 0 0 0 0 0 0 0\n", SLUICE_EFORMAT, "tokens");
    refuses(HEAD "e p 0 1 1 0 0 0 0 0 0 0 0 0\n", SLUICE_EFORMAT, "from 2 to 4");
    refuses(HEAD "e p 0 1 2 301 0 0 0 0 0 0 0 0\n", SLUICE_EFORMAT, "up to 300");
    refuses(HEAD "e p 0 1 2 0 0 0 18446744073709551617 0 0 0 0 0\n", SLUICE_EFORMAT, "line 2");
    refuses(HEAD "e\n", SLUICE_EFORMAT, "line 2");
    refuses(HEAD "e \n", SLUICE_EFORMAT, "line 2");
    refuses(HEAD "\n", SLUICE_EFORMAT, "line 2");
    refuses(HEAD "P 0 2 1 2 3\n", SLUICE_EFORMAT, "line 2");
}

static void other_records_are_skipped(void **unused)
{
    (void)unused;
    struct sluice_err err = {0};
    int n;
    put_text("newer", HEAD "p 0 2 1 2 3\nm 0 2 77\nx\nd 1 2 1 2 3\n");
    assert_int_equal(drain(at("newer"), &n, &err), SLUICE_EFORMAT); /* "x" alone is no record */
    put_text("newer", HEAD "p 0 2 1 2 3\nm 0 2 77\ne d 0 1 2 0 3 0 9 1 2 3 4 5\nd 1 2 1 2 3\n");
    assert_int_equal(drain(at("newer"), &n, &err), 0);
    assert_int_equal(n, 2);
}

static void long_lines_and_zeros_are_refused(void **unused)
{
    (void)unused;
    enum { LONG = 1 << 17 };
    struct sluice_err err = {0};
    int n;
    char *text = malloc(LONG);
    memset(text, '1', LONG);
    memcpy(text, HEAD "p ", sizeof HEAD + 1);
    put("long", text, LONG);
    assert_int_equal(drain(at("long"), &n, &err), SLUICE_EFORMAT);
    expect_text(err.msg, "longer than");
    put("zero", HEAD "p 0 2 1 2\0 3\n", sizeof HEAD + 12);
    assert_int_equal(drain(at("zero"), &n, &err), SLUICE_EFORMAT);
    expect_text(err.msg, "line 2");
    free(text);
}

/* Cut at any byte, a compressed trace never passes for a whole one. */
static void truncation_is_seen(void **unused)
{
    (void)unused;
    struct sluice_err err = {0};
    int n;
    write_trace(at("whole.gz"), 60);
    size_t size = size_of("whole.gz");
    char *data = malloc(size);
    FILE *f = fopen(at("whole.gz"), "rb");
    assert_int_equal(fread(data, 1, size, f), size);
    fclose(f);
    for (size_t len = 0; len < size; len++) {
        put("cut.gz", data, len);
        assert_true(drain(at("cut.gz"), &n, &err) < 0);
    }
    free(data);
}

/* A flipped bit behind gzip's header never changes a choice unnoticed. */
static void damage_is_seen(void **unused)
{
    (void)unused;
    struct sluice_err err = {0};
    int n;
    write_trace(at("hurt.gz"), 60);
    for (size_t byte = 10; byte < size_of("hurt.gz"); byte++) {
        flip("hurt.gz", byte, (int)(byte % 8));
        assert_true(drain(at("hurt.gz"), &n, &err) < 0);
        flip("hurt.gz", byte, (int)(byte % 8));
    }
    assert_int_equal(drain(at("hurt.gz"), &n, &err), 0);
    assert_int_equal(n, 180);
}

static void a_full_drive_is_told(void **unused)
{
    (void)unused;
    struct sl_trace_writer *w;
    struct sluice_err err = {0};
    uint32_t experts[3];
    assert_int_equal(sl_trace_create(&w, at("no/such/folder"), &model, &err), SLUICE_EIO);
    assert_null(w);
    for (uint32_t positions = 1; positions < 100000; positions *= 300) { /* at closing; before */
        if (sl_trace_create(&w, "/dev/full", &model, &err) < 0)
            skip();
        for (uint32_t p = 0; p < positions; p++) {
            choose(p, 2, experts);
            sl_trace_write(w, &(struct sl_trace_route){false, p, 2, experts});
        }
        assert_int_equal(sl_trace_finish(&w, &err), SLUICE_ENOSPC);
        expect_text(err.msg, "/dev/full");
    }
    assert_int_equal(sl_trace_finish(&w, &err), 0); /* NULL */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),
        cmocka_unit_test(events_come_back),
        cmocka_unit_test(is_readable_text),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(other_records_are_skipped),
        cmocka_unit_test(long_lines_and_zeros_are_refused),
        cmocka_unit_test(truncation_is_seen),
        cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(a_full_drive_is_told),
    };
    return cmocka_run_group_tests_name("trace", tests, make_root, remove_root);
}
