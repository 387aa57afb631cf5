/* SPDX-License-Identifier: MIT */
/*
 * Tensors of a checkpoint: found, checked against the configuration, read by rows, decoded.
 * Knows FP8 in blocks of 128 x 128, BF16, F16 and F32; nothing about packing.
 */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"

/* Keys of config.json that decide the shape, for messages. */
static const char *shape_keys(enum sl_role role)
{
    switch (role) {
    case SL_EMBED:
    case SL_HEAD:
        return "vocab_size, hidden_size";
    case SL_Q_A:
    case SL_Q_A_NORM:
        return "q_lora_rank, hidden_size";
    case SL_Q_B:
        return "num_attention_heads, qk_nope_head_dim, qk_rope_head_dim, q_lora_rank";
    case SL_KV_A:
    case SL_KV_A_NORM:
        return "kv_lora_rank, qk_rope_head_dim, hidden_size";
    case SL_K_UP:
    case SL_V_UP:
        return "num_attention_heads, qk_nope_head_dim, v_head_dim, kv_lora_rank";
    case SL_O:
        return "hidden_size, num_attention_heads, v_head_dim";
    case SL_INDEX_Q:
    case SL_INDEX_K:
    case SL_INDEX_K_NORM:
    case SL_INDEX_K_BIAS:
    case SL_INDEX_WEIGHT:
        return "index_n_heads, index_head_dim, q_lora_rank, hidden_size";
    case SL_DENSE_GATE_UP:
    case SL_DENSE_DOWN:
        return "intermediate_size, hidden_size";
    case SL_ROUTER:
    case SL_ROUTER_BIAS:
        return "n_routed_experts, hidden_size";
    case SL_SHARED_GATE_UP:
    case SL_SHARED_DOWN:
        return "n_shared_experts, moe_intermediate_size, hidden_size";
    case SL_EXPERT_GATE_UP:
    case SL_EXPERT_DOWN:
        return "moe_intermediate_size, hidden_size";
    default:
        return "hidden_size";
    }
}

unsigned sl_input_names(enum sl_role role, uint32_t layer, uint32_t expert, char names[2][128])
{
    const struct sl_tensor_rule *rule = &sl_tensor_rules()[role];
    sl_tensor_name(names[0], rule, rule->checkpoint, layer, expert);
    if (!rule->second)
        return 1;
    sl_tensor_name(names[1], rule, rule->second, layer, expert);
    return 2;
}

static bool has_shape(const struct sl_tensor *t, bool vector, size_t rows, size_t cols)
{
    if (vector)
        return t->n_dims == 1 && t->dims[0] == cols;
    return t->n_dims == 2 && t->dims[0] == rows && t->dims[1] == cols;
}

static int check_shape(const struct sl_input *s, enum sl_role role, struct sluice_err *err)
{
    bool vector = sl_tensor_rules()[role].class == SL_CLASS_VECTOR;
    char found[128], wanted[64];
    if (has_shape(s->tensor, vector, s->rows, s->cols))
        return 0;
    if (vector)
        snprintf(wanted, sizeof wanted, "[%zu]", s->cols);
    else
        snprintf(wanted, sizeof wanted, "[%zu, %zu]", s->rows, s->cols);
    return sl_fail(err, SLUICE_EFORMAT, "%s: %s is %s, but config.json (%s) demands %s",
                   s->st->path, s->name, sl_tensor_shape(s->tensor, found), shape_keys(role),
                   wanted);
}

static int check_dtype(const struct sl_input *s, enum sl_role role, struct sluice_err *err)
{
    enum sl_dtype dtype = s->tensor->dtype;
    bool vector = sl_tensor_rules()[role].class == SL_CLASS_VECTOR;
    if (dtype == SL_BF16 || dtype == SL_F32 || dtype == SL_F16 || (dtype == SL_F8_E4M3 && !vector))
        return 0;
    return sl_fail(err, SLUICE_EUNSUPPORTED,
                   "%s: %s is %s; this build converts %sBF16, F16 and F32", s->st->path, s->name,
                   sl_dtype_name(dtype), vector ? "" : "F8_E4M3, ");
}

/* Finds the scale tensor of an FP8 weight, in whatever shard it is. */
static int find_scale(const struct sl_input *s, const struct sl_checkpoint *c,
                      const struct sl_safetensors **st, const struct sl_tensor **t,
                      struct sluice_err *err)
{
    char name[160], found[128];
    size_t rows = sl_ceil_div(s->rows, SL_FP8_BLOCK), cols = sl_ceil_div(s->cols, SL_FP8_BLOCK);
    snprintf(name, sizeof name, "%s%s", s->name, SL_SCALE_SUFFIX);
    *t = sl_checkpoint_find(c, name, st);
    if (!*t)
        return sl_fail(err, SLUICE_EFORMAT, "%s: %s is F8_E4M3 but there is no %s", s->st->path,
                       s->name, name);
    if (!has_shape(*t, false, rows, cols))
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: %s is %s, [%zu, %zu] wanted: one scale per 128 x 128 weights",
                       (*st)->path, name, sl_tensor_shape(*t, found), rows, cols);
    if ((*t)->dtype != SL_F32 && (*t)->dtype != SL_BF16 && (*t)->dtype != SL_F8_E8M0)
        return sl_fail(err, SLUICE_EUNSUPPORTED,
                       "%s: %s is %s; this build reads scales in F32, BF16 and F8_E8M0",
                       (*st)->path, name, sl_dtype_name((*t)->dtype));
    return 0;
}

int sl_input_find(struct sl_input *s, const struct sl_checkpoint *c, const struct sl_config *config,
                  enum sl_role role, unsigned which, uint32_t layer, uint32_t expert,
                  struct sluice_err *err)
{
    struct sl_shape shape = sl_checkpoint_shape_of(config, role);
    char names[2][128];
    const struct sl_safetensors *scale_st;
    const struct sl_tensor *scale;
    int status;
    *s = (struct sl_input){.rows = shape.rows, .cols = shape.cols};
    sl_input_names(role, layer, expert, names);
    memcpy(s->name, names[which], sizeof s->name);
    s->tensor = sl_checkpoint_find(c, s->name, &s->st);
    if (!s->tensor)
        return sl_fail(err, SLUICE_EFORMAT, "%s: no tensor %s, which config.json demands", c->dir,
                       s->name);
    if ((status = check_dtype(s, role, err)) < 0 || (status = check_shape(s, role, err)) < 0)
        return status;
    s->row_bytes = s->cols * sl_dtype_bytes(s->tensor->dtype);
    return s->tensor->dtype == SL_F8_E4M3 ? find_scale(s, c, &scale_st, &scale, err) : 0;
}

/* RAW[i] as float; an E8M0 code e is 2^(e − 127), 255 is NaN. */
static float scale_value(enum sl_dtype dtype, const uint8_t *raw, size_t i)
{
    float f;
    uint16_t h;
    switch (dtype) {
    case SL_F32:
        memcpy(&f, raw + 4 * i, sizeof f);
        return f;
    case SL_BF16:
        memcpy(&h, raw + 2 * i, sizeof h);
        return sl_from_bf16(h);
    default:
        return raw[i] == 255 ? NAN : ldexpf(1.0f, raw[i] - 127);
    }
}

static int load_scales(struct sl_input *s, const struct sl_safetensors *st,
                       const struct sl_tensor *t, struct sluice_err *err)
{
    size_t n = (size_t)(t->dims[0] * t->dims[1]);
    uint8_t *raw = malloc(t->bytes);
    int status = 0;
    s->scale_cols = (size_t)t->dims[1];
    s->scale = malloc(n * sizeof *s->scale);
    if (!raw || !s->scale)
        status = sl_fail_nomem(err, t->name, n * sizeof *s->scale);
    else
        status = sl_tensor_read(st, t, raw, t->bytes, 0, err);
    for (size_t i = 0; status == 0 && i < n; i++) {
        s->scale[i] = scale_value(t->dtype, raw, i);
        if (!(s->scale[i] > 0 && s->scale[i] <= FLT_MAX))
            status = sl_fail(
                err, SLUICE_EFORMAT,
                "%s: %s: the scale at [%zu, %zu] is %g; scales are finite and positive", st->path,
                t->name, i / s->scale_cols, i % s->scale_cols, (double)s->scale[i]);
    }
    free(raw);
    return status;
}

int sl_input_open(struct sl_input *s, const struct sl_checkpoint *c, const struct sl_config *config,
                  enum sl_role role, unsigned which, uint32_t layer, uint32_t expert,
                  struct sluice_err *err)
{
    const struct sl_safetensors *st;
    const struct sl_tensor *t;
    int status = sl_input_find(s, c, config, role, which, layer, expert, err);
    if (status == 0 && s->tensor->dtype == SL_F8_E4M3) {
        status = find_scale(s, c, &st, &t, err);
        if (status == 0)
            status = load_scales(s, st, t, err);
    }
    return status;
}

void sl_input_close(struct sl_input *s)
{
    free(s->scale);
    s->scale = NULL;
}

int sl_input_read(const struct sl_input *s, size_t row, size_t n_rows, uint8_t *raw,
                  struct sluice_err *err)
{
    return sl_tensor_read(s->st, s->tensor, raw, n_rows * s->row_bytes, row * s->row_bytes, err);
}

static bool decode_fp8(const struct sl_input *s, const struct sl_ops *ops, const uint8_t *raw,
                       size_t row, size_t col, size_t n, float *out)
{
    const float *scale = s->scale + row / SL_FP8_BLOCK * s->scale_cols;
    bool ok = true;
    for (size_t c = col; c < col + n;) {
        size_t stop = sl_min((c / SL_FP8_BLOCK + 1) * SL_FP8_BLOCK, col + n);
        ok &= ops->fp8_decode(raw + c, stop - c, scale[c / SL_FP8_BLOCK], out + (c - col));
        c = stop;
    }
    return ok;
}

bool sl_input_decode(const struct sl_input *s, const struct sl_ops *ops, const uint8_t *raw,
                     size_t row, size_t col, size_t n, float *out)
{
    const uint16_t *half = (const uint16_t *)(const void *)raw + col;
    bool ok = true;
    switch (s->tensor->dtype) {
    case SL_F8_E4M3:
        ok = decode_fp8(s, ops, raw, row, col, n, out);
        break;
    case SL_BF16:
        ops->bf16_decode(half, n, out);
        break;
    case SL_F16:
        for (size_t i = 0; i < n; i++)
            out[i] = sl_from_f16(half[i]);
        break;
    default:
        memcpy(out, raw + col * sizeof *out, n * sizeof *out);
    }
    int bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= !(fabsf(out[i]) <= FLT_MAX);
    return ok && !bad;
}

int sl_input_explain(const struct sl_input *s, const struct sl_ops *ops, const uint8_t *raw,
                     size_t row, struct sluice_err *err)
{
    for (size_t col = 0; col < s->cols; col++) {
        float value;
        if (sl_input_decode(s, ops, raw, row, col, 1, &value))
            continue;
        if (s->tensor->dtype == SL_F8_E4M3 && (raw[col] & 0x7f) == 0x7f)
            return sl_fail(err, SLUICE_EFORMAT,
                           "%s: %s: row %zu, column %zu is the NaN code 0x%02x: damaged; fetch the "
                           "file again",
                           s->st->path, s->name, row, col, raw[col]);
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: %s: row %zu, column %zu is %g: damaged; fetch the file again",
                       s->st->path, s->name, row, col, (double)value);
    }
    return 0;
}

/* E4M3 has 4 significant bits; times 2^e it is in BF16's normal or exactly subnormal range for
 * −117 ≤ e ≤ 118. */
bool sl_input_fits_bf16(const struct sl_input *s)
{
    if (s->tensor->dtype != SL_F8_E4M3)
        return s->tensor->dtype == SL_BF16;
    size_t n = sl_ceil_div(s->rows, SL_FP8_BLOCK) * s->scale_cols;
    for (size_t i = 0; i < n; i++) {
        int exponent;
        if (frexpf(s->scale[i], &exponent) != 0.5f || exponent < -116 || exponent > 119)
            return false;
    }
    return true;
}
