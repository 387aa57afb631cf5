/* SPDX-License-Identifier: MIT */
/*
 * runtime/stream/reader*: every byte right from files of every shape, by every engine; and the
 * order of chunks, seen by an engine that the test turns by hand.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/stream/reader_queue.h"
#include "tests/unit/expert_reads.h"
#include "tests/unit/scratch.h"

/* ---- every byte ------------------------------------------------------------------------------ */

static void reads_all(const struct sl_reader_opts *o, const struct sl_expert_file *f, bool halves,
                      uint8_t *blocks)
{
    struct sl_read reads[EXPERTS];
    uint64_t bytes = 0;
    struct sl_reader *r = open_reader(o, f, 1);
    if (!r)
        return;
    assert_int_equal(sl_reader_drives(r), f->n_parts);
    memset(blocks, 0xa5, EXPERTS * f->layout.stride);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        reads[e] = (struct sl_read){.file = f,
                                    .expert = EXPERTS - 1 - e,
                                    .buffer = blocks + e * f->layout.stride,
                                    .ahead = e % 3 == 2,
                                    .halves = halves};
        submit(r, &reads[e]);
    }
    for (uint32_t e = 0; e < EXPERTS; e++)
        expect_done(r, &reads[e]);
    for (unsigned d = 0; d < f->n_parts; d++) {
        struct sl_reader_use use = sl_reader_use(r, d);
        assert_int_equal(use.retries, 0);
        assert_true(use.bytes == 0 || (use.seconds > 0 && use.longest > 0));
        bytes += use.bytes;
    }
    assert_int_equal(bytes, EXPERTS * f->layout.stride);
    sl_reader_close(&r);
    assert_null(r);
}

/* Each shape by each engine: in halves or not, registered or not, with few in flight and many. */
static void brings_every_byte(void **state)
{
    static const unsigned depths[] = {1, 3, 0, 1000};
    (void)state;
    for (int s = 0; s < SHAPES; s++) {
        struct sl_expert_file f;
        open_file(&f, &shapes[s], 3);
        uint8_t *blocks = blocks_for(&f, EXPERTS);
        for (int k = 0; k < KINDS; k++)
            for (int how = 0; how < 4; how++) {
                struct sl_reader_opts o = {.kind = kinds[k],
                                           .depth = depths[(how + s) % 4],
                                           .memory = how & 1 ? blocks : NULL,
                                           .memory_bytes = EXPERTS * shapes[s].stride};
                reads_all(&o, &f, how & 2, blocks);
            }
        free(blocks);
        close_file(&f);
    }
}

/* Two files at once, finished reads replaced by new ones; some buffers lie outside the memory that
 * was registered. */
static void mixes_files(void **state)
{
    enum { AT_ONCE = 12, TOTAL = 200 };
    struct sl_expert_file files[2];
    (void)state;
    open_file(&files[0], &shapes[0], 7);
    open_file(&files[1], &shapes[2], 8);
    uint8_t *blocks = blocks_for(&files[1], AT_ONCE);
    for (int k = 0; k < KINDS; k++) {
        struct sl_read reads[AT_ONCE] = {{0}};
        struct sl_reader_opts o = {
            .kind = kinds[k], .memory = blocks, .memory_bytes = 5 * shapes[2].stride + PAGE};
        struct sl_reader *r = open_reader(&o, files, 2);
        uint64_t seen = 0;
        unsigned submitted = 0, done = 0;
        while (r && done < TOTAL) {
            for (unsigned i = 0; i < AT_ONCE; i++) {
                enum sl_read_state s = sl_reader_state(r, &reads[i]);
                if (is_over(s)) {
                    expect_done(r, &reads[i]);
                    done++;
                }
                if (!is_over(s) && s != SL_READ_IDLE)
                    continue;
                reads[i] = (struct sl_read){.buffer = blocks + i * shapes[2].stride};
                reads[i].file = &files[submitted % 3 == 0];
                reads[i].expert = submitted * 5 % EXPERTS;
                reads[i].halves = submitted % 4 < 2;
                if (submitted++ < TOTAL)
                    submit(r, &reads[i]);
            }
            if (done < TOTAL)
                assert_true(sl_reader_wait(r, &seen, 60));
        }
        sl_reader_close(&r);
    }
    free(blocks);
    close_file(&files[0]);
    close_file(&files[1]);
}

/* ---- an engine turned by hand ---------------------------------------------------------------- */

static struct sl_queue *drives[SL_PARTS_MAX];
static unsigned woken[SL_PARTS_MAX];

static int by_hand_open(struct sl_queue *q, struct sluice_err *err)
{
    (void)err;
    drives[q->drive] = q;
    woken[q->drive] = 0;
    return 0;
}

static void by_hand_wake(struct sl_queue *q)
{
    woken[q->drive]++;
}

static void by_hand_close(struct sl_queue *q)
{
    drives[q->drive] = NULL;
}

static const struct sl_engine by_hand = {.name = "by hand",
                                         .depth = 64,
                                         .open = by_hand_open,
                                         .wake = by_hand_wake,
                                         .close = by_hand_close};

struct hand {
    struct sl_expert_file file;
    struct sl_reader *reader;
    uint8_t *blocks;
    struct sl_read reads[EXPERTS * 2];
    struct sl_flight flights[64];
    unsigned begun;
};

static void open_hand(struct hand *h, const struct shape *s)
{
    *h = (struct hand){0};
    open_file(&h->file, s, 5);
    h->reader = open_reader(&(struct sl_reader_opts){.engine = &by_hand}, &h->file, 1);
    h->blocks = blocks_for(&h->file, EXPERTS * 2);
    for (uint32_t i = 0; i < EXPERTS * 2; i++)
        h->reads[i] = (struct sl_read){.file = &h->file,
                                       .expert = i % EXPERTS,
                                       .buffer = h->blocks + i * s->stride,
                                       .halves = true};
}

static void close_hand(struct hand *h)
{
    sl_reader_close(&h->reader);
    free(h->blocks);
    close_file(&h->file);
}

/* Begins chunks of a drive while there are any, and returns them: "0.1 2.0" is chunk 1 of the first
 * read, chunk 0 of the third. */
static const char *take_all(struct hand *h, unsigned drive)
{
    static char text[512];
    text[0] = 0;
    for (size_t len = 0; sl_queue_take(drives[drive], &h->flights[h->begun]); h->begun++) {
        const struct sl_flight *f = &h->flights[h->begun];
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%d.%d", len ? " " : "",
                                (int)(f->read - h->reads), (int)f->chunk);
        assert_true(h->begun < 63);
    }
    return text;
}

/* Reads a chunk that has begun. */
static void land(struct hand *h, unsigned i)
{
    struct sl_flight *f = &h->flights[i];
    struct sl_queue *q = drives[f->chunk % h->file.n_parts];
    sl_queue_landed(q, f, pread(f->fd, f->data, f->length, (off_t)f->offset));
    sl_queue_finish(q, f);
}

static enum sl_read_state state_of(struct hand *h, unsigned read)
{
    return sl_reader_state(h->reader, &h->reads[read]);
}

static void halves_go_first(void **state)
{
    struct hand h;
    (void)state;
    open_hand(&h, halved); /* chunks 0 and 1 hold gate and up */
    for (int i = 0; i < 3; i++)
        submit(h.reader, &h.reads[i]);
    assert_string_equal(take_all(&h, 0), "0.0 0.1 1.0 1.1 2.0 2.1 0.2 1.2 2.2");
    submit(h.reader, &h.reads[3]);
    assert_string_equal(take_all(&h, 0), "3.0 3.1 3.2");
    close_hand(&h);
}

static void whole_blocks_keep_their_order(void **state)
{
    struct hand h;
    (void)state;
    open_hand(&h, halved);
    for (int i = 0; i < 4; i++) {
        h.reads[i].halves = i == 1;
        submit(h.reader, &h.reads[i]);
    }
    assert_string_equal(take_all(&h, 0), "0.0 0.1 0.2 1.0 1.1 2.0 2.1 2.2 3.0 3.1 3.2 1.2");
    close_hand(&h);
}

/* Panels that meet inside a chunk: it belongs to the first half.  One chunk is a half at once. */
static void halves_end_where_down_begins(void **state)
{
    struct hand h;
    (void)state;
    open_hand(&h, &shapes[2]);
    submit(h.reader, &h.reads[0]);
    submit(h.reader, &h.reads[1]);
    assert_string_equal(take_all(&h, 0), "0.0 0.1 1.0 1.1 0.2 1.2");
    land(&h, 4);
    land(&h, 0);
    assert_int_equal(state_of(&h, 0), SL_READ_UNDER_WAY);
    land(&h, 1);
    assert_int_equal(state_of(&h, 0), SL_READ_DONE);
    land(&h, 3);
    land(&h, 2);
    assert_int_equal(state_of(&h, 1), SL_READ_HALF);
    expect_bytes(&h.reads[1], 2 * MIB);
    land(&h, 5);
    expect_done(h.reader, &h.reads[1]);
    close_hand(&h);
    open_hand(&h, &shapes[0]);
    submit(h.reader, &h.reads[0]);
    assert_string_equal(take_all(&h, 0), "0.0");
    assert_int_equal(state_of(&h, 0), SL_READ_UNDER_WAY);
    land(&h, 0);
    expect_done(h.reader, &h.reads[0]);
    close_hand(&h);
}

static void guesses_give_way(void **state)
{
    struct hand h;
    (void)state;
    open_hand(&h, halved);
    for (int i = 0; i < 4; i++) {
        h.reads[i].ahead = i != 2;
        submit(h.reader, &h.reads[i]);
    }
    /* No more than eight guesses, halves first among them. */
    assert_string_equal(take_all(&h, 0), "2.0 2.1 2.2 0.0 0.1 1.0 1.1 3.0 3.1 0.2 1.2");
    assert_false(sl_queue_take(drives[0], &h.flights[63]));
    land(&h, 0); /* of the demand: makes no room for guesses */
    assert_string_equal(take_all(&h, 0), "");
    land(&h, 3);
    assert_string_equal(take_all(&h, 0), "3.2");
    submit(h.reader, &h.reads[4]); /* not held up by the eight */
    assert_string_equal(take_all(&h, 0), "4.0 4.1 4.2");
    for (unsigned i = 1; i < h.begun; i++)
        if (i != 3)
            land(&h, i);
    for (int i = 0; i < 5; i++)
        expect_done(h.reader, &h.reads[i]);
    close_hand(&h);
}

static void raised_guesses_are_demands(void **state)
{
    struct hand h;
    (void)state;
    open_hand(&h, halved);
    for (int i = 0; i < 6; i++) {
        h.reads[i].ahead = i < 5;
        submit(h.reader, &h.reads[i]);
    }
    sl_reader_raise(h.reader, &h.reads[3]);
    assert_string_equal(take_all(&h, 0), "3.0 3.1 5.0 5.1 3.2 5.2 0.0 0.1 1.0 1.1 2.0 2.1 4.0 4.1");
    sl_reader_raise(h.reader, &h.reads[4]); /* its last chunk waited for the eight */
    assert_string_equal(take_all(&h, 0), "4.2");
    for (unsigned i = 0; i < h.begun; i++)
        land(&h, i);
    expect_done(h.reader, &h.reads[4]);
    sl_reader_raise(h.reader, &h.reads[4]); /* too late to matter */
    assert_string_equal(take_all(&h, 0), "0.2 1.2 2.2");
    close_hand(&h);
}

static void withdrawn_reads_end_when_quiet(void **state)
{
    struct hand h;
    (void)state;
    open_hand(&h, halved);
    submit(h.reader, &h.reads[0]);
    sl_reader_withdraw(h.reader, &h.reads[0]);
    assert_int_equal(state_of(&h, 0), SL_READ_WITHDRAWN);
    assert_string_equal(take_all(&h, 0), "");

    submit(h.reader, &h.reads[1]);
    submit(h.reader, &h.reads[2]);
    for (; h.begun < 5; h.begun++) /* 1.0 1.1 2.0 2.1 1.2 */
        assert_true(sl_queue_take(drives[0], &h.flights[h.begun]));
    sl_reader_withdraw(h.reader, &h.reads[1]); /* nothing left to drop */
    sl_reader_withdraw(h.reader, &h.reads[2]);
    sl_reader_withdraw(h.reader, &h.reads[2]);
    assert_string_equal(take_all(&h, 0), "");
    for (unsigned i = 0; i < 5; i++) {
        assert_false(is_over(state_of(&h, i < 2 || i == 4 ? 1 : 2)));
        land(&h, i);
    }
    expect_done(h.reader, &h.reads[1]);
    assert_int_equal(state_of(&h, 2), SL_READ_WITHDRAWN);
    assert_int_equal(h.reads[2].err.code, 0);

    submit(h.reader, &h.reads[2]); /* as good as new */
    assert_string_equal(take_all(&h, 0), "2.0 2.1 2.2");
    for (unsigned i = 5; i < 8; i++)
        land(&h, i);
    expect_done(h.reader, &h.reads[2]);
    sl_reader_withdraw(h.reader, &h.reads[2]);
    assert_int_equal(state_of(&h, 2), SL_READ_DONE);
    close_hand(&h);
}

static void drives_have_their_own_chunks(void **state)
{
    struct hand h;
    (void)state;
    open_hand(&h, striped); /* 10 chunks, the first 6 of gate and up, over three drives */
    submit(h.reader, &h.reads[0]);
    submit(h.reader, &h.reads[1]);
    assert_string_equal(take_all(&h, 1), "0.1 0.4 1.1 1.4 0.7 1.7");
    assert_string_equal(take_all(&h, 2), "0.2 0.5 1.2 1.5 0.8 1.8");
    assert_string_equal(take_all(&h, 0), "0.0 0.3 1.0 1.3 0.6 0.9 1.6 1.9");
    for (unsigned i = 0; i < h.begun; i++)
        land(&h, i);
    expect_done(h.reader, &h.reads[0]);
    expect_done(h.reader, &h.reads[1]);
    close_hand(&h);
}

/* An engine is woken when it found nothing before, and only then. */
static void wakes_who_is_hungry(void **state)
{
    struct hand h;
    (void)state;
    open_hand(&h, halved);
    submit(h.reader, &h.reads[0]);
    assert_int_equal(woken[0], 0); /* it has not looked yet */
    assert_true(sl_queue_take(drives[0], &h.flights[h.begun++]));
    submit(h.reader, &h.reads[1]);
    assert_int_equal(woken[0], 0);
    take_all(&h, 0);
    submit(h.reader, &h.reads[2]);
    assert_int_equal(woken[0], 1);
    submit(h.reader, &h.reads[3]);
    assert_int_equal(woken[0], 1);
    close_hand(&h);
}

static void counts_changes(void **state)
{
    struct hand h;
    uint64_t seen = 0;
    (void)state;
    open_hand(&h, halved);
    double begin = sl_now();
    assert_false(sl_reader_wait(h.reader, &seen, 0.05));
    assert_true(sl_now() - begin > 0.045);
    assert_false(sl_reader_wait(h.reader, &seen, 0));
    submit(h.reader, &h.reads[0]);
    take_all(&h, 0);
    assert_true(sl_reader_wait(h.reader, &seen, 60));
    assert_false(sl_reader_wait(h.reader, &seen, 0));
    land(&h, 0);
    assert_false(sl_reader_wait(h.reader, &seen, 0)); /* a chunk is no change yet */
    land(&h, 1);
    assert_true(sl_reader_wait(h.reader, &seen, INFINITY));
    land(&h, 2);
    assert_true(sl_reader_wait(h.reader, &seen, INFINITY));
    uint64_t late = 0;
    assert_true(sl_reader_wait(h.reader, &late, 0));
    assert_int_equal(seen, late);
    close_hand(&h);
}

static void refuses_what_it_cannot_queue(void **state)
{
    static struct sl_read reads[SL_READS + 1];
    struct hand h;
    struct sluice_err err = {0};
    (void)state;
    open_hand(&h, &shapes[0]);
    for (int i = 0; i <= SL_READS; i++) {
        reads[i] = h.reads[0];
        if (i < SL_READS)
            submit(h.reader, &reads[i]);
    }
    assert_int_equal(sl_reader_submit(h.reader, &reads[SL_READS], &err), SLUICE_EARG);
    expect_text(err.msg, "reads at a time");
    sl_reader_withdraw(h.reader, &reads[17]);
    submit(h.reader, &reads[SL_READS]);
    sl_reader_withdraw(h.reader, &reads[18]);
    reads[18].buffer += 64;
    assert_int_equal(sl_reader_submit(h.reader, &reads[18], &err), SLUICE_EARG);
    expect_text(err.msg, "4096");
    close_hand(&h);
    assert_int_equal(reads[0].state, SL_READ_WITHDRAWN);
    assert_int_equal(reads[SL_READS].state, SL_READ_WITHDRAWN);
}

/* The half that is good can be used; only then the whole fails. */
static void keeps_the_good_half(void **state)
{
    struct hand h;
    struct sl_flight *f;
    (void)state;
    open_hand(&h, halved);
    submit(h.reader, &h.reads[0]);
    take_all(&h, 0);
    land(&h, 0);
    land(&h, 1);
    f = &h.flights[2];
    assert_int_equal(state_of(&h, 0), SL_READ_HALF);
    sl_queue_landed(drives[0], f, -ENODEV);
    sl_queue_finish(drives[0], f);
    assert_int_equal(state_of(&h, 0), SL_READ_FAILED);
    close_hand(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(brings_every_byte),
        cmocka_unit_test(mixes_files),
        cmocka_unit_test(halves_go_first),
        cmocka_unit_test(whole_blocks_keep_their_order),
        cmocka_unit_test(halves_end_where_down_begins),
        cmocka_unit_test(guesses_give_way),
        cmocka_unit_test(raised_guesses_are_demands),
        cmocka_unit_test(withdrawn_reads_end_when_quiet),
        cmocka_unit_test(drives_have_their_own_chunks),
        cmocka_unit_test(wakes_who_is_hungry),
        cmocka_unit_test(keeps_the_good_half),
        cmocka_unit_test(counts_changes),
        cmocka_unit_test(refuses_what_it_cannot_queue),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
