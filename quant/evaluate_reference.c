/* SPDX-License-Identifier: MIT */
/*
 * The checkpoint as a model that is never stored: each layer is converted with profile `reference`
 * into memory when it is wanted, by the functions that write containers; experts one by one.
 */
#include <stdlib.h>

#include "quant/evaluation.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"

int sl_reference_open(struct sl_reference *r, const char *checkpoint, unsigned threads,
                      struct sluice_err *err)
{
    *r = (struct sl_reference){.opts.threads = threads};
    r->conversion = (struct sl_conversion){.make = &sl_from_checkpoint, .opts = &r->opts};
    int status = sl_conversion_open(&r->conversion, "reference", err);
    return status < 0 ? status : sl_open_source(&r->conversion, &r->checkpoint, checkpoint, err);
}

void sl_reference_close(struct sl_reference *r)
{
    sl_reference_unload(r);
    if (r->conversion.opts)
        sl_conversion_close(&r->conversion);
    sl_checkpoint_close(&r->checkpoint);
}

void sl_reference_unload(struct sl_reference *r)
{
    free(r->memory.data);
    r->memory = (struct sl_buffer){0};
    r->weights = (struct sl_layer_weights){0};
}

/* Calls visit for every matrix and vector of LAYER but its experts, or of the head. */
typedef int visit_fn(struct sl_reference *r, enum sl_role role, uint32_t layer, size_t *offset,
                     struct sluice_err *err);

static int each_tensor(struct sl_reference *r, uint32_t layer, visit_fn *visit, size_t *offset,
                       struct sluice_err *err)
{
    const struct sl_config *c = &r->conversion.config;
    const struct sl_plan_file file = {.kind = layer < c->layers ? SL_FILE_RESIDENT : SL_FILE_HEAD,
                                      .layer = layer};
    int status = 0;
    *offset = 0;
    for (enum sl_role role = 0; status == 0 && role < SL_N_ROLES; role++)
        if (sl_plan_has(c, &file, role) && role != SL_EMBED)
            status = visit(r, role, layer, offset, err);
    return status;
}

static bool is_vector(enum sl_role role)
{
    return sl_tensor_rules()[role].class == SL_CLASS_VECTOR;
}

/* Bytes of a tensor whose packing is chosen. */
static size_t tensor_bytes(const struct sl_reference *r, enum sl_role role)
{
    size_t bytes = is_vector(role)
                       ? sl_tensor_shape_of(&r->conversion.config, role).cols * sizeof(float)
                       : sl_packing_bytes(&r->weights.matrix[role].packing);
    return sl_round_up(bytes, SL_TENSOR_ALIGN);
}

static int plan_tensor(struct sl_reference *r, enum sl_role role, uint32_t layer, size_t *offset,
                       struct sluice_err *err)
{
    int status = 0;
    if (!is_vector(role))
        status = sl_choose_packing(&r->conversion, role, layer, &r->weights.matrix[role].packing,
                                   err);
    if (status == 0)
        *offset += tensor_bytes(r, role);
    return status;
}

static int load_tensor(struct sl_reference *r, enum sl_role role, uint32_t layer, size_t *offset,
                       struct sluice_err *err)
{
    struct sl_matrix *matrix = &r->weights.matrix[role];
    uint8_t *at = r->memory.data + *offset;
    *offset += tensor_bytes(r, role);
    if (is_vector(role)) {
        float *vector = (float *)(void *)at;
        r->weights.vector[role] = vector;
        return sl_read_vector(&r->conversion, role, layer, vector, err);
    }
    struct sl_error none;
    matrix->data = at;
    return sl_convert_matrix(&r->conversion, role, layer, 0, &matrix->packing, NULL, at, &none,
                             err);
}

int sl_reference_measure(struct sl_reference *r, uint32_t layer, uint64_t *bytes,
                         struct sluice_err *err)
{
    size_t total;
    int status = each_tensor(r, layer, plan_tensor, &total, err);
    *bytes = total;
    return status;
}

int sl_reference_load(struct sl_reference *r, uint32_t layer, struct sluice_err *err)
{
    size_t total, end;
    sl_reference_unload(r);
    int status = each_tensor(r, layer, plan_tensor, &total, err);
    if (status == 0)
        status = sl_buffer_reserve(&r->memory, total, err);
    return status < 0 ? status : each_tensor(r, layer, load_tensor, &end, err);
}

/* ---- experts and embedding ------------------------------------------------------------------- */

static int make_expert(void *user, unsigned layer, uint32_t expert, uint8_t *block,
                       struct sluice_err *err)
{
    struct sl_reference *r = user;
    struct sl_error none;
    int status = sl_convert_matrix(&r->conversion, SL_EXPERT_GATE_UP, layer, expert,
                                   &r->layout.gate_up, NULL, block, &none, err);
    return status < 0
               ? status
               : sl_convert_matrix(&r->conversion, SL_EXPERT_DOWN, layer, expert, &r->layout.down,
                                   NULL, block + r->layout.down_offset, &none, err);
}

int sl_reference_experts(struct sl_reference *r, uint32_t layer, struct sl_expert_source *source,
                         struct sluice_err *err)
{
    int status = sl_choose_layout(&r->conversion, layer, &r->layout, err);
    *source = (struct sl_expert_source){
        .user = r,
        .layer = layer,
        .n_experts = r->conversion.config.experts,
        .layout = r->layout,
        .make = make_expert,
    };
    return status;
}

int sl_reference_embed(struct sl_reference *r, const int32_t *tokens, size_t n, float *out,
                       struct sluice_err *err)
{
    struct sl_conversion *c = &r->conversion;
    struct sl_input in;
    int status = sl_input_open(&in, c->checkpoint, &c->config, SL_EMBED, 0, 0, 0, err);
    if (status == 0)
        status = sl_buffer_reserve(&c->raw, in.row_bytes, err);
    for (size_t t = 0; status == 0 && t < n; t++) {
        size_t row = (size_t)tokens[t];
        status = sl_input_read(&in, row, 1, c->raw.data, err);
        if (status == 0 &&
            !sl_input_decode(&in, c->fitting.ops, c->raw.data, row, 0, in.cols, out + t * in.cols))
            status = sl_input_explain(&in, c->fitting.ops, c->raw.data, row, err);
    }
    sl_input_close(&in);
    return status;
}
