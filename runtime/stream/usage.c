/* SPDX-License-Identifier: MIT */
/*
 * {"sluice_usage": 1, "source": DIGEST, "counts": [[uses of expert 0, …] of the first layer with
 * experts, …]}
 */
#include "runtime/stream/usage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"

enum { VERSION = 1, BYTES_MAX = 64 << 20 };
#define COUNT_MAX 1e15

#define INSTEAD "name another file, or remove this one: it is made anew"

static int check_head(const json_t *root, const char *path, const char *source,
                      struct sluice_err *err)
{
    const char *found;
    int64_t version;
    int status = sl_json_int(root, path, "sluice_usage", 1, INT32_MAX, NULL, &version, err);
    if (status == 0 && version != VERSION)
        return sl_fail(err, SLUICE_EVERSION,
                       "%s: version %lld of usage files; this program knows %d", path,
                       (long long)version, VERSION);
    if (status == 0)
        status = sl_json_string(root, path, "source", NULL, &found, err);
    if (status == 0 && strcmp(found, source) != 0)
        return sl_fail(err, SLUICE_EARG,
                       "%s: about a model made from %.40s, this one is from %.40s: " INSTEAD, path,
                       found, source);
    return status;
}

static int load_layer(struct sl_slots *s, const char *path, uint32_t layer, const json_t *counts,
                      struct sluice_err *err)
{
    uint32_t experts = sl_slots_shape(s).experts;
    if (json_array_size(counts) != experts)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: layer %u has %zu counts; the model has %u experts: " INSTEAD, path,
                       layer, json_array_size(counts), experts);
    for (uint32_t expert = 0; expert < experts; expert++) {
        const json_t *value = json_array_get(counts, expert);
        double count = json_number_value(value);
        if (!json_is_number(value) || !(count >= 0 && count <= COUNT_MAX))
            return sl_fail(err, SLUICE_EFORMAT,
                           "%s: layer %u, expert %u: wanted a count of at least 0: " INSTEAD, path,
                           layer, expert);
        sl_slots_set_count(s, layer, expert, count);
    }
    return 0;
}

int sl_usage_load(struct sl_slots *s, const char *path, const char *source, struct sluice_err *err)
{
    json_t *root = NULL, *counts;
    uint32_t layers = sl_slots_shape(s).layers;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return 0;
    int status = sl_json_read(path, BYTES_MAX, &root, err);
    if (status == 0)
        status = check_head(root, path, source, err);
    if (status < 0)
        goto out;
    counts = json_object_get(root, "counts");
    if (json_array_size(counts) != layers)
        status = sl_fail(err, SLUICE_EFORMAT,
                         "%s: counts of %zu layers; the model has %u with experts: " INSTEAD, path,
                         json_array_size(counts), layers);
    for (uint32_t layer = 0; status == 0 && layer < layers; layer++)
        status = load_layer(s, path, layer, json_array_get(counts, layer), err);
out:
    json_decref(root);
    return status < 0 ? status : 1;
}

static json_t *layer_json(const struct sl_slots *s, uint32_t layer)
{
    json_t *counts = json_array();
    for (uint32_t expert = 0; expert < sl_slots_shape(s).experts; expert++)
        json_array_append_new(counts, json_real(sl_slots_count(s, layer, expert)));
    return counts;
}

int sl_usage_save(const struct sl_slots *s, const char *path, const char *source,
                  struct sluice_err *err)
{
    json_t *counts = json_array();
    for (uint32_t layer = 0; layer < sl_slots_shape(s).layers; layer++)
        json_array_append_new(counts, layer_json(s, layer));
    json_t *root = json_pack("{s:i, s:s, s:o}", "sluice_usage", VERSION, "source", source, "counts",
                             counts);
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    int status = text ? sl_file_replace(path, text, strlen(text), err)
                      : sl_fail_nomem(err, "usage of experts", 0);
    free(text);
    json_decref(root);
    return status;
}
