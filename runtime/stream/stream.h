/* SPDX-License-Identifier: MIT */
/*
 * stream.h: how routed experts reach memory.  An expert is one block of a file; a reader (reader.h)
 * brings blocks, `struct sl_experts` lends them to moe/.  Knows nothing about what is in a block.
 */
#ifndef SL_STREAM_H
#define SL_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>

#include "runtime/base/file.h"
#include "runtime/base/payoff.h"
#include "runtime/container/container.h"

/* ---- expert files --------------------------------------------------------------------------- */

/* What one drive has of a layer's experts. */
struct sl_expert_part {
    char path[SL_PATH_MAX];
    int fd;
    uint64_t data;   /* offset of expert 0 */
    uint64_t stride; /* bytes per expert in this part */
};

struct sl_expert_file {
    unsigned layer;
    uint32_t n_experts;
    struct sl_expert_layout layout; /* of whole experts */
    uint64_t *checksums;            /* [n_experts][layout.chunks] */
    unsigned n_parts;               /* 1: not split; 0: there is no file */
    struct sl_expert_part parts[SL_PARTS_MAX];
};

/*
 * Opens the experts of LAYER in DIR, one file or all its parts: size, header, layout against its
 * own arithmetic, and everything but the experts themselves against the manifest's checksums.
 */
int sl_expert_file_open(struct sl_expert_file *f, const char *dir, const struct sl_manifest *m,
                        unsigned layer, struct sluice_err *err);
void sl_expert_file_close(struct sl_expert_file *f);

/* Where a chunk lies. */
struct sl_chunk_place {
    unsigned part;
    uint64_t offset; /* in the part's file, a multiple of 4096 */
    size_t length;
};
struct sl_chunk_place sl_chunk_place(const struct sl_expert_file *f, uint32_t expert,
                                     uint64_t chunk);

/*
 * Compares one chunk with its checksum; SLUICE_EDAMAGED names layer, expert, chunk and the part's
 * file.
 */
int sl_chunk_check(const struct sl_expert_file *f, uint32_t expert, uint64_t chunk,
                   const uint8_t *data, struct sluice_err *err);

/* The experts of several layers together. */
struct sl_experts_sizes {
    uint64_t bytes; /* of all experts */
    uint64_t block; /* the largest of them; 0: none */
    bool split;     /* in parts */
};

/* Looks at the headers of layers [first, first + n) of the container DIR. */
int sl_experts_measure(struct sl_experts_sizes *sizes, const char *dir, const struct sl_manifest *m,
                       unsigned first, unsigned n, struct sluice_err *err);

/* ---- the experts of a model ----------------------------------------------------------------- */

struct sl_experts;

enum {
    SL_WAVE_MAX = 64,  /* blocks lent at a time */
    SL_STAGES = 64,    /* blocks that experts pass through: those of a prompt, and guesses */
    SL_STAGES_MIN = 2, /* with these a prompt can be computed while it is read */
};

struct sl_experts_opts {
    enum sluice_reader reader; /* AUTO is for the caller to decide: here the best that streams */
    size_t wave;               /* most blocks lent at a time, ≤ SL_WAVE_MAX */
    uint32_t slots;            /* experts kept per layer, of readers that stream; ≥ 1 */
    unsigned stages;           /* SL_STAGES_MIN to SL_STAGES, likewise */
};

/* Opens the expert files of layers [first, first + n) of the container DIR. */
int sl_experts_open(struct sl_experts **x, const char *dir, const struct sl_manifest *m,
                    unsigned first, unsigned n, const struct sl_experts_opts *opts,
                    struct sluice_err *err);
void sl_experts_close(struct sl_experts **x);

/* Experts of one layer that are made on demand instead of read. */
struct sl_expert_source {
    void *user;
    unsigned layer;
    uint32_t n_experts;
    struct sl_expert_layout layout;
    /* Writes the block of EXPERT, layout.stride bytes. */
    int (*make)(void *user, unsigned layer, uint32_t expert, uint8_t *block,
                struct sluice_err *err);
};

/* The same over SOURCE, which is copied: blocks are made when they are fetched, each time. */
int sl_experts_open_source(struct sl_experts **x, const struct sl_expert_source *source,
                           size_t wave, struct sluice_err *err);

/*
 * Reads the experts that the usage file PATH says were hot, in file order, before they are asked
 * for.  SOURCE: the digest of the model's checkpoint.  No such file, or experts that are not
 * streamed: nothing.  PROGRESS, or NULL, hears of bytes.
 */
int sl_experts_preload(struct sl_experts *x, const char *path, const char *source,
                       sluice_loading_fn *progress, void *user, struct sluice_err *err);

/* Writes what is hot now to the usage file PATH; nothing where experts are not streamed. */
int sl_experts_save_usage(const struct sl_experts *x, const char *path, const char *source,
                          struct sluice_err *err);

/*
 * Gives back BYTES of memory or more, and keeps fewer experts from now on, at least one per layer.
 * Releases do it by themselves when the system, or a control group, becomes short of memory.
 */
void sl_experts_shrink(struct sl_experts *x, uint64_t bytes);

/* Layout of the blocks of layer LAYER. */
const struct sl_expert_layout *sl_experts_layout(const struct sl_experts *x, unsigned layer);
/* Whether LAYER is one of those opened. */
bool sl_experts_has(const struct sl_experts *x, unsigned layer);
uint32_t sl_experts_count(const struct sl_experts *x, unsigned layer);
const char *sl_experts_reader(const struct sl_experts *x);
/* One line for the user: how that reads, and why not otherwise. */
const char *sl_experts_how(const struct sl_experts *x);
size_t sl_experts_wave(const struct sl_experts *x);

/*
 * A layer's experts are asked for together and taken as they become ready:
 *
 *     ask;  while ((n = take) > 0) compute with what was taken;  release
 *
 * so that those in memory are computed while the others are read.
 */
struct sl_ask {
    unsigned layer;
    const uint32_t *ids;  /* [n], ascending; the caller's until the release */
    const uint32_t *uses; /* [n]: tokens that chose each; NULL: not to be remembered */
    size_t n;
    /*
     * For prompts: whole blocks in ascending order, at most a wave at a time, and a block is good
     * until the next take only; what is read passes by the experts that are held, unless it was
     * chosen more often than they.  Else: n ≤ wave, halves in the order in which they arrive, and
     * all blocks are good until the release.
     */
    bool in_order;
};

/* An expert of which a half, or both, became ready. */
struct sl_ready {
    uint32_t index; /* in ids */
    bool gate_up, down;
    bool read; /* it was not in memory when it was asked for */
    const uint8_t *block;
};

/* Begins to bring experts; the ask before must have been released. */
int sl_experts_ask(struct sl_experts *x, const struct sl_ask *ask, struct sluice_err *err);

/*
 * Waits until something is ready that was not taken yet.  Returns its number of entries in
 * ready[0..max), 0 when all was taken, or a negative status: an expert cannot be read.
 */
int sl_experts_take(struct sl_experts *x, struct sl_ready *ready, size_t max,
                    struct sluice_err *err);

/* Ends an ask, finished or not; what is still being read is stopped.  Nothing asked is fine. */
void sl_experts_release(struct sl_experts *x);

/* All of that at once: blocks[i] is the block of ids[i], n ≤ sl_experts_at_once(), until the next
 * fetch or the release. */
int sl_experts_fetch(struct sl_experts *x, unsigned layer, const uint32_t *ids, size_t n,
                     const uint8_t **blocks, struct sluice_err *err);

/* How many may be asked for that are not wanted in order. */
size_t sl_experts_at_once(const struct sl_experts *x);

/* What became of the last ask: experts as in struct sl_experts_use, bytes read since it began, and
 * when the last of what had to be read was there, on the clock of sl_now(); 0: nothing had to. */
struct sl_asked {
    uint32_t hits, misses, ahead;
    uint64_t bytes;
    double landed;
};
struct sl_asked sl_experts_asked(const struct sl_experts *x);

/*
 * A pass over TOKENS tokens begins, which will want nearly all experts or not.  It ends with
 * SLUICE_ECANCELLED soon after *STOP is not 0 any more.  STOP: the caller's until the next pass, or
 * NULL.
 */
void sl_experts_pass(struct sl_experts *x, size_t tokens, bool most, const atomic_int *stop);

/* Whether it may pay in this pass to guess what the next layer will be asked for. */
bool sl_experts_guessing(const struct sl_experts *x);

/*
 * LAYER will probably be asked for ids[0..n), ascending: they are read while the drive has nothing
 * else to do.  COST: seconds that the guess took.  Changes nothing but time.
 */
void sl_experts_expect(struct sl_experts *x, unsigned layer, const uint32_t *ids, size_t n,
                       double cost);

/* What asks found since opening; an expert counts once per ask. */
struct sl_experts_use {
    uint64_t hits, misses; /* in memory, and read when they were asked for */
    uint64_t ahead;        /* being read already, or there: guessed */
    uint32_t slots;        /* per layer now: fewer than at opening when memory became short */
    uint64_t bytes_read;   /* from files; 0 for the memory reader: pages come by themselves */
    double read_seconds;   /* during which something was being read, of all drives together */
    unsigned drives;       /* 0: the memory reader */
    double wait_seconds;   /* during which nothing else could be done */
    struct sl_trial guesses;
};
struct sl_experts_use sl_experts_use(const struct sl_experts *x);

/* As sluice_engine_drive(). */
bool sl_experts_drive(const struct sl_experts *x, unsigned i, struct sluice_drive *drive);

#endif
