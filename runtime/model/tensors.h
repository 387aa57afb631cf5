/* SPDX-License-Identifier: MIT */
/*
 * The one table of a model's tensors: what the checkpoint calls them, their shapes, what becomes of
 * them.  Loader, quantiser, validator and `sluice inspect` all read it.
 */
#ifndef SL_MODEL_TENSORS_H
#define SL_MODEL_TENSORS_H

#include <stddef.h>

#include "runtime/model/config.h"

/* Which precision a profile gives a tensor. */
enum sl_class {
    SL_CLASS_VECTOR, /* norms, biases: F32 [n], never packed */
    SL_CLASS_EXACT,  /* router, indexer weights: F32 panels in every profile */
    SL_CLASS_EMBED,  /* row-major INT8 with one F32 scale per row; BF16 or F32 in `reference` */
    SL_CLASS_HEAD,
    SL_CLASS_ATTN,     /* q_a, kv_a */
    SL_CLASS_ATTN_BIG, /* q_b, o: what `balanced` also makes LUT4 */
    SL_CLASS_KV_UP,    /* the two halves of kv_b */
    SL_CLASS_INDEX,
    SL_CLASS_FFN, /* dense FFN, shared experts */
    SL_CLASS_EXPERT,
    SL_CLASS_MTP, /* eh_proj */
};

/* How the container's matrix is made from the checkpoint's. */
enum sl_source {
    SL_FROM_ONE,     /* as it is */
    SL_FROM_GATE_UP, /* gate_proj and up_proj, interleaved by panels of 16 rows: panel 2i is gate
                      * rows 16i…, panel 2i+1 up rows 16i…; rows = 2 · round_up(inner, 16) */
    SL_FROM_KV_K,    /* kv_b: per head, the first `nope` rows transposed: [kv_lora, nope] */
    SL_FROM_KV_V,    /* kv_b: per head, the last `v_dim` rows: [v_dim, kv_lora] */
};

/* Where a tensor occurs. */
enum sl_where {
    SL_IN_HEAD,   /* once, in head.safetensors */
    SL_IN_LAYER,  /* every layer, MTP too */
    SL_IN_SPARSE, /* every layer of a model with an indexer */
    SL_IN_DENSE,  /* layers with a dense FFN */
    SL_IN_MOE,    /* layers with experts */
    SL_IN_EXPERT, /* each routed expert */
    SL_IN_MTP,    /* the MTP layer only */
};

enum sl_role {
    SL_EMBED,
    SL_HEAD,
    SL_FINAL_NORM,
    SL_ATTN_NORM,
    SL_Q_A,
    SL_Q_A_NORM,
    SL_Q_B,
    SL_KV_A,
    SL_KV_A_NORM,
    SL_K_UP,
    SL_V_UP,
    SL_O,
    SL_INDEX_Q,
    SL_INDEX_K,
    SL_INDEX_K_NORM,
    SL_INDEX_K_BIAS,
    SL_INDEX_WEIGHT,
    SL_FFN_NORM,
    SL_DENSE_GATE_UP,
    SL_DENSE_DOWN,
    SL_ROUTER,
    SL_ROUTER_BIAS,
    SL_SHARED_GATE_UP,
    SL_SHARED_DOWN,
    SL_EXPERT_GATE_UP,
    SL_EXPERT_DOWN,
    SL_MTP_EMBED_NORM,
    SL_MTP_HIDDEN_NORM,
    SL_MTP_PROJ,
    SL_MTP_FINAL_NORM,
    SL_N_ROLES
};

struct sl_tensor_rule {
    enum sl_role role;
    enum sl_where where;
    enum sl_class class;
    enum sl_source source;
    const char *name;       /* container name behind the prefix: "self_attn.q_a_proj" */
    const char *checkpoint; /* checkpoint name behind the prefix; for GATE_UP the gate */
    const char *second;     /* GATE_UP: the up projection; else NULL */
};

/* The rows of the table, in the order in which a file holds them; SL_N_ROLES of them, so that
 * sl_tensor_rules()[role].role == role. */
const struct sl_tensor_rule *sl_tensor_rules(void);

/* Logical shape of a container matrix; a vector has cols = n, rows = 1. */
struct sl_shape {
    uint32_t rows, cols, count;
};
struct sl_shape sl_tensor_shape_of(const struct sl_config *c, enum sl_role role);

/* Shape of the checkpoint's tensor(s): [rows, cols]; a vector is [cols] and has rows = 1. */
struct sl_shape sl_checkpoint_shape_of(const struct sl_config *c, enum sl_role role);

/* True when layer LAYER (c->layers is the MTP layer) of the model has the tensor. */
bool sl_layer_has(const struct sl_config *c, uint32_t layer, enum sl_role role);

/*
 * Writes a full name.  PART is rule->name, ->checkpoint or ->second.  "model.layers.3." + PART, or
 * "model.layers.3.mlp.experts.17." + PART, or PART alone for SL_IN_HEAD.
 */
void sl_tensor_name(char out[128], const struct sl_tensor_rule *rule, const char *part,
                    uint32_t layer, uint32_t expert);

#endif
