/* SPDX-License-Identifier: MIT */
/* Opening one layer's experts, whole or in parts, and checking their chunks. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/stream/stream.h"

/* One part while it is being opened. */
struct opening {
    struct sl_expert_file *file;
    unsigned part;
    char name[64];
    const char *path; /* file->parts[part].path */
    struct sl_safetensors *st;
    struct sluice_err *err;
};

/* A part says which one it is; a whole file says nothing. */
static int check_part(const struct opening *o)
{
    char want[16];
    const char *found = sl_safetensors_meta(o->st, "part");
    if (o->file->n_parts == 1)
        return found ? sl_fail(o->err, SLUICE_EFORMAT,
                               "%s: part %.15s of something; a whole file wanted", o->path, found)
                     : 0;
    sl_part_print(want, o->part, o->file->n_parts);
    if (found && strcmp(found, want) == 0)
        return 0;
    return sl_fail(o->err, SLUICE_EFORMAT,
                   "%s: %s%.15s, part %s wanted: another file is in its place, or a link leads to "
                   "another part",
                   o->path, found ? "part " : "a whole file", found ? found : "", want);
}

static int check_against_manifest(const struct opening *o, const struct sl_manifest *m)
{
    uint64_t hash;
    const struct sl_manifest_file *entry = sl_manifest_find(m, o->name); /* listed, as n_parts is */
    if (o->st->file_bytes != entry->bytes)
        return sl_fail(o->err, SLUICE_EDAMAGED, "%s: %" PRIu64 " bytes, %" PRIu64 " wanted",
                       o->path, o->st->file_bytes, entry->bytes);
    int status = sl_file_hash(o->path, &hash, o->err);
    if (status == 0 && hash != entry->xxh3)
        status = sl_fail(o->err, SLUICE_EDAMAGED,
                         "%s: header or checksum table of layer %u damaged (%016" PRIx64
                         ", %016" PRIx64 " wanted); copy the file again, or delete it and run "
                         "sluice quantize again",
                         o->path, o->file->layer, hash, entry->xxh3);
    return status;
}

/* All parts have the same packings; part 0 decides. */
static int read_packing(const struct opening *o, const char *key, struct sl_packing *p)
{
    char where[SL_PATH_MAX + 32], first[256];
    snprintf(where, sizeof where, "%s: %s", o->path, key);
    const char *text = sl_safetensors_meta(o->st, key);
    if (!text)
        return sl_fail(o->err, SLUICE_EFORMAT, "%s: no packing descriptor", where);
    if (o->part == 0)
        return sl_packing_parse(text, where, p, o->err);
    sl_packing_print(p, first);
    if (strcmp(text, first) != 0)
        return sl_fail(o->err, SLUICE_EFORMAT, "%s: not that of part 0", where);
    return 0;
}

/* Puts the part's checksums to those of the whole experts. */
static int read_checksums(const struct opening *o, const struct sl_tensor *sums)
{
    struct sl_expert_file *f = o->file;
    uint64_t chunks = sums->dims[1];
    uint64_t *table = malloc(sl_max(sums->bytes, 1));
    if (!table)
        return sl_fail_nomem(o->err, o->path, sums->bytes);
    int status = sl_tensor_read(o->st, sums, table, sums->bytes, 0, o->err);
    for (uint64_t i = 0; status == 0 && i < f->n_experts; i++)
        for (uint64_t c = 0; c < chunks; c++)
            f->checksums[i * f->layout.chunks + c * f->n_parts + o->part] = table[i * chunks + c];
    free(table);
    return status;
}

/* With part 0, when the number of experts is known; the parts' tables must have room in it. */
static int allocate_checksums(const struct opening *o)
{
    struct sl_expert_file *f = o->file;
    size_t n = 0;
    if (!sl_mul(f->n_experts, f->layout.chunks, &n) ||
        !(f->checksums = calloc(n, sizeof(uint64_t))))
        return sl_fail_nomem(o->err, o->path, n * sizeof(uint64_t));
    return 0;
}

/* The `experts` and `checksums` tensors must have the sizes that the packings imply. */
static int bind_tensors(const struct opening *o)
{
    struct sl_expert_file *f = o->file;
    struct sl_expert_part *p = &f->parts[o->part];
    const struct sl_tensor *experts = sl_safetensors_find(o->st, "experts");
    const struct sl_tensor *sums = sl_safetensors_find(o->st, "checksums");
    uint64_t chunks = sl_part_chunks(&f->layout, o->part, f->n_parts);
    p->stride = sl_part_stride(&f->layout, o->part, f->n_parts);
    if (!experts || experts->dtype != SL_U8 || experts->n_dims != 2 || experts->dims[0] == 0 ||
        experts->dims[0] > UINT32_MAX || experts->dims[1] != p->stride ||
        experts->offset % SL_DATA_ALIGN != 0)
        return sl_fail(o->err, SLUICE_EFORMAT,
                       "%s: tensor experts is not U8 [n, %" PRIu64 "] at a multiple of %d", o->path,
                       p->stride, SL_DATA_ALIGN);
    if (o->part > 0 && experts->dims[0] != f->n_experts)
        return sl_fail(o->err, SLUICE_EFORMAT, "%s: %" PRIu64 " experts, %u wanted as in part 0",
                       o->path, experts->dims[0], f->n_experts);
    if (!sums || sums->dtype != SL_U64 || sums->n_dims != 2 || sums->dims[0] != experts->dims[0] ||
        sums->dims[1] != chunks)
        return sl_fail(o->err, SLUICE_EFORMAT,
                       "%s: tensor checksums is not U64 [%" PRIu64 ", %" PRIu64 "]", o->path,
                       experts->dims[0], chunks);
    f->n_experts = (uint32_t)experts->dims[0];
    p->data = experts->offset;
    int status = o->part == 0 ? allocate_checksums(o) : 0;
    return status < 0 ? status : read_checksums(o, sums);
}

static int open_part(struct sl_expert_file *f, const char *dir, const struct sl_manifest *m,
                     unsigned part, struct sluice_err *err)
{
    struct sl_expert_part *p = &f->parts[part];
    struct opening o = {.file = f, .part = part, .path = p->path, .err = err};
    sl_experts_part_file(o.name, f->layer, part, f->n_parts);
    int status = sl_path_join(p->path, dir, o.name, err);
    if (status < 0 || (status = sl_link_check(p->path, err)) < 0 ||
        (status = sl_safetensors_open(&o.st, p->path, err)) < 0 || (status = check_part(&o)) < 0 ||
        (status = check_against_manifest(&o, m)) < 0 ||
        (status = read_packing(&o, "pack:gate_up", &f->layout.gate_up)) < 0 ||
        (status = read_packing(&o, "pack:down", &f->layout.down)) < 0)
        goto done;
    sl_expert_layout_fill(&f->layout);
    if ((status = bind_tensors(&o)) < 0)
        goto done;
    p->fd = fcntl(o.st->fd, F_DUPFD_CLOEXEC, 0);
    if (p->fd < 0)
        status = sl_fail_errno(err, SLUICE_EIO, errno, "cannot keep %s open", p->path);
done:
    sl_safetensors_close(&o.st);
    return status;
}

int sl_expert_file_open(struct sl_expert_file *f, const char *dir, const struct sl_manifest *m,
                        unsigned layer, struct sluice_err *err)
{
    unsigned n_parts;
    *f = (struct sl_expert_file){.layer = layer};
    int status = sl_manifest_parts(m, layer, &n_parts, err);
    if (status < 0)
        return status;
    f->n_parts = n_parts;
    for (unsigned i = 0; i < n_parts; i++)
        f->parts[i].fd = -1;
    for (unsigned i = 0; status == 0 && i < n_parts; i++)
        status = open_part(f, dir, m, i, err);
    if (status < 0)
        sl_expert_file_close(f);
    return status;
}

void sl_expert_file_close(struct sl_expert_file *f)
{
    for (unsigned i = 0; i < f->n_parts; i++)
        if (f->parts[i].fd >= 0)
            close(f->parts[i].fd);
    free(f->checksums);
    f->checksums = NULL;
    f->n_parts = 0;
}

struct sl_chunk_place sl_chunk_place(const struct sl_expert_file *f, uint32_t expert,
                                     uint64_t chunk)
{
    unsigned part = (unsigned)(chunk % f->n_parts);
    const struct sl_expert_part *p = &f->parts[part];
    return (struct sl_chunk_place){.part = part,
                                   .offset = p->data + expert * p->stride +
                                             chunk / f->n_parts * SL_CHUNK_BYTES,
                                   .length = sl_chunk_length(&f->layout, chunk)};
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
                   f->layer, expert, chunk + 1, f->layout.chunks, found, want,
                   f->parts[chunk % f->n_parts].path);
}
