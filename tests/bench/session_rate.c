/* SPDX-License-Identifier: MIT */
/*
 * How fast a session of noise is saved and restored, beside what its drive gives, by turns; and
 * taken over by another: session_rate CONTAINER TOKENS FILE [ROUNDS].  Run by hand, on an otherwise
 * idle machine; FILE is overwritten.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/base/file.h"
#include "runtime/base/huge.h"
#include "runtime/base/splitmix.h"
#include "runtime/base/thread.h"
#include "runtime/session/session.h"
#include "tools/measure/drive.h"

enum {
    ROUNDS_MAX = 64,
    PIECE = 4 << 20,
    IN_FLIGHT = 16,
    SETTLE = 4, /* seconds, after which a host has taken back the memory its guest has free */
};

/* Cold memory: the host must give it first; warm: the guest had it in use a moment ago. */
enum rate {
    DRIVE_READS,
    DRIVE_WRITES,
    SAVED,
    SAVED_OVER,
    RESTORED,
    RESTORED_WARM,
    RESTORED_COLD,
    TOUCHED,
    TAKEN_NEW,
    TAKEN,
    RATES
};

static const char *const names[RATES] = {
    [DRIVE_READS] = "drive, as bench --io",
    [DRIVE_WRITES] = "drive, direct writes",
    [SAVED] = "saved",
    [SAVED_OVER] = "saved over an old file",
    [RESTORED] = "restored, in use",
    [RESTORED_WARM] = "restored, new, warm memory",
    [RESTORED_COLD] = "restored, new, cold memory",
    [TOUCHED] = "cold memory, set",
    [TAKEN_NEW] = "taken over, new",
    [TAKEN] = "taken over",
};

struct bench {
    sluice_engine *engine;
    sluice_session *s;
    const char *path;
    int32_t *tokens;
    size_t n;
    double bytes; /* of what the session holds */
    size_t round;
    double rates[RATES][ROUNDS_MAX]; /* GB/s */
};

static void tell(struct bench *b, enum rate rate, double bytes_per_second)
{
    b->rates[rate][b->round] = bytes_per_second * 1e-9;
    printf("%-26s %6.2f GB/s\n", names[rate], bytes_per_second * 1e-9);
    fflush(stdout);
}

static void tell_since(struct bench *b, enum rate rate, double start)
{
    tell(b, rate, b->bytes / (sl_now() - start));
}

/* ---- the drive ------------------------------------------------------------------------------ */

/* The better of both readers. */
static int read_drive(struct bench *b, struct sluice_err *err)
{
    double best = 0;
    for (int i = 0; i < 2; i++) {
        const struct sl_drive_test test = {i ? SL_DRIVE_URING : SL_DRIVE_PREAD, PIECE, IN_FLIGHT,
                                           0.5};
        struct sl_drive_result result;
        int status = sl_drive_measure(&b->path, 1, &test, &result, err);
        if (status < 0 && status != SLUICE_EUNSUPPORTED)
            return status;
        best = result.rate > best ? result.rate : best;
    }
    tell(b, DRIVE_READS, best);
    return 0;
}

struct writing {
    struct sl_newfile file;
    uint64_t pieces, next; /* next: atomic */
    struct sl_huge data;   /* of one piece */
    bool failed;           /* atomic */
};

static void *write_pieces(void *arg)
{
    struct writing *w = arg;
    struct sluice_err err;
    uint64_t i;
    while ((i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->pieces)
        if (sl_newfile_write_at(&w->file, w->data.base, PIECE, i * PIECE, &err) < 0)
            __atomic_store_n(&w->failed, true, __ATOMIC_RELAXED);
    return NULL;
}

/* As much as is saved, in a file without a name, whose room is taken before. */
static int write_file(struct bench *b, struct writing *w, struct sluice_err *err)
{
    pthread_t threads[IN_FLIGHT];
    int n = 0, status = sl_newfile_reserve(&w->file, w->pieces * PIECE, err);
    sl_newfile_direct(&w->file, true);
    double start = sl_now();
    while (status == 0 && n < IN_FLIGHT && sl_thread_start(&threads[n], write_pieces, w) == 0)
        n++;
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    if (status == 0 && (n < IN_FLIGHT || w->failed || fsync(w->file.fd) != 0))
        status = sl_fail(err, SLUICE_EIO, "cannot write beside %s", b->path);
    tell(b, DRIVE_WRITES, (double)(w->pieces * PIECE) / (sl_now() - start));
    return status;
}

static int write_drive(struct bench *b, struct sluice_err *err)
{
    struct writing w = {.file.fd = -1, .pieces = (uint64_t)b->bytes / PIECE};
    uint64_t seed = 1;
    int status = sl_huge_open(&w.data, PIECE, "a piece", err);
    for (size_t i = 0; status == 0 && i < PIECE; i += sizeof seed) {
        uint64_t noise = sl_splitmix(&seed);
        memcpy(w.data.base + i, &noise, sizeof noise);
    }
    if (status == 0)
        status = sl_newfile_open_nameless(&w.file, b->path, err);
    if (status == 0)
        status = write_file(b, &w, err);
    sl_newfile_close(&w.file);
    sl_huge_close(&w.data);
    return status;
}

/* ---- the session ---------------------------------------------------------------------------- */

static int open_session(sluice_session **s, struct bench *b, struct sluice_err *err)
{
    const struct sluice_session_opts opts = {.context = b->n};
    return sluice_session_open(s, b->engine, &opts, err);
}

static void set(void *arg, size_t begin, size_t end, unsigned thread)
{
    (void)thread;
    memset((uint8_t *)arg + begin, 1, end - begin);
}

/* Memory that was not in use lately, by all processors.  The system gives the same again right
 * after, which a virtual machine then need not ask its host for. */
static int touch(struct bench *b, struct sluice_err *err)
{
    struct sl_huge memory;
    int status = sl_huge_open(&memory, (size_t)b->bytes, "memory", err);
    if (status < 0)
        return status;
    double start = sl_now();
    sl_team_run(&b->s->ws.compute.team, memory.size, 2 << 20, set, memory.base);
    tell_since(b, TOUCHED, start);
    sl_huge_close(&memory);
    return 0;
}

static int restore(struct bench *b, sluice_session *s, enum rate rate, struct sluice_err *err)
{
    double start = sl_now();
    int status = sluice_session_restore(s, b->path, NULL, NULL, err);
    tell_since(b, rate, start);
    return status;
}

static int restore_new(struct bench *b, enum rate rate, struct sluice_err *err)
{
    sluice_session *other = NULL;
    int status = open_session(&other, b, err);
    if (status == 0)
        status = restore(b, other, rate, err);
    sluice_session_close(&other);
    return status;
}

/* All but the last token, by a session that takes the noise for computed rows. */
static int take(struct bench *b, struct sluice_err *err)
{
    sluice_session *other = NULL;
    int status = open_session(&other, b, err);
    b->s->alone = false;
    for (int i = 0; status == 0 && i < 2; i++) {
        sl_session_cut(other, 0);
        double start = sl_now();
        sl_prefix_take(other, b->tokens, b->n);
        tell_since(b, i == 0 ? TAKEN_NEW : TAKEN, start);
    }
    sluice_session_close(&other);
    return status;
}

static int save(struct bench *b, enum rate rate, struct sluice_err *err)
{
    double start = sl_now();
    int status = sluice_session_save(b->s, b->path, NULL, NULL, err);
    tell_since(b, rate, start);
    return status;
}

static int run_round(struct bench *b, struct sluice_err *err)
{
    int status = read_drive(b, err);
    if (status == 0)
        status = write_drive(b, err);
    if (status == 0)
        status = save(b, SAVED_OVER, err);
    remove(b->path); /* the time that freeing it takes is not the new one's */
    if (status == 0)
        status = save(b, SAVED, err);
    if (status == 0)
        status = restore(b, b->s, RESTORED, err);
    sleep(SETTLE);
    if (status == 0)
        status = touch(b, err);
    if (status == 0)
        status = restore_new(b, RESTORED_WARM, err);
    sleep(SETTLE);
    if (status == 0)
        status = restore_new(b, RESTORED_COLD, err);
    return status < 0 ? status : take(b, err);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Medians, and those of the ratios to reads of the drive, round by round. */
static void summarize(struct bench *b)
{
    size_t n = b->round;
    double ratios[RATES][ROUNDS_MAX];
    for (int rate = 0; rate < RATES; rate++)
        for (size_t i = 0; i < n; i++)
            ratios[rate][i] = 100 * b->rates[rate][i] / b->rates[DRIVE_READS][i];
    printf("\n%-26s %8s %8s %8s  %s\n", "GB/s", "median", "least", "most", "of the drive's reads");
    for (int rate = 0; rate < RATES; rate++) {
        double *list = b->rates[rate], *share = ratios[rate];
        qsort(list, n, sizeof *list, compare);
        qsort(share, n, sizeof *share, compare);
        printf("%-26s %8.2f %8.2f %8.2f  %.0f %% (%.0f to %.0f)\n", names[rate], list[n / 2],
               list[0], list[n - 1], share[n / 2], share[0], share[n - 1]);
    }
}

static int run(struct bench *b, const char *container, size_t rounds, struct sluice_err *err)
{
    struct sluice_stats stats;
    const struct sluice_session_opts session = {.context = b->n};
    const struct sluice_engine_opts opts = {.session = &session};
    int status = b->tokens ? sluice_engine_open(&b->engine, container, &opts, err)
                           : sl_fail_nomem(err, "tokens", b->n * sizeof *b->tokens);
    if (status == 0)
        status = open_session(&b->s, b, err);
    if (status == 0)
        status = sluice_session_fill(b->s, b->tokens, b->n, err);
    if (status == 0)
        status = sluice_session_save(b->s, b->path, NULL, NULL, err);
    if (status == 0)
        sluice_session_stats(b->s, &stats);
    b->bytes = status == 0 ? (double)stats.kv_bytes : 0;
    for (; status == 0 && b->round < rounds; b->round += status == 0)
        status = run_round(b, err);
    return status;
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct sluice_err err = {0};
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: session_rate CONTAINER TOKENS FILE [ROUNDS]\n");
        return 2;
    }
    b.path = argv[3];
    b.n = strtoul(argv[2], NULL, 10);
    b.tokens = calloc(b.n, sizeof *b.tokens);
    size_t rounds = argc > 4 ? strtoul(argv[4], NULL, 10) : 5;
    int status = run(&b, argv[1], sl_min(rounds, ROUNDS_MAX), &err);
    if (status < 0)
        fprintf(stderr, "%s\n", err.msg);
    else if (b.round > 0)
        summarize(&b);
    sluice_session_close(&b.s);
    sluice_engine_close(&b.engine);
    free(b.tokens);
    return status < 0;
}
