/* SPDX-License-Identifier: MIT */
/*
 * The end of a conversion: files copied from the source, then sluice.json, made from what lies on
 * the drive, so that a resumed conversion gives the same bytes as one that was not interrupted.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "quant/conversion.h"
#include "runtime/base/err.h"

enum {
    MAX_COPIED_BYTES = 256 << 20,
    BYTES_PER_TENSOR = 256, /* of sluice.json, generously */
    BYTES_PER_EXPERT = 64,
};

/* ---- copied files ---------------------------------------------------------------------------- */

bool sl_is_copied(const char *name)
{
    static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json",
                                        "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strncmp(name, "LICENSE", 7) == 0 && strlen(name) < 200 && !strstr(name, ".part");
}

int sl_list_copied(const char *dir, char *names[SL_MAX_COPIED], size_t *n, struct sluice_err *err)
{
    struct dirent **found;
    int count = scandir(dir, &found, NULL, alphasort);
    int status = count < 0 ? sl_fail_errno(err, SLUICE_EIO, errno, "cannot list %s", dir) : 0;
    *n = 0;
    for (int i = 0; i < count; i++) {
        char path[SL_PATH_MAX];
        if (status == 0 && *n < SL_MAX_COPIED && sl_is_copied(found[i]->d_name) &&
            sl_path_join(path, dir, found[i]->d_name, err) == 0 && sl_file_exists(path) &&
            !(names[(*n)++] = strdup(found[i]->d_name)))
            status = sl_fail_nomem(err, "file name", 256);
        free(found[i]);
    }
    if (count >= 0)
        free(found);
    return status;
}

static int copy_file(const struct sl_conversion *c, const char *name, struct sluice_err *err)
{
    char from[SL_PATH_MAX], to[SL_PATH_MAX], *data = NULL;
    size_t size;
    int status = sl_path_join(from, c->checkpoint->dir, name, err);
    if (status == 0)
        status = sl_path_join(to, c->dest, name, err);
    if (status == 0)
        status = sl_file_read(from, MAX_COPIED_BYTES, &data, &size, err);
    if (status == 0)
        status = sl_file_replace(to, data, size, err);
    free(data);
    return status;
}

/* ---- entries --------------------------------------------------------------------------------- */

static int no_memory(struct sluice_err *err)
{
    return sl_fail_nomem(err, SL_MANIFEST, 0);
}

/* files[name] = {"bytes", "xxh3"} */
int sl_manifest_add(json_t *files, const char *dir, const char *name, struct sluice_err *err)
{
    char path[SL_PATH_MAX], digest[SL_DIGEST_CHARS];
    struct stat info;
    uint64_t hash;
    int status = sl_path_join(path, dir, name, err);
    if (status == 0)
        status = sl_file_hash(path, &hash, err);
    if (status == 0 && stat(path, &info) != 0)
        status = sl_fail_errno(err, SLUICE_EIO, errno, "cannot stat %s", path);
    if (status < 0)
        return status;
    sl_digest_print(digest, hash);
    json_t *entry = json_pack("{s:I, s:s}", "bytes", (json_int_t)info.st_size, "xxh3", digest);
    return json_object_set_new(files, name, entry) == 0 ? 0 : no_memory(err);
}

/* What a synthetic container has instead of copied files. */
static int write_config(const struct sl_conversion *c, json_t *files, struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    int status = sl_path_join(path, c->dest, "config.json", err);
    if (status == 0)
        status = sl_file_replace(path, c->config_text, strlen(c->config_text), err);
    return status < 0 ? status : sl_manifest_add(files, c->dest, "config.json", err);
}

/* X with the 7 digits that a float has. */
static json_t *rounded(double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.6e", x);
    return json_real(strtod(text, NULL));
}

static int add_tensor_errors(json_t *errors, const struct sl_safetensors *st,
                             struct sluice_err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach (json_object_get(st->header, "__metadata__"), key, value) {
        char *rest = NULL;
        if (strncmp(key, "error:", 6) != 0 || !json_is_string(value))
            continue;
        double relative = strtod(json_string_value(value), &rest);
        json_t *entry = json_pack("{s:o, s:o}", "rel_rms", rounded(relative), "max",
                                  rounded(strtod(rest, NULL)));
        if (json_object_set_new(errors, key + 6, entry) != 0)
            return no_memory(err);
    }
    return 0;
}

/* "model.layers.N.mlp.experts.gate_up_proj": [relative error of each expert], and down_proj. */
static int add_expert_errors(json_t *errors, const struct sl_safetensors *st, uint32_t layer,
                             struct sluice_err *err)
{
    const struct sl_tensor *t = sl_safetensors_find(st, "errors");
    if (!t)
        return sl_fail(err, SLUICE_EFORMAT, "%s: no tensor errors", st->path);
    json_t *list[2] = {json_array(), json_array()};
    float *value = malloc(t->bytes);
    int status = value ? sl_tensor_read(st, t, value, t->bytes, 0, err) : no_memory(err);
    for (size_t i = 0; status == 0 && i < t->bytes / sizeof *value; i++)
        if (json_array_append_new(list[i % 2], rounded((double)value[i])) != 0)
            status = no_memory(err);
    for (int i = 0; i < 2; i++) {
        const struct sl_tensor_rule *rule =
            &sl_tensor_rules()[i ? SL_EXPERT_DOWN : SL_EXPERT_GATE_UP];
        char name[160];
        snprintf(name, sizeof name, "model.layers.%u.mlp.experts.%s", layer, rule->name);
        if (json_object_set_new(errors, name, list[i]) != 0 && status == 0)
            status = no_memory(err);
    }
    free(value);
    return status;
}

static int add_errors(const struct sl_conversion *c, json_t *errors,
                      const struct sl_plan_file *file, struct sluice_err *err)
{
    struct sl_safetensors *st = NULL;
    char path[SL_PATH_MAX];
    int status = sl_file_path(c, file, 0, path, err);
    if (status == 0)
        status = sl_safetensors_open(&st, path, err);
    if (status == 0)
        status = file->kind == SL_FILE_EXPERTS ? add_expert_errors(errors, st, file->layer, err)
                                               : add_tensor_errors(errors, st, err);
    sl_safetensors_close(&st);
    return status;
}

/* ---- sluice.json ----------------------------------------------------------------------------- */

uint64_t sl_manifest_room(const struct sl_conversion *c)
{
    uint64_t bytes = SL_DATA_ALIGN;
    for (size_t i = 0; i < c->plan.n_files; i++) {
        bytes += (uint64_t)BYTES_PER_TENSOR * SL_N_ROLES;
        if (c->plan.files[i].kind == SL_FILE_EXPERTS)
            bytes += (uint64_t)BYTES_PER_EXPERT * c->config.experts;
    }
    return bytes;
}

static json_t *make_root(const struct sl_conversion *c, json_t *files, json_t *errors)
{
    char tool[64];
    snprintf(tool, sizeof tool, "sluice %s", sluice_version());
    json_t *source = json_pack("{s:s, s:I, s:I}", "digest", c->source, "files",
                               (json_int_t)(c->checkpoint ? c->checkpoint->n_shards : 0), "tensors",
                               (json_int_t)(c->checkpoint ? c->checkpoint->n_tensors : 0));
    return json_pack("{s:i, s:s, s:s, s:o, s:o, s:O, s:O}", "format", SL_FORMAT_VERSION, "tool",
                     tool, "profile", c->profile->name, "recipe",
                     sl_recipe_json(c->profile, c->fitting.fast), "source", source, "files", files,
                     "errors", errors);
}

static int write_root(const struct sl_conversion *c, const json_t *root, struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    char *text = sl_manifest_text(root);
    int status = text ? sl_path_join(path, c->dest, SL_MANIFEST, err) : no_memory(err);
    if (status == 0)
        status = sl_file_replace(path, text, strlen(text), err);
    free(text);
    return status;
}

int sl_write_manifest(struct sl_conversion *c, struct sluice_err *err)
{
    char *names[SL_MAX_COPIED];
    size_t n_names = 0;
    json_t *files = json_object(), *errors = json_object(), *root = NULL;
    int status = c->checkpoint ? sl_list_copied(c->checkpoint->dir, names, &n_names, err)
                               : write_config(c, files, err);
    c->file = SL_MANIFEST;
    for (size_t i = 0; i < n_names; i++) {
        if (status == 0)
            status = copy_file(c, names[i], err);
        if (status == 0)
            status = sl_manifest_add(files, c->dest, names[i], err);
        free(names[i]);
    }
    for (size_t i = 0; status == 0 && i < c->plan.n_files; i++) {
        const struct sl_plan_file *f = &c->plan.files[i];
        for (unsigned p = 0; status == 0 && p < sl_file_parts(c, f); p++) {
            char name[64];
            sl_file_name(c, f, p, name);
            status = sl_manifest_add(files, c->dest, name, err);
        }
        if (status == 0)
            status = add_errors(c, errors, f, err);
        if (status == 0)
            status = sl_conversion_progress(c, 0, err);
    }
    if (status == 0) {
        root = make_root(c, files, errors);
        status = root ? write_root(c, root, err) : no_memory(err);
    }
    json_decref(root);
    json_decref(files);
    json_decref(errors);
    return status;
}
