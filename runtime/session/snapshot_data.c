/* SPDX-License-Identifier: MIT */
/*
 * A saved session's data: tokens; of each layer latent rows, tails and key panels; MTP's residual
 * stream; logits.  They go through pieces of one size, which threads read and write side by side.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/file.h"
#include "runtime/base/huge.h"
#include "runtime/base/thread.h"
#include "runtime/session/snapshot.h"

enum {
    THREADS = 16, /* they wait for the drive nearly all the time (docs/long-context.md) */
    PAGE = SL_SNAPSHOT_PAGE,
};

/* ---- where the data are --------------------------------------------------------------------- */

static void add(struct sl_stretches *d, void *memory, size_t bytes)
{
    d->list[d->n++] = (struct sl_stretch){d->bytes, bytes, memory};
    d->bytes += bytes;
}

/* Clears what PANEL holds of keys that are not the first N.  Elements of one kind and number lie
 * together, those of INT8 keys in fours. */
static void clear_behind(uint8_t *panel, size_t bytes, enum sl_cache type, size_t n)
{
    size_t element = type == SL_CACHE_BF16 ? 2 : 4, row = element * SL_KEY_PANEL;
    for (size_t at = 0; at < bytes; at += row)
        memset(panel + at + n * element, 0, row - n * element);
}

typedef uint8_t *row_fn(const struct sl_layer_cache *cache, size_t s);

static uint8_t *latent_at(const struct sl_layer_cache *cache, size_t s)
{
    return sl_kv_latent(&cache->kv, s);
}

static uint8_t *tail_at(const struct sl_layer_cache *cache, size_t s)
{
    return sl_kv_tail(&cache->kv, s);
}

/* BYTES of each of N tokens, block by block. */
static void add_rows(struct sl_stretches *d, const struct sl_layer_cache *cache, size_t n,
                     size_t bytes, row_fn *at)
{
    for (size_t s = 0, k; s < n; s += k) {
        k = cache ? sl_kv_beside(&cache->kv, s, n - s) : n;
        add(d, cache ? at(cache, s) : NULL, k * bytes);
    }
}

/* N tokens of a layer; CACHE is NULL: there is no place for them; COPY has room for a panel, or is
 * NULL. */
static void add_layer(struct sl_stretches *d, const struct sl_layer_cache *cache,
                      const struct sl_snapshot *h, size_t n, uint8_t *copy)
{
    size_t rest = n % SL_KEY_PANEL, bytes = h->panel_bytes;
    add_rows(d, cache, n, h->latent_bytes, latent_at);
    add_rows(d, cache, n, h->tail_bytes, tail_at);
    if (!h->index)
        return;
    uint8_t *last = cache && rest > 0 ? sl_cache_panel(cache, n) : NULL;
    add_rows(d, cache, n - rest, bytes / SL_KEY_PANEL, sl_cache_panel);
    if (rest > 0 && copy) {
        memcpy(copy, last, bytes);
        clear_behind(copy, bytes, h->index, rest);
    }
    add(d, copy ? copy : last, rest > 0 ? bytes : 0);
}

int sl_stretches_open(struct sl_stretches *d, sluice_session *s, const struct sl_snapshot *h,
                      bool saving, struct sluice_err *err)
{
    size_t panels = (size_t)h->layers * h->panel_bytes;
    size_t most = (3 * s->n_blocks + 1) * h->layers + 3;
    *d = (struct sl_stretches){0};
    d->list = calloc(most, sizeof *d->list);
    d->panels = saving && panels ? malloc(panels) : NULL;
    if (!d->list || (saving && panels && !d->panels)) {
        sl_stretches_close(d);
        return sl_fail_nomem(err, "saved session", panels);
    }
    add(d, s->tokens, h->tokens * sizeof *s->tokens);
    for (uint32_t i = 0; i < h->layers; i++) {
        uint8_t *copy = d->panels ? d->panels + (size_t)i * h->panel_bytes : NULL;
        bool mtp = h->has_mtp && i + 1 == h->layers;
        add_layer(d, i < s->n_layers ? &s->caches[i] : NULL, h, mtp ? h->mtp_tokens : h->tokens,
                  copy);
    }
    if (h->has_mtp)
        add(d, s->mtp_rows, h->hidden * sizeof *s->mtp_rows);
    if (h->flags & SL_SNAPSHOT_LOGITS)
        add(d, s->logits, h->vocab * sizeof *s->logits);
    return 0;
}

void sl_stretches_close(struct sl_stretches *d)
{
    free(d->list);
    free(d->panels);
    *d = (struct sl_stretches){0};
}

/* Copies N bytes of the data from AT on into PIECE, or back. */
static void copy_bytes(const struct sl_stretches *d, uint64_t at, size_t n, uint8_t *piece,
                       bool saving)
{
    for (size_t i = 0; i < d->n; i++) {
        const struct sl_stretch *s = &d->list[i];
        uint64_t begin = sl_max(at, s->begin), end = sl_min(at + n, s->begin + s->bytes);
        if (begin >= end || !s->memory)
            continue;
        uint8_t *memory = s->memory + (begin - s->begin), *there = piece + (begin - at);
        memcpy(saving ? there : memory, saving ? memory : there, end - begin);
    }
}

/* ---- moving them ---------------------------------------------------------------------------- */

struct moving {
    const struct sl_transfer *t;
    struct sl_huge buffers; /* [threads][SL_SNAPSHOT_PIECE] */
    pthread_t threads[THREADS];
    unsigned started;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    uint64_t next, done; /* pieces */
    unsigned running;
    bool stop;
    struct sluice_err err; /* the first */
};

static size_t piece_bytes(const struct sl_stretches *d, uint64_t piece)
{
    return sl_min(d->bytes - piece * SL_SNAPSHOT_PIECE, SL_SNAPSHOT_PIECE);
}

/* LEN bytes at OFFSET, of which a file that is read may lack those behind the first LEAST. */
static int move_bytes(const struct sl_transfer *t, uint8_t *data, size_t len, size_t least,
                      uint64_t offset, struct sluice_err *err)
{
    bool again = true; /* another thread may just have left direct access */
    for (size_t done = 0; done < least;) {
        ssize_t n = t->saving ? pwrite(t->fd, data + done, len - done, (off_t)(offset + done))
                              : pread(t->fd, data + done, len - done, (off_t)(offset + done));
        if (n < 0 && (errno == EINTR || (errno == EINVAL && (sl_stop_direct(t->fd) || again)))) {
            again = errno == EINTR && again;
            continue;
        }
        if (n < 0)
            return sl_fail_errno(err, SLUICE_EIO, errno, "cannot %s %s at %" PRIu64,
                                 t->saving ? "write" : "read", t->path, offset + done);
        if (n == 0)
            return sl_fail(err, SLUICE_EDAMAGED, "%s: ends at byte %" PRIu64 ": truncated", t->path,
                           offset + done);
        done += (size_t)n;
    }
    return 0;
}

static int move_piece(const struct sl_transfer *t, uint64_t piece, uint8_t *data,
                      struct sluice_err *err)
{
    size_t n = piece_bytes(t->data, piece), pages = sl_round_up(n, PAGE);
    uint64_t at = piece * SL_SNAPSHOT_PIECE, offset = SL_SNAPSHOT_PAGE + at;
    if (t->saving) {
        copy_bytes(t->data, at, n, data, true);
        memset(data + n, 0, pages - n);
        t->xxh3[piece] = sl_hash(data, n);
        return move_bytes(t, data, pages, pages, offset, err);
    }
    int status = move_bytes(t, data, pages, n, offset, err);
    if (status == 0 && sl_hash(data, n) != t->xxh3[piece])
        status = sl_fail(err, SLUICE_EDAMAGED,
                         "%s: damaged between bytes %" PRIu64 " and %" PRIu64 ": " SL_COMPUTE_ANEW,
                         t->path, offset, offset + n);
    if (status == 0)
        copy_bytes(t->data, at, n, data, false);
    return status;
}

static void *move_pieces(void *arg)
{
    struct moving *m = arg;
    const struct sl_transfer *t = m->t;
    uint64_t pieces = sl_ceil_div(t->data->bytes, SL_SNAPSHOT_PIECE);
    struct sluice_err err = {0};
    pthread_mutex_lock(&m->lock);
    uint8_t *data = m->buffers.base + (size_t)m->running++ * SL_SNAPSHOT_PIECE;
    while (!m->stop && m->next < pieces) {
        uint64_t piece = m->next++;
        pthread_mutex_unlock(&m->lock);
        int status = move_piece(t, piece, data, &err);
        pthread_mutex_lock(&m->lock);
        m->done += status == 0;
        if (status < 0 && m->err.code == 0)
            m->err = err;
        m->stop = m->stop || status < 0;
        pthread_cond_signal(&m->changed);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* Tells how far they are until all is done, or something stops them. */
static void watch(struct moving *m)
{
    const struct sl_transfer *t = m->t;
    uint64_t pieces = sl_ceil_div(t->data->bytes, SL_SNAPSHOT_PIECE), told = 0;
    pthread_mutex_lock(&m->lock);
    while (!m->stop && told < pieces) {
        while (!m->stop && m->done == told)
            pthread_cond_wait(&m->changed, &m->lock);
        told = m->done;
        pthread_mutex_unlock(&m->lock);
        uint64_t bytes = sl_min(told * SL_SNAPSHOT_PIECE, t->data->bytes);
        bool cancel = t->progress && t->progress(t->user, bytes, t->data->bytes);
        pthread_mutex_lock(&m->lock);
        if (cancel && m->err.code == 0)
            sl_fail(&m->err, SLUICE_ECANCELLED, "cancelled");
        m->stop = m->stop || cancel;
    }
    pthread_mutex_unlock(&m->lock);
}

int sl_transfer_run(const struct sl_transfer *t, struct sluice_err *err)
{
    struct moving m = {.t = t};
    size_t wanted = sl_min(sl_ceil_div(t->data->bytes, SL_SNAPSHOT_PIECE), THREADS);
    int failed = 0;
    int status = sl_huge_open(&m.buffers, wanted * SL_SNAPSHOT_PIECE, t->path, err);
    if (status < 0)
        return status;
    pthread_mutex_init(&m.lock, NULL);
    pthread_cond_init(&m.changed, NULL);
    while (m.started < wanted && failed == 0) {
        failed = sl_thread_start(&m.threads[m.started], move_pieces, &m);
        m.started += failed == 0;
    }
    if (m.started > 0)
        watch(&m);
    else
        sl_fail_errno(&m.err, SLUICE_ENOMEM, failed, "cannot start a thread for %s", t->path);
    for (unsigned i = 0; i < m.started; i++)
        pthread_join(m.threads[i], NULL);
    pthread_cond_destroy(&m.changed);
    pthread_mutex_destroy(&m.lock);
    sl_huge_close(&m.buffers);
    if (m.err.code < 0 && err)
        *err = m.err;
    return m.err.code;
}
