/* SPDX-License-Identifier: MIT */
/* Readers with a thread per read in flight: pread(2), and faults over a mapping. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/base/thread.h"
#include "tools/measure/drive_private.h"

struct readers {
    struct sl_pieces *pieces;
    double deadline;
    bool failed; /* atomic: one of them, so all stop */
};

struct reader {
    struct readers *all;
    uint8_t *buffer; /* of a piece; NULL: mapped */
    pthread_t thread;
    unsigned sum; /* of bytes seen, so that the loop over a mapping stays */
    struct sl_drive_tally tally;
    struct sluice_err err;
};

/* A drive's error ends the process here (SIGBUS), as in every program that maps files. */
static void fault_in(struct reader *r, const struct sl_piece *piece)
{
    const volatile uint8_t *data = piece->file->map.data + piece->offset;
    for (size_t i = 0; i < r->all->pieces->bytes; i += SL_DRIVE_ALIGN)
        r->sum += data[i];
}

static void *run(void *arg)
{
    struct reader *r = arg;
    size_t bytes = r->all->pieces->bytes;
    int status = 0;
    do {
        struct sl_piece piece = sl_pieces_take(r->all->pieces);
        double begin = sl_now();
        if (r->buffer)
            status = sl_read_at(piece.file->fd, r->buffer, bytes, piece.offset, piece.file->path,
                                &r->err);
        else
            fault_in(r, &piece);
        sl_drive_count(&r->tally, begin, sl_now());
    } while (status == 0 && sl_now() < r->all->deadline &&
             !__atomic_load_n(&r->all->failed, __ATOMIC_RELAXED));
    if (status < 0)
        __atomic_store_n(&r->all->failed, true, __ATOMIC_RELAXED);
    return NULL;
}

/* Signals go to the threads that were there before. */
static int start(struct reader *r, struct sluice_err *err)
{
    int failed = sl_thread_start(&r->thread, run, r);
    return failed ? sl_fail_errno(err, SLUICE_EIO, failed, "cannot start a thread to read") : 0;
}

/* Waits for the threads; the first failure stands. */
static int join(struct sl_drive_run *run, struct reader *readers, unsigned n,
                struct sluice_err *err)
{
    int status = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct reader *r = &readers[i];
        pthread_join(r->thread, NULL);
        if (status == 0 && r->err.code < 0)
            status = sl_fail(err, r->err.code, "%s", r->err.msg);
        run->tally.reads += r->tally.reads;
        run->tally.seconds += r->tally.seconds;
        if (r->tally.longest > run->tally.longest)
            run->tally.longest = r->tally.longest;
    }
    return status;
}

int sl_drive_threads(struct sl_drive_run *run, struct sluice_err *err)
{
    const struct sl_drive_test *t = run->test;
    struct readers all = {.pieces = &run->pieces, .deadline = run->deadline};
    struct reader *readers = calloc(t->depth, sizeof *readers);
    if (!readers)
        return sl_fail_nomem(err, "threads that read", t->depth * sizeof *readers);
    int status = 0, joined;
    unsigned n = 0;
    for (; status == 0 && n < t->depth; n += status == 0) {
        readers[n].all = &all;
        readers[n].buffer = run->buffers ? run->buffers + n * t->bytes : NULL;
        status = start(&readers[n], err);
    }
    if (status < 0)
        __atomic_store_n(&all.failed, true, __ATOMIC_RELAXED);
    joined = join(run, readers, n, status < 0 ? NULL : err);
    free(readers);
    return status < 0 ? status : joined;
}
