/* SPDX-License-Identifier: MIT */
/* The first page of a saved session: made, printed, parsed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/file.h"
#include "runtime/session/snapshot.h"

enum { XXH3_AT = SL_SNAPSHOT_PAGE - 8 };

static const uint8_t magic[8] = "SLUICE-S";

_Static_assert(sizeof(struct sl_snapshot) == 8 + 8 + 6 * 8 + 10 * 4, "no holes");

size_t sl_snapshot_table_bytes(uint64_t data_bytes)
{
    return sl_ceil_div(data_bytes, SL_SNAPSHOT_PIECE) * sizeof(uint64_t);
}

/* *bytes of a file with DATA_BYTES; false when that is no number. */
static bool file_bytes_of(uint64_t data_bytes, uint64_t *bytes)
{
    return sl_add(data_bytes, sl_snapshot_table_bytes(data_bytes), bytes) &&
           sl_add(*bytes, SL_SNAPSHOT_PAGE, bytes);
}

/* What H's numbers of tokens and layers and its sizes make; false when that is no number. */
static bool data_bytes_of(const struct sl_snapshot *h, uint64_t *bytes)
{
    size_t rows, keys, ids, row = (size_t)h->latent_bytes + h->tail_bytes;
    uint64_t all_tokens, all_panels;
    uint64_t panels = sl_ceil_div(h->tokens, SL_KEY_PANEL);
    uint64_t mtp_panels = h->has_mtp ? sl_ceil_div(h->mtp_tokens, SL_KEY_PANEL) : 0;
    uint32_t main_layers = h->layers - h->has_mtp;
    uint64_t vectors = (h->has_mtp ? 4 * (uint64_t)h->hidden : 0) +
                       (h->flags & SL_SNAPSHOT_LOGITS ? 4 * (uint64_t)h->vocab : 0);
    return sl_mul(h->tokens, main_layers, &all_tokens) &&
           sl_add(all_tokens, h->mtp_tokens, &all_tokens) && sl_mul(all_tokens, row, &rows) &&
           sl_mul(panels, main_layers, &all_panels) &&
           sl_add(all_panels, mtp_panels, &all_panels) &&
           sl_mul(all_panels, h->panel_bytes, &keys) && sl_mul(h->tokens, 4, &ids) &&
           sl_add(rows, keys, bytes) && sl_add(*bytes, ids, bytes) &&
           sl_add(*bytes, vectors, bytes);
}

int sl_snapshot_describe(const sluice_session *s, struct sl_snapshot *h, struct sluice_err *err)
{
    const struct sl_config *c = s->ws.config;
    const struct sl_cache_types types = s->ws.attention.types;
    *h = (struct sl_snapshot){
        .version = SL_SNAPSHOT_VERSION,
        .flags = (s->have_logits ? SL_SNAPSHOT_LOGITS : 0) |
                 (s->multiplier ? SL_SNAPSHOT_ONEDNN : 0),
        .tokens = s->length,
        .mtp_tokens = s->has_mtp ? s->mtp_length : 0,
        .layers = s->n_layers,
        .has_mtp = s->has_mtp,
        .kv = types.kv,
        .index = types.index,
        .latent_bytes = (uint32_t)s->caches[0].kv.latent_stride,
        .tail_bytes = (uint32_t)s->caches[0].kv.tail_stride,
        .panel_bytes = types.index ? (uint32_t)sl_key_panel_bytes(types.index, c->index_dim) : 0,
        .hidden = c->hidden,
        .vocab = c->vocab,
        .piece_bytes = SL_SNAPSHOT_PIECE,
    };
    memcpy(h->magic, magic, sizeof magic);
    if (!data_bytes_of(h, &h->data_bytes) || !file_bytes_of(h->data_bytes, &h->file_bytes))
        return sl_fail(err, SLUICE_EARG, "a session of more than 2^64 bytes cannot be saved");
    return sl_manifest_digest(s->engine->weights->manifest, &h->model, err);
}

void sl_snapshot_print(const struct sl_snapshot *h, uint8_t page[SL_SNAPSHOT_PAGE])
{
    memset(page, 0, SL_SNAPSHOT_PAGE);
    memcpy(page, h, sizeof *h);
    uint64_t hash = sl_hash(page, XXH3_AT);
    memcpy(page + XXH3_AT, &hash, sizeof hash);
}

/* Numbers that no session has; the arithmetic of sizes is checked after this. */
static bool is_possible(const struct sl_snapshot *h)
{
    return h->tokens >= 1 && h->layers >= 1 && h->has_mtp <= 1 && h->layers > h->has_mtp &&
           h->mtp_tokens <= h->tokens && (h->has_mtp || h->mtp_tokens == 0) &&
           (!h->has_mtp || h->mtp_tokens + 1 >= h->tokens) && h->kv >= SL_CACHE_INT8 &&
           h->kv <= SL_CACHE_F32 && h->index <= SL_CACHE_F32 &&
           (h->index != 0) == (h->panel_bytes != 0) && h->piece_bytes == SL_SNAPSHOT_PIECE &&
           (h->flags & ~(uint32_t)(SL_SNAPSHOT_LOGITS | SL_SNAPSHOT_ONEDNN)) == 0;
}

/* The checksum comes before the version: where they are is the same in all versions. */
int sl_snapshot_parse(struct sl_snapshot *h, const uint8_t page[SL_SNAPSHOT_PAGE],
                      uint64_t file_bytes, const char *path, struct sluice_err *err)
{
    uint64_t hash, data_bytes, whole;
    memcpy(h, page, sizeof *h);
    memcpy(&hash, page + XXH3_AT, sizeof hash);
    if (memcmp(h->magic, magic, sizeof magic) != 0)
        return sl_fail(err, SLUICE_EFORMAT, "%s: not a saved session: name another file", path);
    if (hash != sl_hash(page, XXH3_AT))
        return sl_fail(err, SLUICE_EDAMAGED,
                       "%s: the first 4096 bytes are damaged: " SL_COMPUTE_ANEW, path);
    if (h->version != SL_SNAPSHOT_VERSION)
        return sl_fail(err, SLUICE_EVERSION,
                       "%s: version %u of saved sessions, this build reads %d; use a newer sluice, "
                       "or name another file",
                       path, h->version, SL_SNAPSHOT_VERSION);
    if (!is_possible(h) || !data_bytes_of(h, &data_bytes) || data_bytes != h->data_bytes ||
        !file_bytes_of(data_bytes, &whole) || whole != h->file_bytes)
        return sl_fail(err, SLUICE_EFORMAT, "%s: its header contradicts itself: " SL_COMPUTE_ANEW,
                       path);
    if (h->file_bytes != file_bytes)
        return sl_fail(err, SLUICE_EDAMAGED,
                       "%s: %" PRIu64 " bytes, %" PRIu64
                       " wanted: truncated or changed; " SL_COMPUTE_ANEW,
                       path, file_bytes, h->file_bytes);
    return 0;
}

static int read_header(int fd, struct sl_snapshot *h, const char *path, struct sluice_err *err)
{
    uint8_t page[SL_SNAPSHOT_PAGE];
    struct stat info;
    if (fstat(fd, &info) != 0)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot stat %s", path);
    if (!S_ISREG(info.st_mode))
        return sl_fail(err, SLUICE_EFORMAT, "%s: not a regular file", path);
    if (info.st_size < SL_SNAPSHOT_PAGE)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: %lld bytes: not a saved session, or truncated: remove it, or name "
                       "another file",
                       path, (long long)info.st_size);
    int status = sl_read_at(fd, page, sizeof page, 0, path, err);
    return status < 0 ? status : sl_snapshot_parse(h, page, (uint64_t)info.st_size, path, err);
}

int sl_snapshot_open(int *fd, struct sl_snapshot *h, const char *path, struct sluice_err *err)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would hang us */
    if (*fd < 0)
        return sl_fail_errno(err, errno == ENOENT ? SLUICE_EARG : SLUICE_EIO, errno,
                             "cannot open %s", path);
    return read_header(*fd, h, path, err);
}
