/* SPDX-License-Identifier: MIT */
/*
 * The reads under way and the order of their chunks; what is done about reads that fail.  One lock
 * guards it all: a fast drive brings some ten thousand chunks a second.
 */
#include "runtime/stream/reader_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"

enum {
    ALIGN = 4096, /* of direct reads */
    RETRIES = 3,
};

struct sl_reader {
    const struct sl_engine *engine;
    const struct sl_read_filter *filter;
    char how[1536];
    size_t direct[2]; /* files through the page cache, and past it */
    unsigned n_queues;
    struct sl_queue queues[SL_PARTS_MAX];

    pthread_mutex_t lock; /* guards what follows, the queues' own and every read under way */
    pthread_cond_t changed;
    uint64_t changes; /* of states, so far */
    size_t n_reads;
    struct sl_read *reads[SL_READS]; /* under way, in the order of submission */
    bool stop;
};

/* ---- order ----------------------------------------------------------------------------------- */

/* Whether READ has a chunk to begin on DRIVE, in a part of it whose turn is now. */
static bool has_chunk(const struct sl_read *read, unsigned drive, bool ahead, bool downs)
{
    uint64_t next = read->next[drive];
    if (read->dropped || read->ahead != ahead || next >= read->file->layout.chunks)
        return false;
    return downs || !read->halves || next < read->up;
}

static struct sl_read *find_read(struct sl_reader *r, unsigned drive, bool ahead)
{
    for (int downs = 0; downs < 2; downs++)
        for (size_t i = 0; i < r->n_reads; i++)
            if (has_chunk(r->reads[i], drive, ahead, downs))
                return r->reads[i];
    return NULL;
}

static struct sl_read *next_read(struct sl_queue *q)
{
    struct sl_read *read = find_read(q->reader, q->drive, false);
    if (!read && q->guesses < SL_GUESSES_IN_FLIGHT)
        read = find_read(q->reader, q->drive, true);
    return read;
}

static void begin(struct sl_queue *q, struct sl_read *read, struct sl_flight *f)
{
    uint64_t chunk = read->next[q->drive];
    const struct sl_chunk_place place = sl_chunk_place(read->file, read->expert, chunk);
    const struct sl_expert_part *part = &read->file->parts[place.part];
    *f = (struct sl_flight){
        .read = read,
        .chunk = chunk,
        .fd = part->fd,
        .path = part->path,
        .offset = place.offset,
        .length = place.length,
        .data = read->buffer + chunk * SL_CHUNK_BYTES,
        .ahead = read->ahead,
        .begun = sl_now(),
    };
    read->next[q->drive] += read->file->n_parts;
    read->in_flight++;
    q->guesses += f->ahead;
    if (q->in_flight++ == 0)
        q->busy_since = f->begun;
}

static bool take(struct sl_queue *q, struct sl_flight *f)
{
    struct sl_read *read = next_read(q);
    q->hungry = !read;
    if (read)
        begin(q, read, f);
    return read;
}

bool sl_queue_take(struct sl_queue *q, struct sl_flight *f)
{
    pthread_mutex_lock(&q->reader->lock);
    bool taken = take(q, f);
    pthread_mutex_unlock(&q->reader->lock);
    return taken;
}

bool sl_queue_wait(struct sl_queue *q, struct sl_flight *f)
{
    bool taken;
    pthread_mutex_lock(&q->reader->lock);
    while (!(taken = take(q, f)) && !q->reader->stop)
        pthread_cond_wait(&q->work, &q->reader->lock);
    pthread_mutex_unlock(&q->reader->lock);
    return taken;
}

bool sl_queue_stopped(struct sl_queue *q)
{
    pthread_mutex_lock(&q->reader->lock);
    bool stop = q->reader->stop;
    pthread_mutex_unlock(&q->reader->lock);
    return stop;
}

/* ---- states ---------------------------------------------------------------------------------- */

static void change(struct sl_reader *r, struct sl_read *read, enum sl_read_state state)
{
    read->state = state;
    r->changes++;
    pthread_cond_broadcast(&r->changed);
}

static void end(struct sl_reader *r, struct sl_read *read)
{
    size_t i = 0;
    while (r->reads[i] != read)
        i++;
    memmove(&r->reads[i], &r->reads[i + 1], (--r->n_reads - i) * sizeof *r->reads);
    read->landed = sl_now();
    change(r, read,
           read->err.code < 0 ? SL_READ_FAILED
           : read->left > 0   ? SL_READ_WITHDRAWN
                              : SL_READ_DONE);
}

/* After a chunk was judged, or the rest was dropped. */
static void settle(struct sl_reader *r, struct sl_read *read)
{
    if (read->in_flight == 0 && (read->dropped || read->left == 0))
        end(r, read);
    else if (read->left_up == 0 && read->state == SL_READ_UNDER_WAY)
        change(r, read, SL_READ_HALF);
}

static void wake(struct sl_reader *r)
{
    for (unsigned i = 0; i < r->n_queues; i++)
        if (r->queues[i].hungry) {
            r->queues[i].hungry = false;
            r->engine->wake(&r->queues[i]);
        }
}

static int check_read(const struct sl_reader *r, const struct sl_read *read, struct sluice_err *err)
{
    if (r->n_reads == SL_READS)
        return sl_fail(err, SLUICE_EARG, "more than %d reads at a time", SL_READS);
    if ((uintptr_t)read->buffer % ALIGN)
        return sl_fail(err, SLUICE_EARG, "buffer of a read not at a multiple of %d", ALIGN);
    return 0;
}

int sl_reader_submit(struct sl_reader *r, struct sl_read *read, struct sluice_err *err)
{
    pthread_mutex_lock(&r->lock);
    int status = check_read(r, read, err);
    if (status == 0) {
        const struct sl_expert_layout *layout = &read->file->layout;
        read->err.code = 0;
        read->up = sl_ceil_div(layout->down_offset, SL_CHUNK_BYTES);
        read->left_up = read->up;
        read->left = layout->chunks;
        read->in_flight = 0;
        read->dropped = false;
        for (unsigned i = 0; i < r->n_queues; i++)
            read->next[i] = i < read->file->n_parts ? i : layout->chunks;
        r->reads[r->n_reads++] = read;
        change(r, read, SL_READ_UNDER_WAY);
        wake(r);
    }
    pthread_mutex_unlock(&r->lock);
    return status;
}

void sl_reader_raise(struct sl_reader *r, struct sl_read *read)
{
    pthread_mutex_lock(&r->lock);
    read->ahead = false;
    wake(r);
    pthread_mutex_unlock(&r->lock);
}

static bool is_under_way(const struct sl_read *read)
{
    return read->state == SL_READ_UNDER_WAY || read->state == SL_READ_HALF;
}

static void withdraw(struct sl_reader *r, struct sl_read *read)
{
    read->dropped = true;
    settle(r, read);
}

void sl_reader_withdraw(struct sl_reader *r, struct sl_read *read)
{
    pthread_mutex_lock(&r->lock);
    if (is_under_way(read))
        withdraw(r, read);
    pthread_mutex_unlock(&r->lock);
}

enum sl_read_state sl_reader_state(struct sl_reader *r, const struct sl_read *read)
{
    pthread_mutex_lock(&r->lock);
    enum sl_read_state state = read->state;
    pthread_mutex_unlock(&r->lock);
    return state;
}

bool sl_reader_wait(struct sl_reader *r, uint64_t *seen, double seconds)
{
    struct timespec until;
    double end = sl_now() + fmin(seconds, 1e6);
    int failed = 0;
    until.tv_sec = (time_t)end;
    until.tv_nsec = (long)((end - (double)until.tv_sec) * 1e9);
    pthread_mutex_lock(&r->lock);
    while (*seen == r->changes && failed == 0)
        failed = pthread_cond_timedwait(&r->changed, &r->lock, &until);
    bool changed = *seen != r->changes;
    *seen = r->changes;
    pthread_mutex_unlock(&r->lock);
    return changed;
}

/* ---- what lands ------------------------------------------------------------------------------ */

static ssize_t filtered(const struct sl_queue *q, const struct sl_flight *f, size_t done,
                        ssize_t result)
{
    const struct sl_read_filter *filter = q->reader->filter;
    return filter ? filter->landed(filter->user, f, done, result) : result;
}

void sl_queue_landed(struct sl_queue *q, struct sl_flight *f, ssize_t result)
{
    f->landed = filtered(q, f, 0, result);
    double now = sl_now();
    pthread_mutex_lock(&q->reader->lock);
    q->guesses -= f->ahead;
    if (--q->in_flight == 0)
        q->use.seconds += now - q->busy_since;
    q->use.longest = fmax(q->use.longest, now - f->begun);
    q->use.bytes += f->landed > 0 ? (uint64_t)f->landed : 0;
    pthread_mutex_unlock(&q->reader->lock);
}

/* Reads what is missing from DONE on. */
static ssize_t read_again(struct sl_queue *q, const struct sl_flight *f, size_t done)
{
    pthread_mutex_lock(&q->reader->lock);
    q->use.retries++;
    pthread_mutex_unlock(&q->reader->lock);
    ssize_t got = pread(f->fd, f->data + done, f->length - done, (off_t)(f->offset + done));
    return filtered(q, f, done, got < 0 ? -errno : got);
}

static bool has_ended(const struct sl_flight *f)
{
    struct stat st;
    return fstat(f->fd, &st) == 0 && (uint64_t)st.st_size < f->offset + f->length;
}

static int say_failed(const struct sl_flight *f, size_t done, ssize_t got, struct sluice_err *err)
{
    unsigned long long at = f->offset + done;
    if (got == -ENODEV || got == -ENXIO)
        return sl_fail_errno(err, SLUICE_EIO, (int)-got,
                             "cannot read %s at %llu: its drive is gone; see dmesg, then start "
                             "again",
                             f->path, at);
    if (got >= 0)
        return sl_fail(err, SLUICE_EIO, "cannot read %s at %llu: %zd bytes came instead of %zu",
                       f->path, at, got, f->length - done);
    return sl_fail_errno(err, SLUICE_EIO, (int)-got,
                         "cannot read %s at %llu, tried %d times; look at the drive with dmesg and "
                         "smartctl -a, then run sluice verify on the container",
                         f->path, at, RETRIES + 1);
}

/* The first retry is at once: often only the asynchronous way was refused. */
static void pause_before(unsigned retry)
{
    static const long milliseconds[RETRIES + 1] = {0, 0, 20, 200};
    const struct timespec t = {0, milliseconds[retry] * 1000000};
    if (t.tv_nsec > 0)
        nanosleep(&t, NULL);
}

/* GOT is what the first read gave: reads on until the chunk is whole. */
static int complete(struct sl_queue *q, const struct sl_flight *f, ssize_t got,
                    struct sluice_err *err)
{
    size_t done = 0;
    unsigned failures = 0;
    for (;;) {
        size_t before = done;
        if (got > 0 && (done += (size_t)got) >= f->length)
            return 0;
        if (got >= 0 && has_ended(f))
            return sl_fail(err, SLUICE_EFORMAT,
                           "%s: ends before byte %llu: truncated while it was in use; run sluice "
                           "verify on the container",
                           f->path, (unsigned long long)(f->offset + f->length));
        done -= done % ALIGN; /* direct reads continue there */
        if (done == before && got != -EINTR && !(got == -EINVAL && sl_stop_direct(f->fd)))
            failures++;
        if (failures > RETRIES || got == -ENODEV || got == -ENXIO)
            return say_failed(f, done, got, err);
        pause_before(failures);
        got = read_again(q, f, done);
    }
}

/* Bytes that came through the page cache are not needed twice. */
static void forget_cached(const struct sl_flight *f)
{
    int flags = fcntl(f->fd, F_GETFL);
    if (flags >= 0 && !(flags & O_DIRECT))
        posix_fadvise(f->fd, (off_t)f->offset, (off_t)f->length, POSIX_FADV_DONTNEED);
}

/* A wrong checksum may come from the way here, so the chunk is read once more. */
static int judge(struct sl_queue *q, const struct sl_flight *f, struct sluice_err *err)
{
    int status = complete(q, f, f->landed, err);
    for (int again = 0; status == 0; again++) {
        forget_cached(f);
        status = sl_chunk_check(f->read->file, f->read->expert, f->chunk, f->data, err);
        if (status == 0 || again)
            break;
        status = complete(q, f, read_again(q, f, 0), err);
    }
    return status;
}

void sl_queue_finish(struct sl_queue *q, const struct sl_flight *f)
{
    struct sl_reader *r = q->reader;
    struct sl_read *read = f->read;
    struct sluice_err err = {0};
    int status = judge(q, f, &err);
    pthread_mutex_lock(&r->lock);
    read->in_flight--;
    if (status == 0) {
        read->left--;
        read->left_up -= f->chunk < read->up;
    } else {
        if (read->err.code == 0)
            read->err = err;
        read->dropped = true;
    }
    settle(r, read);
    pthread_mutex_unlock(&r->lock);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Whether the part is read past the page cache from now on: where a direct read works. */
static bool set_direct(const struct sl_expert_part *part, void *page)
{
    int flags = fcntl(part->fd, F_GETFL);
    if (flags < 0 || fcntl(part->fd, F_SETFL, flags | O_DIRECT) < 0)
        return false;
    if (pread(part->fd, page, ALIGN, (off_t)part->data) >= 0)
        return true;
    fcntl(part->fd, F_SETFL, flags);
    return false;
}

static int set_all_direct(struct sl_reader *r, const struct sl_expert_file *files, size_t n_files,
                          struct sluice_err *err)
{
    void *page = aligned_alloc(ALIGN, ALIGN);
    if (!page)
        return sl_fail_nomem(err, "reader", ALIGN);
    for (size_t i = 0; i < n_files; i++)
        for (unsigned p = 0; p < files[i].n_parts; p++)
            r->direct[set_direct(&files[i].parts[p], page)]++;
    free(page);
    return 0;
}

static int open_queue(struct sl_reader *r, const struct sl_reader_opts *o,
                      const struct sl_expert_file *files, size_t n_files, struct sluice_err *err)
{
    struct sl_queue *q = &r->queues[r->n_queues];
    *q = (struct sl_queue){
        .reader = r,
        .files = files,
        .n_files = n_files,
        .drive = r->n_queues,
        .depth = (unsigned)sl_min(o->depth ? o->depth : r->engine->depth, SL_READER_DEPTH_MAX),
        .memory = o->memory,
        .memory_bytes = o->memory ? o->memory_bytes : 0,
    };
    pthread_cond_init(&q->work, NULL);
    r->n_queues++;
    return r->engine->open(q, err);
}

/* With the engines' threads ended, too. */
static void close_queues(struct sl_reader *r)
{
    pthread_mutex_lock(&r->lock);
    for (size_t i = r->n_reads; i-- > 0;)
        withdraw(r, r->reads[i]);
    r->stop = true;
    for (unsigned i = 0; i < r->n_queues; i++)
        r->engine->wake(&r->queues[i]);
    pthread_mutex_unlock(&r->lock);
    for (unsigned i = 0; i < r->n_queues; i++) {
        r->engine->close(&r->queues[i]);
        pthread_cond_destroy(&r->queues[i].work);
    }
    r->n_queues = 0;
    r->stop = false;
}

static int open_queues(struct sl_reader *r, const struct sl_engine *engine,
                       const struct sl_reader_opts *o, const struct sl_expert_file *files,
                       size_t n_files, struct sluice_err *err)
{
    unsigned drives = 1;
    int status = 0;
    for (size_t i = 0; i < n_files; i++)
        drives = (unsigned)sl_max(drives, files[i].n_parts);
    r->engine = engine;
    while (status == 0 && r->n_queues < drives)
        status = open_queue(r, o, files, n_files, err);
    if (status < 0)
        close_queues(r);
    return status;
}

/* WHY_NOT: the error that led to another engine than the first choice, or none. */
static void describe(struct sl_reader *r, const struct sluice_err *why_not)
{
    char more[256] = "";
    if (r->engine->describe)
        r->engine->describe(&r->queues[0], more, sizeof more);
    snprintf(r->how, sizeof r->how, "%s, %u chunks in flight%s, %s%s%s%s", r->engine->name,
             r->queues[0].depth, r->n_queues > 1 ? " per drive" : "",
             r->direct[0] == 0   ? "past the page cache (O_DIRECT)"
             : r->direct[1] == 0 ? "through the page cache: O_DIRECT is refused there"
                                 : "partly through the page cache: O_DIRECT is refused there",
             more, why_not->code < 0 ? "; " : "", why_not->msg);
}

int sl_reader_open(struct sl_reader **out, const struct sl_reader_opts *o,
                   const struct sl_expert_file *files, size_t n_files, struct sluice_err *err)
{
    struct sluice_err why_not = {0};
    struct sl_reader *r = *out = calloc(1, sizeof *r);
    if (!r)
        return sl_fail_nomem(err, "reader", sizeof *r);
    r->filter = o->filter;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&r->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&r->lock, NULL);
    int status = set_all_direct(r, files, n_files, err);
    if (status < 0)
        goto done;
    if (o->engine)
        status = open_queues(r, o->engine, o, files, n_files, err);
    else if (o->kind == SLUICE_READER_URING)
        status = open_queues(r, &sl_engine_uring, o, files, n_files, err);
    else if (o->kind == SLUICE_READER_PREAD ||
             open_queues(r, &sl_engine_uring, o, files, n_files, &why_not) < 0)
        status = open_queues(r, &sl_engine_pread, o, files, n_files, err);
done:
    if (status < 0)
        sl_reader_close(out);
    else
        describe(r, &why_not);
    return status;
}

void sl_reader_close(struct sl_reader **out)
{
    struct sl_reader *r = *out;
    if (!r)
        return;
    close_queues(r);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r);
    *out = NULL;
}

const char *sl_reader_name(const struct sl_reader *r)
{
    return r->engine->name;
}

const char *sl_reader_how(const struct sl_reader *r)
{
    return r->how;
}

unsigned sl_reader_drives(const struct sl_reader *r)
{
    return r->n_queues;
}

struct sl_reader_use sl_reader_use(struct sl_reader *r, unsigned drive)
{
    struct sl_queue *q = &r->queues[drive];
    pthread_mutex_lock(&r->lock);
    struct sl_reader_use use = q->use;
    use.depth = q->depth;
    if (q->in_flight > 0)
        use.seconds += sl_now() - q->busy_since;
    pthread_mutex_unlock(&r->lock);
    return use;
}
