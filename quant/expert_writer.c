/* SPDX-License-Identifier: MIT */
/* One layer's experts, written to one file or to its parts side by side. */
#include <stdio.h>
#include <stdlib.h>

#include "quant/conversion.h"
#include "runtime/base/err.h"

/* What part PART holds, in the order of docs/format.md. */
static int declare(struct sl_expert_writer *w, unsigned part, struct sluice_err *err)
{
    struct sl_writer *f = &w->part[part];
    const struct sl_expert_layout *l = &w->layout;
    const uint64_t n = w->n_experts;
    const uint64_t block[2] = {n, sl_part_stride(l, part, w->n_parts)}, errors[2] = {n, 2};
    const uint64_t sums[2] = {n, sl_part_chunks(l, part, w->n_parts)};
    char gate_up[256], down[256], offset[32], which[16];
    sl_packing_print(&l->gate_up, gate_up);
    sl_packing_print(&l->down, down);
    snprintf(offset, sizeof offset, "%llu", (unsigned long long)l->down_offset);
    sl_part_print(which, part, w->n_parts);
    int status = sl_writer_meta(f, "pack:", "gate_up", gate_up, err);
    if (status == 0)
        status = sl_writer_meta(f, "pack:", "down", down, err);
    if (status == 0)
        status = sl_writer_meta(f, "down_offset", "", offset, err);
    if (status == 0 && w->n_parts > 1)
        status = sl_writer_meta(f, "part", "", which, err);
    if (status == 0)
        status = sl_writer_add(f, "experts", SL_U8, 2, block, false, err);
    if (status == 0)
        status = sl_writer_add(f, "checksums", SL_U64, 2, sums, true, err);
    if (status == 0 && part == 0)
        status = sl_writer_add(f, "errors", SL_F32, 2, errors, true, err);
    return status;
}

int sl_expert_writer_open(struct sl_expert_writer *w, const struct sl_expert_layout *layout,
                          uint32_t n_experts, unsigned n_parts, const char *recipe,
                          const char *source, struct sluice_err *err)
{
    *w = (struct sl_expert_writer){.layout = *layout, .n_experts = n_experts, .n_parts = n_parts};
    for (unsigned p = 0; p < n_parts; p++)
        w->part[p].file.fd = -1;
    w->checksums = calloc((size_t)n_experts * layout->chunks, sizeof *w->checksums);
    w->errors = calloc((size_t)n_experts * 2, sizeof *w->errors);
    if (!w->checksums || !w->errors)
        return sl_fail_nomem(err, "checksums of experts", n_experts * layout->chunks * 8);
    int status = 0;
    for (unsigned p = 0; status == 0 && p < n_parts; p++)
        if ((status = sl_writer_open(&w->part[p], recipe, source, err)) == 0)
            status = declare(w, p, err);
    return status;
}

void sl_expert_writer_close(struct sl_expert_writer *w)
{
    for (unsigned p = 0; p < w->n_parts; p++)
        sl_writer_close(&w->part[p]);
    free(w->checksums);
    free(w->errors);
    *w = (struct sl_expert_writer){0};
}

/* The link comes first: wherever the work stops, it leads to what is left of it. */
int sl_expert_writer_begin(struct sl_expert_writer *w, const struct sl_stripe *s, uint32_t layer,
                           struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    int status = 0;
    for (unsigned p = 0; status == 0 && p < w->n_parts; p++) {
        status = sl_stripe_link(s, layer, p, err);
        if (status == 0)
            status = sl_stripe_path(s, layer, p, path, err);
        if (status == 0)
            status = sl_writer_begin(&w->part[p], path, true, err);
    }
    return status;
}

int sl_expert_writer_append(struct sl_expert_writer *w, const uint8_t *block,
                            struct sluice_err *err)
{
    int status = 0;
    if (w->n_parts == 1)
        return sl_writer_append(&w->part[0], block, w->layout.stride, err);
    for (uint64_t c = 0; status == 0 && c < w->layout.chunks; c++)
        status = sl_writer_append(&w->part[c % w->n_parts], block + c * SL_CHUNK_BYTES,
                                  sl_chunk_length(&w->layout, c), err);
    return status;
}

/* Checksums of the chunks in PART. */
static int append_checksums(struct sl_expert_writer *w, unsigned part, struct sluice_err *err)
{
    uint64_t chunks = sl_part_chunks(&w->layout, part, w->n_parts), used = 0;
    uint64_t *table = malloc((size_t)(w->n_experts * chunks + 1) * sizeof *table);
    if (!table)
        return sl_fail_nomem(err, "checksums of experts", w->n_experts * chunks * sizeof *table);
    for (uint64_t i = 0; i < w->n_experts; i++)
        for (uint64_t c = part; c < w->layout.chunks; c += w->n_parts)
            table[used++] = w->checksums[i * w->layout.chunks + c];
    int status = sl_writer_append(&w->part[part], table, used * sizeof *table, err);
    free(table);
    return status;
}

/* Part 0 last: it is what a layer is known by. */
int sl_expert_writer_commit(struct sl_expert_writer *w, struct sluice_err *err)
{
    int status = 0;
    for (unsigned p = w->n_parts; status == 0 && p-- > 0;) {
        if (sl_part_chunks(&w->layout, p, w->n_parts) == 0) /* ends a tensor without bytes */
            status = sl_writer_append(&w->part[p], "", 0, err);
        if (status == 0)
            status = append_checksums(w, p, err);
        if (status == 0 && p == 0)
            status = sl_writer_append(&w->part[p], w->errors,
                                      (size_t)w->n_experts * 2 * sizeof *w->errors, err);
        if (status == 0)
            status = sl_writer_commit(&w->part[p], err);
    }
    return status;
}
