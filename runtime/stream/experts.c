/* SPDX-License-Identifier: MIT */
/* The experts of a model: files and one reader, or a source, and the slots that blocks land in. */
#include <stdlib.h>

#include "runtime/base/arena.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/available.h"
#include "runtime/stream/stream.h"

struct sl_experts {
    unsigned first, n;
    struct sl_expert_file *files;    /* [n] */
    const struct sl_reader_ops *ops; /* NULL: a source */
    struct sl_reader *reader;
    struct sl_expert_source source;
    size_t wave;
    struct sl_arena slots; /* wave blocks of the largest stride, unless the reader has its own */
    struct sl_read reads[SL_READS];
    struct sl_experts_use use;
};

static uint64_t total_bytes(const struct sl_experts *x, uint64_t *largest)
{
    uint64_t total = 0;
    *largest = 0;
    for (unsigned i = 0; i < x->n; i++) {
        total += x->files[i].n_experts * x->files[i].layout.stride;
        *largest = sl_max(*largest, x->files[i].layout.stride);
    }
    return total;
}

static bool is_split(const struct sl_experts *x)
{
    return x->n > 0 && x->files[0].n_parts > 1;
}

/* One layer's misses are to load all drives; what differs is a change that was interrupted. */
static int check_parts(const struct sl_expert_file *f, const struct sl_expert_file *first,
                       struct sluice_err *err)
{
    if (f->n_parts == first->n_parts)
        return 0;
    return sl_fail(err, SLUICE_EFORMAT,
                   "%s: one of %u files of its layer, but layer %u has %u: sluice stripe was "
                   "interrupted; run it again with the same arguments, it continues",
                   f->parts[0].path, f->n_parts, first->layer, first->n_parts);
}

static int open_files(struct sl_experts *x, const char *dir, const struct sl_manifest *m,
                      struct sluice_err *err)
{
    x->files = calloc(x->n ? x->n : 1, sizeof *x->files);
    if (!x->files)
        return sl_fail_nomem(err, "expert files", x->n * sizeof *x->files);
    for (unsigned i = 0; i < x->n; i++) {
        int status = sl_expert_file_open(&x->files[i], dir, m, x->first + i, err);
        if (status == 0)
            status = check_parts(&x->files[i], &x->files[0], err);
        if (status < 0)
            return status;
    }
    return 0;
}

static int open_slots(struct sl_experts *x, uint64_t largest, struct sluice_err *err)
{
    uint8_t *slot = NULL;
    sl_arena_take(&x->slots, x->wave, largest);
    int status = sl_arena_allocate(&x->slots, "expert slots", err);
    if (status < 0)
        return status;
    slot = sl_arena_take(&x->slots, x->wave, largest);
    for (size_t i = 0; i < x->wave; i++)
        x->reads[i].buffer = slot + i * largest;
    return 0;
}

int sl_experts_open(struct sl_experts **out, const char *dir, const struct sl_manifest *m,
                    unsigned first, unsigned n, const struct sl_experts_opts *opts,
                    struct sluice_err *err)
{
    enum sluice_reader kind = opts->reader;
    uint64_t total, largest;
    struct sl_experts *x = *out = calloc(1, sizeof *x);
    if (!x)
        return sl_fail_nomem(err, "experts", sizeof *x);
    x->first = first;
    x->n = n;
    x->wave = sl_min(sl_max(opts->wave, 1), SL_READS);
    int status = open_files(x, dir, m, err);
    if (status < 0)
        goto fail;
    total = total_bytes(x, &largest);
    if (kind == SLUICE_READER_AUTO)
        kind = opts->slots == 0 && !is_split(x) && total <= sl_memory_available() / 2
                   ? SLUICE_READER_MEMORY
                   : SLUICE_READER_PREAD;
    x->ops = kind == SLUICE_READER_MEMORY ? &sl_reader_memory : &sl_reader_pread;
    if ((x->ops->needs_buffers && (status = open_slots(x, largest, err)) < 0) ||
        (status = x->ops->open(&x->reader, x->files, n, err)) < 0)
        goto fail;
    return 0;
fail:
    sl_experts_close(out);
    return status;
}

/* A file that is none holds the layout. */
int sl_experts_open_source(struct sl_experts **out, const struct sl_expert_source *source,
                           size_t wave, struct sluice_err *err)
{
    struct sl_experts *x = *out = calloc(1, sizeof *x);
    if (!x || !(x->files = calloc(1, sizeof *x->files))) {
        sl_experts_close(out);
        return sl_fail_nomem(err, "experts", sizeof *x);
    }
    x->first = source->layer;
    x->n = 1;
    x->files[0] = (struct sl_expert_file){
        .layer = source->layer, .n_experts = source->n_experts, .layout = source->layout};
    x->source = *source;
    x->wave = sl_min(sl_max(wave, 1), SL_READS);
    int status = open_slots(x, source->layout.stride, err);
    if (status < 0)
        sl_experts_close(out);
    return status;
}

void sl_experts_close(struct sl_experts **out)
{
    struct sl_experts *x = *out;
    if (!x)
        return;
    if (x->ops)
        x->ops->close(&x->reader);
    sl_arena_free(&x->slots);
    for (unsigned i = 0; x->files && i < x->n; i++)
        sl_expert_file_close(&x->files[i]);
    free(x->files);
    free(x);
    *out = NULL;
}

const struct sl_expert_layout *sl_experts_layout(const struct sl_experts *x, unsigned layer)
{
    return &x->files[layer - x->first].layout;
}

uint32_t sl_experts_count(const struct sl_experts *x, unsigned layer)
{
    return x->files[layer - x->first].n_experts;
}

const char *sl_experts_reader(const struct sl_experts *x)
{
    return x->ops ? x->ops->name : "source";
}

size_t sl_experts_wave(const struct sl_experts *x)
{
    return x->wave;
}

struct sl_experts_use sl_experts_use(const struct sl_experts *x)
{
    return x->use;
}

static int make_blocks(struct sl_experts *x, unsigned layer, const uint32_t *ids, size_t n,
                       const uint8_t **blocks, struct sluice_err *err)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < n; i++) {
        status = x->source.make(x->source.user, layer, ids[i], x->reads[i].buffer, err);
        blocks[i] = x->reads[i].buffer;
        x->use.misses++;
    }
    return status;
}

int sl_experts_fetch(struct sl_experts *x, unsigned layer, const uint32_t *ids, size_t n,
                     const uint8_t **blocks, struct sluice_err *err)
{
    size_t submitted = 0;
    int status = 0;
    if (!x->ops)
        return make_blocks(x, layer, ids, n, blocks, err);
    for (; submitted < n; submitted++) {
        struct sl_read *read = &x->reads[submitted];
        read->file = &x->files[layer - x->first];
        read->expert = ids[submitted];
        if ((status = x->ops->submit(x->reader, read, err)) < 0)
            break;
    }
    for (size_t i = 0; i < submitted; i++) { /* also after a failure: slots must be quiet */
        struct sl_read *done;
        int waited = x->ops->wait(x->reader, &done, err);
        if (waited < 0)
            return waited;
        if (done->err.code < 0 && status == 0) {
            status = done->err.code;
            if (err)
                *err = done->err;
        }
        blocks[done - x->reads] = done->data;
        if (x->ops->needs_buffers) {
            x->use.misses++;
            x->use.bytes_read += done->file->layout.stride;
        } else {
            x->use.hits++;
        }
    }
    return status;
}
