/* SPDX-License-Identifier: MIT */
/* Saving a session to a file and restoring it.  The first page is checked before anything of the
 * session is touched; pieces of data are checked one by one before they are used. */
#include "runtime/session/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/file.h"

/* ---- does it fit? --------------------------------------------------------------------------- */

static const char *cache_name(uint32_t type)
{
    return type == SL_CACHE_INT8 ? "int8" : type == SL_CACHE_BF16 ? "bf16" : "f32";
}

static int check_index(const struct sl_snapshot *h, const struct sl_snapshot *own,
                       const sluice_session *s, const char *path, struct sluice_err *err)
{
    uint32_t topk = s->ws.config->index_topk;
    if (h->index == own->index)
        return 0;
    if (h->index && own->index)
        return sl_fail(err, SLUICE_EARG,
                       "%s: saved with index keys in %s, this session has %s: open it with "
                       "--index-type %s",
                       path, cache_name(h->index), cache_name(own->index), cache_name(h->index));
    if (h->index)
        return sl_fail(err, SLUICE_EARG,
                       "%s: saved with index keys, this session has none: open it without --dense, "
                       "for more than %u tokens (--ctx)",
                       path, topk);
    return sl_fail(
        err, SLUICE_EARG,
        "%s: saved without index keys, which this session wants: open it with --dense, or "
        "for at most %u tokens (--ctx)",
        path, topk);
}

/* Whether the session that H describes can go on in S. */
static int check_fit(const struct sl_snapshot *h, const sluice_session *s, const char *path,
                     struct sluice_err *err)
{
    struct sl_snapshot own;
    int status = sl_snapshot_describe(s, &own, err);
    if (status < 0)
        return status;
    if (h->model != own.model)
        return sl_fail(err, SLUICE_EARG,
                       "%s: saved from another model or another profile of it (%016" PRIx64
                       "), %s is %016" PRIx64 ": run the one it came from, or name another file",
                       path, h->model, s->engine->dir, own.model);
    if (own.has_mtp && !h->has_mtp)
        return sl_fail(err, SLUICE_EARG,
                       "%s: saved without the MTP layer, which this engine has loaded: open it "
                       "without (--mtp off)",
                       path);
    if (h->kv != own.kv)
        return sl_fail(err, SLUICE_EARG,
                       "%s: saved with a KV cache in %s, this session has %s: open it with "
                       "--kv-type %s",
                       path, cache_name(h->kv), cache_name(own.kv), cache_name(h->kv));
    if ((h->flags ^ own.flags) & SL_SNAPSHOT_ONEDNN)
        return sl_fail(err, SLUICE_EARG, "%s: saved %s oneDNN, this session is %s: see --dense",
                       path, h->flags & SL_SNAPSHOT_ONEDNN ? "with" : "without",
                       own.flags & SL_SNAPSHOT_ONEDNN ? "with it" : "without");
    if (h->tokens > s->capacity)
        return sl_fail(err, SLUICE_ECONTEXT,
                       "%s: %" PRIu64 " tokens, this session has room for %zu: open it with --ctx "
                       "%" PRIu64 " or more",
                       path, h->tokens, s->capacity, h->tokens);
    if ((status = check_index(h, &own, s, path, err)) < 0)
        return status;
    if (h->layers - h->has_mtp != own.layers - own.has_mtp || h->latent_bytes != own.latent_bytes ||
        h->tail_bytes != own.tail_bytes || h->panel_bytes != own.panel_bytes ||
        h->hidden != own.hidden || h->vocab != own.vocab)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: %u layers with rows of %u + %u bytes, panels of %u; wanted: %u with "
                       "%u + %u, %u: " SL_COMPUTE_ANEW,
                       path, h->layers, h->latent_bytes, h->tail_bytes, h->panel_bytes, own.layers,
                       own.latent_bytes, own.tail_bytes, own.panel_bytes);
    return 0;
}

/* ---- restoring ------------------------------------------------------------------------------ */

static int read_table(int fd, const struct sl_snapshot *h, uint64_t **table, const char *path,
                      struct sluice_err *err)
{
    size_t bytes = sl_snapshot_table_bytes(h->data_bytes);
    if (!(*table = malloc(bytes)))
        return sl_fail_nomem(err, path, bytes);
    int status = sl_read_at(fd, *table, bytes, SL_SNAPSHOT_PAGE + h->data_bytes, path, err);
    if (status == 0 && sl_hash(*table, bytes) != h->table_xxh3)
        status = sl_fail(err, SLUICE_EDAMAGED, "%s: damaged near its end: " SL_COMPUTE_ANEW, path);
    return status;
}

/* The data come into the empty session, or it stays so. */
static int read_data(sluice_session *s, const struct sl_snapshot *h, const struct sl_transfer *t,
                     struct sluice_err *err)
{
    fcntl(t->fd, F_SETFL, O_DIRECT); /* where the file system can */
    sl_blocks_advise(s, h->tokens);
    int status = sl_transfer_run(t, err);
    if (status == 0)
        status = sl_check_tokens(s, s->tokens, h->tokens, err);
    if (status < 0)
        return status;
    s->length = h->tokens;
    s->mtp_length = s->has_mtp ? h->mtp_tokens : 0;
    s->have_logits = h->flags & SL_SNAPSHOT_LOGITS;
    return 0;
}

int sluice_session_restore(sluice_session *s, const char *path, sluice_loading_fn *progress,
                           void *user, struct sluice_err *err)
{
    struct sl_snapshot h;
    struct sl_stretches data = {0};
    uint64_t *table = NULL;
    int fd, status = sl_snapshot_open(&fd, &h, path, err);
    if (status == 0)
        status = check_fit(&h, s, path, err);
    if (status == 0)
        status = read_table(fd, &h, &table, path, err);
    if (status == 0) {
        sl_session_cut(s, 0);
        status = sl_stretches_open(&data, s, &h, false, err);
    }
    if (status == 0 && data.bytes != h.data_bytes)
        status = sl_fail(err, SLUICE_EFORMAT,
                         "%s: %" PRIu64 " bytes of data, %" PRIu64 " wanted: " SL_COMPUTE_ANEW,
                         path, h.data_bytes, data.bytes);
    if (status == 0) {
        const struct sl_transfer t = {fd, false, path, &data, table, user, progress};
        status = read_data(s, &h, &t, err);
    }
    if (fd >= 0)
        close(fd);
    free(table);
    sl_stretches_close(&data);
    return status;
}

int sluice_session_saved(struct sluice_saved *saved, const char *path, struct sluice_err *err)
{
    struct sl_snapshot h;
    int fd, status = sl_snapshot_open(&fd, &h, path, err);
    if (fd >= 0)
        close(fd);
    *saved = (struct sluice_saved){0};
    if (status == 0)
        *saved = (struct sluice_saved){.tokens = h.tokens, .mtp = h.has_mtp != 0};
    return status;
}

/* ---- saving --------------------------------------------------------------------------------- */

/* The data, past the page cache where that can be; then what is known of them. */
static int write_all(struct sl_newfile *f, struct sl_snapshot *h, const struct sl_transfer *t,
                     struct sluice_err *err)
{
    uint8_t page[SL_SNAPSHOT_PAGE];
    size_t table_bytes = sl_snapshot_table_bytes(h->data_bytes);
    int status = sl_newfile_reserve(f, h->file_bytes, err);
    sl_newfile_direct(f, true);
    if (status == 0)
        status = sl_transfer_run(t, err);
    sl_newfile_direct(f, false);
    if (status < 0)
        return status;
    h->table_xxh3 = sl_hash(t->xxh3, table_bytes);
    sl_snapshot_print(h, page);
    status = sl_newfile_write_at(f, t->xxh3, table_bytes, SL_SNAPSHOT_PAGE + h->data_bytes, err);
    if (status == 0)
        status = sl_newfile_write_at(f, page, sizeof page, 0, err);
    if (status == 0 && ftruncate(f->fd, (off_t)h->file_bytes) != 0)
        status = sl_fail_errno(err, SLUICE_EIO, errno, "cannot write %s", t->path);
    return status;
}

/* A device or directory in place of the file would be found when all is written. */
static int check_place(const char *path, struct sluice_err *err)
{
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return sl_fail(err, SLUICE_EARG, "%s: not a regular file: name another", path);
    return 0;
}

int sluice_session_save(sluice_session *s, const char *path, sluice_loading_fn *progress,
                        void *user, struct sluice_err *err)
{
    struct sl_snapshot h;
    struct sl_stretches data = {0};
    struct sl_newfile file = {.fd = -1};
    uint64_t *table = NULL;
    if (s->length == 0)
        return sl_fail(err, SLUICE_EARG, "%s: the session is empty: nothing to save", path);
    int status = check_place(path, err);
    sl_mtp_catch_up(s);
    if (status == 0)
        status = sl_snapshot_describe(s, &h, err);
    if (status == 0)
        status = sl_stretches_open(&data, s, &h, true, err);
    if (status == 0 && !(table = malloc(sl_snapshot_table_bytes(h.data_bytes))))
        status = sl_fail_nomem(err, path, sl_snapshot_table_bytes(h.data_bytes));
    if (status == 0)
        status = sl_newfile_open_nameless(&file, path, err);
    if (status == 0) {
        const struct sl_transfer t = {file.fd, true, path, &data, table, user, progress};
        status = write_all(&file, &h, &t, err);
    }
    if (status == 0)
        status = sl_newfile_commit(&file, err);
    sl_newfile_close(&file);
    free(table);
    sl_stretches_close(&data);
    return status;
}
