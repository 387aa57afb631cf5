/* SPDX-License-Identifier: MIT */
/*
 * One safetensors file, as a checkpoint's and as every kind that a container has.  An input that
 * begins with '{' is a header: its length, padding and as many zeros as its tensors want are put
 * around it, so that mutations get past the sizes.  Any other input is the whole file.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/model/weights.h"
#include "runtime/stream/stream.h"
#include "tests/fuzz/fuzz.h"

enum { DATA_MAX = 1 << 18 };

#define EXPERTS "experts-00.safetensors"
#define INPUT "container/" EXPERTS

/* ---- writing the file ----------------------------------------------------------------------- */

/* Where the last tensor of HEADER ends, as far as there is sense in it. */
static size_t data_bytes(const uint8_t *header, size_t size)
{
    json_t *root = json_loadb((const char *)header, size, 0, NULL), *entry;
    const char *name;
    json_int_t most = 0;
    json_object_foreach (root, name, entry) {
        const json_t *range = json_object_get(entry, "data_offsets");
        json_int_t end = json_integer_value(json_array_get(range, 1));
        most = end > most && end <= DATA_MAX ? end : most;
    }
    json_decref(root);
    return (size_t)most;
}

static const char *write_input(const uint8_t *data, size_t size)
{
    if (size == 0 || data[0] != '{')
        return fuzz_put(INPUT, data, size);
    return fuzz_put_safetensors(INPUT, data, size, SL_DATA_ALIGN, data_bytes(data, size));
}

/* ---- what open promises --------------------------------------------------------------------- */

static void check_tensor(const struct sl_safetensors *st, const struct sl_tensor *t)
{
    uint8_t byte;
    char shape[128];
    struct sluice_err err;
    uint64_t bytes = sl_dtype_bytes(t->dtype);
    for (unsigned i = 0; i < t->n_dims; i++)
        bytes *= t->dims[i];
    fuzz_check(bytes == t->bytes, "a tensor of another size than its shape");
    fuzz_check(t->offset >= st->data_start && t->offset <= st->file_bytes &&
                   t->bytes <= st->file_bytes - t->offset,
               "a tensor outside its file");
    fuzz_check(sl_safetensors_find(st, t->name) == t, "a tensor is not found by its name");
    fuzz_check(strlen(sl_tensor_shape(t, shape)) < sizeof shape, "a shape does not end");
    fuzz_err_prepare(&err);
    fuzz_check(t->bytes == 0 || sl_tensor_read(st, t, &byte, 1, t->bytes - 1, &err) == 0,
               "the last byte of a tensor cannot be read");
    fuzz_check(sl_tensor_read(st, t, &byte, 1, t->bytes, &err) == SLUICE_EARG,
               "a tensor is read beyond its end");
}

static void check_metadata(const struct sl_safetensors *st)
{
    const char *key;
    json_t *value;
    json_object_foreach (json_object_get(st->header, "__metadata__"), key, value) {
        struct sl_packing p;
        struct sluice_err err;
        fuzz_check(sl_safetensors_meta(st, key) == json_string_value(value), "metadata is lost");
        fuzz_err_prepare(&err);
        if (strncmp(key, "pack:", 5) == 0)
            fuzz_succeeded(sl_packing_parse(json_string_value(value), EXPERTS, &p, &err), &err);
    }
}

static void check_table(const struct sl_safetensors *st)
{
    for (size_t i = 0; i < st->n_tensors; i++) {
        fuzz_check(i == 0 || strcmp(st->tensors[i - 1].name, st->tensors[i].name) < 0,
                   "tensors are not in the order of their names");
        check_tensor(st, &st->tensors[i]);
    }
    fuzz_check(sl_safetensors_find(st, "") == NULL, "a tensor without a name");
    check_metadata(st);
}

/* ---- the file of a container ---------------------------------------------------------------- */

static const char config[] =
    "{\"model_type\":\"deepseek_v3\",\"vocab_size\":4,\"hidden_size\":8,\"num_hidden_layers\":1,"
    "\"first_k_dense_replace\":1,\"max_position_embeddings\":4,\"num_attention_heads\":1,"
    "\"kv_lora_rank\":1,\"qk_nope_head_dim\":1,\"qk_rope_head_dim\":2,\"v_head_dim\":1,"
    "\"intermediate_size\":1,\"moe_intermediate_size\":1,\"n_routed_experts\":1,"
    "\"num_experts_per_tok\":1,\"n_shared_experts\":1,\"n_group\":1,\"topk_group\":1,"
    "\"q_lora_rank\":1,\"rms_norm_eps\":1e-6}";

/* The container's directory, where the other names of the input are links to it. */
static const char *container(void)
{
    static char dir[512];
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "%s", fuzz_directory("container"));
        fuzz_put("container/config.json", config, sizeof config - 1);
        fuzz_check(symlink(EXPERTS, fuzz_path("container/" SL_HEAD_FILE)) == 0 &&
                       symlink(EXPERTS, fuzz_path("container/resident-00.safetensors")) == 0,
                   "cannot make a link");
    }
    return dir;
}

/* What the manifest should say of NAME; an experts file without experts has no checksum. */
static json_t *file_entry(const char *name, uint64_t bytes)
{
    uint64_t hash = 0;
    char path[SL_PATH_MAX], digits[17];
    snprintf(path, sizeof path, "%s/%s", container(), name);
    sl_file_hash(path, &hash, NULL);
    snprintf(digits, sizeof digits, "%016" PRIx64, hash);
    return json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "xxh3", digits);
}

static void write_manifest(uint64_t bytes)
{
    json_t *files = json_pack(
        "{s:o, s:o, s:o, s:o}", "config.json", file_entry("config.json", sizeof config - 1),
        SL_HEAD_FILE, file_entry(SL_HEAD_FILE, bytes), "resident-00.safetensors",
        file_entry("resident-00.safetensors", bytes), EXPERTS, file_entry(EXPERTS, bytes));
    json_t *root = json_pack("{s:i, s:s, s:s, s:{s:s}, s:o}", "format", 1, "tool", "fuzz",
                             "profile", "quality", "source", "digest", "0", "files", files);
    char *text = sl_manifest_text(root);
    fuzz_check(text != NULL, "no memory");
    fuzz_put_text("container/" SL_MANIFEST, text);
    free(text);
    json_decref(root);
}

/* Compares every chunk of every expert. */
static void check_experts(const struct sl_manifest *m)
{
    static const uint8_t chunk[SL_CHUNK_BYTES];
    struct sl_expert_file f;
    struct sluice_err err;
    fuzz_err_prepare(&err);
    bool good = fuzz_succeeded(sl_expert_file_open(&f, container(), m, 0, &err), &err);
    for (uint64_t i = 0; good && i < f.n_experts * f.layout.chunks; i++) {
        uint64_t expert = i / f.layout.chunks, at = i % f.layout.chunks;
        struct sl_chunk_place place = sl_chunk_place(&f, (uint32_t)expert, at);
        fuzz_check(place.length <= sizeof chunk, "a chunk beyond 1 MiB");
        fuzz_check(place.offset + place.length <= sl_manifest_find(m, EXPERTS)->bytes,
                   "a chunk beyond the file");
        fuzz_err_prepare(&err);
        fuzz_succeeded(sl_chunk_check(&f, (uint32_t)expert, at, chunk, &err), &err);
    }
    sl_expert_file_close(&f);
}

/* Reads the last byte of what every role of W is bound to. */
static void check_bound(const struct sl_layer_weights *w)
{
    static volatile uint8_t sink;
    for (int role = 0; role < SL_N_ROLES; role++) {
        const struct sl_matrix *m = &w->matrix[role];
        if (m->data)
            sink = m->data[sl_packing_bytes(&m->packing) - 1];
        if (w->vector[role])
            sink = ((const uint8_t *)w->vector[role])[sizeof(float) - 1];
    }
    (void)sink;
}

static void check_weights(void)
{
    struct sl_weights *w;
    struct sluice_err err;
    float row[8];
    fuzz_err_prepare(&err);
    if (fuzz_succeeded(sl_weights_open(&w, container(), false, &err), &err)) {
        check_bound(&w->head);
        check_bound(&w->layers[0]);
        sl_embed(w, sl_rung_find(NULL)->ops, 3, row);
    }
    sl_weights_close(&w);
}

static void open_container(uint64_t bytes)
{
    struct sl_manifest *m;
    struct sluice_err err;
    write_manifest(bytes);
    fuzz_err_prepare(&err);
    fuzz_check(fuzz_succeeded(sl_manifest_open(&m, container(), &err), &err),
               "a manifest that was just written");
    check_experts(m);
    sl_manifest_close(&m);
    check_weights();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_safetensors *st;
    struct sluice_err err;
    container();
    const char *path = write_input(data, size);
    fuzz_err_prepare(&err);
    if (fuzz_succeeded(sl_safetensors_open(&st, path, &err), &err)) {
        check_table(st);
        fuzz_err_prepare(&err);
        fuzz_succeeded(sl_tensors_check(path, &err), &err);
        open_container(st->file_bytes);
    }
    sl_safetensors_close(&st);
    return 0;
}
