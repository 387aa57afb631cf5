/* SPDX-License-Identifier: MIT */
/*
 * stream.h: how routed experts reach memory.  An expert is one block of a file; readers bring
 * blocks, `struct sl_experts` lends them to moe/.  Knows nothing about what is in a block.
 */
#ifndef SL_STREAM_H
#define SL_STREAM_H

#include <stdbool.h>

#include "runtime/base/file.h"
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

/* ---- readers -------------------------------------------------------------------------------- */

/* One expert to bring: FILE and EXPERT are set by the caller, and BUFFER (stride bytes) where the
 * reader wants one; DATA points to the checked block when wait() returns the read. */
struct sl_read {
    const struct sl_expert_file *file;
    uint32_t expert;
    uint8_t *buffer;
    const uint8_t *data;
    struct sluice_err err; /* code 0: good */
    uint64_t next_chunk;   /* the reader's own */
    uint64_t left;
};

struct sl_reader; /* each reader's own state */

struct sl_reader_ops {
    const char *name;
    bool needs_buffers;
    int (*open)(struct sl_reader **r, const struct sl_expert_file *files, size_t n_files,
                struct sluice_err *err);
    /* Queues a read.  At most `SL_READS` may be under way. */
    int (*submit)(struct sl_reader *r, struct sl_read *read, struct sluice_err *err);
    /* Blocks until some submitted read is done; its own error is in read->err. */
    int (*wait)(struct sl_reader *r, struct sl_read **done, struct sluice_err *err);
    void (*close)(struct sl_reader **r);
};

enum { SL_READS = 64 };

/* Files mapped, none of them split; each expert checked once. */
extern const struct sl_reader_ops sl_reader_memory;
extern const struct sl_reader_ops sl_reader_pread; /* a small pool of threads */

/* ---- the experts of a model ----------------------------------------------------------------- */

struct sl_experts;

enum {
    SL_STAGES = 16,    /* blocks that experts pass through: those of a prompt, and guesses */
    SL_STAGES_MIN = 2, /* with these a prompt can be computed while it is read */
};

struct sl_experts_opts {
    /* AUTO: with slots the best that streams; else memory when all files are whole and fit in half
     * of the RAM that is available now. */
    enum sluice_reader reader;
    size_t wave;     /* most blocks lent at a time, ≤ SL_READS */
    uint32_t slots;  /* experts kept per layer, of readers that stream */
    unsigned stages; /* SL_STAGES_MIN to SL_STAGES, likewise */
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

/* Layout of the blocks of layer LAYER. */
const struct sl_expert_layout *sl_experts_layout(const struct sl_experts *x, unsigned layer);
uint32_t sl_experts_count(const struct sl_experts *x, unsigned layer);
const char *sl_experts_reader(const struct sl_experts *x);
size_t sl_experts_wave(const struct sl_experts *x);

/*
 * Brings experts ids[0..n), n ≤ wave, of LAYER: blocks[i] points to the checked block of ids[i],
 * valid until the next fetch.
 */
int sl_experts_fetch(struct sl_experts *x, unsigned layer, const uint32_t *ids, size_t n,
                     const uint8_t **blocks, struct sluice_err *err);

/* What fetches found since opening. */
struct sl_experts_use {
    uint64_t hits, misses; /* experts in memory, and read */
    uint64_t bytes_read;   /* into slots; 0 for the memory reader: pages come by themselves */
};
struct sl_experts_use sl_experts_use(const struct sl_experts *x);

#endif
