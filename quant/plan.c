/* SPDX-License-Identifier: MIT */
/*
 * The files of a container, and every check of the checkpoint that needs no data: tensors present,
 * types, shapes.  Reads headers only, writes nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/err.h"

bool sl_plan_has(const struct sl_config *c, const struct sl_plan_file *file, enum sl_role role)
{
    enum sl_where where = sl_tensor_rules()[role].where;
    switch (file->kind) {
    case SL_FILE_HEAD:
        return where == SL_IN_HEAD;
    case SL_FILE_EXPERTS:
        return where == SL_IN_EXPERT;
    case SL_FILE_SHARD: /* has a list of its own */
        return false;
    case SL_FILE_RESIDENT:
        break;
    }
    return where != SL_IN_EXPERT && sl_layer_has(c, file->layer, role);
}

/* Experts of a file; 1 when it holds none. */
static uint32_t expert_count(const struct sl_config *c, const struct sl_plan_file *file)
{
    return file->kind == SL_FILE_EXPERTS ? c->experts : 1;
}

/* What follows the row-major embedding in its file must stay aligned to 4 bytes. */
static int check_embedding(const struct sl_config *c, struct sluice_err *err)
{
    if ((uint64_t)c->vocab * c->hidden % 4 == 0)
        return 0;
    return sl_fail(err, SLUICE_EUNSUPPORTED,
                   "config.json: vocab_size %u times hidden_size %u is not a multiple of 4",
                   c->vocab, c->hidden);
}

static int list_files(struct sl_plan *plan, const struct sl_config *c, struct sluice_err *err)
{
    uint32_t layers = c->layers + c->mtp_layers;
    size_t room = 1 + 2 * (size_t)layers;
    plan->files = calloc(room, sizeof *plan->files);
    if (!plan->files)
        return sl_fail_nomem(err, "list of files", room * sizeof *plan->files);
    struct sl_plan_file *f = plan->files;
    *f++ = (struct sl_plan_file){.name = SL_HEAD_FILE, .kind = SL_FILE_HEAD};
    for (uint32_t layer = 0; layer < layers; layer++) {
        *f = (struct sl_plan_file){.kind = SL_FILE_RESIDENT, .layer = layer};
        if (layer < c->layers)
            sl_resident_file(f++->name, layer);
        else
            sl_mtp_file(f++->name, layer);
        if (!sl_layer_is_moe(c, layer))
            continue;
        *f = (struct sl_plan_file){.kind = SL_FILE_EXPERTS, .layer = layer};
        sl_experts_file(f++->name, layer);
    }
    plan->n_files = (size_t)(f - plan->files);
    return 0;
}

/* Calls visit for every role and expert of FILE until it returns non-zero. */
typedef int visit_fn(void *arg, const struct sl_plan_file *file, enum sl_role role,
                     uint32_t expert);

static int each_tensor(const struct sl_config *c, const struct sl_plan_file *file, visit_fn *visit,
                       void *arg)
{
    for (uint32_t expert = 0; expert < expert_count(c, file); expert++)
        for (enum sl_role role = 0; role < SL_N_ROLES; role++) {
            int status = sl_plan_has(c, file, role) ? visit(arg, file, role, expert) : 0;
            if (status != 0)
                return status;
        }
    return 0;
}

struct checking {
    const struct sl_checkpoint *checkpoint;
    const struct sl_config *config;
    struct sl_plan *plan;
    uint64_t file_bytes;
    size_t missing;
    char names[600]; /* the first missing ones */
    struct sluice_err *err;
};

static int note_missing(void *arg, const struct sl_plan_file *file, enum sl_role role,
                        uint32_t expert)
{
    struct checking *k = arg;
    const struct sl_safetensors *st;
    char names[2][128];
    unsigned n = sl_input_names(role, file->layer, expert, names);
    for (unsigned i = 0; i < n; i++) {
        if (sl_checkpoint_find(k->checkpoint, names[i], &st) || role == SL_V_UP)
            continue; /* kv_b is K_UP's, too */
        size_t used = strlen(k->names);
        if (used + strlen(names[i]) + 8 < sizeof k->names)
            snprintf(k->names + used, sizeof k->names - used, "%s%s", used ? ", " : "", names[i]);
        else if (k->names[used - 1] != '.')
            snprintf(k->names + used, sizeof k->names - used, ", ...");
        k->missing++;
    }
    return 0;
}

/* Source bytes that a matrix is made of; kv_b is divided between its halves. */
static uint64_t share(const struct sl_config *c, enum sl_role role, uint64_t bytes)
{
    uint64_t head = (uint64_t)c->nope + c->v_dim;
    if (role == SL_K_UP)
        return bytes / head * c->nope;
    return role == SL_V_UP ? bytes / head * c->v_dim : bytes;
}

static int check_tensor(void *arg, const struct sl_plan_file *file, enum sl_role role,
                        uint32_t expert)
{
    struct checking *k = arg;
    char names[2][128];
    unsigned n = sl_input_names(role, file->layer, expert, names);
    for (unsigned i = 0; i < n; i++) {
        struct sl_input in;
        int status = sl_input_find(&in, k->checkpoint, k->config, role, i, file->layer, expert,
                                   k->err);
        if (status < 0)
            return status;
        k->file_bytes += share(k->config, role, in.tensor->bytes);
        if (sl_tensor_rules()[role].class != SL_CLASS_VECTOR)
            k->plan->weights += share(k->config, role, (uint64_t)in.rows * in.cols);
    }
    return 0;
}

static int check_missing(struct checking *k)
{
    for (size_t i = 0; i < k->plan->n_files; i++)
        each_tensor(k->config, &k->plan->files[i], note_missing, k);
    if (k->missing == 0)
        return 0;
    return sl_fail(k->err, SLUICE_EFORMAT,
                   "%.300s: %zu tensors that config.json demands are missing: %s",
                   k->checkpoint->dir, k->missing, k->names);
}

int sl_plan_list(struct sl_plan *plan, const struct sl_config *config, struct sluice_err *err)
{
    *plan = (struct sl_plan){0};
    int status = check_embedding(config, err);
    return status < 0 ? status : list_files(plan, config, err);
}

int sl_plan_open(struct sl_plan *plan, const struct sl_checkpoint *c,
                 const struct sl_config *config, struct sluice_err *err)
{
    struct checking k = {.checkpoint = c, .config = config, .plan = plan, .err = err};
    int status = sl_plan_list(plan, config, err);
    if (status == 0)
        status = check_missing(&k);
    for (size_t i = 0; status == 0 && i < plan->n_files; i++) {
        k.file_bytes = 0;
        status = each_tensor(config, &plan->files[i], check_tensor, &k);
        plan->files[i].source_bytes = k.file_bytes;
        plan->source_bytes += k.file_bytes;
    }
    if (status < 0)
        sl_plan_close(plan);
    return status;
}

void sl_plan_close(struct sl_plan *plan)
{
    free(plan->files);
    *plan = (struct sl_plan){0};
}
