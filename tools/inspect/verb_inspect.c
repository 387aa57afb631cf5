/* SPDX-License-Identifier: MIT */
/* `sluice inspect`: what is in a container.  Reads headers only. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "runtime/container/container.h"
#include "runtime/model/config.h"
#include "tools/common/options.h"
#include "tools/common/status.h"
#include "tools/verbs.h"

struct inspect_options {
    const char *dir;
    bool tensors, json;
};

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "DIR", .positional = true, .required = true,
     SL_FIELD(SL_STRING, struct inspect_options, dir), .help = "Container directory"},
    {.name = "tensors", SL_FIELD(SL_FLAG, struct inspect_options, tensors),
     .help = "List every tensor with its packing, size and error", .group = "Output"},
    {.name = "json", SL_FIELD(SL_FLAG, struct inspect_options, json),
     .help = "Report as JSON", .group = "Output"},
    {0},
};
/* clang-format on */

static const struct sl_command command = {
    .name = "inspect",
    .summary = "show what is in a container",
    .rows = rows,
};

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Bytes of expert files, or of everything else. */
static uint64_t bytes_of(const struct sl_manifest *m, bool experts)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->n_files; i++)
        if (starts_with(m->files[i].name, "experts-") == experts)
            sum += m->files[i].bytes;
    return sum;
}

static json_t *dimensions(const struct sl_config *c)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "layers",
                     (int)c->layers, "dense_layers", (int)c->dense_layers, "mtp_layers",
                     (int)c->mtp_layers, "hidden", (int)c->hidden, "heads", (int)c->heads,
                     "experts", (int)c->experts, "experts_used", (int)c->experts_used, "vocab",
                     (int)c->vocab, "context", (int)c->context, "kv_lora", (int)c->kv_lora,
                     "index_heads", (int)c->index_heads, "index_topk", (int)c->index_topk);
}

/* Relative RMS error of NAME as the manifest has it: a number, or null. */
static json_t *error_of(const struct sl_manifest *m, const char *name)
{
    const json_t *entry = json_object_get(json_object_get(m->root, "errors"), name);
    if (json_is_object(entry))
        entry = json_object_get(entry, "rel_rms");
    return entry ? json_deep_copy(entry) : json_null();
}

/* "pack:NAME" of the header, or dtype and shape. */
static json_t *packing_of(const struct sl_safetensors *st, const struct sl_tensor *t)
{
    char key[600], shape[128];
    snprintf(key, sizeof key, "pack:%s", t->name);
    const char *text = sl_safetensors_meta(st, key);
    if (text)
        return json_string(text);
    return json_sprintf("%s %s", sl_dtype_name(t->dtype), sl_tensor_shape(t, shape));
}

static void append(json_t *list, const char *file, const char *name, json_t *packing,
                   uint64_t bytes, json_t *error)
{
    json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:I, s:o}", "file", file, "name", name,
                                          "packing", packing, "bytes", (json_int_t)bytes, "rel_rms",
                                          error));
}

/* In how many parts the experts of every layer are: from *least to *most, 0 without experts. */
static void count_parts(const struct sl_manifest *m, const struct sl_config *c, unsigned *least,
                        unsigned *most)
{
    *least = *most = 0;
    for (uint32_t layer = 0; layer < c->layers + c->mtp_layers; layer++) {
        unsigned n;
        if (!sl_layer_is_moe(c, layer) || sl_manifest_parts(m, layer, &n, NULL) < 0)
            continue;
        *least = *least == 0 || n < *least ? n : *least;
        *most = n > *most ? n : *most;
    }
}

/* The two matrices that each expert of the file has; their errors are arrays in the manifest. */
static void append_experts(json_t *list, const struct sl_manifest *m, const char *file,
                           const struct sl_safetensors *st)
{
    static const char *const halves[] = {"gate_up", "down"};
    unsigned layer = 0;
    sscanf(file, "experts-%u", &layer);
    for (int i = 0; i < 2; i++) {
        char key[32], name[96];
        struct sl_packing p;
        snprintf(key, sizeof key, "pack:%s", halves[i]);
        snprintf(name, sizeof name, "model.layers.%u.mlp.experts.%s_proj", layer, halves[i]);
        const char *text = sl_safetensors_meta(st, key), *part = sl_safetensors_meta(st, "part");
        if (part && strncmp(part, "0/", 2) != 0)
            continue; /* part 0 speaks for all */
        bool known = text && sl_packing_parse(text, file, &p, NULL) == 0;
        append(list, file, name, json_string(text ? text : "?"), known ? sl_packing_bytes(&p) : 0,
               error_of(m, name));
    }
}

static int list_file(json_t *list, const struct sl_manifest *m, const char *dir, const char *file,
                     struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    struct sl_safetensors *st = NULL;
    int status = sl_path_join(path, dir, file, err);
    if (status == 0)
        status = sl_safetensors_open(&st, path, err);
    if (status < 0)
        return status;
    if (starts_with(file, "experts-"))
        append_experts(list, m, file, st);
    else
        for (size_t i = 0; i < st->n_tensors; i++)
            append(list, file, st->tensors[i].name, packing_of(st, &st->tensors[i]),
                   st->tensors[i].bytes, error_of(m, st->tensors[i].name));
    sl_safetensors_close(&st);
    return 0;
}

static int list_tensors(json_t *list, const struct sl_manifest *m, const char *dir,
                        struct sluice_err *err)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < m->n_files; i++)
        if (sl_is_tensor_file(m->files[i].name))
            status = list_file(list, m, dir, m->files[i].name, err);
    return status;
}

/* One number; of an array (experts) the mean. */
static double mean_error(const json_t *error)
{
    double sum = 0;
    if (!json_is_array(error))
        return json_number_value(error);
    for (size_t i = 0; i < json_array_size(error); i++)
        sum += json_number_value(json_array_get(error, i));
    return sum / (double)json_array_size(error);
}

static void print_tensors(const json_t *list)
{
    size_t i;
    const json_t *t;
    printf("\n%-52s %12s %9s  %s\n", "tensor", "bytes", "rel. RMS", "packing");
    json_array_foreach (list, i, t) {
        const json_t *error = json_object_get(t, "rel_rms");
        char text[16] = "exact";
        if (!json_is_null(error) && mean_error(error) > 0)
            snprintf(text, sizeof text, "%.3f %%", 100 * mean_error(error));
        printf("%-52s %12" PRId64 " %9s  %s\n", json_string_value(json_object_get(t, "name")),
               (int64_t)json_integer_value(json_object_get(t, "bytes")), text,
               json_string_value(json_object_get(t, "packing")));
    }
}

/* Nothing when the files are whole. */
static void print_parts(const char *dir, const struct sl_manifest *m, const struct sl_config *c)
{
    unsigned least, most;
    count_parts(m, c, &least, &most);
    if (most > 1 && least < most)
        printf("  parts       %u and %u: sluice stripe was interrupted; run it again\n", least,
               most);
    if (most < 2 || least < most)
        return;
    printf("  parts       %u: %s", most, dir);
    for (unsigned p = 1; p < most; p++) {
        char name[64], path[SL_PATH_MAX], target[SL_PATH_MAX];
        sl_experts_part_file(name, c->dense_layers, p, most);
        ssize_t n = sl_path_join(path, dir, name, NULL) < 0 ? -1
                                                            : readlink(path, target, sizeof target);
        while (n > 1 && target[--n] != '/')
            ;
        printf(", %.*s", n > 0 ? (int)n : 1, n > 0 ? target : "?");
    }
    printf("\n");
}

static void print_summary(const char *dir, const struct sl_manifest *m, const struct sl_config *c)
{
    printf("%s: %s, profile %s, made by %s\n", dir, c->architecture, m->profile, m->tool_version);
    printf("  source      %s\n", m->source_digest);
    printf("  layers      %u (%u dense)%s, hidden %u, %u heads, latent %u, vocabulary %u\n",
           c->layers, c->dense_layers, c->mtp_layers ? " + MTP" : "", c->hidden, c->heads,
           c->kv_lora, c->vocab);
    printf("  experts     %u per layer, %u per token, %u shared\n", c->experts, c->experts_used,
           c->shared);
    if (c->index_heads)
        printf("  sparse      %u indexer heads choose %u keys\n", c->index_heads, c->index_topk);
    printf("  context     %u tokens\n", c->context);
    print_parts(dir, m, c);
    printf("  size        %s: experts %s, the rest %s, %zu files\n",
           sl_human_bytes(bytes_of(m, true) + bytes_of(m, false)).text,
           sl_human_bytes(bytes_of(m, true)).text, sl_human_bytes(bytes_of(m, false)).text,
           m->n_files);
}

static void print_json(const struct sl_manifest *m, const struct sl_config *c, json_t *tensors)
{
    unsigned least, most;
    count_parts(m, c, &least, &most);
    json_t *report = json_pack("{s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:i}", "architecture",
                               c->architecture, "profile", m->profile, "tool", m->tool_version,
                               "source", m->source_digest, "dimensions", dimensions(c),
                               "expert_bytes", (json_int_t)bytes_of(m, true), "other_bytes",
                               (json_int_t)bytes_of(m, false), "parts", (int)most);
    if (tensors)
        json_object_set(report, "tensors", tensors);
    json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(report);
}

int sl_verb_inspect(int argc, char **argv)
{
    struct inspect_options o = {0};
    struct sluice_err err = {0};
    struct sl_manifest *m = NULL;
    struct sl_config config;
    json_t *tensors = NULL;
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    if ((status = sl_manifest_open(&m, o.dir, &err)) < 0 ||
        (status = sl_config_read(&config, o.dir, &err)) < 0)
        goto done;
    if (o.tensors) {
        tensors = json_array();
        if ((status = list_tensors(tensors, m, o.dir, &err)) < 0)
            goto done;
    }
    if (o.json) {
        print_json(m, &config, tensors);
    } else {
        print_summary(o.dir, m, &config);
        if (tensors)
            print_tensors(tensors);
    }
done:
    json_decref(tensors);
    sl_manifest_close(&m);
    return status < 0 ? sl_report(&err) : SL_EXIT_OK;
}
