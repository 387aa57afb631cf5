/* SPDX-License-Identifier: MIT */
/* Reads config.json.  Every dimension is bounded, so that later products of two cannot overflow. */
#include "runtime/model/config.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "simd/simd.h"

enum { MAX_CONFIG_BYTES = 1 << 20, MAX_DIM = 1 << 20, MAX_LAYERS = 1024, MAX_CONTEXT = 1 << 24 };

/* Integer keys that every model must have, with their ranges. */
static const struct int_key {
    const char *key;
    int64_t low, high;
    size_t offset;
} required[] = {
#define KEY(name, low, high, member)                                                               \
    {                                                                                              \
        name, low, high, offsetof(struct sl_config, member)                                        \
    }
    KEY("vocab_size", 1, 1 << 24, vocab),
    KEY("hidden_size", 1, MAX_DIM, hidden),
    KEY("num_hidden_layers", 1, MAX_LAYERS, layers),
    KEY("first_k_dense_replace", 0, MAX_LAYERS, dense_layers),
    KEY("max_position_embeddings", 1, MAX_CONTEXT, context),
    KEY("num_attention_heads", 1, 4096, heads),
    KEY("kv_lora_rank", 1, 65536, kv_lora),
    KEY("qk_nope_head_dim", 1, 65536, nope),
    KEY("qk_rope_head_dim", 2, 65536, rope),
    KEY("v_head_dim", 1, 65536, v_dim),
    KEY("intermediate_size", 1, MAX_DIM, ffn_inner),
    KEY("moe_intermediate_size", 1, MAX_DIM, moe_inner),
    KEY("n_routed_experts", 1, 4096, experts),
    KEY("num_experts_per_tok", 1, 4096, experts_used),
    KEY("n_shared_experts", 1, 64, shared),
    KEY("n_group", 1, 4096, groups),
    KEY("topk_group", 1, 4096, groups_used),
};

static const struct int_key indexer[] = {
    KEY("index_n_heads", 1, 4096, index_heads),
    KEY("index_head_dim", 4, 65536, index_dim),
    KEY("index_topk", 1, MAX_CONTEXT, index_topk),
#undef KEY
};

static int read_ints(struct sl_config *c, const json_t *root, const char *path,
                     const struct int_key *keys, size_t n, struct sluice_err *err)
{
    for (size_t i = 0; i < n; i++) {
        int64_t value;
        int status = sl_json_int(root, path, keys[i].key, keys[i].low, keys[i].high, NULL, &value,
                                 err);
        if (status < 0)
            return status;
        *(uint32_t *)((char *)c + keys[i].offset) = (uint32_t)value;
    }
    return 0;
}

/* The architecture this build runs, from "model_type". */
static int read_architecture(struct sl_config *c, const json_t *root, const char *path,
                             struct sluice_err *err)
{
    const char *type;
    int status = sl_json_string(root, path, "model_type", NULL, &type, err);
    if (status < 0)
        return status;
    if (strcmp(type, "deepseek_v3") != 0 && strcmp(type, "deepseek_v32") != 0)
        return sl_fail(err, SLUICE_EUNSUPPORTED,
                       "%s: model_type \"%.40s\"; this build runs deepseek_v3 (V3, R1, V3.1) and "
                       "deepseek_v32 (V3.2)",
                       path, type);
    snprintf(c->architecture, sizeof c->architecture, "%s", type);
    return 0;
}

/* A string key that must have the one value this build implements. */
static int want_string(const json_t *root, const char *path, const char *key, const char *wanted,
                       struct sluice_err *err)
{
    const char *found;
    int status = sl_json_string(root, path, key, wanted, &found, err);
    if (status == 0 && strcmp(found, wanted) != 0)
        return sl_fail(err, SLUICE_EUNSUPPORTED,
                       "%s: %s is \"%.40s\"; this build implements \"%s\"", path, key, found,
                       wanted);
    return status;
}

static int want_bool(const json_t *root, const char *path, const char *key, bool wanted,
                     struct sluice_err *err)
{
    bool found;
    int status = sl_json_bool(root, path, key, &wanted, &found, err);
    if (status == 0 && found != wanted)
        return sl_fail(err, SLUICE_EUNSUPPORTED, "%s: %s is %s; this build implements %s", path,
                       key, found ? "true" : "false", wanted ? "true" : "false");
    return status;
}

/* Variants of the architecture that need other code. */
static int refuse_variants(struct sl_config *c, const json_t *root, const char *path,
                           struct sluice_err *err)
{
    int64_t one = 1, freq, q_lora;
    int status;
    if ((status = want_string(root, path, "hidden_act", "silu", err)) < 0 ||
        (status = want_string(root, path, "scoring_func", "sigmoid", err)) < 0 ||
        (status = want_string(root, path, "topk_method", "noaux_tc", err)) < 0 ||
        (status = want_bool(root, path, "attention_bias", false, err)) < 0 ||
        (status = want_bool(root, path, "tie_word_embeddings", false, err)) < 0 ||
        (status = sl_json_int(root, path, "moe_layer_freq", 1, 1, &one, &freq, err)) < 0)
        return status;
    if (json_is_null(json_object_get(root, "q_lora_rank")))
        return sl_fail(err, SLUICE_EUNSUPPORTED,
                       "%s: q_lora_rank is null: models without a query latent are not implemented",
                       path);
    if ((status = sl_json_int(root, path, "q_lora_rank", 1, 65536, NULL, &q_lora, err)) < 0)
        return status;
    c->q_lora = (uint32_t)q_lora;
    return 0;
}

/* Number keys of a YaRN block. */
static const struct number_key {
    const char *key;
    double low, high, fallback; /* NAN: required */
    size_t offset;
} yarn_keys[] = {
#define KEY(name, low, high, fallback, member)                                                     \
    {                                                                                              \
        name, low, high, fallback, offsetof(struct sl_config, member)                              \
    }
    KEY("factor", 1, 1e6, NAN, yarn_factor),
    KEY("original_max_position_embeddings", 1, 1e9, NAN, yarn_original),
    KEY("beta_fast", 1e-3, 1e6, 32, yarn_beta_fast),
    KEY("beta_slow", 1e-3, 1e6, 1, yarn_beta_slow),
    KEY("mscale", 0, 100, 1, yarn_mscale),
    KEY("mscale_all_dim", 0, 100, 0, yarn_mscale_all),
#undef KEY
};

static int read_yarn(struct sl_config *c, const json_t *scaling, const char *path,
                     struct sluice_err *err)
{
    c->yarn = true;
    for (size_t i = 0; i < sizeof yarn_keys / sizeof *yarn_keys; i++) {
        const struct number_key *k = &yarn_keys[i];
        double *out = (double *)(void *)((char *)c + k->offset);
        int status = sl_json_number(scaling, path, k->key, k->low, k->high,
                                    isnan(k->fallback) ? NULL : &k->fallback, out, err);
        if (status < 0)
            return status;
    }
    return 0;
}

/* The object KEY, or NULL when it is missing or null; another type would silently mean no YaRN. */
static int rope_block(const json_t *root, const char *path, const char *key, const json_t **block,
                      struct sluice_err *err)
{
    *block = json_object_get(root, key);
    if (!*block || json_is_object(*block))
        return 0;
    if (!json_is_null(*block))
        return sl_fail(err, SLUICE_EFORMAT, "%s: \"%s\" is neither an object nor null", path, key);
    *block = NULL;
    return 0;
}

/* rope_theta and YaRN; newer exports nest both in "rope_parameters". */
static int read_rope(struct sl_config *c, const json_t *root, const char *path,
                     struct sluice_err *err)
{
    const json_t *scaling, *theta_in = root;
    const json_t *older;
    int found = rope_block(root, path, "rope_parameters", &scaling, err);
    if (found < 0 || (found = rope_block(root, path, "rope_scaling", &older, err)) < 0)
        return found;
    if (scaling && older)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: both rope_parameters and rope_scaling; one of them wanted", path);
    if (scaling)
        theta_in = json_object_get(scaling, "rope_theta") ? scaling : root;
    else
        scaling = older;
    double theta = 10000;
    int status = sl_json_number(theta_in, path, "rope_theta", 1, 1e12, &theta, &c->rope_theta, err);
    if (status < 0 || !json_is_object(scaling))
        return status;
    const char *type, *alias;
    if ((status = sl_json_string(scaling, path, "type", "default", &alias, err)) < 0 ||
        (status = sl_json_string(scaling, path, "rope_type", alias, &type, err)) < 0)
        return status;
    const json_t *factor = json_object_get(scaling, "factor");
    if (strcmp(type, "default") == 0 && (!factor || json_is_null(factor)))
        return 0;
    if (strcmp(type, "yarn") != 0)
        return sl_fail(err, SLUICE_EUNSUPPORTED,
                       "%s: rope scaling \"%.40s\"; this build implements \"yarn\"", path, type);
    return read_yarn(c, scaling, path, err);
}

static int read_rest(struct sl_config *c, const json_t *root, const char *path,
                     struct sluice_err *err)
{
    const int64_t zero = 0, none = -1, last = (int64_t)c->vocab - 1;
    int64_t mtp, bos, eos;
    double eps, scale, one = 1;
    const bool yes = true;
    int status;
    if ((status = sl_json_int(root, path, "num_nextn_predict_layers", 0, 1, &zero, &mtp, err)) ||
        (status = sl_json_int(root, path, "bos_token_id", -1, last, &none, &bos, err)) ||
        (status = sl_json_int(root, path, "eos_token_id", -1, last, &none, &eos, err)) ||
        (status = sl_json_number(root, path, "rms_norm_eps", 1e-12, 1, NULL, &eps, err)) ||
        (status = sl_json_number(root, path, "routed_scaling_factor", 1e-6, 1e6, &one, &scale,
                                 err)) ||
        (status = sl_json_bool(root, path, "norm_topk_prob", &yes, &c->norm_topk, err)))
        return status;
    c->mtp_layers = (uint32_t)mtp;
    c->bos = (int32_t)bos;
    c->eos = (int32_t)eos;
    c->rms_eps = (float)eps;
    c->routed_scale = (float)scale;
    return 0;
}

/* A matrix has at most 2^24 rows (docs/format.md). */
static bool too_long(uint32_t a, uint32_t b)
{
    return (uint64_t)a * b > 1 << 24;
}

/* Relations between keys. */
static int check_relations(const struct sl_config *c, const char *path, struct sluice_err *err)
{
    const struct {
        bool wrong;
        const char *what;
    } checks[] = {
        {c->dense_layers > c->layers, "first_k_dense_replace exceeds num_hidden_layers"},
        {c->experts % c->groups != 0, "n_routed_experts is not a multiple of n_group"},
        {c->groups_used > c->groups, "topk_group exceeds n_group"},
        {c->groups_used <= c->groups && c->experts_used > c->experts / c->groups * c->groups_used,
         "num_experts_per_tok exceeds the experts of topk_group groups"},
        {c->experts / c->groups < 2 && c->groups > 1, "n_group leaves groups of one expert"},
        {c->rope % 2 != 0, "qk_rope_head_dim is odd"},
        {too_long(c->heads, c->nope + c->rope) || too_long(c->heads, c->nope + c->v_dim),
         "num_attention_heads times the head dimensions exceeds 2^24"},
        {too_long(c->index_heads, c->index_dim), "index_n_heads times index_head_dim exceeds 2^24"},
        {too_long(c->shared, c->moe_inner) || too_long(2, c->shared * c->moe_inner + 16),
         "n_shared_experts times moe_intermediate_size exceeds 2^23"},
        {c->index_heads && c->index_dim % 4 != 0, "index_head_dim is not a multiple of 4"},
        {c->index_heads && c->index_dim < c->rope, "index_head_dim is below qk_rope_head_dim"},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (checks[i].wrong)
            return sl_fail(err, SLUICE_EFORMAT, "%s: %s", path, checks[i].what);
    return 0;
}

/* The model's own sampling defaults; a missing file is fine. */
static int read_generation(struct sl_config *c, const char *dir, struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    json_t *root = NULL;
    double one = 1, temperature, top_p;
    int status = sl_path_join(path, dir, "generation_config.json", err);
    if (status < 0 || !sl_file_exists(path))
        return status;
    if ((status = sl_json_read(path, MAX_CONFIG_BYTES, &root, err)) ||
        (status = sl_json_number(root, path, "temperature", 0, 100, &one, &temperature, err)) ||
        (status = sl_json_number(root, path, "top_p", 1e-6, 1, &one, &top_p, err)))
        goto done;
    c->temperature = (float)temperature;
    c->top_p = (float)top_p;
done:
    json_decref(root);
    return status;
}

int sl_config_parse(struct sl_config *c, const json_t *root, const char *path,
                    struct sluice_err *err)
{
    size_t n = sizeof required / sizeof *required, n_sparse = sizeof indexer / sizeof *indexer;
    int status;
    *c = (struct sl_config){.temperature = 1, .top_p = 1};
    if ((status = read_architecture(c, root, path, err)) ||
        (status = read_ints(c, root, path, required, n, err)) ||
        (status = refuse_variants(c, root, path, err)) ||
        (status = read_rope(c, root, path, err)) || (status = read_rest(c, root, path, err)))
        return status;
    if (strcmp(c->architecture, "deepseek_v32") == 0 &&
        (status = read_ints(c, root, path, indexer, n_sparse, err)))
        return status;
    return check_relations(c, path, err);
}

int sl_config_read(struct sl_config *c, const char *dir, struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    json_t *root = NULL;
    *c = (struct sl_config){0};
    int status = sl_path_join(path, dir, "config.json", err);
    if (status < 0 || (status = sl_json_read(path, MAX_CONFIG_BYTES, &root, err)) < 0)
        return status;
    if ((status = sl_config_parse(c, root, path, err)) == 0)
        status = read_generation(c, dir, err);
    json_decref(root);
    return status;
}

/* YaRN's attention factor 0.1 · m · ln(factor) + 1. */
static double yarn_mscale(double factor, double m)
{
    return factor <= 1 ? 1 : 0.1 * m * sl_log(factor) + 1;
}

float sl_softmax_scale(const struct sl_config *c)
{
    double scale = 1 / sqrt((double)(c->nope + c->rope));
    if (c->yarn && c->yarn_mscale_all > 0) {
        double m = yarn_mscale(c->yarn_factor, c->yarn_mscale_all);
        scale *= m * m;
    }
    return (float)scale;
}

/* The pair index whose wavelength fits TURNS times into the original context. */
static double yarn_corner(const struct sl_config *c, double turns)
{
    const double two_pi = 6.283185307179586;
    return c->rope * sl_log(c->yarn_original / (turns * two_pi)) / (2 * sl_log(c->rope_theta));
}

float sl_rope_frequencies(const struct sl_config *c, float *frequency)
{
    double low = 0, high = 0;
    if (c->yarn) {
        low = fmax(floor(yarn_corner(c, c->yarn_beta_fast)), 0);
        high = fmin(ceil(yarn_corner(c, c->yarn_beta_slow)), c->rope - 1);
        if (low == high)
            high += 0.001;
    }
    for (uint32_t i = 0; i < c->rope / 2; i++) {
        /* Each step rounds to float, as in the reference: at position 2,000 one ulp of a frequency
         * turns a key by 1e-4. */
        float f = 1.0f / (float)sl_pow(c->rope_theta, 2.0 * i / c->rope);
        if (c->yarn) {
            float ramp = (float)fmin(fmax((i - low) / (high - low), 0), 1);
            f = f / (float)c->yarn_factor * ramp + f * (1 - ramp);
        }
        frequency[i] = f;
    }
    if (!c->yarn || c->yarn_mscale_all == 0)
        return c->yarn ? (float)yarn_mscale(c->yarn_factor, c->yarn_mscale) : 1;
    return (float)(yarn_mscale(c->yarn_factor, c->yarn_mscale) /
                   yarn_mscale(c->yarn_factor, c->yarn_mscale_all));
}
