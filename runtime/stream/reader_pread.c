/* SPDX-License-Identifier: MIT */
/*
 * Experts by pread(2) from a small pool of threads.  The unit of work is a chunk, so that one
 * expert is read by several threads; a chunk with a wrong checksum is read once more.
 */
#include <pthread.h>
#include <stdlib.h>

#include "runtime/base/err.h"
#include "runtime/base/thread.h"
#include "runtime/stream/stream.h"

enum { THREADS = 4 };

struct sl_reader {
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t work, finished;
    struct sl_read *queue[SL_READS]; /* ring of reads with chunks nobody took yet */
    size_t head, tail;
    struct sl_read *done[SL_READS]; /* ring of finished reads */
    size_t done_head, done_tail;
    size_t under_way;
    bool stop;
    unsigned n_threads;
    pthread_t threads[THREADS];
};

static int read_chunk(const struct sl_read *read, uint64_t chunk, struct sluice_err *err)
{
    const struct sl_expert_file *f = read->file;
    uint8_t *data = read->buffer + chunk * SL_CHUNK_BYTES;
    struct sl_chunk_place place = sl_chunk_place(f, read->expert, chunk);
    const struct sl_expert_part *part = &f->parts[place.part];
    int status = 0;
    for (int attempt = 0; attempt < 2; attempt++) {
        status = sl_read_at(part->fd, data, place.length, place.offset, part->path, err);
        if (status == 0)
            status = sl_chunk_check(f, read->expert, chunk, data, err);
        if (status != SLUICE_EDAMAGED)
            break;
    }
    return status;
}

/* Takes the next chunk of the oldest queued read.  Called with the lock held, queue not empty. */
static struct sl_read *take_chunk(struct sl_reader *r, uint64_t *chunk)
{
    struct sl_read *read = r->queue[r->head % SL_READS];
    *chunk = read->next_chunk++;
    if (read->next_chunk == read->file->layout.chunks)
        r->head++;
    return read;
}

static void *reader_thread(void *arg)
{
    struct sl_reader *r = arg;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->stop && r->head == r->tail)
            pthread_cond_wait(&r->work, &r->lock);
        if (r->stop)
            break;
        uint64_t chunk;
        struct sluice_err err = {0};
        struct sl_read *read = take_chunk(r, &chunk);
        pthread_mutex_unlock(&r->lock);
        int status = read_chunk(read, chunk, &err);
        pthread_mutex_lock(&r->lock);
        if (status < 0 && read->err.code == 0)
            read->err = err;
        if (--read->left == 0) {
            read->data = read->buffer;
            r->done[r->done_tail++ % SL_READS] = read;
            pthread_cond_signal(&r->finished);
        }
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static void pread_close(struct sl_reader **out)
{
    struct sl_reader *r = *out;
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    pthread_cond_broadcast(&r->work);
    pthread_mutex_unlock(&r->lock);
    for (unsigned i = 0; i < r->n_threads; i++)
        pthread_join(r->threads[i], NULL);
    pthread_cond_destroy(&r->work);
    pthread_cond_destroy(&r->finished);
    pthread_mutex_destroy(&r->lock);
    free(r);
    *out = NULL;
}

static int pread_open(struct sl_reader **out, const struct sl_expert_file *files, size_t n_files,
                      struct sluice_err *err)
{
    struct sl_reader *r = *out = calloc(1, sizeof *r);
    (void)files;
    (void)n_files;
    if (!r)
        return sl_fail_nomem(err, "pread reader", sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, NULL);
    pthread_cond_init(&r->finished, NULL);
    int failed = 0;
    while (r->n_threads < THREADS && failed == 0) {
        failed = sl_thread_start(&r->threads[r->n_threads], reader_thread, r);
        r->n_threads += failed == 0;
    }
    if (r->n_threads == 0) {
        pread_close(out);
        return sl_fail_errno(err, SLUICE_ENOMEM, failed, "cannot start reader threads");
    }
    return 0;
}

static int pread_submit(struct sl_reader *r, struct sl_read *read, struct sluice_err *err)
{
    int status = 0;
    pthread_mutex_lock(&r->lock);
    if (r->under_way == SL_READS) {
        status = sl_fail(err, SLUICE_EARG, "more than %d reads at a time", SL_READS);
    } else {
        read->err.code = 0;
        read->data = NULL;
        read->next_chunk = 0;
        read->left = read->file->layout.chunks;
        r->queue[r->tail++ % SL_READS] = read;
        r->under_way++;
        pthread_cond_broadcast(&r->work);
    }
    pthread_mutex_unlock(&r->lock);
    return status;
}

static int pread_wait(struct sl_reader *r, struct sl_read **done, struct sluice_err *err)
{
    int status = 0;
    pthread_mutex_lock(&r->lock);
    if (r->under_way == 0) {
        status = sl_fail(err, SLUICE_EARG, "no read is under way");
    } else {
        while (r->done_head == r->done_tail)
            pthread_cond_wait(&r->finished, &r->lock);
        *done = r->done[r->done_head++ % SL_READS];
        r->under_way--;
    }
    pthread_mutex_unlock(&r->lock);
    return status;
}

const struct sl_reader_ops sl_reader_pread = {
    .name = "pread",
    .needs_buffers = true,
    .open = pread_open,
    .submit = pread_submit,
    .wait = pread_wait,
    .close = pread_close,
};
