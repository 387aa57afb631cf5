/* SPDX-License-Identifier: MIT */
/*
 * Bringing expert blocks: a queue of chunks per drive, and an engine that reads them (io_uring, or
 * a pool of threads with pread).  Private to stream/.  Owns which chunk is read next, what is
 * retried, and what counts as good; knows nothing of slots and caches.
 *
 * One thread submits, raises, withdraws and waits; engines have threads of their own.
 */
#ifndef SL_STREAM_READER_H
#define SL_STREAM_READER_H

#include <stdbool.h>

#include "runtime/stream/stream.h"

enum {
    SL_READS = 128,            /* under way at a time: a wave, and all stages */
    SL_GUESSES_IN_FLIGHT = 8,  /* chunks per drive: a demand waits for no more than these */
    SL_READER_DEPTH_MAX = 256, /* chunks in flight per drive */
};

enum sl_read_state {
    SL_READ_IDLE,      /* never submitted */
    SL_READ_UNDER_WAY, /* nothing to be had yet */
    SL_READ_HALF,      /* the gate and up panels have landed and are checked */
    /* The buffer is the caller's again: */
    SL_READ_DONE,      /* all has landed and is checked */
    SL_READ_FAILED,    /* err says why */
    SL_READ_WITHDRAWN, /* before all chunks had begun */
};

/* One expert block to bring.  The caller sets the first part and keeps the struct where it is until
 * the read is done, failed or withdrawn. */
struct sl_read {
    const struct sl_expert_file *file;
    uint32_t expert;
    uint8_t *buffer; /* [stride], 4096-aligned.  In huge pages: 1 MiB of small ones is more pieces
                      * than many drives take at once (docs/benchmarking.md: 3 times slower) */
    bool ahead;      /* a guess: its chunks begin only while no other chunk waits for the drive */
    bool halves;     /* the gate and up chunks of all such reads go before their down chunks;
                      * otherwise whole blocks come in the order of submission */

    struct sluice_err err; /* code 0: good */

    /* The reader's own. */
    enum sl_read_state state;
    uint64_t next[SL_PARTS_MAX]; /* per drive: chunk to begin next */
    uint64_t up;                 /* chunks that hold gate and up panels, the first ones */
    uint64_t left_up, left;      /* not yet good */
    unsigned in_flight;          /* begun and not yet judged */
    bool dropped;                /* chunks that have not begun never will */
    double landed;               /* when it ended, on the clock of sl_now() */
};

struct sl_reader;
struct sl_engine;
struct sl_read_filter;

struct sl_reader_opts {
    enum sluice_reader kind; /* AUTO: URING, or PREAD where the kernel does not allow that */
    unsigned depth;          /* chunks in flight per drive; 0: what the engine measures best with */
    void *memory;            /* NULL, or what all buffers lie in, for io_uring to register.  That */
    size_t memory_bytes;     /* pins it until closing, and pays only where pages are small */
    /* Tests only, and NULL otherwise; see reader_queue.h. */
    const struct sl_engine *engine;
    const struct sl_read_filter *filter;
};

/* FILES stay the caller's and open until the reader is closed.  The reader may set O_DIRECT. */
int sl_reader_open(struct sl_reader **r, const struct sl_reader_opts *opts,
                   const struct sl_expert_file *files, size_t n_files, struct sluice_err *err);

/* Withdraws what is under way, waits for what is in flight, ends the threads. */
void sl_reader_close(struct sl_reader **r);

const char *sl_reader_name(const struct sl_reader *r); /* "uring", "pread" */

/* One line for the user: how files are read, and why not otherwise. */
const char *sl_reader_how(const struct sl_reader *r);

/* Queues a read; SLUICE_EARG when SL_READS are under way. */
int sl_reader_submit(struct sl_reader *r, struct sl_read *read, struct sluice_err *err);

/* A guess turned out right: from now on it is read as if it had been asked for. */
void sl_reader_raise(struct sl_reader *r, struct sl_read *read);

/*
 * Chunks that have not begun are dropped.  The read becomes WITHDRAWN when those in flight have
 * landed, at once when there are none; DONE (or FAILED) when there was nothing left to drop.
 */
void sl_reader_withdraw(struct sl_reader *r, struct sl_read *read);

enum sl_read_state sl_reader_state(struct sl_reader *r, const struct sl_read *read);

/*
 * Blocks until some read has changed its state since the SEEN-th change, at most SECONDS.  Returns
 * whether one has, and advances SEEN.  Begin with *seen = 0, and look at the states after each
 * call: none is missed.
 */
bool sl_reader_wait(struct sl_reader *r, uint64_t *seen, double seconds);

/* What one drive did since opening. */
struct sl_reader_use {
    uint64_t bytes;   /* that landed */
    double seconds;   /* during which a read was in flight */
    double longest;   /* seconds of the slowest chunk */
    uint64_t retries; /* reads made again: errors, short ones, wrong checksums */
    unsigned depth;   /* chunks in flight at most */
};
unsigned sl_reader_drives(const struct sl_reader *r);
struct sl_reader_use sl_reader_use(struct sl_reader *r, unsigned drive);

/* ---- without reading ------------------------------------------------------------------------- */

/* Expert files mapped. */
struct sl_mapped;

int sl_mapped_open(struct sl_mapped **m, const struct sl_expert_file *files, size_t n_files,
                   struct sluice_err *err);
void sl_mapped_close(struct sl_mapped **m);

/* *block points to an expert's block.  It is checked when it is first asked for. */
int sl_mapped_block(struct sl_mapped *m, const struct sl_expert_file *file, uint32_t expert,
                    const uint8_t **block, struct sluice_err *err);

#endif
