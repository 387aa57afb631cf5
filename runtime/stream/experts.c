/* SPDX-License-Identifier: MIT */
/*
 * The experts of a model, wherever they come from: mapped files, files that are read on demand, or
 * a source that makes them.
 */
#include <stdlib.h>

#include "runtime/base/arena.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/stream/streamed.h"

struct sl_experts {
    unsigned first, n;
    struct sl_expert_file *files; /* [n] */
    struct sl_mapped *mapped;     /* one of these two, or neither: a source */
    struct sl_streamed *streamed;
    struct sl_expert_source source;
    struct sl_arena made; /* wave blocks of the source */
    size_t wave;
    const atomic_int *stop; /* or NULL */

    /* Of the ask at hand, if experts are not streamed. */
    struct sl_ask ask;
    size_t taken;
    struct sl_experts_use use;
};

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

int sl_experts_open(struct sl_experts **out, const char *dir, const struct sl_manifest *m,
                    unsigned first, unsigned n, const struct sl_experts_opts *opts,
                    struct sluice_err *err)
{
    struct sl_experts *x = *out = calloc(1, sizeof *x);
    if (!x)
        return sl_fail_nomem(err, "experts", sizeof *x);
    x->first = first;
    x->n = n;
    x->wave = sl_min(sl_max(opts->wave, 1), SL_WAVE_MAX);
    int status = open_files(x, dir, m, err);
    if (status == 0)
        status = opts->reader == SLUICE_READER_MEMORY
                     ? sl_mapped_open(&x->mapped, x->files, n, err)
                     : sl_streamed_open(&x->streamed, x->files, n, opts, err);
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
    x->wave = sl_min(sl_max(wave, 1), SL_WAVE_MAX);
    sl_arena_take(&x->made, x->wave, source->layout.stride);
    int status = sl_arena_allocate(&x->made, "blocks of experts", err);
    if (status < 0)
        sl_experts_close(out);
    return status;
}

void sl_experts_close(struct sl_experts **out)
{
    struct sl_experts *x = *out;
    if (!x)
        return;
    sl_streamed_close(&x->streamed);
    sl_mapped_close(&x->mapped);
    sl_arena_free(&x->made);
    for (unsigned i = 0; x->files && i < x->n; i++)
        sl_expert_file_close(&x->files[i]);
    free(x->files);
    free(x);
    *out = NULL;
}

int sl_experts_preload(struct sl_experts *x, const char *path, const char *source,
                       sluice_loading_fn *progress, void *user, struct sluice_err *err)
{
    return x->streamed ? sl_streamed_preload(x->streamed, path, source, progress, user, err) : 0;
}

int sl_experts_save_usage(const struct sl_experts *x, const char *path, const char *source,
                          struct sluice_err *err)
{
    return x->streamed ? sl_streamed_save_usage(x->streamed, path, source, err) : 0;
}

void sl_experts_shrink(struct sl_experts *x, uint64_t bytes)
{
    if (x->streamed)
        sl_streamed_shrink(x->streamed, bytes);
}

const struct sl_expert_layout *sl_experts_layout(const struct sl_experts *x, unsigned layer)
{
    return &x->files[layer - x->first].layout;
}

bool sl_experts_has(const struct sl_experts *x, unsigned layer)
{
    return layer >= x->first && layer - x->first < x->n;
}

uint32_t sl_experts_count(const struct sl_experts *x, unsigned layer)
{
    return x->files[layer - x->first].n_experts;
}

const char *sl_experts_reader(const struct sl_experts *x)
{
    return x->streamed ? sl_reader_name(sl_streamed_reader(x->streamed))
           : x->mapped ? "memory"
                       : "source";
}

const char *sl_experts_how(const struct sl_experts *x)
{
    return x->streamed ? sl_reader_how(sl_streamed_reader(x->streamed)) : sl_experts_reader(x);
}

size_t sl_experts_wave(const struct sl_experts *x)
{
    return x->wave;
}

size_t sl_experts_at_once(const struct sl_experts *x)
{
    return x->streamed ? sl_min(x->wave, sl_streamed_at_once(x->streamed)) : x->wave;
}

struct sl_experts_use sl_experts_use(const struct sl_experts *x)
{
    return x->streamed ? sl_streamed_use(x->streamed) : x->use;
}

bool sl_experts_drive(const struct sl_experts *x, unsigned i, struct sluice_drive *drive)
{
    return x->streamed && sl_streamed_drive(x->streamed, i, drive);
}

/* ---- asking and taking ---------------------------------------------------------------------- */

int sl_experts_ask(struct sl_experts *x, const struct sl_ask *ask, struct sluice_err *err)
{
    if (!ask->in_order && ask->n > x->wave)
        return sl_fail(err, SLUICE_EARG, "%zu experts wanted at a time; %zu can be lent", ask->n,
                       x->wave);
    if (x->streamed)
        return sl_streamed_ask(x->streamed, ask->layer - x->first, ask, err);
    x->ask = *ask;
    x->taken = 0;
    return 0;
}

/* Block number I of those that are lent together. */
static int block(struct sl_experts *x, uint32_t expert, size_t i, const uint8_t **out,
                 struct sluice_err *err)
{
    if (x->mapped) {
        x->use.hits++;
        return sl_mapped_block(x->mapped, &x->files[x->ask.layer - x->first], expert, out, err);
    }
    uint8_t *made = x->made.base + i * sl_round_up(x->files->layout.stride, 64);
    x->use.misses++;
    *out = made;
    return x->source.make(x->source.user, x->ask.layer, expert, made, err);
}

static int take(struct sl_experts *x, struct sl_ready *ready, size_t max, struct sluice_err *err)
{
    size_t n = sl_min(sl_min(max, x->wave), x->ask.n - x->taken);
    if (x->stop && atomic_load(x->stop))
        return sl_fail(err, SLUICE_ECANCELLED, "cancelled");
    for (size_t i = 0; i < n; i++, x->taken++) {
        ready[i] = (struct sl_ready){(uint32_t)x->taken, true, true, !x->mapped, NULL};
        int status = block(x, x->ask.ids[x->taken], x->ask.in_order ? i : x->taken, &ready[i].block,
                           err);
        if (status < 0)
            return status;
    }
    return (int)n;
}

int sl_experts_take(struct sl_experts *x, struct sl_ready *ready, size_t max,
                    struct sluice_err *err)
{
    int n = x->streamed ? sl_streamed_take(x->streamed, ready, max, err) : take(x, ready, max, err);
    if (n < 0)
        sl_experts_release(x);
    return n;
}

void sl_experts_release(struct sl_experts *x)
{
    if (x->streamed)
        sl_streamed_release(x->streamed);
    x->taken = x->ask.n;
}

int sl_experts_fetch(struct sl_experts *x, unsigned layer, const uint32_t *ids, size_t n,
                     const uint8_t **blocks, struct sluice_err *err)
{
    struct sl_ready ready[SL_WAVE_MAX];
    const struct sl_ask ask = {.layer = layer, .ids = ids, .n = n};
    sl_experts_release(x);
    int taken = sl_experts_ask(x, &ask, err);
    while (taken == 0 && (taken = sl_experts_take(x, ready, SL_WAVE_MAX, err)) > 0)
        for (; taken > 0; taken--)
            blocks[ready[taken - 1].index] = ready[taken - 1].block;
    return taken;
}

struct sl_asked sl_experts_asked(const struct sl_experts *x)
{
    return x->streamed ? sl_streamed_asked(x->streamed)
                       : (struct sl_asked){.hits = (uint32_t)x->ask.n};
}

void sl_experts_pass(struct sl_experts *x, size_t tokens, bool most, const atomic_int *stop)
{
    x->stop = stop;
    if (x->streamed)
        sl_streamed_pass(x->streamed, tokens, most, stop);
}

bool sl_experts_guessing(const struct sl_experts *x)
{
    return x->streamed && sl_streamed_guessing(x->streamed);
}

void sl_experts_expect(struct sl_experts *x, unsigned layer, const uint32_t *ids, size_t n,
                       double cost)
{
    if (x->streamed)
        sl_streamed_expect(x->streamed, layer - x->first, ids, n, cost);
}
