/* SPDX-License-Identifier: MIT */
/* Expert files mapped, which must be whole.  Each expert is checked when it is first asked for. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "runtime/base/err.h"
#include "runtime/stream/reader.h"

struct mapped_file {
    const struct sl_expert_file *file;
    uint8_t *map; /* whole file */
    size_t size;
    bool *checked; /* [n_experts] */
};

struct sl_mapped {
    struct mapped_file *files;
    size_t n_files;
};

void sl_mapped_close(struct sl_mapped **out)
{
    struct sl_mapped *m = *out;
    if (!m)
        return;
    for (size_t i = 0; m->files && i < m->n_files; i++) {
        if (m->files[i].map)
            munmap(m->files[i].map, m->files[i].size);
        free(m->files[i].checked);
    }
    free(m->files);
    free(m);
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

int sl_mapped_open(struct sl_mapped **out, const struct sl_expert_file *files, size_t n_files,
                   struct sluice_err *err)
{
    struct sl_mapped *m = *out = calloc(1, sizeof *m);
    int status = 0;
    if (!m || !(m->files = calloc(n_files ? n_files : 1, sizeof *m->files)))
        status = sl_fail_nomem(err, "memory reader", sizeof *m);
    else
        m->n_files = n_files;
    for (size_t i = 0; status == 0 && i < n_files; i++)
        status = map_file(&m->files[i], &files[i], err);
    if (status < 0)
        sl_mapped_close(out);
    return status;
}

int sl_mapped_block(struct sl_mapped *mapped, const struct sl_expert_file *file, uint32_t expert,
                    const uint8_t **block, struct sluice_err *err)
{
    const struct sl_expert_layout *layout = &file->layout;
    struct mapped_file *m = mapped->files;
    while (m->file != file)
        m++;
    *block = m->map + file->parts[0].data + expert * layout->stride;
    for (uint64_t c = 0; !m->checked[expert] && c < layout->chunks; c++) {
        int status = sl_chunk_check(file, expert, c, *block + c * SL_CHUNK_BYTES, err);
        if (status < 0)
            return status;
    }
    m->checked[expert] = true;
    return 0;
}
