/* SPDX-License-Identifier: MIT */
/* Opening one layer's expert file and checking its chunks. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/stream/stream.h"

static int check_against_manifest(struct sl_expert_file *f, const char *name,
                                  const struct sl_manifest *m, const struct sl_safetensors *st,
                                  struct sluice_err *err)
{
    uint64_t hash;
    const struct sl_manifest_file *entry = sl_manifest_find(m, name);
    if (!entry)
        return sl_fail(err, SLUICE_EFORMAT, "%s: does not list %s", m->path, name);
    if (st->file_bytes != entry->bytes)
        return sl_fail(err, SLUICE_EDAMAGED, "%s: %" PRIu64 " bytes, %" PRIu64 " wanted", f->path,
                       st->file_bytes, entry->bytes);
    int status = sl_file_hash(f->path, &hash, err);
    if (status == 0 && hash != entry->xxh3)
        status = sl_fail(err, SLUICE_EDAMAGED,
                         "%s: header or checksum table of layer %u damaged (%016" PRIx64
                         ", %016" PRIx64 " wanted); copy the file again, or delete it and run "
                         "sluice quantize again",
                         f->path, f->layer, hash, entry->xxh3);
    return status;
}

static int read_packing(const struct sl_expert_file *f, const struct sl_safetensors *st,
                        const char *key, struct sl_packing *p, struct sluice_err *err)
{
    char where[SL_PATH_MAX + 32];
    snprintf(where, sizeof where, "%s: %s", f->path, key);
    const char *text = sl_safetensors_meta(st, key);
    if (!text)
        return sl_fail(err, SLUICE_EFORMAT, "%s: no packing descriptor", where);
    return sl_packing_parse(text, where, p, err);
}

/* The `experts` and `checksums` tensors must have the sizes that the packings imply. */
static int bind_tensors(struct sl_expert_file *f, const struct sl_safetensors *st,
                        struct sluice_err *err)
{
    const struct sl_tensor *experts = sl_safetensors_find(st, "experts");
    const struct sl_tensor *sums = sl_safetensors_find(st, "checksums");
    if (!experts || experts->dtype != SL_U8 || experts->n_dims != 2 || experts->dims[0] == 0 ||
        experts->dims[0] > UINT32_MAX || experts->dims[1] != f->layout.stride ||
        experts->offset % SL_DATA_ALIGN != 0)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: tensor experts is not U8 [n, %" PRIu64 "] at a multiple of %d", f->path,
                       f->layout.stride, SL_DATA_ALIGN);
    if (!sums || sums->dtype != SL_U64 || sums->n_dims != 2 || sums->dims[0] != experts->dims[0] ||
        sums->dims[1] != f->layout.chunks)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: tensor checksums is not U64 [%" PRIu64 ", %" PRIu64 "]", f->path,
                       experts->dims[0], f->layout.chunks);
    f->n_experts = (uint32_t)experts->dims[0];
    f->data = experts->offset;
    if (!(f->checksums = malloc(sums->bytes)))
        return sl_fail_nomem(err, f->path, sums->bytes);
    return sl_tensor_read(st, sums, f->checksums, sums->bytes, 0, err);
}

int sl_expert_file_open(struct sl_expert_file *f, const char *dir, const struct sl_manifest *m,
                        unsigned layer, struct sluice_err *err)
{
    char name[64];
    struct sl_safetensors *st = NULL;
    *f = (struct sl_expert_file){.fd = -1, .layer = layer};
    sl_experts_file(name, layer);
    int status = sl_path_join(f->path, dir, name, err);
    if (status < 0 || (status = sl_safetensors_open(&st, f->path, err)) < 0 ||
        (status = check_against_manifest(f, name, m, st, err)) < 0 ||
        (status = read_packing(f, st, "pack:gate_up", &f->layout.gate_up, err)) < 0 ||
        (status = read_packing(f, st, "pack:down", &f->layout.down, err)) < 0)
        goto done;
    sl_expert_layout_fill(&f->layout);
    if ((status = bind_tensors(f, st, err)) < 0)
        goto done;
    f->fd = fcntl(st->fd, F_DUPFD_CLOEXEC, 0);
    if (f->fd < 0)
        status = sl_fail_errno(err, SLUICE_EIO, errno, "cannot keep %s open", f->path);
done:
    sl_safetensors_close(&st);
    if (status < 0)
        sl_expert_file_close(f);
    return status;
}

void sl_expert_file_close(struct sl_expert_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->checksums);
    f->checksums = NULL;
    f->fd = -1;
}

size_t sl_chunk_length(const struct sl_expert_layout *layout, uint64_t chunk)
{
    return sl_min(SL_CHUNK_BYTES, layout->stride - chunk * SL_CHUNK_BYTES);
}

int sl_chunk_check(const struct sl_expert_file *f, uint32_t expert, uint64_t chunk,
                   const uint8_t *data, struct sluice_err *err)
{
    uint64_t want = f->checksums[expert * f->layout.chunks + chunk];
    uint64_t found = sl_hash(data, sl_chunk_length(&f->layout, chunk));
    if (found == want)
        return 0;
    return sl_fail(err, SLUICE_EDAMAGED,
                   "layer %u, expert %u, chunk %" PRIu64 " of %" PRIu64 ": checksum %016" PRIx64
                   ", %016" PRIx64 " wanted (%s); run sluice verify on the container, then copy "
                   "the file again, or delete it and run sluice quantize again",
                   f->layer, expert, chunk + 1, f->layout.chunks, found, want, f->path);
}
