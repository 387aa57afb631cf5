/* SPDX-License-Identifier: MIT */
/*
 * What is computed before loading equals what is there: the sizes of a container's files, of its
 * experts and matrices, and the memory of a session.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "quant/quant.h"
#include "runtime/container/container.h"
#include "runtime/sizing.h"
#include "tests/model/harness.h"
#include "tests/unit/scratch.h"

/* ---- files ---------------------------------------------------------------------------------- */

static bool has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* The bytes of the files as they lie on the drive. */
static struct sl_sizes lying_there(const char *dir, const struct sl_config *c)
{
    struct sl_sizes s = {0};
    struct sl_manifest *m = NULL;
    struct sluice_err err = {0};
    char mtp_experts[64], path[SL_PATH_MAX];
    sl_experts_file(mtp_experts, c->layers);
    check_status(sl_manifest_open(&m, dir, &err), &err);
    for (size_t i = 0; i < m->n_files; i++) {
        const char *name = m->files[i].name;
        struct stat info;
        check_status(sl_path_join(path, dir, name, &err), &err);
        assert_int_equal(stat(path, &info), 0);
        uint64_t bytes = (uint64_t)info.st_size;
        if (strcmp(name, SL_HEAD_FILE) == 0)
            s.head_file += bytes;
        else if (strcmp(name, mtp_experts) == 0)
            s.mtp_expert_file += bytes;
        else if (has_prefix(name, "experts-"))
            s.expert_files += bytes;
        else if (has_prefix(name, "resident-"))
            s.resident_files += bytes;
        else if (has_prefix(name, "mtp-"))
            s.mtp_resident_file += bytes;
    }
    sl_manifest_close(&m);
    return s;
}

/* A tensor's bytes in FILE of the container; 0: not there. */
static uint64_t tensor_bytes(const char *dir, const char *file, const char *tensor,
                             uint64_t dims[2])
{
    struct sl_safetensors *st = NULL;
    struct sluice_err err = {0};
    char path[SL_PATH_MAX];
    check_status(sl_path_join(path, dir, file, &err), &err);
    check_status(sl_safetensors_open(&st, path, &err), &err);
    const struct sl_tensor *t = sl_safetensors_find(st, tensor);
    uint64_t bytes = t ? t->bytes : 0;
    for (unsigned i = 0; t && i < 2 && i < t->n_dims; i++)
        dims[i] = t->dims[i];
    sl_safetensors_close(&st);
    return bytes;
}

static uint64_t bytes_of(const struct sl_matrices *m)
{
    return m->bytes[SL_WEIGHTS_LUT4] + m->bytes[SL_WEIGHTS_INT8] + m->bytes[SL_WEIGHTS_FLOAT];
}

/* Head, router and stride against the tensors in the files. */
static void check_tensors(const char *dir, const struct sl_config *c, const struct sl_sizes *s)
{
    uint64_t dims[2] = {0}, router = 0, keys = 0, stride = 0;
    assert_int_equal(bytes_of(&s->part[SL_M_HEAD]),
                     tensor_bytes(dir, SL_HEAD_FILE, "lm_head", dims));
    assert_int_equal(s->embedding,
                     tensor_bytes(dir, SL_HEAD_FILE, "model.embed_tokens", dims) +
                         tensor_bytes(dir, SL_HEAD_FILE, "model.embed_tokens_scale", dims));
    for (uint32_t i = 0; i < c->layers; i++) {
        char file[64], name[128];
        sl_resident_file(file, i);
        snprintf(name, sizeof name, "model.layers.%u.mlp.gate", i);
        router += tensor_bytes(dir, file, name, dims);
        snprintf(name, sizeof name, "model.layers.%u.self_attn.indexer.wk", i);
        keys += tensor_bytes(dir, file, name, dims);
        snprintf(name, sizeof name, "model.layers.%u.self_attn.indexer.weights_proj", i);
        keys += tensor_bytes(dir, file, name, dims);
        if (i < c->dense_layers)
            continue;
        sl_experts_file(file, i);
        assert_true(tensor_bytes(dir, file, "experts", dims) > 0);
        stride = dims[1] > stride ? dims[1] : stride;
    }
    assert_int_equal(bytes_of(&s->part[SL_M_ROUTER]), router);
    assert_int_equal(bytes_of(&s->part[SL_M_INDEX_KEYS]), keys);
    assert_int_equal(s->stride, stride);
}

static void check_container(const char *dir, const char *profile)
{
    struct sl_config c;
    struct sl_sizes s;
    struct sluice_err err = {0};
    check_status(sl_config_read(&c, dir, &err), &err);
    check_status(sl_sizes_measure(&s, &c, profile, dir, &err), &err);
    struct sl_sizes there = lying_there(dir, &c);
    assert_int_equal(s.head_file, there.head_file);
    assert_int_equal(s.resident_files, there.resident_files);
    assert_int_equal(s.expert_files, there.expert_files);
    assert_int_equal(s.mtp_resident_file, there.mtp_resident_file);
    assert_int_equal(s.mtp_expert_file, there.mtp_expert_file);
    check_tensors(dir, &c, &s);
}

static void converted_containers(void **unused)
{
    const char *profile, *text;
    (void)unused;
    for (size_t m = 0; m < sizeof model_names / sizeof *model_names; m++)
        for (size_t i = 0; sl_profile_list(i, &profile, &text); i++)
            check_container(converted(model_names[m], profile), profile);
}

static const char *config_of(const char *model)
{
    static char path[4096];
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/golden/%s/checkpoint/config.json", top ? top : ".",
             model);
    return path;
}

/* Without looking at a file, `reference` included: noise is BF16 throughout. */
static void synthetic_containers(void **unused)
{
    const char *profile, *text;
    (void)unused;
    for (size_t i = 0; sl_profile_list(i, &profile, &text); i++) {
        struct sl_quantize_report report;
        struct sluice_err err = {0};
        struct sl_config c;
        struct sl_sizes s;
        struct sl_synth_opts opts = {.like = config_of(i % 2 ? "tiny-v3" : "tiny-v32"),
                                     .dense_layers = 2,
                                     .moe_layers = 1,
                                     .experts = 5,
                                     .vocab = 100,
                                     .profile = profile};
        check_status(sl_synthesize(at("noise"), &opts, &report, &err), &err);
        check_status(sl_like_config(&c, &opts, &err), &err);
        check_status(sl_sizes_measure(&s, &c, profile, NULL, &err), &err);
        struct sl_sizes there = lying_there(at("noise"), &c);
        assert_int_equal(s.head_file, there.head_file);
        assert_int_equal(s.resident_files, there.resident_files);
        assert_int_equal(s.expert_files, there.expert_files);
        assert_int_equal(s.mtp_resident_file, 0);
        assert_int_equal(s.mtp_expert_file, 0);
        check_tensors(at("noise"), &c, &s);
        remove_tree("noise");
    }
}

/* Multiply-adds of the shapes of DeepSeek-V3.2, from its technical report's dimensions. */
static void known_counts(void **unused)
{
    const struct sl_synth_opts opts = {.like = "v3.2", .all_layers = true};
    struct sluice_err err = {0};
    struct sl_config c;
    struct sl_sizes s;
    (void)unused;
    check_status(sl_like_config(&c, &opts, &err), &err);
    assert_int_equal(c.layers, 61);
    assert_int_equal(c.mtp_layers, 1);
    check_status(sl_sizes_measure(&s, &c, "quality", NULL, &err), &err);
    assert_int_equal(s.part[SL_M_EXPERT].macs[SL_WEIGHTS_LUT4], 58ull * 3 * 2048 * 7168);
    assert_int_equal(s.part[SL_M_EXPERT].macs[SL_WEIGHTS_INT8], 0);
    assert_int_equal(s.part[SL_M_SHARED].macs[SL_WEIGHTS_INT8], 58ull * 3 * 2048 * 7168);
    assert_int_equal(s.part[SL_M_DENSE].macs[SL_WEIGHTS_INT8], 3ull * 3 * 18432 * 7168);
    assert_int_equal(s.part[SL_M_HEAD].macs[SL_WEIGHTS_INT8], 129280ull * 7168);
    assert_int_equal(s.part[SL_M_ROUTER].macs[SL_WEIGHTS_FLOAT], 58ull * 256 * 7168);
    assert_int_equal(s.part[SL_M_ROUTER].bytes[SL_WEIGHTS_FLOAT], 58ull * 256 * 7168 * 4);
    assert_int_equal(s.part[SL_M_INDEX_QUERIES].macs[SL_WEIGHTS_INT8], 61ull * 64 * 128 * 1536);
    assert_int_equal(s.part[SL_M_INDEX_KEYS].macs[SL_WEIGHTS_INT8], 61ull * 128 * 7168);
    assert_int_equal(s.part[SL_M_INDEX_KEYS].macs[SL_WEIGHTS_FLOAT], 61ull * 64 * 7168);
    assert_int_equal(
        s.part[SL_M_PROJECTIONS].macs[SL_WEIGHTS_INT8],
        61ull * (1536 * 7168 + 128 * 192 * 1536 + 576 * 7168 + 128 * 256 * 512 + 7168 * 128 * 128));
    assert_int_equal(s.embedding_row, 7168 + 4);
    assert_true(s.mtp_expert_file > 0 && s.mtp_resident_file > 0);
    check_status(sl_sizes_measure(&s, &c, "balanced", NULL, &err), &err);
    assert_int_equal(s.part[SL_M_PROJECTIONS].macs[SL_WEIGHTS_LUT4],
                     61ull * (128 * 192 * 1536 + 7168 * 128 * 128));
    assert_int_equal(sl_sizes_measure(&s, &c, "huge", NULL, &err), SLUICE_EARG);
}

/* ---- sessions ------------------------------------------------------------------------------- */

static void check_session(const char *dir, const struct sluice_engine_opts *engine_opts,
                          const struct sluice_session_opts *opts, bool exact)
{
    sluice_engine *engine = NULL;
    sluice_session *session = NULL;
    struct sluice_err err = {0};
    struct sluice_stats stats;
    struct sl_session_size size;
    struct sl_config c;
    check_status(sl_config_read(&c, dir, &err), &err);
    const struct sl_sizing sizing = {.config = &c,
                                     .session = opts,
                                     .threads = engine_opts->threads,
                                     .mtp = engine_opts->mtp,
                                     .exact = exact};
    check_status(sluice_engine_open(&engine, dir, engine_opts, &err), &err);
    check_status(sluice_session_open(&session, engine, opts, &err), &err);
    check_status(sl_session_measure(&size, &sizing, &err), &err);
    sluice_session_stats(session, &stats);
    assert_int_equal(size.kv_bytes, stats.kv_bytes);
    assert_int_equal(size.scratch_bytes, session->arena.size + session->bench->arena.size);
    assert_int_equal(size.kv_bytes + size.scratch_bytes, engine->session_bytes);
    sluice_session_close(&session);
    sluice_engine_close(&engine);
}

/* Whether sessions here can multiply by oneDNN. */
static bool has_onednn(const char *dir)
{
    const struct sluice_session_opts opts = {.multiplier = SLUICE_MULTIPLY_ONEDNN};
    struct sl_config c;
    struct sl_session_size size;
    struct sluice_err err = {0};
    check_status(sl_config_read(&c, dir, &err), &err);
    const struct sl_sizing sizing = {.config = &c, .session = &opts, .threads = 1};
    int status = sl_session_measure(&size, &sizing, &err);
    assert_true(status == 0 || status == SLUICE_EUNSUPPORTED);
    return status == 0;
}

static void check_sessions(const char *model, bool mtp)
{
    const struct sluice_engine_opts engine = {.threads = 3, .mtp = mtp};
    const struct sluice_session_opts opts[] = {
        {.context = 100, .chunk = 7},
        {.context = 100, .chunk = 7, .span = 50},
        {.context = 0},
        {.context = 90, .dense = 1, .kv = SLUICE_CACHE_BF16},
        {.context = 500, .index = SLUICE_CACHE_F32, .kv = SLUICE_CACHE_F32},
    };
    for (size_t i = 0; i < sizeof opts / sizeof *opts; i++) {
        check_session(converted(model, "quality"), &engine, &opts[i], false);
        check_session(converted(model, "reference"), &engine, &opts[i], true);
    }
    const struct sluice_session_opts other = {
        .context = 300, .chunk = 100, .multiplier = SLUICE_MULTIPLY_ONEDNN};
    if (has_onednn(converted(model, "quality")))
        check_session(converted(model, "quality"), &engine, &other, false);
}

static void sessions(void **unused)
{
    (void)unused;
    for (size_t m = 0; m < sizeof model_names / sizeof *model_names; m++) {
        struct sluice_err err = {0};
        struct sl_config c;
        check_status(sl_config_read(&c, converted(model_names[m], "quality"), &err), &err);
        for (uint32_t mtp = 0; mtp <= c.mtp_layers; mtp++)
            check_sessions(model_names[m], mtp);
    }
}

static void impossible_sessions(void **unused)
{
    const struct sl_synth_opts like = {.like = "v3.2", .all_layers = true};
    struct sluice_session_opts opts = {.context = 1u << 20};
    struct sluice_err err = {0};
    struct sl_session_size size;
    struct sl_config c;
    (void)unused;
    check_status(sl_like_config(&c, &like, &err), &err);
    const struct sl_sizing sizing = {.config = &c, .session = &opts, .threads = 1};
    assert_int_equal(sl_session_measure(&size, &sizing, &err), SLUICE_EARG);
    assert_non_null(strstr(err.msg, "max_position_embeddings"));
    opts.context = 4096;
    check_status(sl_session_measure(&size, &sizing, &err), &err);
    assert_int_equal(size.kv_row_bytes, 512 + 16 + 128);
    assert_int_equal(size.key_panel_bytes, 16 * 132);
    assert_int_equal(size.kv_bytes, 61ull * 4096 * (512 + 144 + 132));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converted_containers), cmocka_unit_test(synthetic_containers),
        cmocka_unit_test(known_counts),         cmocka_unit_test(sessions),
        cmocka_unit_test(impossible_sessions),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
