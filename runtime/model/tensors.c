/* SPDX-License-Identifier: MIT */
/* The tensor table and its shape rules.  Data, no I/O. */
#include "runtime/model/tensors.h"

#include <stdio.h>

#include "simd/simd.h"

static const struct sl_tensor_rule rules[SL_N_ROLES] = {
#define RULE(role, where, class, source, name, checkpoint, second)                                 \
    [role] = {role, where, class, source, name, checkpoint, second}
#define ONE(role, where, class, name)                                                              \
    RULE(role, where, class, SL_FROM_ONE, name, name ".weight", NULL)
#define GATE_UP(role, where, class, prefix)                                                        \
    RULE(role, where, class, SL_FROM_GATE_UP, prefix "gate_up_proj", prefix "gate_proj.weight",    \
         prefix "up_proj.weight")
    ONE(SL_EMBED, SL_IN_HEAD, SL_CLASS_EMBED, "model.embed_tokens"),
    ONE(SL_HEAD, SL_IN_HEAD, SL_CLASS_HEAD, "lm_head"),
    ONE(SL_FINAL_NORM, SL_IN_HEAD, SL_CLASS_VECTOR, "model.norm"),
    ONE(SL_ATTN_NORM, SL_IN_LAYER, SL_CLASS_VECTOR, "input_layernorm"),
    ONE(SL_Q_A, SL_IN_LAYER, SL_CLASS_ATTN, "self_attn.q_a_proj"),
    ONE(SL_Q_A_NORM, SL_IN_LAYER, SL_CLASS_VECTOR, "self_attn.q_a_layernorm"),
    ONE(SL_Q_B, SL_IN_LAYER, SL_CLASS_ATTN_BIG, "self_attn.q_b_proj"),
    ONE(SL_KV_A, SL_IN_LAYER, SL_CLASS_ATTN, "self_attn.kv_a_proj_with_mqa"),
    ONE(SL_KV_A_NORM, SL_IN_LAYER, SL_CLASS_VECTOR, "self_attn.kv_a_layernorm"),
    RULE(SL_K_UP, SL_IN_LAYER, SL_CLASS_KV_UP, SL_FROM_KV_K, "self_attn.k_up_proj",
         "self_attn.kv_b_proj.weight", NULL),
    RULE(SL_V_UP, SL_IN_LAYER, SL_CLASS_KV_UP, SL_FROM_KV_V, "self_attn.v_up_proj",
         "self_attn.kv_b_proj.weight", NULL),
    ONE(SL_O, SL_IN_LAYER, SL_CLASS_ATTN_BIG, "self_attn.o_proj"),
    ONE(SL_INDEX_Q, SL_IN_SPARSE, SL_CLASS_INDEX, "self_attn.indexer.wq_b"),
    ONE(SL_INDEX_K, SL_IN_SPARSE, SL_CLASS_INDEX, "self_attn.indexer.wk"),
    ONE(SL_INDEX_K_NORM, SL_IN_SPARSE, SL_CLASS_VECTOR, "self_attn.indexer.k_norm"),
    RULE(SL_INDEX_K_BIAS, SL_IN_SPARSE, SL_CLASS_VECTOR, SL_FROM_ONE,
         "self_attn.indexer.k_norm_bias", "self_attn.indexer.k_norm.bias", NULL),
    ONE(SL_INDEX_WEIGHT, SL_IN_SPARSE, SL_CLASS_EXACT, "self_attn.indexer.weights_proj"),
    ONE(SL_FFN_NORM, SL_IN_LAYER, SL_CLASS_VECTOR, "post_attention_layernorm"),
    GATE_UP(SL_DENSE_GATE_UP, SL_IN_DENSE, SL_CLASS_FFN, "mlp."),
    ONE(SL_DENSE_DOWN, SL_IN_DENSE, SL_CLASS_FFN, "mlp.down_proj"),
    ONE(SL_ROUTER, SL_IN_MOE, SL_CLASS_EXACT, "mlp.gate"),
    RULE(SL_ROUTER_BIAS, SL_IN_MOE, SL_CLASS_VECTOR, SL_FROM_ONE, "mlp.gate_bias",
         "mlp.gate.e_score_correction_bias", NULL),
    GATE_UP(SL_SHARED_GATE_UP, SL_IN_MOE, SL_CLASS_FFN, "mlp.shared_experts."),
    ONE(SL_SHARED_DOWN, SL_IN_MOE, SL_CLASS_FFN, "mlp.shared_experts.down_proj"),
    GATE_UP(SL_EXPERT_GATE_UP, SL_IN_EXPERT, SL_CLASS_EXPERT, ""),
    ONE(SL_EXPERT_DOWN, SL_IN_EXPERT, SL_CLASS_EXPERT, "down_proj"),
    ONE(SL_MTP_EMBED_NORM, SL_IN_MTP, SL_CLASS_VECTOR, "enorm"),
    ONE(SL_MTP_HIDDEN_NORM, SL_IN_MTP, SL_CLASS_VECTOR, "hnorm"),
    ONE(SL_MTP_PROJ, SL_IN_MTP, SL_CLASS_MTP, "eh_proj"),
    ONE(SL_MTP_FINAL_NORM, SL_IN_MTP, SL_CLASS_VECTOR, "shared_head.norm"),
#undef GATE_UP
#undef ONE
#undef RULE
};

const struct sl_tensor_rule *sl_tensor_rules(void)
{
    return rules;
}

static struct sl_shape shape(uint32_t rows, uint32_t cols)
{
    return (struct sl_shape){.rows = rows, .cols = cols, .count = 1};
}

/* Rows of a gate_up matrix: both halves padded to whole panels. */
static uint32_t paired(uint32_t inner)
{
    return 2 * (uint32_t)sl_padded_rows(inner);
}

struct sl_shape sl_tensor_shape_of(const struct sl_config *c, enum sl_role role)
{
    switch (role) {
    case SL_DENSE_GATE_UP:
        return shape(paired(c->ffn_inner), c->hidden);
    case SL_SHARED_GATE_UP:
        return shape(paired(c->shared * c->moe_inner), c->hidden);
    case SL_EXPERT_GATE_UP:
        return shape(paired(c->moe_inner), c->hidden);
    case SL_K_UP:
        return (struct sl_shape){c->kv_lora, c->nope, c->heads};
    case SL_V_UP:
        return (struct sl_shape){c->v_dim, c->kv_lora, c->heads};
    default:
        return sl_checkpoint_shape_of(c, role);
    }
}

struct sl_shape sl_checkpoint_shape_of(const struct sl_config *c, enum sl_role role)
{
    uint32_t shared_inner = c->shared * c->moe_inner;
    switch (role) {
    case SL_EMBED:
    case SL_HEAD:
        return shape(c->vocab, c->hidden);
    case SL_Q_A:
        return shape(c->q_lora, c->hidden);
    case SL_Q_A_NORM:
        return shape(1, c->q_lora);
    case SL_Q_B:
        return shape(c->heads * (c->nope + c->rope), c->q_lora);
    case SL_KV_A:
        return shape(c->kv_lora + c->rope, c->hidden);
    case SL_KV_A_NORM:
        return shape(1, c->kv_lora);
    case SL_K_UP:
    case SL_V_UP:
        return shape(c->heads * (c->nope + c->v_dim), c->kv_lora);
    case SL_O:
        return shape(c->hidden, c->heads * c->v_dim);
    case SL_INDEX_Q:
        return shape(c->index_heads * c->index_dim, c->q_lora);
    case SL_INDEX_K:
        return shape(c->index_dim, c->hidden);
    case SL_INDEX_K_NORM:
    case SL_INDEX_K_BIAS:
        return shape(1, c->index_dim);
    case SL_INDEX_WEIGHT:
        return shape(c->index_heads, c->hidden);
    case SL_DENSE_GATE_UP:
        return shape(c->ffn_inner, c->hidden);
    case SL_DENSE_DOWN:
        return shape(c->hidden, c->ffn_inner);
    case SL_ROUTER:
        return shape(c->experts, c->hidden);
    case SL_ROUTER_BIAS:
        return shape(1, c->experts);
    case SL_SHARED_GATE_UP:
        return shape(shared_inner, c->hidden);
    case SL_SHARED_DOWN:
        return shape(c->hidden, shared_inner);
    case SL_EXPERT_GATE_UP:
        return shape(c->moe_inner, c->hidden);
    case SL_EXPERT_DOWN:
        return shape(c->hidden, c->moe_inner);
    case SL_MTP_PROJ:
        return shape(c->hidden, 2 * c->hidden);
    case SL_FINAL_NORM:
    case SL_ATTN_NORM:
    case SL_FFN_NORM:
    case SL_MTP_EMBED_NORM:
    case SL_MTP_HIDDEN_NORM:
    case SL_MTP_FINAL_NORM:
    case SL_N_ROLES:
        break;
    }
    return shape(1, c->hidden);
}

bool sl_layer_has(const struct sl_config *c, uint32_t layer, enum sl_role role)
{
    switch (rules[role].where) {
    case SL_IN_HEAD:
        return false;
    case SL_IN_LAYER:
        return true;
    case SL_IN_SPARSE:
        return c->index_heads > 0;
    case SL_IN_DENSE:
        return !sl_layer_is_moe(c, layer);
    case SL_IN_MOE:
    case SL_IN_EXPERT:
        return sl_layer_is_moe(c, layer);
    case SL_IN_MTP:
        return layer >= c->layers;
    }
    return false;
}

void sl_tensor_name(char out[128], const struct sl_tensor_rule *rule, const char *part,
                    uint32_t layer, uint32_t expert)
{
    if (rule->where == SL_IN_HEAD)
        snprintf(out, 128, "%s", part);
    else if (rule->where == SL_IN_EXPERT)
        snprintf(out, 128, "model.layers.%u.mlp.experts.%u.%s", layer, expert, part);
    else
        snprintf(out, 128, "model.layers.%u.%s", layer, part);
}
