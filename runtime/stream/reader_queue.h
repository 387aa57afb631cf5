/* SPDX-License-Identifier: MIT */
/*
 * Between the queue of chunks and the engines that read them.  A thread of an engine takes chunks,
 * reads them as it can, says what landed, and finishes each: the queue completes and checks it.
 */
#ifndef SL_STREAM_READER_QUEUE_H
#define SL_STREAM_READER_QUEUE_H

#include <pthread.h>
#include <sys/types.h>

#include "runtime/stream/reader.h"

struct sl_queue;

/* One chunk on its way. */
struct sl_flight {
    struct sl_read *read;
    uint64_t chunk;
    int fd;
    const char *path;
    uint64_t offset; /* in the file, as data and length a multiple of 4096 */
    size_t length;
    uint8_t *data;
    bool ahead;     /* begun as a guess */
    double begun;   /* on the clock of sl_now() */
    ssize_t landed; /* what the read gave: bytes, or -errno */
};

/* The next chunk of a drive; false when none may begin now: the engine's wake() will be called. */
bool sl_queue_take(struct sl_queue *q, struct sl_flight *f);

/* The same, waiting for it; false: the reader is being closed. */
bool sl_queue_wait(struct sl_queue *q, struct sl_flight *f);

/* Whether threads should end when they have nothing in flight. */
bool sl_queue_stopped(struct sl_queue *q);

/* The read of F gave RESULT.  Others may begin in its place before it is finished. */
void sl_queue_landed(struct sl_queue *q, struct sl_flight *f, ssize_t result);

/* Reads again what is missing or wrong, checks the chunk, and counts it; may take long. */
void sl_queue_finish(struct sl_queue *q, const struct sl_flight *f);

/* How chunks of one drive are read. */
struct sl_engine {
    const char *name;
    unsigned depth; /* chunks in flight unless the user says otherwise */
    int (*open)(struct sl_queue *q, struct sluice_err *err);
    void (*wake)(struct sl_queue *q); /* a chunk may begin, or it is time to stop; q locked */
    /* After stopping: ends the threads.  Takes a half-open engine, too. */
    void (*close)(struct sl_queue *q);
    /* What else the user should know, ", …"; may be NULL. */
    void (*describe)(const struct sl_queue *q, char *text, size_t size);
};

extern const struct sl_engine sl_engine_pread; /* a thread per chunk in flight */
extern const struct sl_engine sl_engine_uring; /* one thread, io_uring */

/*
 * For tests: sees what each read(2) or its completion gave, bytes or -errno, and may change it and
 * the data, so that drives can fail on purpose.  The read began DONE bytes behind the beginning of
 * the chunk.  Called by the engines' threads.
 */
struct sl_read_filter {
    void *user;
    ssize_t (*landed)(void *user, const struct sl_flight *f, size_t done, ssize_t result);
};

/* The chunks of one drive. */
struct sl_queue {
    struct sl_reader *reader;
    const struct sl_expert_file *files;
    size_t n_files;
    unsigned drive, depth;
    void *memory; /* to register, or NULL */
    size_t memory_bytes;
    void *engine; /* its own */

    /* Guarded by the reader's lock. */
    pthread_cond_t work;
    bool hungry;                 /* a thread would take more */
    unsigned in_flight, guesses; /* chunks begun that have not landed, and guesses among them */
    double busy_since;           /* in_flight > 0 */
    struct sl_reader_use use;
};

#endif
