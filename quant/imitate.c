/* SPDX-License-Identifier: MIT */
/* The model that a synthetic one imitates: its config.json, with the wanted numbers changed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/synth.h"
#include "runtime/base/err.h"
#include "runtime/base/json.h"

enum {
    MAX_CONFIG = 1 << 20,
    FULL_LAYERS = 61, /* of the published models */
};

float sl_synth_deviation(enum sl_role role, size_t inputs)
{
    bool writes = role == SL_O || role == SL_DENSE_DOWN || role == SL_SHARED_DOWN ||
                  role == SL_EXPERT_DOWN;
    return (float)(1 / sqrt((double)inputs * (writes ? 2.0 * FULL_LAYERS : 1)));
}

/* config.json of DeepSeek-V3.2; V3, R1 and V3.1 have the same numbers without the indexer. */
static const char v32_config[] =
    "{\"architectures\": [\"DeepseekV32ForCausalLM\"], \"model_type\": \"deepseek_v32\","
    " \"attention_bias\": false, \"bos_token_id\": 0, \"eos_token_id\": 1,"
    " \"first_k_dense_replace\": 3, \"hidden_act\": \"silu\", \"hidden_size\": 7168,"
    " \"index_head_dim\": 128, \"index_n_heads\": 64, \"index_topk\": 2048,"
    " \"intermediate_size\": 18432, \"kv_lora_rank\": 512, \"max_position_embeddings\": 163840,"
    " \"moe_intermediate_size\": 2048, \"moe_layer_freq\": 1, \"n_group\": 8,"
    " \"n_routed_experts\": 256, \"n_shared_experts\": 1, \"norm_topk_prob\": true,"
    " \"num_attention_heads\": 128, \"num_experts_per_tok\": 8, \"num_hidden_layers\": 61,"
    " \"num_key_value_heads\": 128, \"num_nextn_predict_layers\": 1, \"q_lora_rank\": 1536,"
    " \"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64, \"rms_norm_eps\": 1e-06,"
    " \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40,"
    " \"original_max_position_embeddings\": 4096, \"beta_fast\": 32, \"beta_slow\": 1,"
    " \"mscale\": 1.0, \"mscale_all_dim\": 1.0},"
    " \"rope_theta\": 10000, \"routed_scaling_factor\": 2.5, \"scoring_func\": \"sigmoid\","
    " \"tie_word_embeddings\": false, \"topk_group\": 4, \"topk_method\": \"noaux_tc\","
    " \"torch_dtype\": \"bfloat16\", \"v_head_dim\": 128, \"vocab_size\": 129280}";

static int read_like(const char *like, json_t **root, struct sluice_err *err)
{
    bool v3 = strcmp(like, "v3") == 0;
    if (!v3 && strcmp(like, "v3.2") != 0)
        return sl_json_read(like, MAX_CONFIG, root, err);
    int status = sl_json_parse(like, v32_config, sizeof v32_config - 1, root, err);
    if (status < 0 || !v3)
        return status;
    json_object_set_new(*root, "model_type", json_string("deepseek_v3"));
    json_object_set_new(*root, "architectures", json_pack("[s]", "DeepseekV3ForCausalLM"));
    json_object_del(*root, "index_head_dim");
    json_object_del(*root, "index_n_heads");
    json_object_del(*root, "index_topk");
    return 0;
}

static int set(json_t *root, const char *key, uint32_t value, struct sluice_err *err)
{
    return json_object_set_new(root, key, json_integer(value)) == 0 ? 0
                                                                    : sl_fail_nomem(err, key, 0);
}

/* Fewer experts may no longer fill the groups: then there is one group. */
static int set_experts(json_t *root, uint32_t experts, struct sluice_err *err)
{
    json_int_t groups = json_integer_value(json_object_get(root, "n_group"));
    json_int_t kept = json_integer_value(json_object_get(root, "topk_group"));
    json_int_t used = json_integer_value(json_object_get(root, "num_experts_per_tok"));
    int status = set(root, "n_routed_experts", experts, err);
    if (status < 0 || (groups > 0 && experts % groups == 0 && experts / groups >= 2 &&
                       experts / groups * kept >= used))
        return status;
    status = set(root, "n_group", 1, err);
    return status < 0 ? status : set(root, "topk_group", 1, err);
}

/* What a checkpoint's config.json says of its numbers.  Scales are powers of two (UE8M0) where the
 * model's are. */
static int set_fp8(json_t *root, const char *like, struct sluice_err *err)
{
    const char *format = json_string_value(
        json_object_get(json_object_get(root, "quantization_config"), "scale_fmt"));
    bool ue8m0 = strcmp(like, "v3.2") == 0 || (format && strcmp(format, "ue8m0") == 0);
    json_t *fp8 = json_pack("{s:s, s:s, s:s, s:[i, i], s:s*}", "activation_scheme", "dynamic",
                            "fmt", "e4m3", "quant_method", "fp8", "weight_block_size", SL_FP8_BLOCK,
                            SL_FP8_BLOCK, "scale_fmt", ue8m0 ? "ue8m0" : NULL);
    return json_object_set_new(root, "quantization_config", fp8) == 0
               ? 0
               : sl_fail_nomem(err, "config.json", 0);
}

/* So many layers, and no MTP layer. */
static int set_layers(json_t *root, uint32_t dense, uint32_t moe, struct sluice_err *err)
{
    int status = set(root, "first_k_dense_replace", dense, err);
    if (status == 0)
        status = set(root, "num_hidden_layers", dense + moe, err);
    return status < 0 ? status : set(root, "num_nextn_predict_layers", 0, err);
}

static int set_numbers(json_t *root, const char *like, const struct sl_synth_opts *o,
                       struct sluice_err *err)
{
    int status = o->all_layers ? 0 : set_layers(root, o->dense_layers, o->moe_layers, err);
    if (status == 0 && o->experts)
        status = set_experts(root, o->experts, err);
    if (status == 0 && o->vocab)
        status = set(root, "vocab_size", o->vocab, err);
    if (status == 0 && o->checkpoint)
        return set_fp8(root, like, err);
    json_object_del(root, "quantization_config");
    return status;
}

int sl_imitate(struct sl_config *config, char **text, const struct sl_synth_opts *opts,
               struct sluice_err *err)
{
    json_t *root = NULL;
    const char *like = opts->like ? opts->like : "v3.2";
    int status = read_like(like, &root, err);
    if (status == 0)
        status = set_numbers(root, like, opts, err);
    if (status == 0)
        status = sl_config_parse(config, root, like, err);
    if (status == 0 && !(*text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS)))
        status = sl_fail_nomem(err, "config.json", 0);
    json_decref(root);
    return status;
}

int sl_like_config(struct sl_config *config, const struct sl_synth_opts *opts,
                   struct sluice_err *err)
{
    char *text = NULL;
    int status = sl_imitate(config, &text, opts, err);
    free(text);
    return status;
}
