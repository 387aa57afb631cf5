/* SPDX-License-Identifier: MIT */
/* Write-behind: a ring of pieces, filled by the caller and emptied by one thread. */
#include "runtime/base/behind.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/thread.h"

enum {
    PIECE = 4 << 20,
    PIECES = 8,  /* more than an expert of the published models, which comes at once */
    PAGE = 4096, /* what direct writes are aligned to */
};

struct sl_behind {
    struct sl_newfile *file;
    uint64_t start;  /* offset of the first piece */
    uint64_t filled; /* bytes appended */
    uint8_t *ring;   /* [PIECES][PIECE] */
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    uint64_t ready, written; /* pieces handed over, pieces in the file */
    bool stop;
    struct sluice_err err; /* of the thread, which ended with it */
};

static uint8_t *piece_at(const struct sl_behind *b, uint64_t piece)
{
    return b->ring + piece % PIECES * PIECE;
}

/* Pieces may come slower than they are written, or the other way round: both sides wait. */
static void *write_pieces(void *arg)
{
    struct sl_behind *b = arg;
    struct sluice_err err = {0};
    pthread_mutex_lock(&b->lock);
    while (b->err.code == 0) {
        while (!b->stop && b->ready == b->written)
            pthread_cond_wait(&b->changed, &b->lock);
        if (b->stop)
            break;
        uint64_t piece = b->written;
        pthread_mutex_unlock(&b->lock);
        int status = sl_newfile_write_at(b->file, piece_at(b, piece), PIECE,
                                         b->start + piece * PIECE, &err);
        pthread_mutex_lock(&b->lock);
        if (status < 0)
            b->err = err;
        else
            b->written++;
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

static int start_thread(struct sl_behind *b, struct sluice_err *err)
{
    int failed = sl_thread_start(&b->thread, write_pieces, b);
    b->started = failed == 0;
    return failed ? sl_fail_errno(err, SLUICE_ENOMEM, failed, "cannot start a writing thread") : 0;
}

int sl_behind_open(struct sl_behind **out, struct sl_newfile *file, uint64_t start, bool direct,
                   struct sluice_err *err)
{
    struct sl_behind *b = *out = calloc(1, sizeof *b);
    if (!b)
        return sl_fail_nomem(err, "write-behind", sizeof *b);
    b->file = file;
    b->start = start;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->ring = aligned_alloc(PAGE, (size_t)PIECES * PIECE);
    int status = b->ring ? 0 : sl_fail_nomem(err, "write-behind", (size_t)PIECES * PIECE);
    if (status == 0 && direct && start % PAGE == 0)
        sl_newfile_direct(file, true);
    if (status == 0)
        status = start_thread(b, err);
    if (status < 0)
        sl_behind_close(out);
    return status;
}

/* Waits until at most LEFT pieces are not yet written. */
static int wait_for(struct sl_behind *b, uint64_t left, struct sluice_err *err)
{
    pthread_mutex_lock(&b->lock);
    while (b->err.code == 0 && b->ready - b->written > left)
        pthread_cond_wait(&b->changed, &b->lock);
    int status = b->err.code;
    if (status < 0 && err)
        *err = b->err;
    pthread_mutex_unlock(&b->lock);
    return status;
}

static void hand_over(struct sl_behind *b)
{
    pthread_mutex_lock(&b->lock);
    b->ready++;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

int sl_behind_append(struct sl_behind *b, const void *data, size_t len, struct sluice_err *err)
{
    for (size_t done = 0; done < len;) {
        size_t at = b->filled % PIECE, n = sl_min(PIECE - at, len - done);
        int status = at == 0 ? wait_for(b, PIECES - 1, err) : 0;
        if (status < 0)
            return status;
        memcpy(piece_at(b, b->filled / PIECE) + at, (const uint8_t *)data + done, n);
        b->filled += n;
        done += n;
        if (at + n == PIECE)
            hand_over(b);
    }
    return 0;
}

/* What does not fill a piece is no multiple of a page, either: it takes the page cache. */
int sl_behind_finish(struct sl_behind *b, struct sluice_err *err)
{
    int status = wait_for(b, 0, err);
    if (status < 0)
        return status;
    sl_newfile_direct(b->file, false);
    uint64_t rest = b->filled % PIECE, piece = b->filled / PIECE;
    return sl_newfile_write_at(b->file, piece_at(b, piece), rest, b->start + piece * PIECE, err);
}

void sl_behind_close(struct sl_behind **out)
{
    struct sl_behind *b = *out;
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->lock);
    if (b->started)
        pthread_join(b->thread, NULL);
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b->ring);
    free(b);
    *out = NULL;
}
