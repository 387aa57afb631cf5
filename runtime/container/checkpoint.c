/* SPDX-License-Identifier: MIT */
/*
 * A published checkpoint as one table of tensors.  Owns finding the directory, the shards and the
 * index, and checking them against each other.  Reads headers only; converts nothing.
 */
#include "runtime/container/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/json.h"
#include "runtime/container/container.h"
#include "runtime/container/container_private.h"

enum {
    MAX_INDEX = 256 << 20, /* bytes of model.safetensors.index.json */
    MAX_SHARDS = 8192,
};

#define INDEX_FILE "model.safetensors.index.json"

/* Names of shards, owned. */
struct shard_names {
    size_t n, room;
    char **name;
    bool no_memory;
};

static void names_free(struct shard_names *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->name[i]);
    free(s->name);
    *s = (struct shard_names){0};
}

static bool names_add(struct shard_names *s, const char *name)
{
    if (s->n == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        char **bigger = reallocarray(s->name, room, sizeof *bigger);
        if (bigger) {
            s->name = bigger;
            s->room = room;
        }
    }
    if (s->n == s->room || !(s->name[s->n] = strdup(name)))
        return !(s->no_memory = true);
    s->n++;
    return true;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts and removes repetitions. */
static void names_sort(struct shard_names *s)
{
    size_t kept = 0;
    if (s->n > 1)
        qsort(s->name, s->n, sizeof *s->name, by_text);
    for (size_t i = 0; i < s->n; i++) {
        if (kept > 0 && strcmp(s->name[i], s->name[kept - 1]) == 0)
            free(s->name[i]);
        else
            s->name[kept++] = s->name[i];
    }
    s->n = kept;
}

static bool has_tail(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);
    return n > m && strcmp(name + n - m, tail) == 0;
}

/* ---- where it is ---------------------------------------------------------------------------- */

/* The commit that refs/main names; must be usable as a folder name. */
static int read_commit(const char *hub, char commit[256], struct sluice_err *err)
{
    char path[SL_PATH_MAX], *text;
    size_t size;
    int status = sl_path_join(path, hub, "refs/main", err);
    if (status == 0)
        status = sl_file_read(path, 255, &text, &size, err);
    if (status < 0)
        return status;
    text[strcspn(text, " \t\r\n")] = 0;
    snprintf(commit, 256, "%s", text);
    free(text);
    if (!sl_is_file_name(commit))
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: not the name of a commit; download the model again, or give one of "
                       "the folders in %s/snapshots",
                       path, hub);
    return 0;
}

static bool hub_path(char out[SL_PATH_MAX], const char *hub, const char *name)
{
    return sl_path_join(out, hub, name, NULL) == 0;
}

/* A hub folder is replaced by its main snapshot; any other path stays. */
static int find_directory(char dir[SL_PATH_MAX], const char *path, struct sluice_err *err)
{
    char refs[SL_PATH_MAX], snapshots[SL_PATH_MAX], commit[256];
    if (!sl_is_directory(path))
        return sl_fail(err, SLUICE_EARG,
                       "%s: no such directory; a checkpoint is a directory with "
                       "config.json and *.safetensors",
                       path);
    if (!hub_path(snapshots, path, "snapshots") || !hub_path(refs, path, "refs/main") ||
        !sl_is_directory(snapshots)) {
        if (snprintf(dir, SL_PATH_MAX, "%s", path) >= SL_PATH_MAX)
            return sl_fail(err, SLUICE_EARG, "%.200s…: path too long", path);
        return 0;
    }
    if (!sl_file_exists(refs))
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: a hub folder without refs/main; give one of the folders in %s", path,
                       snapshots);
    int status = read_commit(path, commit, err);
    if (status == 0)
        status = sl_path_join(dir, snapshots, commit, err);
    if (status == 0 && !sl_is_directory(dir))
        status = sl_fail(err, SLUICE_EFORMAT,
                         "%s names the snapshot %s, which is not in %s; download the model again",
                         refs, commit, snapshots);
    return status;
}

static int check_directory(const char *dir, struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    int status = sl_path_join(path, dir, SL_MANIFEST, err);
    if (status < 0)
        return status;
    if (sl_file_exists(path))
        return sl_fail(err, SLUICE_EFORMAT, "%s: a Sluice container, a published checkpoint wanted",
                       dir);
    status = sl_path_join(path, dir, "config.json", err);
    if (status == 0 && !sl_file_exists(path))
        status = sl_fail(err, SLUICE_EFORMAT,
                         "%s: no config.json, so no checkpoint; give the directory that has "
                         "config.json and *.safetensors",
                         dir);
    return status;
}

/* ---- which shards --------------------------------------------------------------------------- */

static bool add_shard(void *arg, const char *name)
{
    struct shard_names *s = arg;
    if (!sl_is_file_name(name) || !has_tail(name, ".safetensors"))
        return true;
    return s->n <= MAX_SHARDS && names_add(s, name); /* one too many is found later */
}

/* "model-00002-of-00163.safetensors" tells of its siblings when there is no index. */
static void add_siblings(struct shard_names *s)
{
    unsigned part, parts;
    char tail[16];
    const char *format = "model-%5u-of-%5u.safetensor%15s";
    if (s->n == 0 || sscanf(s->name[0], format, &part, &parts, tail) != 3)
        return;
    for (part = 1; part <= parts && part <= MAX_SHARDS; part++) {
        char name[64];
        snprintf(name, sizeof name, "model-%05u-of-%05u.safetensors", part, parts);
        if (!names_add(s, name))
            return;
    }
}

static int shards_of_directory(struct shard_names *s, const char *dir, struct sluice_err *err)
{
    sl_each_name(dir, add_shard, s);
    names_sort(s);
    add_siblings(s);
    names_sort(s);
    if (s->no_memory)
        return sl_fail_nomem(err, "names of shards", s->room * sizeof *s->name);
    if (s->n == 0)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: neither " INDEX_FILE " nor any *.safetensors; download the model again",
                       dir);
    if (s->n > MAX_SHARDS)
        return sl_fail(err, SLUICE_EFORMAT, "%s: more than %d *.safetensors", dir, MAX_SHARDS);
    return 0;
}

static int shards_of_index(struct shard_names *s, const char *path, const json_t *map,
                           struct sluice_err *err)
{
    const char *tensor, *last = "";
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)map, tensor, value) {
        const char *name = json_string_value(value);
        char shown[SL_SHOWN];
        if (!name || !sl_is_file_name(name) || !has_tail(name, ".safetensors"))
            return sl_fail(err, SLUICE_EFORMAT,
                           "%.500s: tensor %s: not the name of a .safetensors file beside it", path,
                           sl_shown(tensor, shown));
        if (strcmp(name, last) == 0)
            continue; /* neighbours mostly share their shard */
        if (!names_add(s, name))
            return sl_fail_nomem(err, "names of shards", s->room * sizeof *s->name);
        last = name;
    }
    names_sort(s);
    if (s->n == 0 || s->n > MAX_SHARDS)
        return sl_fail(err, SLUICE_EFORMAT, "%s: names %zu shards, 1 to %d wanted", path, s->n,
                       MAX_SHARDS);
    return 0;
}

/* *index stays NULL when there is none. */
static int read_index(const char *dir, json_t **index, const json_t **map, struct sluice_err *err)
{
    char path[SL_PATH_MAX], *text = NULL;
    size_t size;
    int status = sl_path_join(path, dir, INDEX_FILE, err);
    if (status < 0 || !sl_file_exists(path))
        return status;
    status = sl_file_read(path, MAX_INDEX, &text, &size, err);
    if (status == 0)
        status = sl_json_parse(path, text, size, index, err);
    free(text);
    if (status < 0)
        return status;
    *map = json_object_get(*index, "weight_map");
    if (!json_is_object(*map))
        return sl_fail(err, SLUICE_EFORMAT, "%s: no \"weight_map\" object; download it again",
                       path);
    return 0;
}

/* ---- what is missing ------------------------------------------------------------------------ */

static bool is_incomplete(void *arg, const char *name)
{
    *(bool *)arg = has_tail(name, ".incomplete");
    return !*(bool *)arg;
}

/* The Hugging Face client keeps unfinished downloads in these places. */
static bool unfinished_download(const char *dir)
{
    static const char *const places[] = {".cache/huggingface/download", "../../blobs", "."};
    bool found = false;
    for (size_t i = 0; i < sizeof places / sizeof *places && !found; i++) {
        char path[SL_PATH_MAX];
        if (sl_path_join(path, dir, places[i], NULL) == 0)
            sl_each_name(path, is_incomplete, &found);
    }
    return found;
}

static int check_present(const struct shard_names *s, const char *dir, struct sluice_err *err)
{
    struct sl_list missing = {0};
    for (size_t i = 0; i < s->n; i++) {
        char path[SL_PATH_MAX];
        int status = sl_path_join(path, dir, s->name[i], err);
        if (status < 0)
            return status;
        if (!sl_file_exists(path))
            sl_list_add(&missing, s->name[i]);
    }
    if (missing.count == 0)
        return 0;
    return sl_fail(err, SLUICE_EFORMAT, "%.250s: %zu of %zu shards are missing: %s; %s", dir,
                   missing.count, s->n, sl_list_text(&missing),
                   unfinished_download(dir)
                       ? "a download was interrupted (*.incomplete): run hf download again, it "
                         "continues"
                       : "download them again");
}

/* ---- the table ------------------------------------------------------------------------------ */

static int by_tensor_name(const void *a, const void *b)
{
    const struct sl_checkpoint_entry *s = a, *t = b;
    int order = strcmp(s->tensor->name, t->tensor->name);
    return order ? order : (s->shard > t->shard) - (s->shard < t->shard);
}

static int open_shards(struct sl_checkpoint *c, const struct shard_names *s, struct sluice_err *err)
{
    c->shards = calloc(s->n, sizeof(*c->shards));
    if (!c->shards)
        return sl_fail_nomem(err, "table of shards", s->n * sizeof(*c->shards));
    for (c->n_shards = 0; c->n_shards < s->n; c->n_shards++) {
        char path[SL_PATH_MAX];
        int status = sl_path_join(path, c->dir, s->name[c->n_shards], err);
        if (status == 0)
            status = sl_safetensors_open(&c->shards[c->n_shards], path, err);
        if (status < 0)
            return status;
        c->n_tensors += c->shards[c->n_shards]->n_tensors;
    }
    return 0;
}

static int check_twice(const struct sl_checkpoint *c, struct sluice_err *err)
{
    for (size_t i = 1; i < c->n_tensors; i++) {
        const struct sl_checkpoint_entry *e = &c->entries[i];
        char shown[SL_SHOWN];
        if (strcmp(e[-1].tensor->name, e->tensor->name) == 0)
            return sl_fail(err, SLUICE_EFORMAT,
                           "tensor %s is both in %.300s and in %.300s: files of two checkpoints in "
                           "one directory?",
                           sl_shown(e->tensor->name, shown), c->shards[e[-1].shard]->path,
                           c->shards[e->shard]->path);
    }
    return 0;
}

static int build_table(struct sl_checkpoint *c, struct sluice_err *err)
{
    c->entries = calloc(c->n_tensors ? c->n_tensors : 1, sizeof *c->entries);
    if (!c->entries)
        return sl_fail_nomem(err, "table of tensors", c->n_tensors * sizeof *c->entries);
    struct sl_checkpoint_entry *e = c->entries;
    for (size_t shard = 0; shard < c->n_shards; shard++)
        for (size_t i = 0; i < c->shards[shard]->n_tensors; i++)
            *e++ = (struct sl_checkpoint_entry){&c->shards[shard]->tensors[i], (uint32_t)shard};
    if (c->n_tensors > 1)
        qsort(c->entries, c->n_tensors, sizeof *c->entries, by_tensor_name);
    return check_twice(c, err);
}

/* Every tensor of the index must be in the shard that it names.  Tensors that the index does not
 * know are left in the table. */
static int check_index(const struct sl_checkpoint *c, const json_t *map, struct sluice_err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)map, name, value) {
        const struct sl_safetensors *st = NULL;
        const char *want = json_string_value(value);
        char shown[SL_SHOWN];
        if (!sl_checkpoint_find(c, name, &st))
            return sl_fail(err, SLUICE_EFORMAT,
                           "%.300s/" INDEX_FILE ": tensor %s should be in %s, which does not have "
                           "it; download both again",
                           c->dir, sl_shown(name, shown), want);
        const char *have = strrchr(st->path, '/') + 1;
        if (strcmp(have, want) != 0)
            return sl_fail(err, SLUICE_EFORMAT,
                           "%.300s/" INDEX_FILE ": tensor %s should be in %s, but is in %s; "
                           "download all three again",
                           c->dir, sl_shown(name, shown), want, have);
    }
    return 0;
}

int sl_checkpoint_open(struct sl_checkpoint **out, const char *path, struct sluice_err *err)
{
    struct shard_names names = {0};
    json_t *index = NULL;
    const json_t *map = NULL;
    char index_path[SL_PATH_MAX + 64];
    struct sl_checkpoint *c = *out = calloc(1, sizeof *c);
    if (!c)
        return sl_fail_nomem(err, "checkpoint", sizeof *c);
    int status = find_directory(c->dir, path, err);
    if (status < 0 || (status = check_directory(c->dir, err)) < 0 ||
        (status = read_index(c->dir, &index, &map, err)) < 0)
        goto done;
    snprintf(index_path, sizeof index_path, "%s/" INDEX_FILE, c->dir);
    status = map ? shards_of_index(&names, index_path, map, err)
                 : shards_of_directory(&names, c->dir, err);
    if (status < 0 || (status = check_present(&names, c->dir, err)) < 0 ||
        (status = open_shards(c, &names, err)) < 0 || (status = build_table(c, err)) < 0)
        goto done;
    if (map)
        status = check_index(c, map, err);
done:
    names_free(&names);
    json_decref(index);
    if (status < 0)
        sl_checkpoint_close(out);
    return status;
}

void sl_checkpoint_close(struct sl_checkpoint **out)
{
    struct sl_checkpoint *c = *out;
    if (!c)
        return;
    for (size_t i = 0; i < c->n_shards; i++)
        sl_safetensors_close(&c->shards[i]);
    free(c->shards);
    free(c->entries);
    free(c);
    *out = NULL;
}

const struct sl_tensor *sl_checkpoint_find(const struct sl_checkpoint *c, const char *name,
                                           const struct sl_safetensors **st)
{
    size_t low = 0, high = c->n_tensors;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct sl_checkpoint_entry *e = &c->entries[middle];
        int order = strcmp(name, e->tensor->name);
        if (order == 0) {
            if (st)
                *st = c->shards[e->shard];
            return e->tensor;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
