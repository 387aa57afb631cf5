/* SPDX-License-Identifier: MIT */
/* The experts of a model: files and one reader, or a source, and the slots that blocks land in. */
#include <stdlib.h>

#include "runtime/base/arena.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/available.h"
#include "runtime/stream/reader.h"

struct sl_experts {
    unsigned first, n;
    struct sl_expert_file *files; /* [n] */
    struct sl_mapped *mapped;     /* one of these two, or a source */
    struct sl_reader *reader;
    struct sl_expert_source source;
    size_t wave;
    struct sl_arena slots; /* wave blocks of the largest stride, unless files are mapped */
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
    sl_arena_take(&x->slots, x->wave + 1, largest);
    int status = sl_arena_allocate(&x->slots, "expert slots", err);
    if (status < 0)
        return status;
    uint8_t *slot = sl_arena_take(&x->slots, x->wave + 1, largest);
    slot += -(uintptr_t)slot % SL_DATA_ALIGN;
    for (size_t i = 0; i < x->wave; i++)
        x->reads[i].buffer = slot + i * largest;
    return 0;
}

int sl_experts_open(struct sl_experts **out, const char *dir, const struct sl_manifest *m,
                    unsigned first, unsigned n, enum sluice_reader kind, size_t wave,
                    struct sluice_err *err)
{
    uint64_t total, largest;
    struct sl_experts *x = *out = calloc(1, sizeof *x);
    if (!x)
        return sl_fail_nomem(err, "experts", sizeof *x);
    x->first = first;
    x->n = n;
    x->wave = sl_min(sl_max(wave, 1), SL_READS);
    int status = open_files(x, dir, m, err);
    if (status < 0)
        goto fail;
    total = total_bytes(x, &largest);
    if (kind == SLUICE_READER_AUTO)
        kind = !is_split(x) && total <= sl_memory_available() / 2 ? SLUICE_READER_MEMORY
                                                                  : SLUICE_READER_AUTO;
    if (kind == SLUICE_READER_MEMORY)
        status = sl_mapped_open(&x->mapped, x->files, n, err);
    else if ((status = open_slots(x, largest, err)) == 0)
        status = sl_reader_open(&x->reader, &(struct sl_reader_opts){.kind = kind}, x->files, n,
                                err);
fail:
    if (status < 0)
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
    sl_mapped_close(&x->mapped);
    sl_reader_close(&x->reader);
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
    return x->mapped ? "memory" : x->reader ? sl_reader_name(x->reader) : "source";
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

static int map_blocks(struct sl_experts *x, unsigned layer, const uint32_t *ids, size_t n,
                      const uint8_t **blocks, struct sluice_err *err)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < n; i++)
        status = sl_mapped_block(x->mapped, &x->files[layer - x->first], ids[i], &blocks[i], err);
    x->use.hits += n;
    return status;
}

/* Waits until the read is over, well or not. */
static enum sl_read_state wait_for(struct sl_reader *r, const struct sl_read *read)
{
    enum sl_read_state state;
    uint64_t seen = 0;
    do {
        sl_reader_wait(r, &seen, 1);
        state = sl_reader_state(r, read);
    } while (state == SL_READ_UNDER_WAY || state == SL_READ_HALF);
    return state;
}

static int read_blocks(struct sl_experts *x, unsigned layer, const uint32_t *ids, size_t n,
                       const uint8_t **blocks, struct sluice_err *err)
{
    size_t submitted = 0;
    int status = 0;
    for (; submitted < n && status == 0; submitted += status == 0) {
        struct sl_read *read = &x->reads[submitted];
        read->file = &x->files[layer - x->first];
        read->expert = ids[submitted];
        status = sl_reader_submit(x->reader, read, err);
    }
    for (size_t i = 0; i < submitted; i++) { /* also after a failure: slots must be quiet */
        struct sl_read *read = &x->reads[i];
        if (wait_for(x->reader, read) == SL_READ_FAILED && status == 0) {
            status = read->err.code;
            if (err)
                *err = read->err;
        }
        blocks[i] = read->buffer;
        x->use.bytes_read += read->file->layout.stride;
    }
    x->use.misses += submitted;
    return status;
}

int sl_experts_fetch(struct sl_experts *x, unsigned layer, const uint32_t *ids, size_t n,
                     const uint8_t **blocks, struct sluice_err *err)
{
    return x->mapped   ? map_blocks(x, layer, ids, n, blocks, err)
           : x->reader ? read_blocks(x, layer, ids, n, blocks, err)
                       : make_blocks(x, layer, ids, n, blocks, err);
}
