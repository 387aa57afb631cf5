/* SPDX-License-Identifier: MIT */
/*
 * What a container takes before there is one: the writer's own declarations of every file, added
 * up, and the matrices by the work that they serve.
 */
#include <stdio.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/err.h"

/* ---- `reference` as a container has it ------------------------------------------------------- */

static void file_name(const struct sl_config *c, enum sl_role role, uint32_t layer, char out[64])
{
    if (sl_tensor_rules()[role].where == SL_IN_HEAD)
        snprintf(out, 64, "%s", SL_HEAD_FILE);
    else if (sl_tensor_rules()[role].where == SL_IN_EXPERT)
        sl_experts_file(out, layer);
    else if (layer < c->layers)
        sl_resident_file(out, layer);
    else
        sl_mtp_file(out, layer);
}

/* "pack:NAME" of ROLE's tensor, or NULL. */
static const char *descriptor(const struct sl_safetensors *st, enum sl_role role, uint32_t layer)
{
    const struct sl_tensor_rule *rule = &sl_tensor_rules()[role];
    char name[128], key[160];
    if (role == SL_EXPERT_GATE_UP || role == SL_EXPERT_DOWN)
        return sl_safetensors_meta(st, role == SL_EXPERT_DOWN ? "pack:down" : "pack:gate_up");
    sl_tensor_name(name, rule, rule->name, layer, 0);
    snprintf(key, sizeof key, "pack:%s", name);
    return sl_safetensors_meta(st, key);
}

/* A struct sl_maker's: whether the container at c->dest, if any, has ROLE in BF16. */
static int found_bf16(const struct sl_conversion *c, enum sl_role role, uint32_t layer,
                      uint32_t expert, bool *exact, struct sluice_err *err)
{
    struct sl_safetensors *st = NULL;
    char name[64], path[SL_PATH_MAX];
    struct sl_packing p;
    *exact = true;
    if (!c->dest || expert > 0) /* one packing for all experts of a layer */
        return 0;
    file_name(&c->config, role, layer, name);
    int status = sl_path_join(path, c->dest, name, err);
    if (status == 0)
        status = sl_safetensors_open(&st, path, err);
    if (status < 0)
        return status;
    const struct sl_tensor *embedding = sl_safetensors_find(st, sl_tensor_rules()[role].name);
    const char *text = descriptor(st, role, layer);
    if (role == SL_EMBED && embedding)
        *exact = embedding->dtype == SL_BF16;
    else if (text && (status = sl_packing_parse(text, path, &p, err)) == 0)
        *exact = p.code == SL_CODE_BF16;
    else if (status == 0)
        status = sl_fail(err, SLUICE_EFORMAT, "%s: no %s; run sluice verify", path,
                         sl_tensor_rules()[role].name);
    sl_safetensors_close(&st);
    return status;
}

/* ---- adding up ------------------------------------------------------------------------------- */

static enum sl_matrix_part part_of(enum sl_role role)
{
    switch (role) {
    case SL_HEAD:
        return SL_M_HEAD;
    case SL_INDEX_Q:
        return SL_M_INDEX_QUERIES;
    case SL_INDEX_K:
    case SL_INDEX_WEIGHT:
        return SL_M_INDEX_KEYS;
    case SL_ROUTER:
        return SL_M_ROUTER;
    case SL_EXPERT_GATE_UP:
    case SL_EXPERT_DOWN:
        return SL_M_EXPERT;
    case SL_SHARED_GATE_UP:
    case SL_SHARED_DOWN:
        return SL_M_SHARED;
    case SL_DENSE_GATE_UP:
    case SL_DENSE_DOWN:
        return SL_M_DENSE;
    default:
        return SL_M_PROJECTIONS;
    }
}

static enum sl_weight_kind kind_of(enum sl_code code)
{
    if (code == SL_CODE_LUT4)
        return SL_WEIGHTS_LUT4;
    return code == SL_CODE_INT8 ? SL_WEIGHTS_INT8 : SL_WEIGHTS_FLOAT;
}

static void add_matrix(struct sl_sizes *s, enum sl_role role, const struct sl_packing *p)
{
    struct sl_matrices *part = &s->part[part_of(role)];
    enum sl_weight_kind kind = kind_of(p->code);
    part->bytes[kind] += sl_packing_bytes(p);
    part->macs[kind] += (uint64_t)sl_padded_rows(p->rows) * sl_padded_cols(p->cols) * p->count;
}

/* The matrices of a file of the main layers. */
static int add_matrices(struct sl_sizes *s, struct sl_conversion *c,
                        const struct sl_plan_file *file, struct sluice_err *err)
{
    struct sl_expert_layout layout = {0};
    for (enum sl_role role = 0; role < SL_N_ROLES; role++) {
        enum sl_class class = sl_tensor_rules()[role].class;
        struct sl_packing p;
        if (!sl_plan_has(&c->config, file, role) || class == SL_CLASS_VECTOR ||
            class == SL_CLASS_EMBED)
            continue;
        int status = sl_file_packing(c, file, role, &p, err);
        if (status < 0)
            return status;
        add_matrix(s, role, &p);
        if (file->kind == SL_FILE_EXPERTS)
            *(role == SL_EXPERT_DOWN ? &layout.down : &layout.gate_up) = p;
    }
    if (file->kind == SL_FILE_EXPERTS) {
        sl_expert_layout_fill(&layout);
        s->stride = layout.stride > s->stride ? layout.stride : s->stride;
    }
    return 0;
}

static int add_file(struct sl_sizes *s, struct sl_conversion *c, const struct sl_plan_file *file,
                    struct sluice_err *err)
{
    bool experts = file->kind == SL_FILE_EXPERTS;
    uint64_t bytes;
    int status = sl_measure_file(c, file, 0, &bytes, err);
    if (status < 0)
        return status;
    if (file->kind == SL_FILE_HEAD)
        s->head_file = bytes;
    else if (file->layer < c->config.layers)
        *(experts ? &s->expert_files : &s->resident_files) += bytes;
    else
        *(experts ? &s->mtp_expert_file : &s->mtp_resident_file) = bytes;
    return file->layer < c->config.layers ? add_matrices(s, c, file, err) : 0;
}

static int add_embedding(struct sl_sizes *s, const struct sl_conversion *c, struct sluice_err *err)
{
    enum sl_dtype dtype;
    int status = sl_embedding_dtype(c, &dtype, err);
    if (status < 0)
        return status;
    s->embedding_row = c->config.hidden * sl_dtype_bytes(dtype) +
                       (dtype == SL_I8 ? sizeof(float) : 0);
    s->embedding = c->config.vocab * s->embedding_row;
    return 0;
}

int sl_sizes_measure(struct sl_sizes *s, const struct sl_config *config, const char *profile,
                     const char *dir, struct sluice_err *err)
{
    static const struct sl_maker nothing = {.fits_bf16 = found_bf16};
    static const struct sl_quantize_opts defaults = {0};
    struct sl_conversion c = {.make = &nothing, .opts = &defaults, .dest = dir, .config = *config};
    *s = (struct sl_sizes){0};
    int status = sl_conversion_open(&c, profile, err);
    if (status == 0) {
        sl_digest_print(c.source, 0); /* any: it is as long as the others */
        status = sl_plan_list(&c.plan, &c.config, err);
    }
    for (size_t i = 0; status == 0 && i < c.plan.n_files; i++)
        status = add_file(s, &c, &c.plan.files[i], err);
    if (status == 0)
        status = add_embedding(s, &c, err);
    sl_conversion_close(&c);
    return status;
}
