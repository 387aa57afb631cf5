/* SPDX-License-Identifier: MIT */
#include "tests/unit/expert_reads.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/container/container.h"
#include "tests/unit/scratch.h"

/* ---- expert files ---------------------------------------------------------------------------- */

const struct shape shapes[SHAPES] = {
    {2 * PAGE, PAGE, 1},                       /* one chunk */
    {MIB, MIB / 2, 1},                         /* one whole chunk */
    {2 * MIB + 20 * PAGE, MIB + 15 * PAGE, 1}, /* panels meet inside a chunk */
    {3 * MIB, 2 * MIB, 1},                     /* … and between two */
    {9 * MIB + PAGE, 6 * MIB, 3},
    {2 * MIB + PAGE, MIB, 5}, /* more drives than chunks */
};
const struct shape *const halved = &shapes[3], *const striped = &shapes[4];

uint64_t word_at(const struct sl_expert_file *f, uint32_t expert, size_t i)
{
    return (i + 1) * 0x9e3779b97f4a7c15 ^ ((uint64_t)f->layer << 32 | expert);
}

static void fill(const struct sl_expert_file *f, uint32_t expert, uint64_t *block)
{
    for (size_t i = 0; i < f->layout.stride / 8; i++)
        block[i] = word_at(f, expert, i);
}

static size_t length_of(const struct shape *s, size_t chunk)
{
    return s->stride - chunk * MIB < MIB ? s->stride - chunk * MIB : MIB;
}

const char *folder = "";

/* Opens part P of a new file, in which expert 0 begins at DATA. */
static void create_part(struct sl_expert_file *f, const struct shape *s, unsigned p)
{
    struct sl_expert_part *part = &f->parts[p];
    char name[64];
    snprintf(name, sizeof name, "%sexperts-%02u.%u", folder, f->layer, p);
    snprintf(part->path, sizeof part->path, "%s", at(name));
    unlink(part->path);
    part->fd = open(part->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(part->fd >= 0);
    part->data = PAGE * (p + 1);
    part->stride = 0;
    for (size_t c = p; c < f->layout.chunks; c += s->n_parts)
        part->stride += length_of(s, c);
}

void open_file(struct sl_expert_file *f, const struct shape *s, unsigned layer)
{
    size_t chunks = (s->stride + MIB - 1) / MIB;
    uint64_t *block = malloc(s->stride);
    *f = (struct sl_expert_file){.layer = layer,
                                 .n_experts = EXPERTS,
                                 .n_parts = s->n_parts,
                                 .checksums = malloc(EXPERTS * chunks * 8)};
    f->layout.stride = s->stride;
    f->layout.down_offset = s->down_offset;
    f->layout.chunks = chunks;
    assert_true(block && f->checksums);
    for (unsigned p = 0; p < s->n_parts; p++)
        create_part(f, s, p);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        fill(f, e, block);
        for (size_t c = 0; c < chunks; c++) {
            const struct sl_expert_part *part = &f->parts[c % s->n_parts];
            size_t offset = part->data + e * part->stride + c / s->n_parts * MIB,
                   n = length_of(s, c);
            assert_int_equal(pwrite(part->fd, (char *)block + c * MIB, n, (off_t)offset), n);
            f->checksums[e * chunks + c] = sl_hash((char *)block + c * MIB, n);
        }
    }
    free(block);
}

void close_file(struct sl_expert_file *f)
{
    for (unsigned p = 0; p < f->n_parts; p++)
        close(f->parts[p].fd);
    free(f->checksums);
}

/* ---- readers --------------------------------------------------------------------------------- */

const enum sluice_reader kinds[KINDS] = {SLUICE_READER_PREAD, SLUICE_READER_URING};

struct sl_reader *open_reader(const struct sl_reader_opts *o, const struct sl_expert_file *files,
                              size_t n)
{
    struct sl_reader *r;
    struct sluice_err err = {0};
    int status = sl_reader_open(&r, o, files, n, &err);
    if (status == SLUICE_EUNSUPPORTED && o->kind == SLUICE_READER_URING) {
        print_message("no io_uring here: %s\n", err.msg);
        return NULL;
    }
    if (status < 0)
        fail_msg("%s", err.msg);
    return r;
}

uint8_t *blocks_for(const struct sl_expert_file *f, size_t n)
{
    uint8_t *p = aligned_alloc(PAGE, n * f->layout.stride);
    assert_non_null(p);
    return memset(p, 0xa5, n * f->layout.stride);
}

void submit(struct sl_reader *r, struct sl_read *read)
{
    struct sluice_err err = {0};
    if (sl_reader_submit(r, read, &err) < 0)
        fail_msg("%s", err.msg);
}

bool is_over(enum sl_read_state state)
{
    return state == SL_READ_DONE || state == SL_READ_FAILED || state == SL_READ_WITHDRAWN;
}

enum sl_read_state wait_for(struct sl_reader *r, const struct sl_read *read)
{
    uint64_t seen = 0;
    enum sl_read_state state;
    while (!is_over(state = sl_reader_state(r, read)))
        assert_true(sl_reader_wait(r, &seen, 60));
    return state;
}

void expect_bytes(const struct sl_read *read, size_t n)
{
    const uint64_t *words = (const uint64_t *)(const void *)read->buffer;
    for (size_t i = 0; i < n / 8; i++)
        if (words[i] != word_at(read->file, read->expert, i))
            fail_msg("layer %u, expert %u: wrong near byte %zu", read->file->layer, read->expert,
                     8 * i);
}

void expect_done(struct sl_reader *r, const struct sl_read *read)
{
    if (wait_for(r, read) != SL_READ_DONE)
        fail_msg("state %d: %s", read->state, read->err.msg);
    assert_int_equal(read->err.code, 0);
    expect_bytes(read, read->file->layout.stride);
}

void expect_failed(struct sl_reader *r, const struct sl_read *read, int code, const char *part)
{
    assert_int_equal(wait_for(r, read), SL_READ_FAILED);
    if (read->err.code != code)
        fail_msg("%d, %d wanted: %s", read->err.code, code, read->err.msg);
    expect_text(read->err.msg, part);
}
