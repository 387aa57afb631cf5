/* SPDX-License-Identifier: MIT */
/* The contents of each kind of container file, as docs/format.md has them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"

/* ---- head and resident files: matrices, the embedding, vectors ------------------------------- */

struct resident {
    struct sl_conversion *c;
    const struct sl_plan_file *file;
    struct sl_writer writer;
    struct sl_packing packing[SL_N_ROLES];
    enum sl_dtype embedding;
    float *embedding_scale; /* [vocab] */
    struct sluice_err *err;
};

enum part { MATRICES, EMBEDDING, VECTORS, N_PARTS };

static enum part part_of(enum sl_role role)
{
    switch (sl_tensor_rules()[role].class) {
    case SL_CLASS_VECTOR:
        return VECTORS;
    case SL_CLASS_EMBED:
        return EMBEDDING;
    default:
        return MATRICES;
    }
}

typedef int tensor_fn(struct resident *r, enum sl_role role, const char *name);

/* Every tensor of the file, in the order of the file. */
static int each_tensor(struct resident *r, tensor_fn *const visit[N_PARTS])
{
    for (int part = 0; part < N_PARTS; part++)
        for (enum sl_role role = 0; role < SL_N_ROLES; role++) {
            const struct sl_tensor_rule *rule = &sl_tensor_rules()[role];
            char name[128];
            if (!sl_plan_has(&r->c->config, r->file, role) || (int)part_of(role) != part)
                continue;
            sl_tensor_name(name, rule, rule->name, r->file->layer, 0);
            int status = visit[part](r, role, name);
            if (status < 0)
                return status;
        }
    return 0;
}

int sl_file_packing(const struct sl_conversion *c, const struct sl_plan_file *file,
                    enum sl_role role, struct sl_packing *p, struct sluice_err *err)
{
    bool exact = sl_profile_is_reference(c->profile);
    uint32_t n = file->kind == SL_FILE_EXPERTS ? c->config.experts : 1;
    for (uint32_t i = 0; exact && i < n; i++) {
        int status = c->make->fits_bf16(c, role, file->layer, i, &exact, err);
        if (status < 0)
            return status;
    }
    *p = sl_profile_packing(c->profile, &c->config, role, file->layer >= c->config.layers, exact);
    return 0;
}

static int declare_matrix(struct resident *r, enum sl_role role, const char *name)
{
    struct sl_packing *p = &r->packing[role];
    char text[256];
    int status = sl_file_packing(r->c, r->file, role, p, r->err);
    if (status < 0)
        return status;
    sl_packing_print(p, text);
    uint64_t bytes = sl_packing_bytes(p); /* panels are multiples of 64 bytes: no padding */
    status = sl_writer_add(&r->writer, name, SL_U8, 1, &bytes, true, r->err);
    if (status == 0)
        status = sl_writer_meta(&r->writer, "pack:", name, text, r->err);
    return status < 0 ? status : sl_writer_error(&r->writer, name, NULL, r->err);
}

int sl_embedding_dtype(const struct sl_conversion *c, enum sl_dtype *dtype, struct sluice_err *err)
{
    bool exact = false;
    *dtype = SL_I8;
    if (!sl_profile_is_reference(c->profile))
        return 0;
    int status = c->make->fits_bf16(c, SL_EMBED, 0, 0, &exact, err);
    *dtype = exact ? SL_BF16 : SL_F32;
    return status;
}

static int declare_embedding(struct resident *r, enum sl_role role, const char *name)
{
    const struct sl_config *config = &r->c->config;
    uint64_t dims[2] = {config->vocab, config->hidden};
    char scale_name[160];
    (void)role;
    r->embedding_scale = calloc(config->vocab, sizeof *r->embedding_scale);
    if (!r->embedding_scale)
        return sl_fail_nomem(r->err, "embedding scales", config->vocab * sizeof(float));
    int status = sl_embedding_dtype(r->c, &r->embedding, r->err);
    if (status == 0)
        status = sl_writer_add(&r->writer, name, r->embedding, 2, dims, true, r->err);
    if (status == 0)
        status = sl_writer_error(&r->writer, name, NULL, r->err);
    snprintf(scale_name, sizeof scale_name, "%s_scale", name);
    if (status == 0 && r->embedding == SL_I8)
        status = sl_writer_add(&r->writer, scale_name, SL_F32, 1, dims, true, r->err);
    return status;
}

static int declare_vector(struct resident *r, enum sl_role role, const char *name)
{
    uint64_t n = sl_tensor_shape_of(&r->c->config, role).cols;
    return sl_writer_add(&r->writer, name, SL_F32, 1, &n, true, r->err);
}

static int write_matrix(struct resident *r, enum sl_role role, const char *name)
{
    struct sl_error error;
    int status = r->c->make->matrix(r->c, role, r->file->layer, 0, &r->packing[role], &r->writer,
                                    NULL, &error, r->err);
    return status < 0 ? status : sl_writer_error(&r->writer, name, &error, r->err);
}

static int write_embedding(struct resident *r, enum sl_role role, const char *name)
{
    struct sl_error error;
    (void)role;
    int status = r->c->make->embedding(r->c, r->embedding, &r->writer, r->embedding_scale, &error,
                                       r->err);
    if (status == 0)
        status = sl_writer_error(&r->writer, name, &error, r->err);
    if (status == 0 && r->embedding == SL_I8)
        status = sl_writer_append(&r->writer, r->embedding_scale,
                                  r->c->config.vocab * sizeof(float), r->err);
    return status;
}

static int write_vector(struct resident *r, enum sl_role role, const char *name)
{
    (void)name;
    return r->c->make->vector(r->c, role, r->file->layer, &r->writer, r->err);
}

static int declare_resident(struct resident *r)
{
    static tensor_fn *const declare[N_PARTS] = {declare_matrix, declare_embedding, declare_vector};
    int status = sl_writer_open(&r->writer, r->c->recipe, r->c->source, r->err);
    return status < 0 ? status : each_tensor(r, declare);
}

static void close_resident(struct resident *r)
{
    sl_writer_close(&r->writer);
    free(r->embedding_scale);
}

static int write_resident(struct sl_conversion *c, const struct sl_plan_file *file,
                          struct sluice_err *err)
{
    static tensor_fn *const write[N_PARTS] = {write_matrix, write_embedding, write_vector};
    struct resident r = {.c = c, .file = file, .err = err};
    char path[SL_PATH_MAX];
    int status = declare_resident(&r);
    if (status == 0)
        status = sl_path_join(path, c->dest, file->name, err);
    if (status == 0)
        status = sl_writer_begin(&r.writer, path, false, err);
    if (status == 0)
        status = each_tensor(&r, write);
    if (status == 0)
        status = sl_writer_commit(&r.writer, err);
    close_resident(&r);
    return status;
}

static int measure_resident(struct sl_conversion *c, const struct sl_plan_file *file,
                            uint64_t *bytes, struct sluice_err *err)
{
    struct resident r = {.c = c, .file = file, .err = err};
    int status = declare_resident(&r);
    if (status == 0)
        status = sl_writer_measure(&r.writer, bytes, err);
    close_resident(&r);
    return status;
}

/* ---- experts --------------------------------------------------------------------------------- */

struct experts {
    struct sl_conversion *c;
    const struct sl_plan_file *file;
    struct sl_expert_writer writer;
    uint8_t *block; /* one expert */
    size_t expert;  /* whose chunks are being hashed */
};

int sl_choose_layout(const struct sl_conversion *c, uint32_t layer, struct sl_expert_layout *layout,
                     struct sluice_err *err)
{
    const struct sl_plan_file file = {.kind = SL_FILE_EXPERTS, .layer = layer};
    int status = sl_file_packing(c, &file, SL_EXPERT_GATE_UP, &layout->gate_up, err);
    if (status == 0)
        status = sl_file_packing(c, &file, SL_EXPERT_DOWN, &layout->down, err);
    if (status == 0)
        sl_expert_layout_fill(layout);
    return status;
}

static int declare_experts(struct experts *e, struct sluice_err *err)
{
    struct sl_conversion *c = e->c;
    struct sl_expert_layout layout;
    int status = sl_choose_layout(c, e->file->layer, &layout, err);
    return status < 0 ? status
                      : sl_expert_writer_open(&e->writer, &layout, c->config.experts,
                                              c->stripe.n_parts, c->recipe, c->source, err);
}

static void hash_chunks(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct experts *e = arg;
    const struct sl_expert_layout *layout = &e->writer.layout;
    (void)thread;
    for (size_t i = begin; i < end; i++)
        e->writer.checksums[e->expert * layout->chunks + i] = sl_hash(e->block + i * SL_CHUNK_BYTES,
                                                                      sl_chunk_length(layout, i));
}

static int write_expert(struct experts *e, uint32_t expert, struct sluice_err *err)
{
    struct sl_conversion *c = e->c;
    const struct sl_expert_layout *layout = &e->writer.layout;
    struct sl_error gate_up, down;
    int status = c->make->matrix(c, SL_EXPERT_GATE_UP, e->file->layer, expert, &layout->gate_up,
                                 NULL, e->block, &gate_up, err);
    if (status == 0)
        status = c->make->matrix(c, SL_EXPERT_DOWN, e->file->layer, expert, &layout->down, NULL,
                                 e->block + layout->down_offset, &down, err);
    if (status < 0)
        return status;
    e->writer.errors[2 * expert] = (float)sl_error_relative(&gate_up);
    e->writer.errors[2 * expert + 1] = (float)sl_error_relative(&down);
    e->expert = expert;
    sl_team_run(&c->team, layout->chunks, 1, hash_chunks, e);
    return sl_expert_writer_append(&e->writer, e->block, err);
}

static int allocate_block(struct experts *e, struct sluice_err *err)
{
    uint64_t stride = e->writer.layout.stride;
    e->block = calloc(1, stride); /* what lies between the panels stays zero */
    return e->block ? 0 : sl_fail_nomem(err, "one expert", stride);
}

static int write_experts(struct sl_conversion *c, const struct sl_plan_file *file,
                         struct sluice_err *err)
{
    struct experts e = {.c = c, .file = file};
    int status = declare_experts(&e, err);
    if (status == 0)
        status = allocate_block(&e, err);
    if (status == 0)
        status = sl_expert_writer_begin(&e.writer, &c->stripe, file->layer, err);
    for (uint32_t i = 0; status == 0 && i < c->config.experts; i++)
        status = write_expert(&e, i, err);
    if (status == 0)
        status = sl_expert_writer_commit(&e.writer, err);
    sl_expert_writer_close(&e.writer);
    free(e.block);
    return status;
}

static int measure_experts(struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                           uint64_t *bytes, struct sluice_err *err)
{
    struct experts e = {.c = c, .file = file};
    int status = declare_experts(&e, err);
    if (status == 0)
        status = sl_writer_measure(&e.writer.part[part], bytes, err);
    sl_expert_writer_close(&e.writer);
    return status;
}

/* ---- any of them ----------------------------------------------------------------------------- */

unsigned sl_file_parts(const struct sl_conversion *c, const struct sl_plan_file *file)
{
    return file->kind == SL_FILE_EXPERTS ? c->stripe.n_parts : 1;
}

void sl_file_name(const struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                  char name[64])
{
    if (file->kind == SL_FILE_EXPERTS)
        sl_experts_part_file(name, file->layer, part, c->stripe.n_parts);
    else
        snprintf(name, 64, "%s", file->name);
}

int sl_file_path(const struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                 char path[SL_PATH_MAX], struct sluice_err *err)
{
    return file->kind == SL_FILE_EXPERTS ? sl_stripe_path(&c->stripe, file->layer, part, path, err)
                                         : sl_path_join(path, c->dest, file->name, err);
}

int sl_measure_file(struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                    uint64_t *bytes, struct sluice_err *err)
{
    return file->kind == SL_FILE_EXPERTS ? measure_experts(c, file, part, bytes, err)
                                         : measure_resident(c, file, bytes, err);
}

int sl_write_file(struct sl_conversion *c, const struct sl_plan_file *file, struct sluice_err *err)
{
    c->file = file->name;
    return file->kind == SL_FILE_EXPERTS ? write_experts(c, file, err)
                                         : write_resident(c, file, err);
}
