/* SPDX-License-Identifier: MIT */
/*
 * runtime/model: config.json and what it must refuse, YaRN, the tensor table against the published
 * checkpoints' counts, and that products over the team are the kernel's, to the bit.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "runtime/model/matmul.h"
#include "runtime/model/tensors.h"
#include "tests/random.h"
#include "tests/unit/scratch.h"

/* ---- configurations ------------------------------------------------------------------------- */

/* The numbers that all published V3, R1, V3.1 and V3.2 models share. */
#define SHARED                                                                                     \
    "\"attention_bias\":false,\"attention_dropout\":0.0,\"bos_token_id\":0,\"eos_token_id\":1,"    \
    "\"ep_size\":1,\"first_k_dense_replace\":3,\"hidden_act\":\"silu\",\"hidden_size\":7168,"      \
    "\"initializer_range\":0.02,\"intermediate_size\":18432,\"kv_lora_rank\":512,"                 \
    "\"max_position_embeddings\":163840,\"moe_intermediate_size\":2048,\"moe_layer_freq\":1,"      \
    "\"n_group\":8,\"n_routed_experts\":256,\"n_shared_experts\":1,\"norm_topk_prob\":true,"       \
    "\"num_attention_heads\":128,\"num_experts_per_tok\":8,\"num_hidden_layers\":61,"              \
    "\"num_key_value_heads\":128,\"num_nextn_predict_layers\":1,\"q_lora_rank\":1536,"             \
    "\"qk_nope_head_dim\":128,\"qk_rope_head_dim\":64,\"quantization_config\":"                    \
    "{\"activation_scheme\":\"dynamic\",\"fmt\":\"e4m3\",\"quant_method\":\"fp8\","                \
    "\"scale_fmt\":\"ue8m0\",\"weight_block_size\":[128,128]},\"rms_norm_eps\":1e-06,"             \
    "\"rope_scaling\":{\"beta_fast\":32,\"beta_slow\":1,\"factor\":40,\"mscale\":1.0,"             \
    "\"mscale_all_dim\":1.0,\"original_max_position_embeddings\":4096,\"type\":\"yarn\"},"         \
    "\"rope_theta\":10000,\"routed_scaling_factor\":2.5,\"scoring_func\":\"sigmoid\","             \
    "\"tie_word_embeddings\":false,\"topk_group\":4,\"topk_method\":\"noaux_tc\","                 \
    "\"torch_dtype\":\"bfloat16\",\"use_cache\":true,\"v_head_dim\":128,\"vocab_size\":129280"

static const char v3[] = "{\"architectures\":[\"DeepseekV3ForCausalLM\"],"
                         "\"model_type\":\"deepseek_v3\"," SHARED "}";
static const char v32[] = "{\"architectures\":[\"DeepseekV32ForCausalLM\"],"
                          "\"model_type\":\"deepseek_v32\",\"index_head_dim\":128,"
                          "\"index_n_heads\":64,\"index_topk\":2048," SHARED "}";

/* One change: KEY may be "object.key"; VALUE is JSON, NULL takes the key away. */
struct edit {
    const char *key, *value;
};

static void apply(json_t *object, struct edit e)
{
    char outer[64];
    const char *dot = strchr(e.key, '.');
    if (dot) {
        snprintf(outer, sizeof outer, "%.*s", (int)(dot - e.key), e.key);
        object = json_object_get(object, outer);
        e.key = dot + 1;
    }
    if (!e.value) {
        assert_int_equal(json_object_del(object, e.key), 0);
        return;
    }
    json_t *value = json_loads(e.value, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    assert_int_equal(json_object_set_new(object, e.key, value), 0);
}

/* Reads TEXT with up to three changes. */
static int read_edited(struct sl_config *c, const char *text, const struct edit edits[3],
                       struct sluice_err *err)
{
    json_t *object = json_loads(text, 0, NULL);
    assert_non_null(object);
    for (size_t i = 0; edits && i < 3 && edits[i].key; i++)
        apply(object, edits[i]);
    char *dump = json_dumps(object, JSON_INDENT(2));
    assert_non_null(dump);
    put_text("config.json", dump);
    free(dump);
    json_decref(object);
    memset(err, 0, sizeof *err);
    return sl_config_read(c, root, err);
}

static struct sl_config good(const char *text, struct edit a, struct edit b, struct edit c)
{
    struct sl_config config;
    struct sluice_err err;
    struct edit edits[3] = {a, b, c};
    if (read_edited(&config, text, edits, &err) != 0)
        fail_msg("%s=%s: %s", a.key ? a.key : "", a.value ? a.value : "", err.msg);
    return config;
}

static const struct edit none = {NULL, NULL};

static struct sl_config as_is(const char *text)
{
    return good(text, none, none, none);
}

static void refused(const char *text, const struct edit edits[3], int status, const char *part)
{
    struct sl_config c;
    struct sluice_err err;
    int got = read_edited(&c, text, edits, &err);
    if (got != status)
        fail_msg("%s: %s: %d, %d wanted: %s", edits[0].key,
                 edits[0].value ? edits[0].value : "(none)", got, status, err.msg);
    assert_int_equal(err.code, status);
    expect_text(err.msg, "/config.json: ");
    expect_text(err.msg, part);
    assert_int_equal(sl_config_read(&c, root, NULL), status);
}

/* ---- reading -------------------------------------------------------------------------------- */

static void check_shared_values(const struct sl_config *c)
{
    assert_int_equal(c->vocab, 129280);
    assert_int_equal(c->hidden, 7168);
    assert_int_equal(c->layers, 61);
    assert_int_equal(c->dense_layers, 3);
    assert_int_equal(c->mtp_layers, 1);
    assert_int_equal(c->context, 163840);
    assert_int_equal(c->bos, 0);
    assert_int_equal(c->eos, 1);
    assert_true(c->rms_eps == 1e-6f);
    assert_int_equal(c->heads, 128);
    assert_int_equal(c->q_lora, 1536);
    assert_int_equal(c->kv_lora, 512);
    assert_int_equal(c->nope, 128);
    assert_int_equal(c->rope, 64);
    assert_int_equal(c->v_dim, 128);
    assert_int_equal(c->ffn_inner, 18432);
    assert_int_equal(c->moe_inner, 2048);
    assert_int_equal(c->experts, 256);
    assert_int_equal(c->experts_used, 8);
    assert_int_equal(c->shared, 1);
    assert_int_equal(c->groups, 8);
    assert_int_equal(c->groups_used, 4);
    assert_true(c->norm_topk);
    assert_true(c->routed_scale == 2.5f);
    assert_true(c->rope_theta == 10000 && c->yarn);
    assert_true(c->yarn_factor == 40 && c->yarn_original == 4096);
    assert_true(c->yarn_beta_fast == 32 && c->yarn_beta_slow == 1);
    assert_true(c->yarn_mscale == 1 && c->yarn_mscale_all == 1);
    assert_true(c->temperature == 1 && c->top_p == 1);
    assert_false(sl_layer_is_moe(c, 2));
    assert_true(sl_layer_is_moe(c, 3));
}

static void reads_the_published_configs(void **state)
{
    (void)state;
    struct sl_config c = as_is(v32);
    check_shared_values(&c);
    assert_string_equal(c.architecture, "deepseek_v32");
    assert_int_equal(c.index_heads, 64);
    assert_int_equal(c.index_dim, 128);
    assert_int_equal(c.index_topk, 2048);
    c = as_is(v3);
    check_shared_values(&c);
    assert_string_equal(c.architecture, "deepseek_v3");
    assert_int_equal(c.index_heads + c.index_dim + c.index_topk, 0);
    /* the model type decides, not the keys */
    c = good(v3, (struct edit){"index_n_heads", "64"}, (struct edit){"index_head_dim", "128"},
             (struct edit){"index_topk", "2048"});
    assert_int_equal(c.index_heads, 0);
}

static void reads_rope_parameters(void **state)
{
    static const char *const spelling =
        "{\"beta_fast\":32,\"beta_slow\":1,\"factor\":20,\"mscale\":0.5,\"mscale_all_dim\":0.25,"
        "\"original_max_position_embeddings\":2048,\"rope_type\":\"yarn\",\"rope_theta\":50000.0}";
    (void)state;
    struct sl_config c = good(v3, (struct edit){"rope_scaling", NULL},
                              (struct edit){"rope_theta", NULL},
                              (struct edit){"rope_parameters", spelling});
    assert_true(c.yarn && c.rope_theta == 50000 && c.yarn_factor == 20);
    assert_true(c.yarn_original == 2048 && c.yarn_mscale == 0.5 && c.yarn_mscale_all == 0.25);
    c = good(v3, (struct edit){"rope_scaling", "null"}, (struct edit){"rope_theta", "3e4"},
             (struct edit){"rope_parameters", "{\"rope_type\":\"default\"}"});
    assert_true(!c.yarn && c.rope_theta == 30000);
    c = good(v3, (struct edit){"rope_parameters", "null"}, none, none);
    assert_true(c.yarn && c.yarn_factor == 40);
    c = good(v3, (struct edit){"rope_scaling.type", NULL},
             (struct edit){"rope_scaling.rope_type", "\"yarn\""}, none);
    assert_true(c.yarn && c.yarn_factor == 40);
}

static void fills_in_what_is_missing(void **state)
{
    (void)state;
    struct sl_config c = good(v3, (struct edit){"rope_scaling", NULL},
                              (struct edit){"rope_theta", NULL},
                              (struct edit){"eos_token_id", NULL});
    assert_true(!c.yarn && c.rope_theta == 10000);
    assert_int_equal(c.eos, -1);
    c = good(v3, (struct edit){"num_nextn_predict_layers", NULL},
             (struct edit){"bos_token_id", "null"}, (struct edit){"routed_scaling_factor", NULL});
    assert_int_equal(c.mtp_layers, 0);
    assert_int_equal(c.bos, -1);
    assert_true(c.routed_scale == 1);
    c = good(v3, (struct edit){"norm_topk_prob", "false"}, none, none);
    assert_false(c.norm_topk);
    c = good(v3, (struct edit){"rope_scaling.beta_fast", NULL},
             (struct edit){"rope_scaling.beta_slow", NULL},
             (struct edit){"rope_scaling.mscale_all_dim", NULL});
    assert_true(c.yarn_beta_fast == 32 && c.yarn_beta_slow == 1 && c.yarn_mscale_all == 0);
    static const char *const optional[] = {
        "hidden_act",          "scoring_func",   "topk_method",    "attention_bias",
        "tie_word_embeddings", "moe_layer_freq", "norm_topk_prob", "torch_dtype"};
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) {
        c = good(v32, (struct edit){optional[i], NULL}, none, none);
        check_shared_values(&c);
    }
}

static void reads_sampling_defaults(void **state)
{
    struct sl_config c;
    struct sluice_err err;
    (void)state;
    put_text("generation_config.json", "{\"do_sample\":true,\"temperature\":0.6,\"top_p\":0.95}");
    c = as_is(v32);
    assert_true(c.temperature == 0.6f && c.top_p == 0.95f);
    put_text("generation_config.json", "{\"temperature\":0}");
    c = as_is(v32);
    assert_true(c.temperature == 0 && c.top_p == 1);
    static const char *const bad[][2] = {
        {"{\"top_p\":0}", "\"top_p\""},
        {"{\"top_p\":1.01}", "\"top_p\""},
        {"{\"top_p\":\"1\"}", "\"top_p\""},
        {"{\"temperature\":-1}", "\"temperature\""},
        {"{\"temperature\":[1]}", "temperature"},
        {"{\"temperature\":1e9}", "\"temperature\""},
        {"[]", "JSON object"},
        {"", "not valid JSON"},
        {"{\"top_p\":NaN}", "not valid JSON"},
        {"{\"top_p\":1e999}", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text("generation_config.json", bad[i][0]);
        assert_int_equal(read_edited(&c, v32, NULL, &err), SLUICE_EFORMAT);
        expect_text(err.msg, "/generation_config.json: ");
        expect_text(err.msg, bad[i][1]);
    }
    assert_int_equal(unlink(at("generation_config.json")), 0);
}

/* ---- refusing ------------------------------------------------------------------------------- */

/* Integer keys: the least value, the greatest, and other keys without which the greatest breaks a
 * relation instead of a range. */
static const struct range {
    const char *key;
    int64_t low, high;
    struct edit besides[2];
} ranges[] = {
    {"vocab_size", 1, 1 << 24, {{"eos_token_id", "0"}}},
    {"hidden_size", 1, 1 << 20, {{0}}},
    {"num_hidden_layers", 3, 1024, {{0}}},
    {"first_k_dense_replace", 0, 1024, {{"num_hidden_layers", "1024"}}},
    {"max_position_embeddings", 1, 1 << 24, {{0}}},
    {"num_attention_heads", 1, 4096, {{0}}},
    {"q_lora_rank", 1, 65536, {{0}}},
    {"kv_lora_rank", 1, 65536, {{0}}},
    {"qk_nope_head_dim", 1, 65536, {{0}}},
    {"qk_rope_head_dim", 2, 65536, {{"index_head_dim", "65536"}}},
    {"v_head_dim", 1, 65536, {{0}}},
    {"intermediate_size", 1, 1 << 20, {{0}}},
    {"moe_intermediate_size", 1, 1 << 20, {{0}}},
    {"n_routed_experts", 16, 4096, {{0}}},
    {"num_experts_per_tok", 1, 4096, {{"n_routed_experts", "4096"}, {"topk_group", "8"}}},
    {"n_shared_experts", 1, 64, {{0}}},
    {"n_group", 4, 128, {{0}}},
    {"topk_group", 1, 8, {{0}}},
    {"index_n_heads", 1, 4096, {{0}}},
    {"index_head_dim", 64, 65536, {{0}}},
    {"index_topk", 1, 1 << 24, {{0}}},
};
enum { N_RANGES = sizeof ranges / sizeof *ranges };

static void expect_range_end(const struct range *r, int64_t value, bool accepted)
{
    char digits[32];
    struct sl_config c;
    struct sluice_err err;
    snprintf(digits, sizeof digits, "%lld", (long long)value);
    const struct edit edits[3] = {{r->key, digits}, r->besides[0], r->besides[1]};
    int status = read_edited(&c, v32, edits, &err);
    if (status != (accepted ? 0 : SLUICE_EFORMAT))
        fail_msg("%s: %s: %d: %s", r->key, digits, status, err.msg);
    if (!accepted) {
        expect_text(err.msg, "/config.json: ");
        expect_text(err.msg, r->key);
    }
}

static void keeps_to_the_ranges(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_RANGES; i++) {
        expect_range_end(&ranges[i], ranges[i].low, true);
        expect_range_end(&ranges[i], ranges[i].low - 1, false);
        expect_range_end(&ranges[i], ranges[i].high, true);
        expect_range_end(&ranges[i], ranges[i].high + 1, false);
        expect_range_end(&ranges[i], 0, ranges[i].low == 0);
        expect_range_end(&ranges[i], -1, false);
        expect_range_end(&ranges[i], INT64_MAX, false);
        expect_range_end(&ranges[i], INT64_MIN, false);
        expect_range_end(&ranges[i], (1ll << 32) + ranges[i].low, false);
    }
}

static void refuses_missing_keys_and_wrong_types(void **state)
{
    static const char *const values[] = {NULL,     "\"7\"", "true", "1.5",  "7168.0",
                                         "[7168]", "{}",    "1e3",  "\"\"", "false"};
    (void)state;
    for (size_t i = 0; i < N_RANGES; i++) {
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            const struct edit edits[3] = {{ranges[i].key, values[v]}};
            refused(v32, edits, SLUICE_EFORMAT, ranges[i].key);
        }
        const struct edit null[3] = {{ranges[i].key, "null"}};
        bool q_lora = strcmp(ranges[i].key, "q_lora_rank") == 0; /* a variant of the model */
        refused(v32, null, q_lora ? SLUICE_EUNSUPPORTED : SLUICE_EFORMAT, ranges[i].key);
    }
}

/* Edits of a good config that must be refused. */
static const struct {
    struct edit edits[3];
    int status;
    const char *part;
} bad_edits[] = {
    {{{"model_type", NULL}}, SLUICE_EFORMAT, "\"model_type\" is missing"},
    {{{"model_type", "7"}}, SLUICE_EFORMAT, "\"model_type\" is 7"},
    {{{"model_type", "\"deepseek_v2\""}}, SLUICE_EUNSUPPORTED, "model_type \"deepseek_v2\""},
    {{{"model_type", "\"deepseek_v321\""}}, SLUICE_EUNSUPPORTED, "model_type \"deepseek_v321\""},
    {{{"model_type", "\"\""}}, SLUICE_EUNSUPPORTED, "model_type \"\""},

    {{{"first_k_dense_replace", "62"}}, SLUICE_EFORMAT, "first_k_dense_replace exceeds"},
    {{{"num_attention_heads", "4096"}, {"v_head_dim", "3969"}}, SLUICE_EFORMAT, "exceeds 2^24"},
    {{{"index_n_heads", "4096"}, {"index_head_dim", "4100"}}, SLUICE_EFORMAT, "exceeds 2^24"},
    {{{"n_shared_experts", "8"}, {"moe_intermediate_size", "1048576"}}, SLUICE_EFORMAT, "2^23"},
    {{{"rope_scaling", "{\"factor\": 40}"}}, SLUICE_EUNSUPPORTED, "yarn"},
    {{{"n_group", "7"}}, SLUICE_EFORMAT, "multiple of n_group"},
    {{{"n_routed_experts", "255"}}, SLUICE_EFORMAT, "n_routed_experts is not"},
    {{{"topk_group", "9"}}, SLUICE_EFORMAT, "topk_group exceeds n_group"},
    {{{"n_group", "512"}}, SLUICE_EFORMAT, "n_group"},
    {{{"num_experts_per_tok", "129"}}, SLUICE_EFORMAT, "num_experts_per_tok exceeds"},
    {{{"num_experts_per_tok", "257"}, {"n_group", "1"}, {"topk_group", "1"}},
     SLUICE_EFORMAT,
     "num_experts_per_tok exceeds"},
    {{{"n_routed_experts", "8"}}, SLUICE_EFORMAT, "group"},
    {{{"qk_rope_head_dim", "63"}}, SLUICE_EFORMAT, "qk_rope_head_dim is odd"},
    {{{"index_head_dim", "126"}}, SLUICE_EFORMAT, "index_head_dim is not a multiple of 4"},
    {{{"index_head_dim", "60"}}, SLUICE_EFORMAT, "index_head_dim is below"},

    {{{"hidden_act", "\"gelu\""}}, SLUICE_EUNSUPPORTED, "hidden_act is \"gelu\""},
    {{{"hidden_act", "1"}}, SLUICE_EFORMAT, "\"hidden_act\" is 1"},
    {{{"scoring_func", "\"softmax\""}}, SLUICE_EUNSUPPORTED, "scoring_func is \"softmax\""},
    {{{"scoring_func", "[]"}}, SLUICE_EFORMAT, "\"scoring_func\" is []"},
    {{{"topk_method", "\"greedy\""}}, SLUICE_EUNSUPPORTED, "topk_method is \"greedy\""},
    {{{"attention_bias", "true"}}, SLUICE_EUNSUPPORTED, "attention_bias is true"},
    {{{"attention_bias", "0"}}, SLUICE_EFORMAT, "\"attention_bias\" is 0"},
    {{{"tie_word_embeddings", "true"}}, SLUICE_EUNSUPPORTED, "tie_word_embeddings is true"},
    {{{"moe_layer_freq", "2"}}, SLUICE_EFORMAT, "\"moe_layer_freq\" is 2"},
    {{{"q_lora_rank", "null"}}, SLUICE_EUNSUPPORTED, "q_lora_rank is null"},

    {{{"num_nextn_predict_layers", "2"}}, SLUICE_EFORMAT, "num_nextn_predict_layers"},
    {{{"bos_token_id", "129280"}}, SLUICE_EFORMAT, "bos_token_id"},
    {{{"eos_token_id", "129280"}}, SLUICE_EFORMAT, "eos_token_id"},
    {{{"eos_token_id", "-2"}}, SLUICE_EFORMAT, "eos_token_id"},
    {{{"eos_token_id", "[1,2]"}}, SLUICE_EFORMAT, "\"eos_token_id\" is [1,2]"},
    {{{"vocab_size", "1"}}, SLUICE_EFORMAT, "eos_token_id"},
    {{{"rms_norm_eps", NULL}}, SLUICE_EFORMAT, "rms_norm_eps"},
    {{{"rms_norm_eps", "0"}}, SLUICE_EFORMAT, "rms_norm_eps"},
    {{{"rms_norm_eps", "-1e-6"}}, SLUICE_EFORMAT, "rms_norm_eps"},
    {{{"rms_norm_eps", "\"1e-6\""}}, SLUICE_EFORMAT, "rms_norm_eps"},
    {{{"routed_scaling_factor", "0"}}, SLUICE_EFORMAT, "routed_scaling_factor"},
    {{{"routed_scaling_factor", "1e300"}}, SLUICE_EFORMAT, "routed_scaling_factor"},
    {{{"norm_topk_prob", "1"}}, SLUICE_EFORMAT, "norm_topk_prob"},

    {{{"rope_theta", "0"}}, SLUICE_EFORMAT, "rope_theta"},
    {{{"rope_theta", "1e13"}}, SLUICE_EFORMAT, "rope_theta"},
    {{{"rope_theta", "\"10000\""}}, SLUICE_EFORMAT, "rope_theta"},
    {{{"rope_scaling.type", "\"linear\""}}, SLUICE_EUNSUPPORTED, "rope scaling \"linear\""},
    {{{"rope_scaling.rope_type", "\"llama3\""}}, SLUICE_EUNSUPPORTED, "rope scaling \"llama3\""},
    {{{"rope_scaling.type", "1"}}, SLUICE_EFORMAT, "\"type\" is 1"},
    {{{"rope_scaling.factor", NULL}}, SLUICE_EFORMAT, "\"factor\" is missing"},
    {{{"rope_scaling.factor", "0.5"}}, SLUICE_EFORMAT, "\"factor\" is 0.5"},
    {{{"rope_scaling.factor", "\"40\""}}, SLUICE_EFORMAT, "\"factor\" is \"40\""},
    {{{"rope_scaling.original_max_position_embeddings", NULL}},
     SLUICE_EFORMAT,
     "original_max_position_embeddings"},
    {{{"rope_scaling.original_max_position_embeddings", "0"}},
     SLUICE_EFORMAT,
     "original_max_position_embeddings"},
    {{{"rope_scaling.beta_fast", "0"}}, SLUICE_EFORMAT, "beta_fast"},
    {{{"rope_scaling.beta_slow", "-1"}}, SLUICE_EFORMAT, "beta_slow"},
    {{{"rope_scaling.mscale", "101"}}, SLUICE_EFORMAT, "mscale"},
    {{{"rope_scaling.mscale_all_dim", "-1"}}, SLUICE_EFORMAT, "mscale_all_dim"},
};

static void refuses_bad_relations_and_variants(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_edits / sizeof *bad_edits; i++)
        refused(v32, bad_edits[i].edits, bad_edits[i].status, bad_edits[i].part);
    /* of no consequence without an indexer */
    good(v3, (struct edit){"index_head_dim", "126"}, none, none);
}

/* A rope block of another type than object or null must not run silently without YaRN. */
static void refuses_rope_of_another_type(void **state)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    static const char *const values[] = {"\"yarn\"", "[]", "40", "true"};
    (void)state;
    for (size_t k = 0; k < 2; k++)
        for (size_t v = 0; v < 4; v++) {
            const struct edit edits[3] = {{keys[k], values[v]}};
            refused(v32, edits, SLUICE_EFORMAT, keys[k]);
        }
}

/* Messages reach a terminal: strings of the file must not carry escape sequences there. */
static void shows_no_control_characters(void **state)
{
    static const char *const keys[] = {"model_type",        "hidden_act",  "scoring_func",
                                       "rope_scaling.type", "hidden_size", "attention_bias"};
    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct sl_config c;
        struct sluice_err err;
        const struct edit edits[3] = {{keys[i], "\"\\u001b[2J\\u0007\\u007f\""}};
        assert_true(read_edited(&c, v32, edits, &err) < 0);
        for (const char *p = err.msg; *p; p++)
            if ((unsigned char)*p < ' ' || *p == 0x7f)
                fail_msg("%s: byte 0x%02x in the message", keys[i], (unsigned char)*p);
    }
}

static void expect_text_refused(const char *text, size_t len, const char *part)
{
    struct sl_config c;
    struct sluice_err err = {0};
    put("config.json", text, len);
    assert_int_equal(sl_config_read(&c, root, &err), SLUICE_EFORMAT);
    expect_text(err.msg, "/config.json");
    expect_text(err.msg, part);
}

static void survives_hostile_json(void **state)
{
    static const char *const texts[][2] = {
        {"", "not valid JSON"},
        {"[]", "JSON object wanted"},
        {"null", "JSON"},
        {"{\"a\":1", "valid JSON"},
        {"{}x", "not valid JSON"},
        {"{}", "model_type"},
        {"{\"a\":1,\"a\":1}", "dup"},
        {"\xff\xfe{}", "JSON"},
        {"{\"vocab_size\":99999999999999999999}", "not valid JSON"},
    };
    struct sl_config c;
    struct sluice_err err;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        expect_text_refused(texts[i][0], strlen(texts[i][0]), texts[i][1]);
    size_t size = (1 << 20) + 1;
    char *big = malloc(size);
    assert_non_null(big);
    memset(big, '[', size);
    memcpy(big, "{\"a\":", 5);
    expect_text_refused(big, size - 1, "depth");
    expect_text_refused(big, size, "more than");
    memset(big + 5, '{', size - 5);
    expect_text_refused(big, size - 1, "not valid JSON");
    memset(big, ' ', size); /* as long as a config may be */
    memcpy(big, v3, sizeof v3 - 1);
    put("config.json", big, size - 1);
    assert_int_equal(sl_config_read(&c, root, &err), 0);
    for (size_t cut = 0; cut + 1 < sizeof v3; cut++) {
        put("config.json", v3, cut);
        assert_int_equal(sl_config_read(&c, root, NULL), SLUICE_EFORMAT);
    }
    free(big);
    assert_int_equal(unlink(at("config.json")), 0);
    assert_int_equal(sl_config_read(&c, root, &err), SLUICE_EFORMAT);
    expect_text(err.msg, "/config.json");
}

/* ---- rotation ------------------------------------------------------------------------------- */

static void expect_close(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fabs(want)))
        fail_msg("%.9g, %.9g wanted", got, want);
}

/* f'_i of the specification, in double precision. */
static double slow_frequency(const struct sl_config *c, uint32_t i)
{
    double f = pow(c->rope_theta, -2.0 * i / c->rope), corner[2], low, high;
    if (!c->yarn)
        return f;
    for (int k = 0; k < 2; k++)
        corner[k] = c->rope *
                    log(c->yarn_original /
                        (2 * acos(-1) * (k ? c->yarn_beta_slow : c->yarn_beta_fast))) /
                    (2 * log(c->rope_theta));
    low = floor(corner[0]) < 0 ? 0 : floor(corner[0]);
    high = ceil(corner[1]) > c->rope - 1 ? c->rope - 1 : ceil(corner[1]);
    if (low == high)
        high = low + 0.001;
    double ramp = (i - low) / (high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return f / c->yarn_factor * ramp + f * (1 - ramp);
}

/* Six roundings to float at most lie between the two. */
static float check_frequencies(const struct sl_config *c)
{
    float f[512];
    assert_true(c->rope / 2 <= 512);
    float factor = sl_rope_frequencies(c, f);
    for (uint32_t i = 0; i < c->rope / 2; i++)
        expect_close((double)f[i], slow_frequency(c, i), 6 * 0x1p-24);
    return factor;
}

static void interpolates_as_published(void **state)
{
    static const struct {
        int i;
        double f;
    } wanted[] = {
        {0, 1.0},           {1, 0.7498942}, {10, 5.6234133e-2}, {11, 3.9006927e-2},
        {12, 2.6879360e-2}, {16, 5.5e-3},   {20, 7.905694e-4},  {22, 1.7782794e-4},
        {23, 3.3338036e-5}, {24, 2.5e-5},   {31, 3.3338036e-6},
    };
    float f[32];
    (void)state;
    struct sl_config c = as_is(v32);
    assert_true(sl_rope_frequencies(&c, f) == 1);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) /* 7 or 8 digits */
        expect_close((double)f[wanted[i].i], wanted[i].f, 2e-7);
    assert_true(check_frequencies(&c) == 1);
    assert_true(sl_softmax_scale(&c) == (float)0.1352337788608801);
}

static void scales_as_the_keys_say(void **state)
{
    const double base = 0.07216878364870322;
    (void)state;
    struct sl_config c = good(v3, (struct edit){"rope_scaling", NULL}, none, none);
    assert_true(sl_softmax_scale(&c) == (float)base);
    assert_true(check_frequencies(&c) == 1);

    c = good(v3, (struct edit){"rope_scaling.mscale", "0.707"},
             (struct edit){"rope_scaling.mscale_all_dim", "0.707"}, none);
    double m = 0.1 * 0.707 * log(40) + 1;
    expect_close((double)sl_softmax_scale(&c), base * m * m, 0x1p-24);
    assert_true(check_frequencies(&c) == 1);

    c = good(v3, (struct edit){"rope_scaling.mscale_all_dim", "0"}, none, none);
    assert_true(sl_softmax_scale(&c) == (float)base);
    expect_close((double)check_frequencies(&c), 0.1 * log(40) + 1, 0x1p-24);

    c = good(v3, (struct edit){"rope_scaling.mscale", "0.5"}, none, none);
    expect_close((double)check_frequencies(&c), (0.05 * log(40) + 1) / (0.1 * log(40) + 1),
                 0x1p-23);

    c = good(v3, (struct edit){"rope_scaling.factor", "1"}, none, none);
    assert_true(sl_softmax_scale(&c) == (float)base);
    assert_true(check_frequencies(&c) == 1);
}

static void survives_collapsed_ramps(void **state)
{
    const struct edit fast = {"rope_scaling.beta_fast", "1"}; /* like beta_slow */
    float f[32];
    (void)state;
    struct sl_config c = good(v3, fast, (struct edit){"rope_theta", "50000"},
                              (struct edit){"rope_scaling.factor", "32"}); /* Kimi K2 */
    assert_true(check_frequencies(&c) == 1);
    assert_true(sl_rope_frequencies(&c, f) == 1);
    expect_close((double)f[19], pow(50000, -38.0 / 64), 2e-7); /* a step from 19 to 20 */
    expect_close((double)f[20], pow(50000, -40.0 / 64) / 32, 2e-7);

    const struct edit short_context = {"rope_scaling.original_max_position_embeddings", "6"};
    c = good(v3, fast, short_context, none); /* low == high == 0 */
    check_frequencies(&c);
    sl_rope_frequencies(&c, f);
    assert_true(f[0] == 1);
    expect_close((double)f[1], pow(10000, -2.0 / 64) / 40, 2e-7);

    static const struct edit odd[][3] = {
        {{"rope_theta", "1"}},
        {{"rope_theta", "1e12"}},
        {{"rope_scaling.factor", "1e6"}},
        {{"rope_scaling.original_max_position_embeddings", "1"}},
        {{"rope_scaling.original_max_position_embeddings", "1e9"}},
        {{"rope_scaling.beta_fast", "1e-3"}, {"rope_scaling.beta_slow", "1e6"}},
        {{"rope_scaling.beta_fast", "1e6"}, {"rope_scaling.beta_slow", "1e-3"}},
        {{"rope_theta", "1"}, {"rope_scaling.original_max_position_embeddings", "1"}},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        c = good(v3, odd[i][0], odd[i][1], odd[i][2]);
        float factor = sl_rope_frequencies(&c, f);
        assert_true(isfinite(factor) && factor > 0);
        for (int k = 0; k < 32; k++)
            if (!(f[k] >= 0 && f[k] <= 1))
                fail_msg("%s=%s: f[%d] = %g", odd[i][0].key, odd[i][0].value, k, (double)f[k]);
    }
}

/* ---- the tensor table ----------------------------------------------------------------------- */

/* All names of a model, one behind the other; sorted later. */
struct names {
    char (*name)[128];
    size_t n, capacity;
};

static void add_name(struct names *names, const char *name)
{
    assert_true(names->n < names->capacity);
    snprintf(names->name[names->n++], 128, "%s", name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Number of different names. */
static size_t distinct(struct names *names)
{
    size_t n = 0;
    qsort(names->name, names->n, 128, by_name);
    for (size_t i = 0; i < names->n; i++)
        n += i == 0 || strcmp(names->name[i], names->name[i - 1]) != 0;
    return n;
}

/* FP8 in the published checkpoints, with a scale tensor. */
static bool is_fp8(const struct sl_tensor_rule *r)
{
    switch (r->class) {
    case SL_CLASS_ATTN:
    case SL_CLASS_ATTN_BIG:
    case SL_CLASS_KV_UP:
    case SL_CLASS_INDEX:
    case SL_CLASS_FFN:
    case SL_CLASS_EXPERT:
        return true;
    default:
        return false;
    }
}

struct walk {
    const struct sl_config *config;
    struct names checkpoint, container;
    uint64_t main, mtp;  /* parameters */
    size_t double_named; /* container tensors that share a checkpoint tensor with another */
};

static void add_checkpoint_tensor(struct walk *w, const struct sl_tensor_rule *r, const char *part,
                                  uint32_t layer, uint32_t expert)
{
    char name[128];
    struct sl_shape s = sl_checkpoint_shape_of(w->config, r->role);
    assert_int_equal(s.count, 1);
    sl_tensor_name(name, r, part, layer, expert);
    add_name(&w->checkpoint, name);
    *(layer < w->config->layers ? &w->main : &w->mtp) += (uint64_t)s.rows * s.cols;
    if (is_fp8(r)) {
        size_t len = strlen(name);
        snprintf(name + len, sizeof name - len, "_scale_inv");
        add_name(&w->checkpoint, name);
    }
}

static void walk_tensor(struct walk *w, const struct sl_tensor_rule *r, uint32_t layer,
                        uint32_t expert)
{
    char name[128];
    sl_tensor_name(name, r, r->name, layer, expert);
    add_name(&w->container, name);
    if (r->source == SL_FROM_KV_V) { /* the other half of kv_b */
        assert_string_equal(r->checkpoint, sl_tensor_rules()[SL_K_UP].checkpoint);
        w->double_named++;
        return;
    }
    add_checkpoint_tensor(w, r, r->checkpoint, layer, expert);
    assert_int_equal(r->source == SL_FROM_GATE_UP, r->second != NULL);
    if (r->second)
        add_checkpoint_tensor(w, r, r->second, layer, expert);
}

static void walk_model(struct walk *w, const struct sl_config *c)
{
    const struct sl_tensor_rule *rules = sl_tensor_rules();
    *w = (struct walk){.config = c};
    w->checkpoint.capacity = w->container.capacity = 100000;
    w->checkpoint.name = calloc(100000, 128);
    w->container.name = calloc(100000, 128);
    assert_true(w->checkpoint.name && w->container.name);
    for (int role = 0; role < SL_N_ROLES; role++) {
        if (rules[role].where == SL_IN_HEAD)
            walk_tensor(w, &rules[role], 0, 0);
        for (uint32_t layer = 0; layer < c->layers + c->mtp_layers; layer++) {
            uint32_t copies = rules[role].where == SL_IN_EXPERT ? c->experts : 1;
            for (uint32_t e = 0; e < copies && sl_layer_has(c, layer, (enum sl_role)role); e++)
                walk_tensor(w, &rules[role], layer, e);
        }
    }
}

static void check_model_counts(const char *text, size_t tensors, uint64_t main, uint64_t mtp)
{
    struct walk w;
    struct sl_config c = as_is(text);
    walk_model(&w, &c);
    /* the copies that the MTP layer carries */
    add_name(&w.checkpoint, "model.layers.61.embed_tokens.weight");
    add_name(&w.checkpoint, "model.layers.61.shared_head.head.weight");
    assert_int_equal(w.checkpoint.n, tensors);
    assert_int_equal(distinct(&w.checkpoint), tensors);
    assert_int_equal(distinct(&w.container), w.container.n);
    assert_int_equal(w.double_named, 62);
    if (w.main != main || w.mtp != mtp)
        fail_msg("%llu and %llu parameters, %llu and %llu wanted", (unsigned long long)w.main,
                 (unsigned long long)w.mtp, (unsigned long long)main, (unsigned long long)mtp);
    free(w.checkpoint.name);
    free(w.container.name);
}

static void counts_the_published_checkpoints(void **state)
{
    (void)state;
    check_model_counts(v3, 91991, 671026419200, 11610068224);
    check_model_counts(v32, 92425, 671877944064, 11624027648);
}

static void names_tensors_as_published(void **state)
{
    static const struct {
        enum sl_role role;
        const char *name;
        uint32_t rows, cols;
    } cases[] = {
        {SL_EMBED, "model.embed_tokens.weight", 129280, 7168},
        {SL_HEAD, "lm_head.weight", 129280, 7168},
        {SL_FINAL_NORM, "model.norm.weight", 1, 7168},
        {SL_ATTN_NORM, "model.layers.61.input_layernorm.weight", 1, 7168},
        {SL_Q_A, "model.layers.61.self_attn.q_a_proj.weight", 1536, 7168},
        {SL_Q_A_NORM, "model.layers.61.self_attn.q_a_layernorm.weight", 1, 1536},
        {SL_Q_B, "model.layers.61.self_attn.q_b_proj.weight", 24576, 1536},
        {SL_KV_A, "model.layers.61.self_attn.kv_a_proj_with_mqa.weight", 576, 7168},
        {SL_KV_A_NORM, "model.layers.61.self_attn.kv_a_layernorm.weight", 1, 512},
        {SL_K_UP, "model.layers.61.self_attn.kv_b_proj.weight", 32768, 512},
        {SL_V_UP, "model.layers.61.self_attn.kv_b_proj.weight", 32768, 512},
        {SL_O, "model.layers.61.self_attn.o_proj.weight", 7168, 16384},
        {SL_INDEX_Q, "model.layers.61.self_attn.indexer.wq_b.weight", 8192, 1536},
        {SL_INDEX_K, "model.layers.61.self_attn.indexer.wk.weight", 128, 7168},
        {SL_INDEX_K_NORM, "model.layers.61.self_attn.indexer.k_norm.weight", 1, 128},
        {SL_INDEX_K_BIAS, "model.layers.61.self_attn.indexer.k_norm.bias", 1, 128},
        {SL_INDEX_WEIGHT, "model.layers.61.self_attn.indexer.weights_proj.weight", 64, 7168},
        {SL_FFN_NORM, "model.layers.61.post_attention_layernorm.weight", 1, 7168},
        {SL_DENSE_GATE_UP, "model.layers.61.mlp.gate_proj.weight", 18432, 7168},
        {SL_DENSE_DOWN, "model.layers.61.mlp.down_proj.weight", 7168, 18432},
        {SL_ROUTER, "model.layers.61.mlp.gate.weight", 256, 7168},
        {SL_ROUTER_BIAS, "model.layers.61.mlp.gate.e_score_correction_bias", 1, 256},
        {SL_SHARED_GATE_UP, "model.layers.61.mlp.shared_experts.gate_proj.weight", 2048, 7168},
        {SL_SHARED_DOWN, "model.layers.61.mlp.shared_experts.down_proj.weight", 7168, 2048},
        {SL_EXPERT_GATE_UP, "model.layers.61.mlp.experts.255.gate_proj.weight", 2048, 7168},
        {SL_EXPERT_DOWN, "model.layers.61.mlp.experts.255.down_proj.weight", 7168, 2048},
        {SL_MTP_EMBED_NORM, "model.layers.61.enorm.weight", 1, 7168},
        {SL_MTP_HIDDEN_NORM, "model.layers.61.hnorm.weight", 1, 7168},
        {SL_MTP_PROJ, "model.layers.61.eh_proj.weight", 7168, 14336},
        {SL_MTP_FINAL_NORM, "model.layers.61.shared_head.norm.weight", 1, 7168},
    };
    (void)state;
    struct sl_config c = as_is(v32);
    assert_int_equal(sizeof cases / sizeof *cases, SL_N_ROLES);
    for (int i = 0; i < SL_N_ROLES; i++) {
        const struct sl_tensor_rule *r = &sl_tensor_rules()[i];
        char name[128];
        assert_int_equal(r->role, i);
        assert_int_equal(cases[i].role, i);
        sl_tensor_name(name, r, r->checkpoint, 61, 255);
        assert_string_equal(name, cases[i].name);
        struct sl_shape s = sl_checkpoint_shape_of(&c, r->role);
        assert_int_equal(s.rows, cases[i].rows);
        assert_int_equal(s.cols, cases[i].cols);
        assert_int_equal(s.count, 1);
        assert_true(r->class != SL_CLASS_VECTOR || s.rows == 1);
    }
}

static void expect_shape(const struct sl_config *c, enum sl_role role, uint32_t rows, uint32_t cols,
                         uint32_t count)
{
    struct sl_shape s = sl_tensor_shape_of(c, role);
    assert_int_equal(s.rows, rows);
    assert_int_equal(s.cols, cols);
    assert_int_equal(s.count, count);
}

static void shapes_the_container(void **state)
{
    (void)state;
    struct sl_config c = good(v32, (struct edit){"n_shared_experts", "2"},
                              (struct edit){"moe_intermediate_size", "100"},
                              (struct edit){"intermediate_size", "17"});
    expect_shape(&c, SL_DENSE_GATE_UP, 64, 7168, 1); /* both halves padded to whole panels */
    expect_shape(&c, SL_DENSE_DOWN, 7168, 17, 1);
    expect_shape(&c, SL_SHARED_GATE_UP, 416, 7168, 1);
    expect_shape(&c, SL_SHARED_DOWN, 7168, 200, 1);
    expect_shape(&c, SL_EXPERT_GATE_UP, 224, 7168, 1);
    expect_shape(&c, SL_EXPERT_DOWN, 7168, 100, 1);
    expect_shape(&c, SL_K_UP, 512, 128, 128);
    expect_shape(&c, SL_V_UP, 128, 512, 128);
    expect_shape(&c, SL_O, 7168, 16384, 1);
    for (int role = 0; role < SL_N_ROLES; role++) { /* nothing is stored of what is not there */
        bool dense = role == SL_DENSE_GATE_UP || role == SL_DENSE_DOWN;
        bool mtp = role >= SL_MTP_EMBED_NORM;
        assert_int_equal(sl_layer_has(&c, 61, (enum sl_role)role), role > SL_FINAL_NORM && !dense);
        if (dense)
            assert_true(sl_layer_has(&c, 2, (enum sl_role)role));
        assert_false(mtp && sl_layer_has(&c, 60, (enum sl_role)role));
    }
    c = as_is(v3);
    assert_false(sl_layer_has(&c, 5, SL_INDEX_Q));
}

/* The largest dimensions there may be: no matrix gets more than 2^24 rows. */
static void shapes_stay_within_the_format(void **state)
{
    (void)state;
    struct sl_config c = good(v32, (struct edit){"hidden_size", "1048576"},
                              (struct edit){"num_attention_heads", "4096"},
                              (struct edit){"v_head_dim", "3968"});
    expect_shape(&c, SL_O, 1 << 20, 4096 * 3968, 1);
    expect_shape(&c, SL_MTP_PROJ, 1 << 20, 1 << 21, 1);
    assert_int_equal(sl_checkpoint_shape_of(&c, SL_K_UP).rows, 1 << 24);
    c = good(v32, (struct edit){"n_shared_experts", "8"},
             (struct edit){"moe_intermediate_size", "1048000"},
             (struct edit){"intermediate_size", "1048576"});
    expect_shape(&c, SL_SHARED_GATE_UP, 2 * 8 * 1048000, 7168, 1);
    expect_shape(&c, SL_DENSE_GATE_UP, 1 << 21, 7168, 1);
}

/* ---- products ------------------------------------------------------------------------------- */

/* COUNT elements, 64-byte aligned, filled with a pattern. */
static void *take(size_t count, size_t size)
{
    size_t bytes = (count * size + 127) / 64 * 64;
    void *p = aligned_alloc(64, bytes);
    assert_non_null(p);
    memset(p, 0x55, bytes);
    return p;
}

/* Random finite weights: row scales and S8 group scales, or floats. */
static void fill_matrix(uint8_t *data, const struct sl_packing *p)
{
    size_t bytes = sl_packing_bytes(p), panel = sl_panel_bytes(p);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)random_bits();
    for (size_t begin = 0; begin < bytes; begin += panel) {
        size_t floats = sl_is_integer(p->code) ? SL_ROW_SCALES : panel;
        for (size_t i = 0; i < floats && p->code != SL_CODE_BF16; i += 4) {
            float f = uniform();
            memcpy(data + begin + i, &f, 4);
        }
        for (size_t i = 0; i < floats && p->code == SL_CODE_BF16; i += 2) {
            uint16_t h = sl_to_bf16(uniform());
            memcpy(data + begin + i, &h, 2);
        }
    }
}

/* One product with its operands; the same inputs feed the direct calls. */
struct operands {
    struct sl_matrix w;
    float *x, *y, *wanted;
    struct sl_codes codes;
    uint32_t *row;
    struct sl_product product;
    size_t y_floats;
};

static void make_inputs(struct operands *o, const struct sl_ops *ops, size_t vectors, size_t ld)
{
    o->x = take(vectors * ld, 4);
    o->codes = (struct sl_codes){take(vectors * ld, 1), take(vectors * ld / 32, 4),
                                 take(vectors * ld / 32, 4), ld};
    for (size_t i = 0; i < vectors * ld; i++)
        o->x[i] = uniform();
    for (size_t t = 0; t < vectors; t++)
        sl_codes_put(&o->codes, ops, t, 0, o->x + t * ld, ld);
}

static void make_operands(struct operands *o, const struct sl_ops *ops, bool single)
{
    static const enum sl_code codes[] = {SL_CODE_LUT4, SL_CODE_INT8, SL_CODE_BF16, SL_CODE_F32};
    struct sl_packing p = {.code = codes[random_bits() % 4],
                           .rows = 1 + random_bits() % 70,
                           .cols = 1 + random_bits() % 150,
                           .count = random_bits() % 3 ? 1 : 1 + random_bits() % 5};
    if (sl_is_integer(p.code)) {
        p.scale = SL_SCALE_S8;
        p.group = 16u << random_bits() % 4;
    }
    for (int i = 0; i < SL_CODEBOOK; i++)
        p.codebook[i] = (int8_t)(15 * i - 112);
    size_t n = random_bits() % 4 ? random_bits() % 6 : 0, step = sl_padded_cols(p.cols);
    n = single ? 1 : n;
    bool shared_x = random_bits() % 2, rows = random_bits() % 2;
    size_t ld = shared_x ? step : step * p.count;
    *o = (struct operands){.w = {p, NULL}};
    uint8_t *data = take(sl_packing_bytes(&p), 1);
    fill_matrix(data, &p);
    o->w.data = data;
    make_inputs(o, ops, n + 3, ld);
    o->row = take(n + 1, 4);
    for (size_t t = 0; t < n; t++)
        o->row[t] = random_bits() % (uint32_t)(n + 3);
    size_t ldy = p.count * (p.rows + 2);
    o->y_floats = (n + 1) * ldy;
    o->y = take(o->y_floats, 4);
    o->wanted = take(o->y_floats, 4);
    o->product = (struct sl_product){.w = &o->w,
                                     .x = sl_acts_for(&o->w, &o->codes, o->x, ld),
                                     .n = n,
                                     .y = o->y,
                                     .ldy = ldy,
                                     .x_step = shared_x ? 0 : step,
                                     .y_step = p.rows + 2};
    o->product.x.row = rows ? o->row : NULL;
    for (size_t i = 0; i < p.count && n > 0; i++) {
        struct sl_matrix one = sl_matrix_at(&o->w, i);
        ops->gemm(&one, 0, sl_panel_count(&p), sl_acts_at(o->product.x, i * o->product.x_step), n,
                  o->wanted + i * (p.rows + 2), ldy);
    }
}

static void free_operands(struct operands *o)
{
    free((void *)(uintptr_t)o->w.data);
    free(o->x);
    free(o->y);
    free(o->wanted);
    free(o->codes.q);
    free(o->codes.scale);
    free(o->codes.sum);
    free(o->row);
}

/* Computes every second product that it is offered, and leaves a bad beginning of the others. */
struct fake {
    struct sl_multiplier face;
    size_t offered;
};

static bool every_second(struct sl_multiplier *m, const struct sl_team *team,
                         const struct sl_product *p)
{
    struct fake *fake = (struct fake *)m;
    bool takes = fake->offered++ % 2;
    (void)team;
    for (size_t i = 0; i < p->w->packing.count && p->n > 0; i++) {
        struct sl_matrix w = sl_matrix_at(p->w, i);
        if (takes)
            sl_rung_find(NULL)->ops->gemm(&w, 0, sl_panel_count(&w.packing),
                                          sl_acts_at(p->x, i * p->x_step), p->n,
                                          p->y + i * p->y_step, p->ldy);
        else
            p->y[i * p->y_step] = 12345;
    }
    return takes;
}

/* N products at once, with a SINGLE vector or any number each: the bits of one call each, nothing
 * else written; the same when another multiplier is asked first, about each of them once. */
static void check_products(size_t n, bool single)
{
    struct sl_compute c = {.ops = sl_rung_find(NULL)->ops};
    struct fake fake = {.face = {"every second", every_second}};
    struct operands *o = calloc(n + 1, sizeof *o);
    struct sl_product *products = calloc(n + 1, sizeof *products);
    assert_true(o && products);
    for (size_t i = 0; i < n; i++) {
        make_operands(&o[i], c.ops, single);
        products[i] = o[i].product;
    }
    for (unsigned round = 0; round < 6; round++) {
        unsigned threads = 1 + round % 3;
        c.team = sl_team_make(threads);
        c.multiplier = round < 3 ? NULL : &fake.face;
        for (size_t i = 0; i < n; i++)
            memset(o[i].y, 0x55, o[i].y_floats * 4);
        sl_multiply(&c, products, n);
        assert_int_equal(fake.offered, round < 3 ? 0 : (round - 2) * n);
        for (size_t i = 0; i < n; i++)
            if (memcmp(o[i].y, o[i].wanted, o[i].y_floats * 4) != 0)
                fail_msg("%u threads: product %zu of %zu differs", threads, i, n);
    }
    for (size_t i = 0; i < n; i++)
        free_operands(&o[i]);
    free(products);
    free(o);
}

static void multiplies_like_the_kernel(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++)
        for (size_t n = 0; n <= 5; n++)
            check_products(n, round % 2);
    check_products(64, false);
    check_products(300, false);
    check_products(300, true);
}

static void skips_products_without_vectors(void **state)
{
    struct sl_compute c = {.ops = sl_rung_find(NULL)->ops, .team = sl_team_make(2)};
    const uint8_t *no_data = take(4096, 1);
    const struct sl_matrix w = {{.code = SL_CODE_F32, .rows = 64, .cols = 4, .count = 3}, no_data};
    const struct sl_product products[3] = {{.w = &w}, {.w = &w}, {.w = &w}};
    (void)state;
    sl_multiply(&c, products, 3); /* nothing is read or written: no inputs, no outputs */
    sl_multiply(&c, NULL, 0);
    free((void *)(uintptr_t)no_data);
}

static void codes_keep_to_their_columns(void **state)
{
    const struct sl_ops *ops = sl_rung_find(NULL)->ops;
    struct sl_arena arena = {0};
    struct sl_codes codes;
    float x[40];
    int8_t q[64];
    float scale[2];
    int32_t sum[2];
    (void)state;
    for (int i = 0; i < 40; i++)
        x[i] = uniform();
    sl_codes_take(&codes, &arena, 3, 100);
    assert_int_equal(sl_arena_allocate(&arena, "codes", NULL), 0);
    sl_codes_take(&codes, &arena, 3, 100);
    assert_int_equal(codes.ld, 128);
    ops->quantize_acts(x, 40, q, scale, sum);
    sl_codes_put(&codes, ops, 1, 32, x, 40);
    assert_memory_equal(codes.q + 128 + 32, q, 64);
    assert_memory_equal(codes.scale + 4 + 1, scale, sizeof scale);
    assert_memory_equal(codes.sum + 4 + 1, sum, sizeof sum);
    for (size_t i = 0; i < 3 * 128; i++)
        assert_true((i >= 160 && i < 224) || codes.q[i] == 0);
    for (size_t i = 0; i < 12; i++)
        assert_true(i == 5 || i == 6 || (codes.scale[i] == 0 && codes.sum[i] == 0));
    const struct sl_matrix integer = {{.code = SL_CODE_LUT4}, NULL};
    const struct sl_matrix real = {{.code = SL_CODE_BF16}, NULL};
    struct sl_acts acts = sl_acts_for(&integer, &codes, x, 40);
    assert_true(acts.q == codes.q && !acts.f && acts.ld == 128 && !acts.row);
    acts = sl_acts_for(&real, &codes, x, 40);
    assert_true(acts.f == x && !acts.q && acts.ld == 40 && !acts.row);
    sl_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_published_configs),
        cmocka_unit_test(reads_rope_parameters),
        cmocka_unit_test(fills_in_what_is_missing),
        cmocka_unit_test(reads_sampling_defaults),
        cmocka_unit_test(keeps_to_the_ranges),
        cmocka_unit_test(refuses_missing_keys_and_wrong_types),
        cmocka_unit_test(refuses_bad_relations_and_variants),
        cmocka_unit_test(refuses_rope_of_another_type),
        cmocka_unit_test(shows_no_control_characters),
        cmocka_unit_test(survives_hostile_json),
        cmocka_unit_test(interpolates_as_published),
        cmocka_unit_test(scales_as_the_keys_say),
        cmocka_unit_test(survives_collapsed_ramps),
        cmocka_unit_test(counts_the_published_checkpoints),
        cmocka_unit_test(names_tensors_as_published),
        cmocka_unit_test(shapes_the_container),
        cmocka_unit_test(shapes_stay_within_the_format),
        cmocka_unit_test(multiplies_like_the_kernel),
        cmocka_unit_test(skips_products_without_vectors),
        cmocka_unit_test(codes_keep_to_their_columns),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
