/* SPDX-License-Identifier: MIT */
/* Opens resident files.  Trusts nothing in them: checksum first, then every name and shape. */
#include "runtime/model/weights.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"

enum { PAGE = 4096 };

/* All files being opened. */
struct loading {
    const struct sl_load_opts *opts;
    uint8_t *next; /* where the next file is copied to */
    uint64_t done, total;
};

/* One of them. */
struct opening {
    const struct sl_weights *w;
    const char *dir;
    char path[SL_PATH_MAX];
    struct sl_safetensors *st;
    struct sl_layer_weights *out;
    uint32_t layer;
    struct loading *loading; /* NULL: the file is mapped, and nobody hears of it */
    struct sluice_err *err;
};

bool sl_shape_fits(const struct sl_config *c, enum sl_role role, const struct sl_packing *p)
{
    struct sl_shape want = sl_tensor_shape_of(c, role);
    return p->rows == want.rows && p->cols == want.cols && p->count == want.count;
}

/* Checks the copied files (configuration, tokenizer): a flipped bit there would go unnoticed. */
static int check_copied_files(const struct sl_manifest *m, const char *dir, struct sluice_err *err)
{
    for (size_t i = 0; i < m->n_files; i++) {
        char path[SL_PATH_MAX];
        uint64_t hash = 0;
        if (sl_is_tensor_file(m->files[i].name))
            continue;
        int status = sl_path_join(path, dir, m->files[i].name, err);
        if (status == 0)
            status = sl_file_hash(path, &hash, err);
        if (status < 0)
            return status;
        if (hash != m->files[i].xxh3)
            return sl_fail(err, SLUICE_EDAMAGED,
                           "%s: checksum %016" PRIx64 ", %016" PRIx64
                           " wanted: changed since the conversion; copy it again from the source",
                           path, hash, m->files[i].xxh3);
    }
    return 0;
}

/* The checksum of a mapped file is of what is read: a bad sector is an error then, no signal. */
static int map_file(struct opening *o, uint64_t bytes, uint64_t *hash)
{
    int status = sl_map_open(&o->out->map, o->path, o->err);
    if (status == 0 && o->out->map.size != bytes)
        status = sl_wrong_size(o->path, o->out->map.size, bytes, o->err);
    return status < 0 ? status : sl_file_hash(o->path, hash, o->err);
}

static int copy_file(struct opening *o, uint64_t bytes, uint64_t *hash)
{
    uint8_t *data = o->loading->next;
    o->loading->next += sl_round_up(bytes, PAGE);
    o->out->map = (struct sl_map){data, bytes};
    o->out->copied = true;
    return sl_file_load(o->path, data, bytes, hash, o->err);
}

static int tell_progress(struct opening *o, uint64_t bytes)
{
    struct loading *l = o->loading;
    if (!l)
        return 0;
    l->done += sl_round_up(bytes, PAGE);
    if (l->opts->progress && l->opts->progress(l->opts->user, l->done, l->total))
        return sl_fail(o->err, SLUICE_ECANCELLED, "cancelled");
    return 0;
}

/* Opens NAME and compares it with its size and checksum in the manifest. */
static int open_file(struct opening *o, const char *name)
{
    const struct sl_manifest_file *entry = sl_manifest_find(o->w->manifest, name);
    bool copy = o->loading && o->loading->opts->copy;
    uint64_t hash = 0;
    int status = sl_path_join(o->path, o->dir, name, o->err);
    if (status == 0 && !entry)
        status = sl_fail(o->err, SLUICE_EFORMAT, "%s: does not list %s", o->w->manifest->path,
                         name);
    if (status == 0)
        status = copy ? copy_file(o, entry->bytes, &hash) : map_file(o, entry->bytes, &hash);
    if (status == 0 && hash != entry->xxh3)
        status = sl_explain_damage(o->path, o->err);
    if (status == 0)
        status = sl_safetensors_open(&o->st, o->path, o->err);
    if (status == 0 && o->st->file_bytes != o->out->map.size)
        status = sl_fail(o->err, SLUICE_EIO, "%s: replaced while it was being opened", o->path);
    return status < 0 ? status : tell_progress(o, entry->bytes);
}

static int missing(struct opening *o, const char *name)
{
    return sl_fail(o->err, SLUICE_EFORMAT, "%s: no tensor %s, which config.json demands", o->path,
                   name);
}

static int bind_vector(struct opening *o, const struct sl_tensor_rule *rule, const char *name,
                       const struct sl_tensor *t)
{
    uint32_t want = sl_tensor_shape_of(&o->w->config, rule->role).cols;
    char shape[128];
    if (t->dtype != SL_F32 || t->n_dims != 1 || t->dims[0] != want)
        return sl_fail(o->err, SLUICE_EFORMAT, "%s: %s is %s %s, F32 [%u] wanted", o->path, name,
                       sl_dtype_name(t->dtype), sl_tensor_shape(t, shape), want);
    o->out->vector[rule->role] = (const float *)(const void *)(o->out->map.data + t->offset);
    return 0;
}

static int bind_matrix(struct opening *o, const struct sl_tensor_rule *rule, const char *name,
                       const struct sl_tensor *t)
{
    struct sl_matrix *m = &o->out->matrix[rule->role];
    char key[160], where[SL_PATH_MAX + 160];
    snprintf(key, sizeof key, "pack:%s", name);
    snprintf(where, sizeof where, "%s: %s", o->path, name);
    const char *text = sl_safetensors_meta(o->st, key);
    if (!text)
        return sl_fail(o->err, SLUICE_EFORMAT, "%s: no packing descriptor", where);
    int status = sl_packing_parse(text, where, &m->packing, o->err);
    if (status < 0)
        return status;
    struct sl_shape want = sl_tensor_shape_of(&o->w->config, rule->role);
    if (!sl_shape_fits(&o->w->config, rule->role, &m->packing))
        return sl_fail(
            o->err, SLUICE_EFORMAT, "%s is %u x [%u, %u], config.json demands %u x [%u, %u]", where,
            m->packing.count, m->packing.rows, m->packing.cols, want.count, want.rows, want.cols);
    if (t->dtype != SL_U8 || t->bytes < sl_packing_bytes(&m->packing) ||
        t->offset % SL_TENSOR_ALIGN != 0)
        return sl_fail(o->err, SLUICE_EFORMAT,
                       "%s: %" PRIu64 " bytes of %s at %" PRIu64
                       ", %zu bytes of U8 at a multiple of 64 wanted",
                       where, t->bytes, sl_dtype_name(t->dtype), t->offset,
                       sl_packing_bytes(&m->packing));
    m->data = o->out->map.data + t->offset;
    return 0;
}

static int bind_tensor(struct opening *o, const struct sl_tensor_rule *rule)
{
    char name[128];
    sl_tensor_name(name, rule, rule->name, o->layer, 0);
    const struct sl_tensor *t = sl_safetensors_find(o->st, name);
    if (!t)
        return missing(o, name);
    if (t->offset % sizeof(float) != 0)
        return sl_fail(o->err, SLUICE_EFORMAT, "%s: %s is not aligned", o->path, name);
    return rule->class == SL_CLASS_VECTOR ? bind_vector(o, rule, name, t)
                                          : bind_matrix(o, rule, name, t);
}

static int open_layer(struct opening *o)
{
    const struct sl_config *c = &o->w->config;
    char name[64];
    if (o->layer < c->layers)
        sl_resident_file(name, o->layer);
    else
        sl_mtp_file(name, o->layer);
    int status = open_file(o, name);
    for (int role = 0; status == 0 && role < SL_N_ROLES; role++) {
        const struct sl_tensor_rule *rule = &sl_tensor_rules()[role];
        if (rule->where != SL_IN_EXPERT && sl_layer_has(c, o->layer, rule->role))
            status = bind_tensor(o, rule);
    }
    sl_safetensors_close(&o->st);
    return status;
}

static int bind_embedding(struct opening *o, struct sl_embedding *e)
{
    const struct sl_config *c = &o->w->config;
    const char *name = sl_tensor_rules()[SL_EMBED].name;
    char scale_name[128], shape[128];
    snprintf(scale_name, sizeof scale_name, "%s_scale", name);
    const struct sl_tensor *t = sl_safetensors_find(o->st, name);
    const struct sl_tensor *scale = sl_safetensors_find(o->st, scale_name);
    if (!t)
        return missing(o, name);
    if ((t->dtype != SL_I8 && t->dtype != SL_BF16 && t->dtype != SL_F32) || t->n_dims != 2 ||
        t->dims[0] != c->vocab || t->dims[1] != c->hidden || t->offset % 4 != 0)
        return sl_fail(o->err, SLUICE_EFORMAT, "%s: %s is %s %s, I8, BF16 or F32 [%u, %u] wanted",
                       o->path, name, sl_dtype_name(t->dtype), sl_tensor_shape(t, shape), c->vocab,
                       c->hidden);
    if (t->dtype == SL_I8) {
        if (!scale)
            return missing(o, scale_name);
        if (scale->dtype != SL_F32 || scale->n_dims != 1 || scale->dims[0] != c->vocab ||
            scale->offset % 4 != 0)
            return sl_fail(o->err, SLUICE_EFORMAT, "%s: %s is %s %s, F32 [%u] wanted", o->path,
                           scale_name, sl_dtype_name(scale->dtype), sl_tensor_shape(scale, shape),
                           c->vocab);
        e->scale = (const float *)(const void *)(o->out->map.data + scale->offset);
    }
    e->dtype = t->dtype;
    e->rows = o->out->map.data + t->offset;
    return 0;
}

static int open_head(struct opening *o, struct sl_embedding *embedding)
{
    int status = open_file(o, SL_HEAD_FILE);
    if (status == 0)
        status = bind_embedding(o, embedding);
    if (status == 0)
        status = bind_tensor(o, &sl_tensor_rules()[SL_HEAD]);
    if (status == 0)
        status = bind_tensor(o, &sl_tensor_rules()[SL_FINAL_NORM]);
    sl_safetensors_close(&o->st);
    return status;
}

static int read_descriptions(struct sl_weights *w, const char *dir, struct sluice_err *err)
{
    int status = sl_manifest_open(&w->manifest, dir, err);
    if (status == 0)
        status = check_copied_files(w->manifest, dir, err);
    if (status == 0 && !sl_manifest_find(w->manifest, "config.json"))
        status = sl_fail(err, SLUICE_EFORMAT, "%s: does not list config.json", w->manifest->path);
    return status < 0 ? status : sl_config_read(&w->config, dir, err);
}

int sl_weights_begin(struct sl_weights **out, const char *dir, struct sluice_err *err)
{
    struct sl_weights *w = *out = calloc(1, sizeof *w);
    if (!w)
        return sl_fail_nomem(err, "weights", sizeof *w);
    int status = read_descriptions(w, dir, err);
    if (status < 0)
        sl_weights_close(out);
    return status;
}

static int load_head(struct sl_weights *w, const char *dir, struct loading *loading,
                     struct sluice_err *err)
{
    struct opening o = {.w = w, .dir = dir, .out = &w->head, .loading = loading, .err = err};
    return open_head(&o, &w->embedding);
}

int sl_weights_open_head(struct sl_weights **out, const char *dir, struct sluice_err *err)
{
    int status = sl_weights_begin(out, dir, err);
    if (status == 0 && (status = load_head(*out, dir, NULL, err)) < 0)
        sl_weights_close(out);
    return status;
}

int sl_layer_open(struct sl_layer_weights *out, const struct sl_weights *w, const char *dir,
                  uint32_t layer, struct sluice_err *err)
{
    struct opening o = {.w = w, .dir = dir, .out = out, .layer = layer, .err = err};
    *out = (struct sl_layer_weights){0};
    return open_layer(&o);
}

void sl_layer_close(struct sl_layer_weights *layer)
{
    if (!layer->copied)
        sl_map_close(&layer->map);
    *layer = (struct sl_layer_weights){0};
}

uint64_t sl_weights_bytes(const struct sl_weights *w, bool with_mtp)
{
    const struct sl_config *c = &w->config;
    uint64_t bytes = 0;
    char name[64] = SL_HEAD_FILE;
    for (uint32_t layer = 0;; layer++) {
        const struct sl_manifest_file *f = sl_manifest_find(w->manifest, name);
        bytes += f ? sl_round_up(f->bytes, PAGE) : 0;
        if (layer < c->layers)
            sl_resident_file(name, layer);
        else if (layer == c->layers && with_mtp)
            sl_mtp_file(name, layer);
        else
            return bytes;
    }
}

int sl_weights_load(struct sl_weights *w, const char *dir, const struct sl_load_opts *opts,
                    struct sluice_err *err)
{
    struct loading loading = {.opts = opts, .total = sl_weights_bytes(w, opts->mtp)};
    int status = opts->copy ? sl_huge_open(&w->copy, loading.total, "weights", err) : 0;
    loading.next = w->copy.base;
    if (status == 0)
        status = load_head(w, dir, &loading, err);
    if (status < 0)
        return status;
    w->n_layers = w->config.layers + (opts->mtp ? 1 : 0);
    w->layers = calloc(w->n_layers, sizeof *w->layers);
    if (!w->layers)
        return sl_fail_nomem(err, "layer table", w->n_layers * sizeof *w->layers);
    struct opening o = {.w = w, .dir = dir, .loading = &loading, .err = err};
    for (; status == 0 && o.layer < w->n_layers; o.layer++) {
        o.out = &w->layers[o.layer];
        status = open_layer(&o);
    }
    return status;
}

int sl_weights_open(struct sl_weights **out, const char *dir, bool with_mtp, struct sluice_err *err)
{
    const struct sl_load_opts opts = {.mtp = with_mtp};
    int status = sl_weights_begin(out, dir, err);
    if (status == 0 && (status = sl_weights_load(*out, dir, &opts, err)) < 0)
        sl_weights_close(out);
    return status;
}

void sl_weights_close(struct sl_weights **out)
{
    struct sl_weights *w = *out;
    if (!w)
        return;
    for (uint32_t i = 0; w->layers && i < w->n_layers; i++)
        sl_layer_close(&w->layers[i]);
    sl_layer_close(&w->head);
    sl_huge_close(&w->copy);
    free(w->layers);
    sl_manifest_close(&w->manifest);
    free(w);
    *out = NULL;
}

bool sl_is_exact(const struct sl_weights *w)
{
    return strcmp(w->manifest->profile, "reference") == 0;
}

enum sl_cache sl_cache_type(enum sluice_cache_type wanted, bool exact)
{
    switch (wanted) {
    case SLUICE_CACHE_INT8:
        return SL_CACHE_INT8;
    case SLUICE_CACHE_BF16:
        return SL_CACHE_BF16;
    case SLUICE_CACHE_F32:
        return SL_CACHE_F32;
    case SLUICE_CACHE_AUTO:
        break;
    }
    return exact ? SL_CACHE_F32 : SL_CACHE_INT8;
}

void sl_embed(const struct sl_weights *w, const struct sl_ops *ops, int32_t token, float *out)
{
    const struct sl_embedding *e = &w->embedding;
    size_t hidden = w->config.hidden, row = (size_t)token;
    const uint8_t *p = e->rows + row * hidden * sl_dtype_bytes(e->dtype);
    if (e->dtype == SL_F32)
        memcpy(out, p, hidden * sizeof *out);
    else if (e->dtype == SL_BF16)
        ops->bf16_decode((const uint16_t *)(const void *)p, hidden, out);
    else
        for (size_t i = 0; i < hidden; i++)
            out[i] = (float)(int8_t)p[i] * e->scale[row];
}
