/* SPDX-License-Identifier: MIT */
/*
 * Synthetic containers: the same bytes whatever made them, good to `verify`, of every profile, with
 * numbers of order 1 through as many layers as the published models have.  Synthetic checkpoints:
 * the published layout, weights of the wanted size, and containers made of them the same again.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/quant.h"
#include "runtime/base/json.h"
#include "runtime/container/checkpoint.h"
#include "runtime/container/container.h"
#include "runtime/model/config.h"
#include "tests/model/harness.h"
#include "tests/unit/scratch.h"

/* A checkpoint in the published layout, not made by us. */
static const char *golden(const char *model)
{
    static char path[4000];
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/golden/%s/checkpoint", top ? top : ".", model);
    return path;
}

static const char *small_config(const char *model)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/config.json", golden(model));
    return path;
}

static const char *synthesize(const char *name, const struct sl_synth_opts *opts)
{
    struct sluice_err err = {0};
    struct sl_quantize_report report;
    check_status(sl_synthesize(at(name), opts, &report, &err), &err);
    assert_true(report.weights > 0 && report.container_bytes > 0 && report.files_written > 0);
    return at(name);
}

static void expect_same_file(const char *a, const char *b, const char *name)
{
    char command[9000];
    snprintf(command, sizeof command, "cmp '%s/%s' '%s/%s'", a, name, b, name);
    assert_int_equal(system(command), 0);
}

static void same_bytes_of(bool checkpoint, const char *const *names)
{
    char a[256], b[256];
    struct sl_synth_opts opts = {.like = small_config("tiny-v32"),
                                 .checkpoint = checkpoint,
                                 .dense_layers = 1,
                                 .moe_layers = 1,
                                 .threads = 1};
    snprintf(a, sizeof a, "%s", synthesize("one", &opts));
    opts.threads = 3;
    snprintf(b, sizeof b, "%s", synthesize("three", &opts));
    for (; *names; names++)
        expect_same_file(a, b, *names);
    remove_tree("one");
    remove_tree("three");
}

static void same_bytes(void **unused)
{
    static const char *const container[] = {"config.json",
                                            "sluice.json",
                                            "head.safetensors",
                                            "resident-00.safetensors",
                                            "experts-01.safetensors",
                                            NULL};
    static const char *const checkpoint[] = {"config.json",
                                             "generation_config.json",
                                             "model.safetensors.index.json",
                                             "model-00001-of-00003.safetensors",
                                             "model-00002-of-00003.safetensors",
                                             "model-00003-of-00003.safetensors",
                                             NULL};
    (void)unused;
    same_bytes_of(false, container);
    same_bytes_of(true, checkpoint);
}

/* Root mean square of the residual stream after LAYER. */
static double rms_after(const struct run *r, size_t layer, size_t n, size_t hidden)
{
    double sum = 0;
    for (size_t i = 0; i < n * hidden; i++) {
        double x = (double)r->hiddens[layer * n * hidden + i];
        sum += x * x;
    }
    return sqrt(sum / (double)(n * hidden));
}

static void check_run(const char *container, size_t layers, uint32_t experts, bool sparse)
{
    enum { N = 150 };
    int32_t tokens[N];
    struct run r = {.container = container, .chunk = 64};
    struct sl_config c;
    struct sluice_err err = {0};
    check_status(sl_config_read(&c, container, &err), &err);
    for (int i = 0; i < N; i++)
        tokens[i] = i * 37 % 251;
    run_tokens(&r, tokens, N);
    assert_int_equal(c.layers, layers);
    assert_int_equal(c.mtp_layers, 0);
    if (experts)
        assert_int_equal(c.experts, experts);
    assert_int_equal(r.sparse_queries > 0, sparse);
    for (size_t layer = 0; layer < layers; layer++) {
        double rms = rms_after(&r, layer, N, c.hidden);
        if (!(rms > 0.5 && rms < 2))
            fail_msg("%s: root mean square %g after layer %zu", container, rms, layer);
    }
    run_close(&r);
}

static void order_1_through_all_layers(void **unused)
{
    (void)unused;
    struct sl_synth_opts opts = {
        .like = small_config("tiny-v32"), .dense_layers = 3, .moe_layers = 58};
    check_run(synthesize("deep", &opts), 61, 0, true);
    remove_tree("deep");
}

static void every_profile(void **unused)
{
    const char *profile, *text;
    (void)unused;
    for (size_t i = 0; sl_profile_list(i, &profile, &text); i++) {
        struct sluice_err err = {0};
        struct sl_synth_opts opts = {.like = small_config(i % 2 ? "tiny-v3" : "tiny-v32"),
                                     .dense_layers = 1,
                                     .moe_layers = 2,
                                     .profile = profile};
        const char *dir = synthesize("profile", &opts);
        const struct sl_verify_events quiet = {0};
        assert_int_equal(sl_container_verify(dir, &quiet, &err), 0);
        check_run(dir, 3, 0, i % 2 == 0);
        remove_tree("profile");
    }
}

static void changed_numbers(void **unused)
{
    (void)unused;
    struct sl_synth_opts opts = {.like = small_config("tiny-v32"),
                                 .moe_layers = 1,
                                 .experts = 5, /* no longer a multiple of the groups */
                                 .vocab = 300};
    check_run(synthesize("changed", &opts), 1, 5, true);
}

/* ---- checkpoints ---------------------------------------------------------------------------- */

static struct sl_checkpoint *checkpoint_of(const char *dir)
{
    struct sl_checkpoint *c = NULL;
    struct sluice_err err = {0};
    check_status(sl_checkpoint_open(&c, dir, &err), &err);
    return c;
}

/* The tensor's bytes, malloc'ed. */
static uint8_t *tensor_bytes(const struct sl_checkpoint *c, const char *name,
                             const struct sl_tensor **t)
{
    const struct sl_safetensors *st;
    struct sluice_err err = {0};
    *t = sl_checkpoint_find(c, name, &st);
    if (!*t)
        fail_msg("no tensor %s", name);
    uint8_t *data = malloc((*t)->bytes);
    assert_non_null(data);
    check_status(sl_tensor_read(st, *t, data, (*t)->bytes, 0, &err), &err);
    return data;
}

/* E4M3 as its definition has it: 1 sign, 4 exponent and 3 mantissa bits, bias 7. */
static double e4m3(uint8_t code)
{
    int exponent = code >> 3 & 15, mantissa = code & 7;
    double size = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
    return code & 0x80 ? -size : size;
}

/* Deviation of the weights of tensor NAME; also that codes and scales are numbers. */
static double deviation_of(const struct sl_checkpoint *c, const char *name, bool ue8m0)
{
    char scales_name[160];
    const struct sl_tensor *t, *scales;
    snprintf(scales_name, sizeof scales_name, "%s_scale_inv", name);
    uint8_t *code = tensor_bytes(c, name, &t);
    float *scale = (float *)(void *)tensor_bytes(c, scales_name, &scales);
    size_t rows = t->dims[0], cols = t->dims[1], scale_cols = (cols + 127) / 128;
    double sum = 0;
    assert_int_equal(t->dtype, SL_F8_E4M3);
    assert_int_equal(scales->dtype, SL_F32);
    assert_int_equal(scales->dims[0], (rows + 127) / 128);
    assert_int_equal(scales->dims[1], scale_cols);
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < cols; k++) {
            double s = (double)scale[r / 128 * scale_cols + k / 128];
            int unused;
            assert_true((code[r * cols + k] & 0x7f) != 0x7f);
            assert_true(s > 0 && (!ue8m0 || frexp(s, &unused) == 0.5));
            double w = s * e4m3(code[r * cols + k]);
            sum += w * w;
        }
    free(code);
    free(scale);
    return sqrt(sum / (double)(rows * cols));
}

/* The index names every tensor and its file, and the bytes of all. */
static void check_index(const char *dir, const struct sl_checkpoint *c)
{
    char path[4200];
    json_t *index = NULL;
    struct sluice_err err = {0};
    json_int_t bytes = 0;
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    check_status(sl_json_read(path, 1 << 24, &index, &err), &err);
    const json_t *map = json_object_get(index, "weight_map");
    assert_int_equal(json_object_size(map), c->n_tensors);
    for (size_t i = 0; i < c->n_tensors; i++) {
        const struct sl_checkpoint_entry *e = &c->entries[i];
        const char *file = strrchr(c->shards[e->shard]->path, '/') + 1;
        assert_string_equal(json_string_value(json_object_get(map, e->tensor->name)), file);
        assert_int_equal(e->tensor->offset % sl_dtype_bytes(e->tensor->dtype), 0);
        bytes += (json_int_t)e->tensor->bytes;
    }
    const json_t *total = json_object_get(json_object_get(index, "metadata"), "total_size");
    assert_int_equal(json_integer_value(total), bytes);
    json_decref(index);
}

/* C has the tensors of REAL, of the same types and shapes, and no others; the MTP layer, behind the
 * other LAYERS, is left out. */
static void expect_layout_of(const struct sl_checkpoint *real, const struct sl_checkpoint *c,
                             unsigned layers)
{
    size_t same = 0;
    for (size_t i = 0; i < real->n_tensors; i++) {
        const struct sl_tensor *want = real->entries[i].tensor;
        const struct sl_safetensors *st;
        unsigned layer = 0;
        if (sscanf(want->name, "model.layers.%u.", &layer) == 1 && layer >= layers)
            continue;
        const struct sl_tensor *t = sl_checkpoint_find(c, want->name, &st);
        if (!t || t->dtype != want->dtype || t->bytes != want->bytes)
            fail_msg("%s: missing, or of another type or size", want->name);
        assert_memory_equal(t->dims, want->dims, sizeof want->dims);
        same++;
    }
    assert_int_equal(same, c->n_tensors);
}

/* Codes, scales and the deviation of the FP8 weights.  Scales of V3 are 3/4 to 5/4 of the mean, and
 * a small matrix may have but one. */
static void check_weights(const struct sl_checkpoint *c, const struct sl_config *config, bool ue8m0)
{
    size_t checked = 0;
    double sum = 0;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const struct sl_tensor *t = c->entries[i].tensor;
        if (t->dtype != SL_F8_E4M3)
            continue;
        bool writes = strstr(t->name, "o_proj") || strstr(t->name, "down_proj");
        double want = 1 / sqrt((double)t->dims[1] * (writes ? 2 * 61 : 1));
        double ratio = deviation_of(c, t->name, ue8m0) / want;
        if (!(ratio > (ue8m0 ? 0.97 : 0.73) && ratio < (ue8m0 ? 1.03 : 1.27)))
            fail_msg("%s: deviation %g times the wanted", t->name, ratio);
        sum += ratio * ratio;
        checked++;
    }
    assert_true(checked >= 3 * (size_t)config->experts);
    if (!(fabs(sum / (double)checked - 1) < 0.05))
        fail_msg("mean square %g times the wanted", sum / (double)checked);
}

/* As published, with the model's own numbers of layers. */
static void published_layout(void **unused)
{
    (void)unused;
    for (int v32 = 0; v32 < 2; v32++) {
        const char *model = v32 ? "tiny-v32" : "tiny-v3";
        struct sl_config config;
        struct sluice_err err = {0};
        struct sl_checkpoint *real = checkpoint_of(golden(model));
        check_status(sl_config_read(&config, golden(model), &err), &err);
        struct sl_synth_opts opts = {.like = small_config(model),
                                     .checkpoint = true,
                                     .dense_layers = config.dense_layers,
                                     .moe_layers = config.layers - config.dense_layers};
        const char *dir = synthesize("layout", &opts);
        struct sl_checkpoint *c = checkpoint_of(dir);
        assert_true(c->n_shards >= 2);
        check_index(dir, c);
        expect_layout_of(real, c, config.layers);
        check_weights(c, &config, v32);
        sl_checkpoint_close(&real);
        sl_checkpoint_close(&c);
        remove_tree("layout");
    }
}

/* Activations of order 1 through all layers of what is made of one; BF16 holds V3.2's weights. */
static void checkpoints_convert(void **unused)
{
    (void)unused;
    for (int v32 = 0; v32 < 2; v32++) {
        struct sluice_err err = {0};
        struct sl_synth_opts opts = {.like = small_config(v32 ? "tiny-v32" : "tiny-v3"),
                                     .checkpoint = true,
                                     .dense_layers = 3,
                                     .moe_layers = 58};
        char source[256];
        snprintf(source, sizeof source, "%s", synthesize("source", &opts));
        for (int reference = 0; reference < 2; reference++) {
            const struct sl_quantize_opts profile = {.profile = reference ? "reference"
                                                                          : "quality"};
            check_status(sl_quantize(source, at("made"), &profile, NULL, &err), &err);
            check_run(at("made"), 61, 0, v32);
            remove_tree("made");
        }
        remove_tree("source");
    }
}

static void refusals(void **unused)
{
    (void)unused;
    struct sluice_err err = {0};
    struct sl_quantize_report report;
    struct sl_synth_opts opts = {.like = "/nonexistent/config.json", .moe_layers = 1};
    assert_true(sl_synthesize(at("none"), &opts, &report, &err) < 0);
    opts.like = small_config("tiny-v32");
    opts.moe_layers = 0; /* no layers at all */
    assert_int_equal(sl_synthesize(at("none"), &opts, &report, &err), SLUICE_EFORMAT);
    expect_text(err.msg, "num_hidden_layers");
    opts.moe_layers = 1;
    opts.experts = 2; /* fewer than a token uses */
    assert_int_equal(sl_synthesize(at("none"), &opts, &report, &err), SLUICE_EFORMAT);
    opts.experts = 0; /* another model than what lies there */
    assert_true(sl_synthesize(at("changed"), &opts, &report, &err) < 0);
    expect_text(err.msg, "another source");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes),
        cmocka_unit_test(order_1_through_all_layers),
        cmocka_unit_test(every_profile),
        cmocka_unit_test(changed_numbers),
        cmocka_unit_test(refusals),
        cmocka_unit_test(published_layout),
        cmocka_unit_test(checkpoints_convert),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
