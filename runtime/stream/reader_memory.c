/* SPDX-License-Identifier: MIT */
/* Expert files mapped, which must be whole.  Each expert is checked when it is first asked for. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "runtime/base/err.h"
#include "runtime/stream/stream.h"

struct mapped_file {
    const struct sl_expert_file *file;
    uint8_t *map; /* whole file */
    size_t size;
    bool *checked; /* [n_experts] */
};

struct sl_reader {
    struct mapped_file *files;
    size_t n_files;
    struct sl_read *done[SL_READS]; /* a ring: reads are done when submitted */
    size_t head, tail;
};

static void memory_close(struct sl_reader **out)
{
    struct sl_reader *r = *out;
    if (!r)
        return;
    for (size_t i = 0; r->files && i < r->n_files; i++) {
        if (r->files[i].map)
            munmap(r->files[i].map, r->files[i].size);
        free(r->files[i].checked);
    }
    free(r->files);
    free(r);
    *out = NULL;
}

static int map_file(struct mapped_file *m, const struct sl_expert_file *f, struct sluice_err *err)
{
    const struct sl_expert_part *part = &f->parts[0];
    if (f->n_parts > 1)
        return sl_fail(err, SLUICE_EUNSUPPORTED,
                       "%s: one of %u parts; the reader \"memory\" needs whole files: choose "
                       "--reader auto, or join the parts with sluice stripe --join",
                       part->path, f->n_parts);
    m->file = f;
    m->size = part->data + f->n_experts * f->layout.stride;
    m->checked = calloc(f->n_experts, sizeof *m->checked);
    if (!m->checked)
        return sl_fail_nomem(err, part->path, f->n_experts);
    void *map = mmap(NULL, m->size, PROT_READ, MAP_SHARED, part->fd, 0);
    if (map == MAP_FAILED)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot map %s (%zu bytes)", part->path,
                             m->size);
    m->map = map;
    return 0;
}

static int memory_open(struct sl_reader **out, const struct sl_expert_file *files, size_t n_files,
                       struct sluice_err *err)
{
    struct sl_reader *r = *out = calloc(1, sizeof *r);
    int status = 0;
    if (!r || !(r->files = calloc(n_files ? n_files : 1, sizeof *r->files)))
        status = sl_fail_nomem(err, "memory reader", sizeof *r);
    else
        r->n_files = n_files;
    for (size_t i = 0; status == 0 && i < n_files; i++)
        status = map_file(&r->files[i], &files[i], err);
    if (status < 0)
        memory_close(out);
    return status;
}

static int memory_submit(struct sl_reader *r, struct sl_read *read, struct sluice_err *err)
{
    struct mapped_file *m = r->files;
    while (m->file != read->file)
        m++;
    const struct sl_expert_layout *layout = &read->file->layout;
    if (r->tail - r->head == SL_READS)
        return sl_fail(err, SLUICE_EARG, "more than %d reads at a time", SL_READS);
    read->err.code = 0;
    read->data = m->map + read->file->parts[0].data + read->expert * layout->stride;
    for (uint64_t c = 0; !m->checked[read->expert] && c < layout->chunks; c++)
        if (sl_chunk_check(read->file, read->expert, c, read->data + c * SL_CHUNK_BYTES,
                           &read->err) < 0)
            break;
    if (read->err.code == 0)
        m->checked[read->expert] = true;
    r->done[r->tail++ % SL_READS] = read;
    return 0;
}

static int memory_wait(struct sl_reader *r, struct sl_read **done, struct sluice_err *err)
{
    if (r->head == r->tail)
        return sl_fail(err, SLUICE_EARG, "no read is under way");
    *done = r->done[r->head++ % SL_READS];
    return 0;
}

const struct sl_reader_ops sl_reader_memory = {
    .name = "memory",
    .needs_buffers = false,
    .open = memory_open,
    .submit = memory_submit,
    .wait = memory_wait,
    .close = memory_close,
};
