/* SPDX-License-Identifier: MIT */
/*
 * Synthetic checkpoints in the layout that DeepSeek publishes: FP8 with a scale per 128 × 128
 * block, shards, an index.  They say nothing sensible; they time the quantiser, and are a source
 * to compare containers with.  Walk, locks, resuming and room on the drive are a conversion's.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "quant/synth.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"

#define CONFIG_FILE "config.json"
#define GENERATION_FILE "generation_config.json"
#define INDEX_FILE "model.safetensors.index.json"

enum {
    BATCH = 4 << 20,   /* bytes made at a time */
    INDEX_ENTRY = 192, /* bytes of a line of the index, at most */
};

/* As published.  At least two shards, so that no reader gets away with one. */
static const uint64_t shard_bytes = 4300000000;

/* A weight or vector of the checkpoint. */
struct source {
    enum sl_role role;
    unsigned which; /* 1: the up projection of gate and up */
    uint32_t layer, expert, shard;
};

struct shards {
    struct sl_conversion c; /* first: the target's functions get its address */
    bool ue8m0;             /* scales are powers of two */
    struct source *list;    /* in the order of the shards */
    size_t n;
    uint64_t bytes; /* of all tensors: total_size of the index */
};

static struct shards *shards_of(struct sl_conversion *c)
{
    return (struct shards *)c;
}

/* ---- what there is --------------------------------------------------------------------------- */

/* A tensor of the file: a source, or the scales of one. */
struct tensor {
    const struct source *source;
    char name[160];
    enum sl_dtype dtype;
    unsigned n_dims;
    uint64_t dims[2];
    uint64_t bytes;
    bool scales;
};

static enum sl_dtype dtype_of(enum sl_role role)
{
    switch (sl_tensor_rules()[role].class) {
    case SL_CLASS_VECTOR:
        return role == SL_ROUTER_BIAS || role == SL_INDEX_K_NORM || role == SL_INDEX_K_BIAS
                   ? SL_F32
                   : SL_BF16;
    case SL_CLASS_EXACT:
    case SL_CLASS_EMBED:
    case SL_CLASS_HEAD:
    case SL_CLASS_MTP:
        return SL_BF16;
    default:
        return SL_F8_E4M3;
    }
}

static struct tensor weight_of(const struct shards *k, const struct source *s)
{
    struct sl_shape shape = sl_checkpoint_shape_of(&k->c.config, s->role);
    bool vector = sl_tensor_rules()[s->role].class == SL_CLASS_VECTOR;
    struct tensor t = {.source = s, .dtype = dtype_of(s->role), .n_dims = vector ? 1 : 2};
    char names[2][128];
    sl_input_names(s->role, s->layer, s->expert, names);
    snprintf(t.name, sizeof t.name, "%s", names[s->which]);
    t.dims[0] = vector ? shape.cols : shape.rows;
    t.dims[1] = vector ? 1 : shape.cols;
    t.bytes = t.dims[0] * t.dims[1] * sl_dtype_bytes(t.dtype);
    return t;
}

static struct tensor scales_of(const struct tensor *weight)
{
    struct tensor t = *weight;
    snprintf(t.name, sizeof t.name, "%.120s" SL_SCALE_SUFFIX, weight->name);
    t.scales = true;
    t.dtype = SL_F32;
    for (int i = 0; i < 2; i++)
        t.dims[i] = sl_ceil_div(t.dims[i], SL_FP8_BLOCK);
    t.bytes = t.dims[0] * t.dims[1] * sizeof(float);
    return t;
}

typedef int visit_fn(void *arg, const struct tensor *t);

/* Every tensor of shard SHARD in the order of the file: large elements first, so that each is
 * aligned. */
static int each_tensor(const struct shards *k, uint32_t shard, visit_fn *visit, void *arg)
{
    static const enum sl_dtype order[] = {SL_F32, SL_BF16, SL_F8_E4M3};
    int status = 0;
    for (size_t pass = 0; pass < 3; pass++)
        for (size_t i = 0; status == 0 && i < k->n; i++) {
            if (k->list[i].shard != shard)
                continue;
            struct tensor t = weight_of(k, &k->list[i]);
            if (t.dtype == SL_F8_E4M3 && order[pass] == SL_F32)
                t = scales_of(&t);
            if (t.dtype == order[pass])
                status = visit(arg, &t);
        }
    return status;
}

/* ---- the list -------------------------------------------------------------------------------- */

static void add_role(struct shards *k, enum sl_role role, uint32_t layer, uint32_t expert)
{
    const struct sl_tensor_rule *rule = &sl_tensor_rules()[role];
    if (rule->source == SL_FROM_KV_V)
        return; /* the same tensor as SL_FROM_KV_K */
    for (unsigned which = 0; which < (rule->second ? 2 : 1); which++)
        k->list[k->n++] = (struct source){role, which, layer, expert, 0};
}

static void add_layer(struct shards *k, uint32_t layer)
{
    const struct sl_config *c = &k->c.config;
    for (int in_expert = 0; in_expert < 2; in_expert++)
        for (uint32_t expert = 0; expert < (in_expert ? c->experts : 1); expert++)
            for (enum sl_role role = 0; role < SL_N_ROLES; role++)
                if (sl_layer_has(c, layer, role) &&
                    (sl_tensor_rules()[role].where == SL_IN_EXPERT) == in_expert)
                    add_role(k, role, layer, expert);
}

static int list_sources(struct shards *k, struct sluice_err *err)
{
    const struct sl_config *c = &k->c.config;
    size_t room = 3 + c->layers * (2 * SL_N_ROLES + 3 * (size_t)c->experts);
    k->list = calloc(room, sizeof *k->list);
    if (!k->list)
        return sl_fail_nomem(err, "list of tensors", room * sizeof *k->list);
    add_role(k, SL_EMBED, 0, 0);
    for (uint32_t layer = 0; layer < c->layers; layer++)
        add_layer(k, layer);
    add_role(k, SL_FINAL_NORM, 0, 0);
    add_role(k, SL_HEAD, 0, 0);
    return 0;
}

/* Bytes of a source with its scales. */
static uint64_t source_bytes(const struct shards *k, const struct source *s)
{
    struct tensor t = weight_of(k, s);
    return t.bytes + (t.dtype == SL_F8_E4M3 ? scales_of(&t).bytes : 0);
}

/* Divides the list into shards; returns how many. */
static uint32_t divide(struct shards *k)
{
    uint64_t filled = 0;
    uint32_t shard = 0;
    for (size_t i = 0; i < k->n; i++)
        k->bytes += source_bytes(k, &k->list[i]);
    uint64_t limit = sl_min(shard_bytes, k->bytes / 2);
    for (size_t i = 0; i < k->n; i++) {
        uint64_t bytes = source_bytes(k, &k->list[i]);
        if (filled > 0 && filled + bytes > limit) {
            shard++;
            filled = 0;
        }
        filled += bytes;
        k->list[i].shard = shard;
    }
    return shard + 1;
}

static int count_weights(void *arg, const struct tensor *t)
{
    struct sl_plan *plan = arg;
    if (t->n_dims == 2 && !t->scales)
        plan->weights += t->dims[0] * t->dims[1];
    return 0;
}

static int measure_shard(struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                         uint64_t *bytes, struct sluice_err *err);

static int plan_shards(struct shards *k, struct sluice_err *err)
{
    struct sl_plan *plan = &k->c.plan;
    uint32_t n = divide(k);
    plan->files = calloc(n, sizeof *plan->files);
    if (!plan->files)
        return sl_fail_nomem(err, "list of files", n * sizeof *plan->files);
    plan->n_files = n;
    for (uint32_t i = 0; i < n; i++) {
        struct sl_plan_file *f = &plan->files[i];
        *f = (struct sl_plan_file){.kind = SL_FILE_SHARD, .layer = i};
        snprintf(f->name, sizeof f->name, "model-%05u-of-%05u.safetensors", i + 1, n);
        int status = measure_shard(&k->c, f, 0, &f->source_bytes, err);
        if (status < 0)
            return status;
        each_tensor(k, i, count_weights, plan);
        plan->source_bytes += f->source_bytes;
    }
    return 0;
}

/* ---- a shard --------------------------------------------------------------------------------- */

/* A tensor being made: all its pieces, or a batch of them. */
struct making {
    struct shards *k;
    struct sl_writer writer;
    const struct tensor *t;
    unsigned doubled; /* for sl_noise_e4m3() */
    int exponent;     /* FP8 codes times 2^exponent have the wanted deviation */
    float size;       /* BF16 weights are uniform in [−size, size) */
    uint64_t first;   /* piece at OUT */
    uint8_t *out;
    struct sluice_err *err;
};

/* Norms are 1, biases 0. */
static void fill_vector(const struct tensor *t, uint8_t *out, size_t n)
{
    enum sl_role role = t->source->role;
    float value = role == SL_INDEX_K_BIAS || role == SL_ROUTER_BIAS ? 0 : 1;
    uint16_t half = sl_to_bf16(value);
    for (size_t i = 0; i < n; i++)
        if (t->dtype == SL_F32)
            memcpy(out + 4 * i, &value, 4);
        else
            memcpy(out + 2 * i, &half, 2);
}

/* Powers of two, or of the same root mean square from 3/4 to 5/4 of it. */
static void fill_scales(const struct making *m, uint64_t *state, uint8_t *out, size_t n)
{
    float middle = ldexpf(1, m->exponent), root = sqrtf(1 + 1.0f / 48);
    for (size_t i = 0; i < n; i++) {
        float factor = 0.75f + (float)(sl_splitmix(state) >> 40) * 0x1p-25f;
        float scale = m->k->ue8m0 ? middle : middle * factor / root;
        memcpy(out + 4 * i, &scale, 4);
    }
}

static void fill_pieces(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct making *m = arg;
    const struct tensor *t = m->t;
    const struct source *s = t->source;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        uint64_t piece = m->first + i, at = piece * SL_NOISE_PIECE;
        uint64_t state = sl_noise_seed(s->role, s->which, s->layer, s->expert,
                                       piece | (uint64_t)t->scales << 63);
        size_t n = sl_min(SL_NOISE_PIECE, t->bytes - at) / sl_dtype_bytes(t->dtype);
        uint8_t *out = m->out + i * SL_NOISE_PIECE;
        if (t->n_dims == 1)
            fill_vector(t, out, n);
        else if (t->scales)
            fill_scales(m, &state, out, n);
        else if (t->dtype == SL_F8_E4M3)
            sl_noise_e4m3(&state, m->doubled, out, n);
        else
            sl_noise_bf16(&state, m->size, out, n);
    }
}

/* The numbers that all pieces of the tensor share. */
static void prepare(struct making *m)
{
    enum sl_role role = m->t->source->role;
    size_t inputs = sl_checkpoint_shape_of(&m->k->c.config, role).cols;
    float deviation = role == SL_EMBED ? 1 : sl_synth_deviation(role, inputs);
    m->size = deviation * sqrtf(3);
    m->doubled = sl_noise_e4m3_fit(deviation, &m->exponent);
}

static int write_tensor(void *arg, const struct tensor *t)
{
    struct making *m = arg;
    struct sl_conversion *c = &m->k->c;
    uint64_t pieces = sl_ceil_div(t->bytes, SL_NOISE_PIECE);
    int status = 0;
    m->t = t;
    m->out = c->packed.data;
    prepare(m);
    for (m->first = 0; status == 0 && m->first < pieces; m->first += BATCH / SL_NOISE_PIECE) {
        size_t n = sl_min(BATCH / SL_NOISE_PIECE, pieces - m->first);
        size_t bytes = sl_min(BATCH, t->bytes - m->first * SL_NOISE_PIECE);
        sl_team_run(&c->team, n, 1, fill_pieces, m);
        status = sl_writer_append(&m->writer, m->out, bytes, m->err);
        if (status == 0)
            status = sl_conversion_progress(c, bytes, m->err);
    }
    return status;
}

static int declare_tensor(void *arg, const struct tensor *t)
{
    struct making *m = arg;
    return sl_writer_add(&m->writer, t->name, t->dtype, t->n_dims, t->dims, false, m->err);
}

static int declare_shard(struct making *m, uint32_t shard)
{
    const struct shards *k = m->k;
    int status = sl_writer_open(&m->writer, k->c.recipe, k->c.source, m->err);
    if (status == 0)
        status = sl_writer_meta(&m->writer, "format", "", "pt", m->err);
    return status < 0 ? status : each_tensor(k, shard, declare_tensor, m);
}

static int measure_shard(struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                         uint64_t *bytes, struct sluice_err *err)
{
    struct making m = {.k = shards_of(c), .err = err};
    (void)part;
    int status = declare_shard(&m, file->layer);
    if (status == 0)
        status = sl_writer_measure(&m.writer, bytes, err);
    sl_writer_close(&m.writer);
    return status;
}

static int write_shard(struct sl_conversion *c, const struct sl_plan_file *file,
                       struct sluice_err *err)
{
    struct making m = {.k = shards_of(c), .err = err};
    char path[SL_PATH_MAX];
    c->file = file->name;
    int status = declare_shard(&m, file->layer);
    if (status == 0)
        status = sl_path_join(path, c->dest, file->name, err);
    if (status == 0)
        status = sl_writer_begin(&m.writer, path, true, err);
    if (status == 0)
        status = each_tensor(m.k, file->layer, write_tensor, &m);
    if (status == 0)
        status = sl_writer_commit(&m.writer, err);
    sl_writer_close(&m.writer);
    return status;
}

/* ---- configuration and index ----------------------------------------------------------------- */

struct indexing {
    json_t *map;
    const char *file;
    struct sluice_err *err;
};

static int index_tensor(void *arg, const struct tensor *t)
{
    const struct indexing *x = arg;
    return json_object_set_new(x->map, t->name, json_string(x->file)) == 0
               ? 0
               : sl_fail_nomem(x->err, INDEX_FILE, 0);
}

/* Replaces NAME by the text of ROOT, which is released. */
static int write_json(const struct sl_conversion *c, const char *name, json_t *root,
                      struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    int status = text ? sl_path_join(path, c->dest, name, err) : sl_fail_nomem(err, name, 0);
    if (status == 0)
        status = sl_file_replace(path, text, strlen(text), err);
    free(text);
    json_decref(root);
    return status;
}

static int write_index(const struct shards *k, struct sluice_err *err)
{
    struct indexing x = {.map = json_object(), .err = err};
    int status = 0;
    for (size_t i = 0; status == 0 && i < k->c.plan.n_files; i++) {
        x.file = k->c.plan.files[i].name;
        status = each_tensor(k, (uint32_t)i, index_tensor, &x);
    }
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)k->bytes,
                             "weight_map", x.map);
    if (status == 0)
        return write_json(&k->c, INDEX_FILE, root, err);
    json_decref(root);
    return status;
}

/* The index comes last: a checkpoint that has it is whole. */
static int finish(struct sl_conversion *c, struct sluice_err *err)
{
    json_error_t ignored;
    json_t *config = json_loads(c->config_text, 0, &ignored);
    json_t *generation = json_pack(
        "{s:b, s:b, s:O*, s:O*, s:f, s:f}", "_from_model_config", 1, "do_sample", 1, "bos_token_id",
        json_object_get(config, "bos_token_id"), "eos_token_id",
        json_object_get(config, "eos_token_id"), "temperature", 1.0, "top_p", 0.95);
    int status = write_json(c, GENERATION_FILE, generation, err);
    if (status == 0)
        status = write_json(c, CONFIG_FILE, json_incref(config), err);
    json_decref(config);
    return status < 0 ? status : write_index(shards_of(c), err);
}

static uint64_t finish_room(const struct sl_conversion *c)
{
    const struct shards *k = (const struct shards *)c;
    return 3 * SL_DATA_ALIGN + 2 * k->n * INDEX_ENTRY;
}

static int total_bytes(const struct sl_conversion *c, uint64_t *bytes, struct sluice_err *err)
{
    static const char *const names[] = {CONFIG_FILE, GENERATION_FILE, INDEX_FILE};
    *bytes = c->plan.source_bytes;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[SL_PATH_MAX];
        struct stat info;
        int status = sl_path_join(path, c->dest, names[i], err);
        if (status < 0)
            return status;
        *bytes += stat(path, &info) == 0 ? (uint64_t)info.st_size : 0;
    }
    return 0;
}

static const struct sl_target checkpoint = {
    .what = "a checkpoint of the same shards",
    .last = INDEX_FILE,
    .measure = measure_shard,
    .write = write_shard,
    .finish = finish,
    .finish_room = finish_room,
    .total = total_bytes,
};

int sl_synthesize_checkpoint(const char *dest, const struct sl_synth_opts *opts,
                             struct sl_quantize_report *report, struct sluice_err *err)
{
    char *text = NULL;
    const struct sl_quantize_opts common = {
        .threads = opts->threads, .user = opts->user, .progress = opts->progress};
    struct shards k = {.c = {.target = &checkpoint, .opts = &common, .dest = dest}};
    int status = sl_conversion_open(&k.c, NULL, err);
    if (status == 0)
        status = sl_imitate(&k.c.config, &text, opts, err);
    if (status == 0) {
        k.c.config_text = text;
        k.ue8m0 = strstr(text, "\"ue8m0\"") != NULL;
        snprintf(k.c.recipe, sizeof k.c.recipe, "checkpoint");
        sl_digest_print(k.c.source, sl_hash(text, strlen(text)));
        status = list_sources(&k, err);
    }
    if (status == 0)
        status = plan_shards(&k, err);
    if (status == 0)
        status = sl_buffer_reserve(&k.c.packed, BATCH, err);
    if (status == 0)
        status = sl_conversion_run(&k.c, report, err);
    report->weights = k.c.plan.weights;
    sl_conversion_close(&k.c);
    free(k.list);
    free(text);
    return status;
}
