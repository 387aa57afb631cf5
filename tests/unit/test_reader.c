/* SPDX-License-Identifier: MIT */
/*
 * runtime/stream/reader*: every byte right from files of every shape, by every engine; the order of
 * chunks, seen by an engine that the test turns by hand; and what drives do wrong, done on purpose
 * by a filter between the engines and the queue.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/splitmix.h"
#include "runtime/stream/reader_queue.h"
#include "tests/unit/confine.h"
#include "tests/unit/scratch.h"

enum { PAGE = 4096, MIB = 1 << 20, EXPERTS = 6 };

/* ---- expert files ---------------------------------------------------------------------------- */

struct shape {
    size_t stride, down_offset;
    unsigned n_parts;
};

static const struct shape shapes[] = {
    {2 * PAGE, PAGE, 1},                       /* one chunk */
    {MIB, MIB / 2, 1},                         /* one whole chunk */
    {2 * MIB + 20 * PAGE, MIB + 15 * PAGE, 1}, /* panels meet inside a chunk */
    {3 * MIB, 2 * MIB, 1},                     /* … and between two */
    {9 * MIB + PAGE, 6 * MIB, 3},
    {2 * MIB + PAGE, MIB, 5}, /* more drives than chunks */
};
enum { SHAPES = sizeof shapes / sizeof *shapes };
static const struct shape *const halved = &shapes[3], *const striped = &shapes[4];

/* Eight bytes of an expert. */
static uint64_t word_at(const struct sl_expert_file *f, uint32_t expert, size_t i)
{
    return (i + 1) * 0x9e3779b97f4a7c15 ^ ((uint64_t)f->layer << 32 | expert);
}

static void fill(const struct sl_expert_file *f, uint32_t expert, uint64_t *block)
{
    for (size_t i = 0; i < f->layout.stride / 8; i++)
        block[i] = word_at(f, expert, i);
}

static size_t length_of(const struct shape *s, size_t chunk)
{
    return s->stride - chunk * MIB < MIB ? s->stride - chunk * MIB : MIB;
}

static const char *folder = ""; /* of new files, below `root` */

/* Opens part P of a new file, in which expert 0 begins at DATA. */
static void create_part(struct sl_expert_file *f, const struct shape *s, unsigned p)
{
    struct sl_expert_part *part = &f->parts[p];
    char name[64];
    snprintf(name, sizeof name, "%sexperts-%02u.%u", folder, f->layer, p);
    snprintf(part->path, sizeof part->path, "%s", at(name));
    unlink(part->path);
    part->fd = open(part->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(part->fd >= 0);
    part->data = PAGE * (p + 1);
    part->stride = 0;
    for (size_t c = p; c < f->layout.chunks; c += s->n_parts)
        part->stride += length_of(s, c);
}

static void open_file(struct sl_expert_file *f, const struct shape *s, unsigned layer)
{
    size_t chunks = (s->stride + MIB - 1) / MIB;
    uint64_t *block = malloc(s->stride);
    *f = (struct sl_expert_file){.layer = layer,
                                 .n_experts = EXPERTS,
                                 .n_parts = s->n_parts,
                                 .checksums = malloc(EXPERTS * chunks * 8)};
    f->layout.stride = s->stride;
    f->layout.down_offset = s->down_offset;
    f->layout.chunks = chunks;
    assert_true(block && f->checksums);
    for (unsigned p = 0; p < s->n_parts; p++)
        create_part(f, s, p);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        fill(f, e, block);
        for (size_t c = 0; c < chunks; c++) {
            const struct sl_expert_part *part = &f->parts[c % s->n_parts];
            size_t offset = part->data + e * part->stride + c / s->n_parts * MIB,
                   n = length_of(s, c);
            assert_int_equal(pwrite(part->fd, (char *)block + c * MIB, n, (off_t)offset), n);
            f->checksums[e * chunks + c] = sl_hash((char *)block + c * MIB, n);
        }
    }
    free(block);
}

static void close_file(struct sl_expert_file *f)
{
    for (unsigned p = 0; p < f->n_parts; p++)
        close(f->parts[p].fd);
    free(f->checksums);
}

/* ---- readers --------------------------------------------------------------------------------- */

static const enum sluice_reader kinds[] = {SLUICE_READER_PREAD, SLUICE_READER_URING};
enum { KINDS = 2 };

/* NULL: this machine has no such reader. */
static struct sl_reader *open_reader(const struct sl_reader_opts *o,
                                     const struct sl_expert_file *files, size_t n)
{
    struct sl_reader *r;
    struct sluice_err err = {0};
    int status = sl_reader_open(&r, o, files, n, &err);
    if (status == SLUICE_EUNSUPPORTED && o->kind == SLUICE_READER_URING) {
        print_message("no io_uring here: %s\n", err.msg);
        return NULL;
    }
    if (status < 0)
        fail_msg("%s", err.msg);
    return r;
}

/* N blocks; wiped, so that nothing of an earlier test is taken for read. */
static uint8_t *blocks_for(const struct sl_expert_file *f, size_t n)
{
    uint8_t *p = aligned_alloc(PAGE, n * f->layout.stride);
    assert_non_null(p);
    return memset(p, 0xa5, n * f->layout.stride);
}

static void submit(struct sl_reader *r, struct sl_read *read)
{
    struct sluice_err err = {0};
    if (sl_reader_submit(r, read, &err) < 0)
        fail_msg("%s", err.msg);
}

static bool is_over(enum sl_read_state state)
{
    return state == SL_READ_DONE || state == SL_READ_FAILED || state == SL_READ_WITHDRAWN;
}

static enum sl_read_state wait_for(struct sl_reader *r, const struct sl_read *read)
{
    uint64_t seen = 0;
    enum sl_read_state state;
    while (!is_over(state = sl_reader_state(r, read)))
        assert_true(sl_reader_wait(r, &seen, 60));
    return state;
}

static void expect_bytes(const struct sl_read *read, size_t n)
{
    const uint64_t *words = (const uint64_t *)(const void *)read->buffer;
    for (size_t i = 0; i < n / 8; i++)
        if (words[i] != word_at(read->file, read->expert, i))
            fail_msg("layer %u, expert %u: wrong near byte %zu", read->file->layer, read->expert,
                     8 * i);
}

static void expect_done(struct sl_reader *r, const struct sl_read *read)
{
    if (wait_for(r, read) != SL_READ_DONE)
        fail_msg("state %d: %s", read->state, read->err.msg);
    assert_int_equal(read->err.code, 0);
    expect_bytes(read, read->file->layout.stride);
}

static void expect_failed(struct sl_reader *r, const struct sl_read *read, int code,
                          const char *part)
{
    assert_int_equal(wait_for(r, read), SL_READ_FAILED);
    if (read->err.code != code)
        fail_msg("%d, %d wanted: %s", read->err.code, code, read->err.msg);
    expect_text(read->err.msg, part);
}

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

/* ---- drives that fail ------------------------------------------------------------------------ */

enum { LONG = 300000000 }; /* nanoseconds, of a spike */

/* What happens to one chunk's first landings, or to those of all chunks. */
struct flaky {
    enum { RESULT, SHORT, CORRUPT, SPIKE, GATE } what;
    int result;     /* RESULT: in place of the true one */
    size_t length;  /* SHORT: what came, at most; SPIKE: nanoseconds */
    unsigned times; /* so often in a row */
    bool all;
    uint32_t expert;
    uint64_t chunk;
    unsigned landings; /* of what is hit; atomic, as is: */
    bool open;         /* GATE: nothing lands before */
};

static ssize_t flaky_landed(void *user, const struct sl_flight *f, size_t done, ssize_t result)
{
    struct flaky *flaky = user;
    uint8_t *data = f->data + done;
    if (!flaky->all && (f->read->expert != flaky->expert || f->chunk != flaky->chunk))
        return result;
    if (__atomic_fetch_add(&flaky->landings, 1, __ATOMIC_RELAXED) >= flaky->times)
        return result;
    switch (flaky->what) {
    case RESULT:
        memset(data, 0x5a, f->length - done);
        return flaky->result;
    case SHORT:
        if (result <= (ssize_t)flaky->length)
            return result;
        memset(data + flaky->length, 0x5a, (size_t)result - flaky->length);
        return (ssize_t)flaky->length;
    case CORRUPT:
        data[f->length / 3] ^= 0x10;
        return result;
    case SPIKE:
        nanosleep(&(struct timespec){0, (long)flaky->length}, NULL);
        return result;
    default:
        while (!__atomic_load_n(&flaky->open, __ATOMIC_RELAXED))
            nanosleep(&(struct timespec){0, 1000000}, NULL);
        return result;
    }
}

/* For tests that do not change it. */
static struct sl_expert_file common;

struct trial {
    struct sl_expert_file file; /* the test's own, or a copy of `common` */
    uint8_t *blocks;
    struct sl_read reads[EXPERTS]; /* of experts 0, 1, … */
    struct flaky flaky;
    struct sl_read_filter filter;
    struct sl_reader *reader;
};

/* False: no such reader here. */
static bool open_trial_on(struct trial *t, enum sluice_reader kind, const struct flaky *flaky)
{
    t->flaky = *flaky;
    t->filter = (struct sl_read_filter){.user = &t->flaky, .landed = flaky_landed};
    t->blocks = blocks_for(&t->file, EXPERTS);
    for (uint32_t e = 0; e < EXPERTS; e++)
        t->reads[e] = (struct sl_read){.file = &t->file,
                                       .expert = e,
                                       .buffer = t->blocks + e * halved->stride,
                                       .halves = e % 2};
    t->reader = open_reader(&(struct sl_reader_opts){.kind = kind, .filter = &t->filter}, &t->file,
                            1);
    return t->reader;
}

static bool open_trial(struct trial *t, enum sluice_reader kind, const struct flaky *flaky)
{
    t->file = common;
    return open_trial_on(t, kind, flaky);
}

/* On a file that may be changed. */
static bool open_own_trial(struct trial *t, enum sluice_reader kind)
{
    open_file(&t->file, halved, 5);
    return open_trial_on(t, kind, &(struct flaky){0});
}

static void submit_all(struct trial *t)
{
    for (int i = 0; i < EXPERTS; i++)
        submit(t->reader, &t->reads[i]);
}

static void close_trial(struct trial *t)
{
    sl_reader_close(&t->reader);
    free(t->blocks);
    if (t->file.checksums != common.checksums)
        close_file(&t->file);
}

/* All reads but that of expert BAD are good; -1: all are. */
static void expect_others(struct trial *t, int bad)
{
    for (int i = 0; i < EXPERTS; i++)
        if (i != bad)
            expect_done(t->reader, &t->reads[i]);
}

/* What passes by itself, or when the chunk is read again: RETRIES times, by the reader's count. */
static void expect_recovery(const struct flaky *flaky, unsigned retries)
{
    for (int k = 0; k < KINDS; k++) {
        struct trial t;
        if (open_trial(&t, kinds[k], flaky)) {
            submit_all(&t);
            expect_others(&t, -1);
            assert_int_equal(sl_reader_use(t.reader, 0).retries, retries);
            submit_all(&t);
            expect_others(&t, -1);
        }
        close_trial(&t);
    }
}

/* A chunk that stays bad fails its read after LANDINGS attempts, and no other. */
static void expect_failure(const struct flaky *flaky, unsigned landings, int code, const char *part)
{
    for (int k = 0; k < KINDS; k++) {
        struct trial t;
        if (open_trial(&t, kinds[k], flaky)) {
            submit_all(&t);
            expect_failed(t.reader, &t.reads[flaky->expert], code, part);
            expect_text(t.reads[flaky->expert].err.msg, t.file.parts[0].path);
            assert_int_equal(t.flaky.landings, landings);
            expect_others(&t, (int)flaky->expert);
            t.flaky.times = 0; /* mended: the reader need not be told */
            submit_all(&t);
            expect_others(&t, -1);
        }
        close_trial(&t);
    }
}

static void reads_on_after_short_reads(void **state)
{
    static const size_t lengths[] = {1, PAGE - 1, PAGE, PAGE + 1, MIB / 2 + 512, MIB - 1};
    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        expect_recovery(
            &(struct flaky){.what = SHORT, .length = lengths[i], .times = 1, .expert = 2}, 1);
    /* Halves, quarters, …: what comes in pieces of 64 KiB needs fifteen more. */
    expect_recovery(&(struct flaky){.what = SHORT, .length = 65536, .times = 15, .chunk = 1}, 15);
    expect_recovery(&(struct flaky){.what = SHORT, .length = MIB / 2, .times = 1000, .all = true},
                    6 * 3);
}

static void retries_what_may_pass(void **state)
{
    static const int results[] = {-EINTR, -EAGAIN, -EIO, -ENOMEM, -ETIMEDOUT, 0};
    (void)state;
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        for (unsigned times = 1; times <= 3; times++)
            expect_recovery(
                &(struct flaky){
                    .what = RESULT, .result = results[i], .times = times, .expert = 3, .chunk = 2},
                times);
    expect_recovery(&(struct flaky){.what = RESULT, .result = -EINTR, .times = 50}, 50);
}

static void gives_up_after_three_retries(void **state)
{
    const struct flaky bad = {
        .what = RESULT, .result = -EIO, .times = 1000, .expert = 4, .chunk = 1};
    (void)state;
    expect_failure(&bad, 4, SLUICE_EIO, "Input/output error");
    expect_failure(&bad, 4, SLUICE_EIO, "smartctl");
    expect_failure(&(struct flaky){.what = RESULT, .times = 1000}, 4, SLUICE_EIO, "0 bytes came");
    expect_failure(&(struct flaky){.what = SHORT, .length = 100, .times = 1000}, 4, SLUICE_EIO,
                   "100 bytes came");
}

static void says_at_once_that_a_drive_is_gone(void **state)
{
    (void)state;
    expect_failure(&(struct flaky){.what = RESULT, .result = -ENODEV, .times = 1000, .expert = 1},
                   1, SLUICE_EIO, "drive is gone");
    expect_failure(&(struct flaky){.what = RESULT, .result = -ENXIO, .times = 1000, .expert = 5}, 1,
                   SLUICE_EIO, "drive is gone");
}

/* A drive that answers nothing: every read fails, and the rest of its chunks is not tried. */
static void fails_each_read_once(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct trial t;
        const struct flaky gone = {.what = RESULT, .result = -ENODEV, .times = 1000, .all = true};
        if (open_trial(&t, kinds[k], &gone)) {
            for (int i = 0; i < EXPERTS; i++)
                expect_failed((submit(t.reader, &t.reads[i]), t.reader), &t.reads[i], SLUICE_EIO,
                              "drive is gone");
            assert_int_equal(t.reader ? sl_reader_use(t.reader, 0).retries : 0, 0);
        }
        close_trial(&t);
    }
}

static void reads_a_damaged_chunk_twice(void **state)
{
    const struct flaky once = {.what = CORRUPT, .times = 1, .expert = 2, .chunk = 2};
    struct flaky always = once;
    (void)state;
    always.times = 1000;
    expect_recovery(&once, 1);
    expect_failure(&always, 2, SLUICE_EDAMAGED, "layer 6, expert 2, chunk 3 of 3: checksum");
    expect_failure(&always, 2, SLUICE_EDAMAGED, "sluice verify");
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

static void waits_through_a_spike(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct trial t;
        double begin = sl_now();
        if (open_trial(&t, kinds[k], &(struct flaky){.what = SPIKE, .length = LONG, .times = 1})) {
            submit_all(&t);
            expect_others(&t, -1);
            struct sl_reader_use use = sl_reader_use(t.reader, 0);
            assert_true(sl_now() - begin > 0.3);
            assert_true(use.longest > 0.29 && use.seconds > 0.29);
            assert_true(use.seconds < sl_now() - begin);
            assert_int_equal(use.retries, 0);
        }
        close_trial(&t);
    }
}

/* While a thread of pread sits in a slow read, the others go on. */
static void a_spike_does_not_hold_up_others(void **state)
{
    struct trial t;
    (void)state;
    assert_true(open_trial(&t, SLUICE_READER_PREAD, &(struct flaky){.what = GATE, .times = 1}));
    submit_all(&t);
    expect_others(&t, 0);
    assert_int_equal(sl_reader_state(t.reader, &t.reads[0]), SL_READ_UNDER_WAY);
    __atomic_store_n(&t.flaky.open, true, __ATOMIC_RELAXED);
    expect_others(&t, -1);
    close_trial(&t);
}

/* ---- files that change ----------------------------------------------------------------------- */

static void notices_a_file_that_shrinks(void **state)
{
    static const size_t cuts[] = {0, PAGE, MIB, MIB + 17, 2 * MIB + PAGE, 3 * MIB - 1};
    (void)state;
    for (int k = 0; k < KINDS; k++)
        for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
            struct trial t;
            if (open_own_trial(&t, kinds[k])) {
                const struct sl_expert_part *part = &t.file.parts[0];
                off_t end = (off_t)(part->data + 4 * part->stride + cuts[i]);
                assert_int_equal(truncate(part->path, end), 0);
                submit_all(&t);
                expect_failed(t.reader, &t.reads[4], SLUICE_EFORMAT, "truncated");
                expect_failed(t.reader, &t.reads[5], SLUICE_EFORMAT, part->path);
                for (int e = 0; e < 4; e++)
                    expect_done(t.reader, &t.reads[e]);
            }
            close_trial(&t);
        }
}

static void notices_a_file_that_is_overwritten(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct trial t;
        if (open_own_trial(&t, kinds[k])) {
            const struct sl_expert_part *part = &t.file.parts[0];
            submit_all(&t);
            expect_others(&t, -1);
            int fd = open(part->path, O_WRONLY);
            assert_int_equal(pwrite(fd, "new", 3, (off_t)(part->data + 3 * part->stride + 9)), 3);
            close(fd);
            submit_all(&t);
            expect_failed(t.reader, &t.reads[3], SLUICE_EDAMAGED, "layer 5, expert 3, chunk 1");
            expect_others(&t, 3);
            assert_int_equal(sl_reader_use(t.reader, 0).retries, 1);
        }
        close_trial(&t);
    }
}

/* Another file under the same name is not what was opened; that one is still there. */
static void keeps_a_file_that_is_replaced(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct trial t;
        if (open_own_trial(&t, kinds[k])) {
            put("other", "other", 5);
            assert_int_equal(rename(at("other"), t.file.parts[0].path), 0);
            submit_all(&t);
            expect_others(&t, -1);
        }
        close_trial(&t);
    }
}

/* A direct read that is refused is made through the page cache, and so are those that follow. */
static void leaves_direct_reads_where_they_are_refused(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct trial t;
        const struct flaky refused = {.what = RESULT, .result = -EINVAL, .times = 1, .expert = 1};
        open_file(&t.file, halved, 5);
        if (open_trial_on(&t, kinds[k], &refused)) {
            int fd = t.file.parts[0].fd;
            if (strstr(sl_reader_how(t.reader), "past the page cache"))
                assert_true(fcntl(fd, F_GETFL) & O_DIRECT);
            submit_all(&t);
            expect_others(&t, -1);
            assert_false(fcntl(fd, F_GETFL) & O_DIRECT);
            submit_all(&t);
            expect_others(&t, -1);
        }
        close_trial(&t);
    }
}

/* ---- many things at once --------------------------------------------------------------------- */

/* Reads are raised, withdrawn and submitted again at any moment, on a drive that is slow; what ends
 * as done is right.  How many end in which way is for the scheduler to say: it goes on until both
 * have been seen often enough. */
static void survives_changes_of_mind(void **state)
{
    struct sl_expert_file f;
    (void)state;
    open_file(&f, &shapes[SHAPES - 1], 4);
    uint8_t *blocks = blocks_for(&f, EXPERTS);
    struct flaky slow = {.what = SPIKE, .length = LONG / 1000, .times = 100000, .all = true};
    const struct sl_read_filter filter = {.user = &slow, .landed = flaky_landed};
    for (int k = 0; k < KINDS; k++) {
        struct sl_read reads[EXPERTS] = {{0}};
        const struct sl_reader_opts o = {.kind = kinds[k], .depth = 2, .filter = &filter};
        struct sl_reader *r = open_reader(&o, &f, 1);
        uint64_t seed = 7, seen = 0;
        unsigned done = 0, withdrawn = 0;
        for (int step = 0; r && (step < 1500 || done <= 20 || withdrawn <= 20); step++) {
            assert_true(step < 1000000);
            uint64_t dice = sl_splitmix(&seed);
            struct sl_read *read = &reads[dice % EXPERTS];
            enum sl_read_state s = sl_reader_state(r, read);
            if (s == SL_READ_DONE)
                expect_done(r, read);
            done += s == SL_READ_DONE;
            withdrawn += s == SL_READ_WITHDRAWN;
            if (s == SL_READ_IDLE || is_over(s)) {
                *read = (struct sl_read){.file = &f,
                                         .expert = (uint32_t)(dice >> 8) % EXPERTS,
                                         .buffer = blocks + dice % EXPERTS * f.layout.stride,
                                         .ahead = dice >> 16 & 1,
                                         .halves = dice >> 17 & 1};
                submit(r, read);
            } else if ((dice >> 20) % 8 == 0) {
                sl_reader_withdraw(r, read);
            } else if ((dice >> 20) % 8 == 1) {
                sl_reader_raise(r, read);
            } else {
                sl_reader_wait(r, &seen, (double)(dice >> 24 & 3) * 1e-3);
            }
        }
        for (int i = 0; r && i < EXPERTS; i++)
            assert_true(wait_for(r, &reads[i]) != SL_READ_FAILED);
        sl_reader_close(&r);
    }
    free(blocks);
    close_file(&f);
}

/* Closing drops what has not begun and waits for what has: nothing is written to buffers later. */
static void closes_with_reads_in_flight(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++)
        for (int round = 0; round < 20; round++) {
            struct trial t;
            const size_t sizes = EXPERTS * halved->stride;
            const struct flaky slow = {
                .what = SPIKE, .length = LONG, .times = round == 0, .all = true};
            if (open_trial(&t, kinds[k], &slow)) {
                submit_all(&t);
                if (round > 1)
                    nanosleep(&(struct timespec){0, round * 100000}, NULL);
                sl_reader_close(&t.reader);
                for (int i = 0; i < EXPERTS; i++) {
                    assert_true(t.reads[i].state == SL_READ_WITHDRAWN ||
                                t.reads[i].state == SL_READ_DONE);
                    if (t.reads[i].state == SL_READ_DONE)
                        expect_bytes(&t.reads[i], halved->stride);
                }
                uint64_t zeros = sl_hash(memset(t.blocks, 0, sizes), sizes);
                nanosleep(&(struct timespec){0, 1000000}, NULL);
                assert_int_equal(sl_hash(t.blocks, sizes), zeros);
            }
            close_trial(&t);
        }
}

/* ---- systems that refuse --------------------------------------------------------------------- */

/* What a child process found with a reader of its own. */
static struct finding {
    int status; /* of opening */
    bool refused, good;
    char name[16], how[2048]; /* or the error */
} * found;

static void look(const struct sl_reader_opts *o)
{
    struct sl_read read = {.file = &common, .expert = 3, .buffer = o->memory};
    struct sl_reader *r;
    struct sluice_err err = {0};
    uint64_t seen = 0;
    found->status = sl_reader_open(&r, o, &common, 1, &err);
    snprintf(found->how, sizeof found->how, "%s", err.msg);
    if (found->status < 0 || sl_reader_submit(r, &read, NULL) < 0)
        return;
    snprintf(found->name, sizeof found->name, "%s", sl_reader_name(r));
    snprintf(found->how, sizeof found->how, "%s", sl_reader_how(r));
    while (!is_over(sl_reader_state(r, &read)))
        sl_reader_wait(r, &seen, 1);
    found->good = read.state == SL_READ_DONE;
    for (size_t i = 0; i < halved->stride / 8; i++)
        found->good &= ((uint64_t *)(void *)read.buffer)[i] == word_at(&common, 3, i);
    sl_reader_close(&r);
}

/* Opens a reader in a process that REFUSE (ARG) confines; false: it cannot. */
static bool look_where(bool (*refuse)(int), int arg, enum sluice_reader kind)
{
    uint8_t *memory = blocks_for(&common, 1);
    int status;
    memset(found, 0, sizeof *found);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        found->refused = refuse(arg);
        if (found->refused)
            look(&(struct sl_reader_opts){
                .kind = kind, .memory = memory, .memory_bytes = halved->stride});
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    free(memory);
    return found->refused;
}

static void does_without_io_uring(void **state)
{
    static const int errnums[] = {EPERM, ENOSYS, EACCES};
    (void)state;
    for (int i = 0; i < 3; i++) {
        if (!look_where(refuse_uring, errnums[i], SLUICE_READER_AUTO))
            skip();
        assert_int_equal(found->status, 0);
        assert_true(found->good);
        assert_string_equal(found->name, "pread");
        if (strstr(found->how, "built without liburing"))
            continue;
        expect_text(found->how, "io_uring is not allowed here");
        expect_text(found->how, strerror(errnums[i]));
        assert_true(look_where(refuse_uring, errnums[i], SLUICE_READER_URING));
        assert_int_equal(found->status, SLUICE_EUNSUPPORTED);
        expect_text(found->how, "kernel.io_uring_disabled=0");
        expect_text(found->how, strerror(errnums[i]));
        assert_true(look_where(refuse_uring, errnums[i], SLUICE_READER_PREAD));
        assert_true(found->good);
        assert_null(strstr(found->how, "io_uring"));
    }
}

static bool no_direct(int unused)
{
    (void)unused;
    return refuse_direct();
}

static void does_without_direct_reads(void **state)
{
    struct trial t;
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        fcntl(common.parts[0].fd, F_SETFL, 0); /* what an earlier reader set */
        if (!look_where(no_direct, 0, kinds[k]))
            skip();
        if (found->status == SLUICE_EUNSUPPORTED)
            continue;
        assert_true(found->good);
        expect_text(found->how, "through the page cache: O_DIRECT is refused");
    }
    if (open_trial(&t, SLUICE_READER_AUTO, &(struct flaky){0}))
        assert_null(strstr(sl_reader_how(t.reader), "partly"));
    close_trial(&t);
}

static bool no_locking(int unused)
{
    (void)unused;
    return refuse_locking();
}

static void does_without_locked_memory(void **state)
{
    (void)state;
    if (!look_where(no_locking, 0, SLUICE_READER_AUTO))
        skip();
    assert_int_equal(found->status, 0);
    assert_true(found->good);
    if (strcmp(found->name, "uring") == 0)
        expect_text(found->how, "not registered: RLIMIT_MEMLOCK is 0 KiB, 3072 wanted");
    else
        expect_text(found->how, "io_uring"); /* before Linux 5.12 a ring itself is locked memory */
}

/* ---- a drive with bad sectors ---------------------------------------------------------------- */

static bool shell(const char *command)
{
    char line[1024];
    snprintf(line, sizeof line, "cd %s && { %s; } >/dev/null 2>&1", root, command);
    return system(line) == 0;
}

/* A file system on a loop device whose file is cut after opening: what lay behind cannot be read,
 * and the kernel says so as of any drive.  The rest is still good. */
static void reads_real_errors(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        struct trial t;
        unsigned failed = 0;
        if (geteuid() != 0 || !shell("mkdir -p mounted && truncate -s 64M drive && "
                                     "mkfs.ext4 -qF drive && mount -o loop drive mounted"))
            skip();
        folder = "mounted/";
        open_file(&t.file, halved, 5);
        folder = "";
        assert_int_equal(fsync(t.file.parts[0].fd), 0);
        if (open_trial_on(&t, kinds[k], &(struct flaky){0})) {
            assert_true(shell("truncate -s 12M drive"));
            submit_all(&t);
            for (int i = 0; i < EXPERTS; i++)
                if (wait_for(t.reader, &t.reads[i]) == SL_READ_FAILED) {
                    expect_failed(t.reader, &t.reads[i], SLUICE_EIO, strerror(EIO));
                    failed++;
                } else {
                    expect_done(t.reader, &t.reads[i]);
                }
            assert_true(failed > 0);
            assert_in_range(sl_reader_use(t.reader, 0).retries, 3 * failed, 3 * failed * 3);
        }
        close_trial(&t);
        /* The kernel lets go of a closed ring's files a moment later. */
        assert_true(shell("umount mounted || { sleep 1 && umount mounted; }"));
    }
}

static int set_up(void **state)
{
    if (make_root(state) != 0)
        return -1;
    open_file(&common, halved, 6);
    found = mmap(NULL, sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return found == MAP_FAILED ? -1 : 0;
}

static int tear_down(void **state)
{
    close_file(&common);
    munmap(found, sizeof *found);
    shell("umount mounted"); /* after a failure */
    return remove_root(state);
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
        cmocka_unit_test(counts_changes),
        cmocka_unit_test(refuses_what_it_cannot_queue),
        cmocka_unit_test(reads_on_after_short_reads),
        cmocka_unit_test(retries_what_may_pass),
        cmocka_unit_test(gives_up_after_three_retries),
        cmocka_unit_test(says_at_once_that_a_drive_is_gone),
        cmocka_unit_test(fails_each_read_once),
        cmocka_unit_test(reads_a_damaged_chunk_twice),
        cmocka_unit_test(keeps_the_good_half),
        cmocka_unit_test(waits_through_a_spike),
        cmocka_unit_test(a_spike_does_not_hold_up_others),
        cmocka_unit_test(notices_a_file_that_shrinks),
        cmocka_unit_test(notices_a_file_that_is_overwritten),
        cmocka_unit_test(keeps_a_file_that_is_replaced),
        cmocka_unit_test(leaves_direct_reads_where_they_are_refused),
        cmocka_unit_test(does_without_io_uring),
        cmocka_unit_test(does_without_direct_reads),
        cmocka_unit_test(does_without_locked_memory),
        cmocka_unit_test(reads_real_errors),
        cmocka_unit_test(survives_changes_of_mind),
        cmocka_unit_test(closes_with_reads_in_flight),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
