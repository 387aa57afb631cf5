/* SPDX-License-Identifier: MIT */
/*
 * Synthetic containers: true shapes and reproducible noise, made at the speed of the drive, for
 * measuring a machine before the checkpoint is downloaded.  They say nothing sensible.
 *
 * A weight's standard deviation is 1/√inputs, so that normed activations of order 1 give outputs of
 * order 1; matrices that write to the residual stream are √(2 · 61) smaller, so that the stream
 * stays of order 1 through the 61 layers of the published models.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/base/json.h"

enum {
    MAX_CONFIG = 1 << 20,
    BATCH = 16 << 20,   /* bytes of panels made at a time */
    FULL_LAYERS = 61,   /* of the published models */
    LOW_SCALE = 96,     /* s8 scales are LOW_SCALE … LOW_SCALE + 31 */
    MIDDLE_SCALE = 112, /* near enough their root mean square */
};

/* ---- noise ---------------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea, Flood). */
static uint64_t next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static uint64_t seed_of(enum sl_role role, uint32_t layer, uint32_t expert, uint64_t piece)
{
    uint64_t state = (uint64_t)role << 56 | (uint64_t)layer << 40 | expert;
    state = next(&state) + piece;
    return next(&state);
}

/* Uniform in (−1, 1). */
static float uniform(uint64_t *state)
{
    return (float)((int64_t)next(state) >> 39) * 0x1p-24f;
}

/* N bytes, a multiple of 8. */
static void noise_bytes(uint64_t *state, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t bits = next(state);
        memcpy(out + i, &bits, 8);
    }
}

/* ---- matrices ------------------------------------------------------------------------------- */

struct panels {
    const struct sl_packing *packing;
    enum sl_role role;
    uint32_t layer, expert;
    size_t first; /* panel at OUT */
    size_t panel_bytes;
    float deviation; /* of a weight */
    float code_rms;
    uint8_t *out;
};

static float deviation_of(const struct sl_packing *p, enum sl_role role)
{
    bool writes = role == SL_O || role == SL_DENSE_DOWN || role == SL_SHARED_DOWN ||
                  role == SL_EXPERT_DOWN;
    double inputs = role == SL_K_UP ? p->rows : p->cols; /* k_up works transposed */
    return (float)(1 / sqrt(inputs * (writes ? 2.0 * FULL_LAYERS : 1)));
}

/* Root mean square of the value of a random code. */
static float rms_of_codes(const struct sl_packing *p)
{
    double sum = 0;
    if (p->code == SL_CODE_INT8)
        return 127 / sqrtf(3);
    for (int i = 0; i < SL_CODEBOOK; i++)
        sum += (double)p->codebook[i] * p->codebook[i] / SL_CODEBOOK;
    return (float)sqrt(sum);
}

/* The scales of one superblock, SCALE on average, of either sign: a random code of a lopsided
 * codebook has a mean, and common means would grow from layer to layer. */
static void put_scales(const struct panels *m, uint64_t *state, float scale, uint8_t *out)
{
    for (size_t i = 0; i < SL_SUPER * SL_PANEL; i++) {
        uint64_t bits = next(state);
        bool minus = bits & 1;
        int8_t code = (int8_t)(LOW_SCALE + (bits >> 1) % 32);
        float value = scale * (0.75f + (float)(bits >> 40) * 0x1p-25f) * (minus ? -1.0f : 1.0f);
        uint16_t half = m->packing->scale == SL_SCALE_F16 ? sl_to_f16(value) : sl_to_bf16(value);
        if (m->packing->scale == SL_SCALE_S8)
            out[i] = (uint8_t)(minus ? -code : code);
        else
            memcpy(out + 2 * i, &half, 2);
    }
}

static void integer_panel(const struct panels *m, uint64_t *state, uint8_t *out)
{
    const struct sl_packing *p = m->packing;
    float scale = m->deviation / m->code_rms, row_scale[SL_PANEL];
    size_t cols = sl_padded_cols(p->cols), super = (size_t)p->group * SL_SUPER;
    for (size_t r = 0; r < SL_PANEL; r++)
        row_scale[r] = p->scale == SL_SCALE_S8 ? scale / MIDDLE_SCALE : 1;
    memcpy(out, row_scale, sizeof row_scale);
    out += SL_ROW_SCALES;
    for (size_t k = 0; k < cols; k += super) {
        size_t codes = sl_code_bytes(p->code, sl_min(super, cols - k));
        put_scales(m, state, scale, out);
        out += sl_super_scale_bytes(p->scale);
        noise_bytes(state, out, codes);
        for (size_t i = 0; p->code == SL_CODE_INT8 && i < codes; i++)
            out[i] = out[i] == 0x80 ? 0x81 : out[i]; /* −128 is no code */
        out += codes;
    }
}

static void float_panel(const struct panels *m, uint64_t *state, uint8_t *out)
{
    float size = m->deviation * sqrtf(3);
    for (size_t i = 0; i < sl_padded_cols(m->packing->cols) * SL_PANEL; i++) {
        float value = uniform(state) * size;
        uint16_t half = sl_to_bf16(value);
        if (m->packing->code == SL_CODE_F32)
            memcpy(out + 4 * i, &value, 4);
        else
            memcpy(out + 2 * i, &half, 2);
    }
}

static void make_panels(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct panels *m = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        uint64_t state = seed_of(m->role, m->layer, m->expert, m->first + i);
        uint8_t *out = m->out + i * m->panel_bytes;
        if (sl_is_integer(m->packing->code))
            integer_panel(m, &state, out);
        else
            float_panel(m, &state, out);
    }
}

static int synth_matrix(struct sl_conversion *c, enum sl_role role, uint32_t layer, uint32_t expert,
                        const struct sl_packing *packing, struct sl_writer *writer, uint8_t *out,
                        struct sl_error *error, struct sluice_err *err)
{
    struct panels m = {
        .packing = packing,
        .role = role,
        .layer = layer,
        .expert = expert,
        .panel_bytes = sl_panel_bytes(packing),
        .deviation = deviation_of(packing, role),
        .code_rms = sl_is_integer(packing->code) ? rms_of_codes(packing) : 1,
    };
    size_t total = sl_panel_count(packing) * packing->count;
    size_t batch = sl_max(1, BATCH / m.panel_bytes);
    *error = (struct sl_error){0};
    int status = out ? 0 : sl_buffer_reserve(&c->packed, batch * m.panel_bytes, err);
    for (; status == 0 && m.first < total; m.first += batch) {
        size_t n = sl_min(batch, total - m.first);
        m.out = out ? out + m.first * m.panel_bytes : c->packed.data;
        sl_team_run(&c->team, n, 1, make_panels, &m);
        if (!out)
            status = sl_writer_append(writer, m.out, n * m.panel_bytes, err);
        if (status == 0)
            status = sl_conversion_progress(c, n * m.panel_bytes, err);
    }
    return status;
}

static int fits_bf16(const struct sl_conversion *c, enum sl_role role, uint32_t layer,
                     uint32_t expert, bool *exact, struct sluice_err *err)
{
    (void)c, (void)role, (void)layer, (void)expert, (void)err;
    *exact = true;
    return 0;
}

/* ---- embedding and vectors ------------------------------------------------------------------ */

/* One row of deviation 1, INT8 or BF16; OUT has room for a multiple of 8 elements. */
static void embedding_row(enum sl_dtype dtype, size_t row, size_t n, uint8_t *out)
{
    uint64_t state = seed_of(SL_EMBED, 0, 0, row);
    if (dtype == SL_I8)
        noise_bytes(&state, out, sl_round_up(n, 8));
    for (size_t i = 0; i < n; i++) {
        if (dtype == SL_I8) {
            out[i] = out[i] == 0x80 ? 0x81 : out[i];
            continue;
        }
        uint16_t half = sl_to_bf16(uniform(&state) * sqrtf(3));
        memcpy(out + 2 * i, &half, 2);
    }
}

static int synth_embedding(struct sl_conversion *c, enum sl_dtype dtype, struct sl_writer *writer,
                           float *scales, struct sl_error *error, struct sluice_err *err)
{
    size_t hidden = c->config.hidden, bytes = hidden * sl_dtype_bytes(dtype);
    *error = (struct sl_error){0};
    int status = sl_buffer_reserve(&c->packed, bytes + 16, err);
    for (size_t row = 0; status == 0 && row < c->config.vocab; row++) {
        embedding_row(dtype, row, hidden, c->packed.data);
        scales[row] = sqrtf(3) / 127;
        status = sl_writer_append(writer, c->packed.data, bytes, err);
        if (status == 0)
            status = sl_conversion_progress(c, bytes, err);
    }
    return status;
}

/* Norms are 1, biases 0. */
static int synth_vector(struct sl_conversion *c, enum sl_role role, uint32_t layer,
                        struct sl_writer *writer, struct sluice_err *err)
{
    size_t n = sl_tensor_shape_of(&c->config, role).cols, bytes = n * sizeof(float);
    bool bias = role == SL_INDEX_K_BIAS || role == SL_ROUTER_BIAS;
    (void)layer;
    int status = sl_buffer_reserve(&c->packed, bytes, err);
    if (status < 0)
        return status;
    float *value = (float *)(void *)c->packed.data;
    for (size_t i = 0; i < n; i++)
        value[i] = bias ? 0 : 1;
    status = sl_writer_append(writer, value, bytes, err);
    return status < 0 ? status : sl_conversion_progress(c, bytes, err);
}

/* ---- configuration -------------------------------------------------------------------------- */

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

/* So many layers, and no MTP layer. */
static int set_layers(json_t *root, uint32_t dense, uint32_t moe, struct sluice_err *err)
{
    int status = set(root, "first_k_dense_replace", dense, err);
    if (status == 0)
        status = set(root, "num_hidden_layers", dense + moe, err);
    return status < 0 ? status : set(root, "num_nextn_predict_layers", 0, err);
}

/* The model to imitate with the wanted numbers; *text is malloc'ed. */
static int make_config(struct sl_config *config, char **text, const struct sl_synth_opts *o,
                       struct sluice_err *err)
{
    json_t *root = NULL;
    const char *like = o->like ? o->like : "v3.2";
    int status = read_like(like, &root, err);
    if (status < 0)
        return status;
    if (!o->all_layers)
        status = set_layers(root, o->dense_layers, o->moe_layers, err);
    if (status == 0 && o->experts)
        status = set_experts(root, o->experts, err);
    if (status == 0 && o->vocab)
        status = set(root, "vocab_size", o->vocab, err);
    json_object_del(root, "quantization_config");
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
    int status = make_config(config, &text, opts, err);
    free(text);
    return status;
}

/* ---- the container -------------------------------------------------------------------------- */

/* Sizes, for progress and report. */
static int measure(struct sl_conversion *c, struct sluice_err *err)
{
    for (size_t i = 0; i < c->plan.n_files; i++) {
        struct sl_plan_file *f = &c->plan.files[i];
        int status = sl_measure_file(c, f, &f->source_bytes, err);
        if (status < 0)
            return status;
        c->plan.source_bytes += f->source_bytes;
        for (enum sl_role role = 0; role < SL_N_ROLES; role++) {
            struct sl_shape s = sl_tensor_shape_of(&c->config, role);
            if (sl_plan_has(&c->config, f, role) &&
                sl_tensor_rules()[role].class != SL_CLASS_VECTOR)
                c->plan.weights += (uint64_t)s.rows * s.cols * s.count *
                                   (f->kind == SL_FILE_EXPERTS ? c->config.experts : 1);
        }
    }
    return 0;
}

int sl_synthesize(const char *dest, const struct sl_synth_opts *opts,
                  struct sl_quantize_report *report, struct sluice_err *err)
{
    static const struct sl_maker noise = {synth_matrix, fits_bf16, synth_embedding, synth_vector};
    double start = sl_now();
    char *text = NULL;
    const struct sl_quantize_opts common = {
        .threads = opts->threads, .user = opts->user, .progress = opts->progress};
    struct sl_conversion c = {.make = &noise, .opts = &common, .dest = dest};
    *report = (struct sl_quantize_report){0};
    int status = sl_conversion_open(&c, opts->profile, err);
    if (status == 0)
        status = make_config(&c.config, &text, opts, err);
    if (status == 0) {
        c.config_text = text;
        sl_digest_print(c.source, sl_hash(text, strlen(text)));
        status = sl_plan_list(&c.plan, &c.config, err);
    }
    if (status == 0)
        status = measure(&c, err);
    if (status == 0)
        status = sl_conversion_run(&c, report, err);
    report->weights = c.plan.weights;
    report->seconds = sl_now() - start;
    sl_conversion_close(&c);
    free(text);
    return status;
}
