/* SPDX-License-Identifier: MIT */
/* The model's dimensions, from config.json, checked.  Nothing else in the project knows a size. */
#ifndef SL_MODEL_CONFIG_H
#define SL_MODEL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/sluice.h"

struct sl_config {
    char architecture[16]; /* "deepseek_v3" or "deepseek_v32" */
    uint32_t vocab;
    uint32_t hidden;
    uint32_t layers;       /* main layers */
    uint32_t dense_layers; /* the first ones, without experts */
    uint32_t mtp_layers;   /* 0 or 1; its id is `layers` */
    uint32_t context;      /* max_position_embeddings */
    int32_t bos, eos;      /* -1: none */
    float rms_eps;

    uint32_t heads;
    uint32_t q_lora;
    uint32_t kv_lora;    /* latent values per token */
    uint32_t nope, rope; /* dimensions of a query head: without and with rotation */
    uint32_t v_dim;

    uint32_t index_heads; /* 0: dense attention (deepseek_v3) */
    uint32_t index_dim;   /* rope dimensions first */
    uint32_t index_topk;

    uint32_t ffn_inner; /* dense layers */
    uint32_t moe_inner; /* one routed expert */
    uint32_t experts;
    uint32_t experts_used; /* per token */
    uint32_t shared;       /* shared experts; their inner is shared · moe_inner */
    uint32_t groups, groups_used;
    bool norm_topk;
    float routed_scale;

    double rope_theta;
    bool yarn;
    double yarn_factor, yarn_original, yarn_beta_fast, yarn_beta_slow;
    double yarn_mscale, yarn_mscale_all;

    float temperature, top_p; /* generation_config.json; 1 and 1 without one */
};

/* The eps of the indexer's LayerNorm; not in config.json. */
#define SL_INDEX_NORM_EPS 1e-6f

/*
 * Reads DIR/config.json and, when present, DIR/generation_config.json.  Every key is range-checked
 * and checked against the others; models that need what this build lacks (another scoring
 * function, biases, no q_lora, …) are SLUICE_EUNSUPPORTED with the key, found and wanted.
 */
int sl_config_read(struct sl_config *c, const char *dir, struct sluice_err *err);

/* The same from a parsed config.json, called PATH in messages. */
int sl_config_parse(struct sl_config *c, const json_t *root, const char *path,
                    struct sluice_err *err);

static inline bool sl_layer_is_moe(const struct sl_config *c, uint32_t layer)
{
    return layer >= c->dense_layers;
}

/* Softmax scale: (nope + rope)^-1/2, times YaRN's m². */
float sl_softmax_scale(const struct sl_config *c);

/*
 * The rotation frequencies float[rope/2], with YaRN's interpolation, and the factor on cosine and
 * sine (1 for all published models).
 */
float sl_rope_frequencies(const struct sl_config *c, float *frequency);

#endif
