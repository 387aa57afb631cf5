/* SPDX-License-Identifier: MIT */
/*
 * Chunks by io_uring: a ring per drive, owned by one thread that submits, waits and checks.  Others
 * wake it through an eventfd, of which a read is always in the ring.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "runtime/base/err.h"
#include "runtime/base/uring.h"
#include "runtime/stream/reader_queue.h"

#ifdef HAVE_URING
#include <errno.h>
#include <liburing.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/thread.h"

enum { PIECE = 1 << 30 }; /* of registered memory: the kernel takes no larger ones */

struct uring {
    struct io_uring ring;
    struct sl_queue *queue;
    bool fixed_files, fixed_memory;
    char refused[200]; /* why memory is not registered, or empty */
    int wake_fd;
    uint64_t woken; /* what the read of wake_fd brings */
    bool listening; /* that read is in the ring */
    unsigned in_flight;
    unsigned n_flights;           /* 2 · depth: in flight, or landed and not finished */
    struct sl_flight *flights;    /* [n_flights] */
    struct sl_flight **spare;     /* [n_flights], a stack */
    struct sl_flight **landed;    /* [n_flights], a ring */
    unsigned n_spare, head, tail; /* of landed */

    pthread_t thread;
    bool started;
    sem_t opened; /* the thread has its ring, or an error: */
    struct sluice_err err;
};

/* ---- registering ----------------------------------------------------------------------------- */

static void register_files(struct uring *u)
{
    const struct sl_queue *q = u->queue;
    int *fds = malloc(sl_max(q->n_files, 1) * sizeof *fds);
    for (size_t i = 0; fds && i < q->n_files; i++)
        fds[i] = q->drive < q->files[i].n_parts ? q->files[i].parts[q->drive].fd : -1;
    u->fixed_files = fds && io_uring_register_files(&u->ring, fds, (unsigned)q->n_files) == 0;
    free(fds);
}

static void raise_memlock(struct rlimit *limit)
{
    if (getrlimit(RLIMIT_MEMLOCK, limit) != 0)
        *limit = (struct rlimit){0};
    limit->rlim_cur = limit->rlim_max;
    setrlimit(RLIMIT_MEMLOCK, limit); /* below what is wanted, registering fails */
}

/* Pinned once, not for each read.  Plain reads do where that is refused. */
static void register_memory(struct uring *u)
{
    const struct sl_queue *q = u->queue;
    size_t n = sl_ceil_div(q->memory_bytes, PIECE);
    struct iovec *pieces = calloc(sl_max(n, 1), sizeof *pieces);
    struct rlimit limit;
    if (!pieces || n == 0) {
        free(pieces);
        return;
    }
    for (size_t i = 0; i < n; i++)
        pieces[i] = (struct iovec){(char *)q->memory + i * PIECE,
                                   sl_min(PIECE, q->memory_bytes - i * PIECE)};
    raise_memlock(&limit);
    int failed = io_uring_register_buffers(&u->ring, pieces, (unsigned)n);
    free(pieces);
    u->fixed_memory = failed == 0;
    if (failed == -ENOMEM && limit.rlim_max != RLIM_INFINITY)
        snprintf(
            u->refused, sizeof u->refused, "RLIMIT_MEMLOCK is %llu KiB, %llu wanted (ulimit -l)",
            (unsigned long long)limit.rlim_max >> 10, (unsigned long long)q->memory_bytes >> 10);
    else if (failed < 0)
        snprintf(u->refused, sizeof u->refused, "%s", strerror(-failed));
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void listen_for_wakes(struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring); /* never full: depth + 1 entries */
    io_uring_prep_read(sqe, u->wake_fd, &u->woken, sizeof u->woken, 0);
    io_uring_sqe_set_data(sqe, NULL);
    u->listening = true;
}

/* The piece of registered memory that a chunk lies in; -1: in none, or in two. */
static int piece_of(const struct uring *u, const struct sl_flight *f)
{
    const struct sl_queue *q = u->queue;
    size_t begin = (uintptr_t)f->data - (uintptr_t)q->memory;
    if (!u->fixed_memory || begin >= q->memory_bytes || f->length > q->memory_bytes - begin ||
        begin / PIECE != (begin + f->length - 1) / PIECE)
        return -1;
    return (int)(begin / PIECE);
}

static void begin(struct uring *u, struct sl_flight *f)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    int fd = u->fixed_files ? (int)(f->read->file - u->queue->files) : f->fd;
    int piece = piece_of(u, f);
    if (piece < 0)
        io_uring_prep_read(sqe, fd, f->data, (unsigned)f->length, f->offset);
    else
        io_uring_prep_read_fixed(sqe, fd, f->data, (unsigned)f->length, f->offset, piece);
    if (u->fixed_files)
        io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(sqe, f);
    u->in_flight++;
}

static void begin_all(struct uring *u)
{
    if (!u->listening)
        listen_for_wakes(u);
    while (u->in_flight < u->queue->depth && u->n_spare > 0 &&
           sl_queue_take(u->queue, u->spare[u->n_spare - 1]))
        begin(u, u->spare[--u->n_spare]);
}

/* Submits, and waits for a completion unless there is other work. */
static void submit(struct uring *u)
{
    bool idle = u->head == u->tail;
    int failed = io_uring_submit_and_wait(&u->ring, idle);
    if (failed < 0 && failed != -EINTR) /* out of memory for the moment, say */
        usleep(1000);
}

static void reap(struct uring *u)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        struct sl_flight *f = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        if (!f) {
            u->listening = false;
            continue;
        }
        u->in_flight--;
        sl_queue_landed(u->queue, f, result);
        u->landed[u->tail++ % u->n_flights] = f;
    }
}

/* One only: before the next one the drive gets new work in its place. */
static void finish_one(struct uring *u)
{
    if (u->head == u->tail)
        return;
    struct sl_flight *f = u->landed[u->head++ % u->n_flights];
    sl_queue_finish(u->queue, f);
    u->spare[u->n_spare++] = f;
}

static int open_in_thread(struct uring *u)
{
    int status = sl_uring_open(&u->ring, u->queue->depth + 1, &u->err);
    if (status < 0)
        return status;
    register_files(u);
    register_memory(u);
    listen_for_wakes(u);
    int failed = io_uring_submit(&u->ring);
    if (failed >= 0)
        return 0;
    io_uring_queue_exit(&u->ring);
    return sl_fail_errno(&u->err, SLUICE_EUNSUPPORTED, -failed, "io_uring takes no reads");
}

static void *read_chunks(void *arg)
{
    struct uring *u = arg;
    int status = open_in_thread(u);
    sem_post(&u->opened);
    if (status < 0)
        return NULL;
    do {
        begin_all(u);
        submit(u);
        reap(u);
        finish_one(u);
    } while (u->in_flight > 0 || u->head != u->tail || !sl_queue_stopped(u->queue));
    io_uring_queue_exit(&u->ring);
    return NULL;
}

/* ---- the engine ------------------------------------------------------------------------------ */

static int allocate(struct uring *u, struct sluice_err *err)
{
    u->n_flights = 2 * u->queue->depth;
    u->flights = calloc(u->n_flights, sizeof *u->flights);
    u->spare = calloc(u->n_flights, sizeof *u->spare);
    u->landed = calloc(u->n_flights, sizeof *u->landed);
    if (!u->flights || !u->spare || !u->landed)
        return sl_fail_nomem(err, "reads in flight", u->n_flights * sizeof *u->flights);
    while (u->n_spare < u->n_flights) {
        u->spare[u->n_spare] = &u->flights[u->n_spare];
        u->n_spare++;
    }
    u->wake_fd = eventfd(0, EFD_CLOEXEC);
    return u->wake_fd < 0 ? sl_fail_errno(err, SLUICE_EIO, errno, "cannot open an eventfd") : 0;
}

static int uring_open(struct sl_queue *q, struct sluice_err *err)
{
    struct uring *u = q->engine = calloc(1, sizeof *u);
    if (!u)
        return sl_fail_nomem(err, "io_uring reader", sizeof *u);
    u->queue = q;
    u->wake_fd = -1;
    sem_init(&u->opened, 0, 0);
    int status = allocate(u, err);
    if (status < 0)
        return status;
    int failed = sl_thread_start(&u->thread, read_chunks, u);
    if (failed)
        return sl_fail_errno(err, SLUICE_ENOMEM, failed, "cannot start a reader thread");
    u->started = true;
    while (sem_wait(&u->opened) != 0)
        continue;
    if (u->err.code < 0 && err)
        *err = u->err;
    return u->err.code;
}

static void uring_wake(struct sl_queue *q)
{
    const struct uring *u = q->engine;
    const uint64_t one = 1;
    if (u && u->started && write(u->wake_fd, &one, sizeof one) < 0)
        return; /* only if it counts to 2⁶⁴ already: the thread is awake */
}

static void uring_close(struct sl_queue *q)
{
    struct uring *u = q->engine;
    if (!u)
        return;
    if (u->started)
        pthread_join(u->thread, NULL);
    if (u->wake_fd >= 0)
        close(u->wake_fd);
    sem_destroy(&u->opened);
    free(u->flights);
    free(u->spare);
    free(u->landed);
    free(u);
}

static void uring_describe(const struct sl_queue *q, char *text, size_t size)
{
    const struct uring *u = q->engine;
    if (u->fixed_memory)
        snprintf(text, size, ", registered buffers");
    else if (q->memory_bytes > 0)
        snprintf(text, size, ", buffers not registered: %s", u->refused);
}

const struct sl_engine sl_engine_uring = {
    .name = "uring",
    .depth = 32,
    .open = uring_open,
    .wake = uring_wake,
    .close = uring_close,
    .describe = uring_describe,
};
#else
static int uring_open(struct sl_queue *q, struct sluice_err *err)
{
    (void)q;
    return sl_uring_open(NULL, 0, err);
}

static void nothing(struct sl_queue *q)
{
    (void)q;
}

const struct sl_engine sl_engine_uring = {
    .name = "uring", .depth = 1, .open = uring_open, .wake = nothing, .close = nothing};
#endif
