/* SPDX-License-Identifier: MIT */
/* The reader by io_uring: one thread that keeps DEPTH reads in flight. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef HAVE_URING
#include <liburing.h>
#endif

#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/base/uring.h"
#include "tools/measure/drive_private.h"

int sl_drive_uring_errno(void)
{
#ifdef SYS_io_uring_setup
    uint64_t params[15] = {0}; /* struct io_uring_params: 120 bytes in every version */
    long fd = syscall(SYS_io_uring_setup, 1, params);
    if (fd < 0)
        return errno;
    close((int)fd);
    return 0;
#else
    return ENOSYS;
#endif
}

#ifdef HAVE_URING
struct flight {
    struct sl_piece piece;
    double begin;
};

struct uring {
    struct io_uring ring;
    struct sl_drive_run *run;
    struct flight *flights; /* [depth] */
    unsigned in_flight;
};

static void submit_one(struct uring *u, unsigned slot)
{
    struct flight *f = &u->flights[slot];
    size_t bytes = u->run->test->bytes;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring); /* never full: DEPTH entries */
    f->piece = sl_pieces_take(&u->run->pieces);
    f->begin = sl_now();
    io_uring_prep_read(sqe, f->piece.file->fd, u->run->buffers + slot * bytes, (unsigned)bytes,
                       f->piece.offset);
    io_uring_sqe_set_data(sqe, f);
    u->in_flight++;
}

/* What came in part is read again by pread, which knows what to say of a file that ended. */
static int finish(struct uring *u, const struct flight *f, int got, struct sluice_err *err)
{
    size_t bytes = u->run->test->bytes, slot = (size_t)(f - u->flights);
    const struct sl_piece *p = &f->piece;
    int status = 0;
    if (got < 0 && got != -EAGAIN && got != -EINTR)
        return sl_fail_errno(err, SLUICE_EIO, -got, "io_uring cannot read %s at %llu",
                             p->file->path, (unsigned long long)p->offset);
    if (got < 0 || (size_t)got < bytes)
        status = sl_read_at(p->file->fd, u->run->buffers + slot * bytes, bytes, p->offset,
                            p->file->path, err);
    sl_drive_count(&u->run->tally, f->begin, sl_now());
    return status;
}

/* Waits for one read or more and begins as many new ones, while there is time and no failure. */
static int turn(struct uring *u, int status, struct sluice_err *err)
{
    struct io_uring_cqe *cqe;
    int failed = io_uring_submit_and_wait(&u->ring, 1);
    if (failed < 0 && failed != -EINTR && failed != -EAGAIN && failed != -EBUSY) {
        u->in_flight = 0;
        u->run->buffers = NULL; /* left alone: the kernel may still write there */
        return status < 0 ? status : sl_fail_errno(err, SLUICE_EIO, -failed, "io_uring");
    }
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        struct flight *f = io_uring_cqe_get_data(cqe);
        int got = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        u->in_flight--;
        if (status == 0)
            status = finish(u, f, got, err);
        if (status == 0 && sl_now() < u->run->deadline)
            submit_one(u, (unsigned)(f - u->flights));
    }
    return status;
}

int sl_drive_uring(struct sl_drive_run *run, struct sluice_err *err)
{
    struct uring u = {.run = run};
    unsigned depth = run->test->depth;
    int status = sl_uring_open(&u.ring, depth, err);
    if (status < 0)
        return status;
    if (!(u.flights = calloc(depth, sizeof *u.flights)))
        status = sl_fail_nomem(err, "reads in flight", depth * sizeof *u.flights);
    for (unsigned i = 0; status == 0 && i < depth; i++)
        submit_one(&u, i);
    while (u.in_flight > 0)
        status = turn(&u, status, err);
    io_uring_queue_exit(&u.ring);
    free(u.flights);
    return status;
}
#else
int sl_drive_uring(struct sl_drive_run *run, struct sluice_err *err)
{
    (void)run;
    return sl_uring_open(NULL, 0, err);
}
#endif
