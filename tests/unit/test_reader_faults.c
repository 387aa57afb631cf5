/* SPDX-License-Identifier: MIT */
/*
 * runtime/stream/reader* when things go wrong: what drives do, done on purpose by a filter between
 * the engines and the queue, and by a drive that is cut; files that change; systems that refuse;
 * changes of mind.
 */
#include <errno.h>
#include <fcntl.h>
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
#include "tests/unit/expert_reads.h"
#include "tests/unit/scratch.h"

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
        cmocka_unit_test(reads_on_after_short_reads),
        cmocka_unit_test(retries_what_may_pass),
        cmocka_unit_test(gives_up_after_three_retries),
        cmocka_unit_test(says_at_once_that_a_drive_is_gone),
        cmocka_unit_test(fails_each_read_once),
        cmocka_unit_test(reads_a_damaged_chunk_twice),
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
