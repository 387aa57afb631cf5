/* SPDX-License-Identifier: MIT */
/* Chunks by pread(2): a pool of threads per drive, each with one chunk in flight. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/base/thread.h"
#include "runtime/stream/reader_queue.h"

struct pool {
    unsigned n_threads;
    pthread_t threads[]; /* [depth] */
};

static void *read_chunks(void *arg)
{
    struct sl_queue *q = arg;
    struct sl_flight f;
    while (sl_queue_wait(q, &f)) {
        ssize_t got = pread(f.fd, f.data, f.length, (off_t)f.offset);
        sl_queue_landed(q, &f, got < 0 ? -errno : got);
        sl_queue_finish(q, &f);
    }
    return NULL;
}

static int pread_open(struct sl_queue *q, struct sluice_err *err)
{
    struct pool *pool = q->engine = calloc(1, sizeof *pool + q->depth * sizeof *pool->threads);
    if (!pool)
        return sl_fail_nomem(err, "reader threads", q->depth * sizeof *pool->threads);
    int failed = 0;
    while (pool->n_threads < q->depth && failed == 0) {
        failed = sl_thread_start(&pool->threads[pool->n_threads], read_chunks, q);
        pool->n_threads += failed == 0;
    }
    if (pool->n_threads == 0)
        return sl_fail_errno(err, SLUICE_ENOMEM, failed, "cannot start reader threads");
    q->depth = pool->n_threads;
    return 0;
}

static void pread_wake(struct sl_queue *q)
{
    pthread_cond_broadcast(&q->work);
}

static void pread_close(struct sl_queue *q)
{
    struct pool *pool = q->engine;
    for (unsigned i = 0; pool && i < pool->n_threads; i++)
        pthread_join(pool->threads[i], NULL);
    free(pool);
}

const struct sl_engine sl_engine_pread = {
    .name = "pread",
    .depth = 16,
    .open = pread_open,
    .wake = pread_wake,
    .close = pread_close,
};
