/* SPDX-License-Identifier: MIT */
/*
 * sl_quantize(): opens and checks the source, looks at what DEST already has, and writes the
 * missing files one after another.  Owns the buffers, the progress and the decision to resume.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/base/json.h"
#include "runtime/model/rung.h"

enum {
    MAX_CONFIG = 1 << 20,
    COMPARE_BYTES = 4 << 20,
    SAMPLES = 16,
    SAMPLE_BYTES = 4096,
};

/* ---- the source ------------------------------------------------------------------------------ */

static int check_block_size(const struct sl_checkpoint *c, struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    json_t *root = NULL;
    int status = sl_path_join(path, c->dir, "config.json", err);
    if (status == 0)
        status = sl_json_read(path, MAX_CONFIG, &root, err);
    if (status < 0)
        return status;
    const json_t *block = json_object_get(json_object_get(root, "quantization_config"),
                                          "weight_block_size");
    bool known = json_array_size(block) == 2 &&
                 json_integer_value(json_array_get(block, 0)) == SL_FP8_BLOCK &&
                 json_integer_value(json_array_get(block, 1)) == SL_FP8_BLOCK;
    char *text = block ? json_dumps(block, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (block && !json_is_null(block) && !known)
        status = sl_fail(err, SLUICE_EUNSUPPORTED,
                         "%s: quantization_config.weight_block_size is %.60s; this build reads "
                         "[128,128]",
                         path, text ? text : "?");
    free(text);
    json_decref(root);
    return status;
}

static int hash_range(XXH3_state_t *state, const struct sl_safetensors *st, uint64_t offset,
                      size_t len, struct sluice_err *err)
{
    uint8_t *data = malloc(len);
    int status = data ? sl_read_at(st->fd, data, len, offset, st->path, err)
                      : sl_fail_nomem(err, st->path, len);
    if (status == 0)
        XXH3_64bits_update(state, data, len);
    free(data);
    return status;
}

/* Pieces of SAMPLE_BYTES spread evenly over the data. */
static int hash_samples(XXH3_state_t *state, const struct sl_safetensors *st,
                        struct sluice_err *err)
{
    uint64_t data = st->file_bytes - st->data_start;
    size_t len = sl_min(SAMPLE_BYTES, data);
    int status = 0;
    for (uint64_t i = 0; status == 0 && i < SAMPLES && len > 0; i++)
        status = hash_range(state, st, st->data_start + (data - len) / (SAMPLES - 1) * i, len, err);
    return status;
}

static int digest_shard(XXH3_state_t *state, const struct sl_safetensors *st,
                        struct sluice_err *err)
{
    int status = hash_range(state, st, 0, st->data_start, err);
    return status < 0 ? status : hash_samples(state, st, err);
}

/*
 * The digest of the source: config.json, the header of every shard (all names, types, shapes and
 * places) and samples of its data, so that two trainings of one architecture differ.  Hashing every
 * weight would mean reading the checkpoint once more.
 */
static int digest_source(struct sl_conversion *c, struct sluice_err *err)
{
    char path[SL_PATH_MAX], *text = NULL;
    size_t size = 0;
    XXH3_state_t *state = XXH3_createState();
    int status = state ? sl_path_join(path, c->checkpoint->dir, "config.json", err)
                       : sl_fail_nomem(err, "checksum", 1024);
    if (status == 0)
        status = sl_file_read(path, MAX_CONFIG, &text, &size, err);
    if (status == 0) {
        XXH3_64bits_reset(state);
        XXH3_64bits_update(state, text, size);
    }
    for (size_t i = 0; status == 0 && i < c->checkpoint->n_shards; i++)
        status = digest_shard(state, c->checkpoint->shards[i], err);
    if (status == 0)
        sl_digest_print(c->source, XXH3_64bits_digest(state));
    free(text);
    XXH3_freeState(state);
    return status;
}

/* ---- the MTP layer's copies of embedding and head -------------------------------------------- */

static int copies_differ(const char *name, const char *main_name, struct sluice_err *err)
{
    return sl_fail(err, SLUICE_EUNSUPPORTED,
                   "%s differs from %s; this build converts models whose MTP layer shares them",
                   name, main_name);
}

static int compare_tensors(struct sl_conversion *c, const char *name, const char *main_name,
                           struct sluice_err *err)
{
    const struct sl_safetensors *st_a, *st_b;
    const struct sl_tensor *a = sl_checkpoint_find(c->checkpoint, name, &st_a);
    const struct sl_tensor *b = sl_checkpoint_find(c->checkpoint, main_name, &st_b);
    if (!a || !b)
        return 0; /* many checkpoints leave the copies out */
    if (a->dtype != b->dtype || a->bytes != b->bytes)
        return copies_differ(name, main_name, err);
    int status = sl_buffer_reserve(&c->raw, 2 * COMPARE_BYTES, err);
    for (uint64_t at = 0; status == 0 && at < a->bytes; at += COMPARE_BYTES) {
        size_t n = sl_min(COMPARE_BYTES, a->bytes - at);
        status = sl_tensor_read(st_a, a, c->raw.data, n, at, err);
        if (status == 0)
            status = sl_tensor_read(st_b, b, c->raw.data + COMPARE_BYTES, n, at, err);
        if (status == 0 && memcmp(c->raw.data, c->raw.data + COMPARE_BYTES, n) != 0)
            status = copies_differ(name, main_name, err);
        if (status == 0)
            status = sl_conversion_progress(c, 0, err);
    }
    return status;
}

static int check_mtp_copies(struct sl_conversion *c, const struct sl_plan_file *file,
                            struct sluice_err *err)
{
    static const struct {
        const char *copy;
        enum sl_role role;
    } pairs[] = {{"embed_tokens.weight", SL_EMBED}, {"shared_head.head.weight", SL_HEAD}};
    int status = 0;
    c->file = file->name;
    for (size_t i = 0; status == 0 && i < sizeof pairs / sizeof pairs[0]; i++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.%u.%s", file->layer, pairs[i].copy);
        status = compare_tensors(c, name, sl_tensor_rules()[pairs[i].role].checkpoint, err);
    }
    return status;
}

/* ---- the destination ------------------------------------------------------------------------- */

static int refuse(const char *path, const char *why, struct sluice_err *err)
{
    return sl_fail(err, SLUICE_EARG, "%s was made %s; choose another directory or delete it", path,
                   why);
}

static int check_not_source(const struct sl_conversion *c, struct sluice_err *err)
{
    struct stat a, b;
    if (c->checkpoint && stat(c->checkpoint->dir, &a) == 0 && stat(c->dest, &b) == 0 &&
        a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return sl_fail(err, SLUICE_EARG, "%s is the source itself; give another destination",
                       c->dest);
    return 0;
}

static bool has_all_files(const struct sl_conversion *c, const struct sl_manifest *m)
{
    for (size_t i = 0; i < m->n_files; i++) {
        char path[SL_PATH_MAX];
        struct stat info;
        if (sl_path_join(path, c->dest, m->files[i].name, NULL) < 0 || stat(path, &info) != 0 ||
            (uint64_t)info.st_size != m->files[i].bytes)
            return false;
    }
    return true;
}

/* The manifest of an earlier run must be of the same recipe and source; it stays open in *m, NULL
 * when there is none.  A damaged one is made again. */
static int check_manifest(const struct sl_conversion *c, struct sl_manifest **m,
                          struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    struct sluice_err ignored;
    int status = sl_path_join(path, c->dest, SL_MANIFEST, err);
    if (status < 0 || !sl_file_exists(path))
        return status;
    if (sl_manifest_open(m, c->dest, &ignored) < 0)
        return ignored.code == SLUICE_EVERSION ? refuse(path, "by a newer sluice", err) : 0;
    const char *recipe = json_string_value(
        json_object_get(json_object_get((*m)->root, "recipe"), "digest"));
    if (strcmp((*m)->source_digest, c->source) != 0)
        return refuse(path, "from another source", err);
    if (!recipe || strcmp(recipe, c->recipe) != 0)
        return refuse(path, "with another profile or other options", err);
    return 0;
}

/* True when the file has the bytes that were written: as the manifest M says, if there is one, else
 * as far as its own checksums go. */
static bool is_intact(const struct sl_conversion *c, const struct sl_plan_file *file, unsigned part,
                      const struct sl_manifest *m)
{
    char name[64], path[SL_PATH_MAX];
    struct sluice_err ignored;
    struct stat info;
    uint64_t hash;
    sl_file_name(c, file, part, name);
    const struct sl_manifest_file *entry = m ? sl_manifest_find(m, name) : NULL;
    if (sl_file_path(c, file, part, path, &ignored) < 0)
        return false;
    if (!entry)
        return sl_tensors_check(path, &ignored) == 0;
    return stat(path, &info) == 0 && (uint64_t)info.st_size == entry->bytes &&
           sl_file_hash(path, &hash, &ignored) == 0 && hash == entry->xxh3;
}

/* True in *there when there is a file at PATH, intact or not; refuses one of another conversion. */
static int check_origin(const struct sl_conversion *c, const char *path, bool *there,
                        struct sluice_err *err)
{
    struct sl_safetensors *st = NULL;
    struct sluice_err ignored;
    int status = 0;
    *there = sl_file_exists(path) && sl_safetensors_open(&st, path, &ignored) == 0;
    if (!*there)
        return 0;
    const char *recipe = sl_safetensors_meta(st, "recipe");
    const char *source = sl_safetensors_meta(st, "source");
    if (!sl_safetensors_meta(st, "sluice") || !source || strcmp(source, c->source) != 0)
        status = refuse(path, "from another source", err);
    else if (!recipe || strcmp(recipe, c->recipe) != 0)
        status = refuse(path, "with another profile or other options", err);
    sl_safetensors_close(&st);
    return status;
}

/* FILE is complete when all its parts are there. */
static int check_parts(const struct sl_conversion *c, struct sl_plan_file *file,
                       struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    int status = 0;
    file->complete = true;
    for (unsigned p = 0; status == 0 && p < sl_file_parts(c, file); p++) {
        bool there = false;
        status = sl_file_path(c, file, p, path, err);
        if (status == 0)
            status = check_origin(c, path, &there, err);
        file->complete = file->complete && there;
    }
    return status;
}

/*
 * Marks the files that need not be written.  A damaged one is written again: the manifest must not
 * vouch for bytes that changed since they were written.  In a *finished container, which lacks
 * nothing, the manifest vouches already, and `sluice verify` is the one to ask.
 */
static int check_files(struct sl_conversion *c, bool *finished, struct sluice_err *err)
{
    struct sl_manifest *m = NULL;
    int status = check_manifest(c, &m, err);
    *finished = status == 0 && m && has_all_files(c, m);
    for (size_t i = 0; status == 0 && i < c->plan.n_files; i++) {
        status = check_parts(c, &c->plan.files[i], err);
        *finished = *finished && c->plan.files[i].complete;
    }
    for (size_t i = 0; status == 0 && !*finished && i < c->plan.n_files; i++) {
        struct sl_plan_file *f = &c->plan.files[i];
        for (unsigned p = 0; p < sl_file_parts(c, f); p++)
            f->complete = f->complete && is_intact(c, f, p, m);
    }
    sl_manifest_close(&m);
    return status;
}

/* ---- the walk -------------------------------------------------------------------------------- */

int sl_open_source(struct sl_conversion *c, struct sl_checkpoint **checkpoint, const char *source,
                   struct sluice_err *err)
{
    int status = sl_checkpoint_open(checkpoint, source, err);
    if (status < 0)
        return status;
    c->checkpoint = *checkpoint;
    if ((status = sl_config_read(&c->config, c->checkpoint->dir, err)) < 0 ||
        (status = check_block_size(c->checkpoint, err)) < 0 ||
        (status = sl_plan_open(&c->plan, c->checkpoint, &c->config, err)) < 0)
        return status;
    return digest_source(c, err);
}

/* True for the name of a file that is made here, not copied. */
static bool in_plan(const struct sl_conversion *c, const char *name)
{
    for (size_t i = 0; i < c->plan.n_files; i++)
        for (unsigned p = 0; p < sl_file_parts(c, &c->plan.files[i]); p++) {
            char known[64];
            sl_file_name(c, &c->plan.files[i], p, known);
            if (strcmp(known, name) == 0)
                return true;
        }
    return strcmp(name, c->target->last) == 0;
}

/* True for the experts of a layer of the plan, whole or a part, in another division. */
static bool is_split_otherwise(const struct sl_conversion *c, const char *name)
{
    char known[64];
    for (size_t i = 0; i < c->plan.n_files; i++) {
        const struct sl_plan_file *f = &c->plan.files[i];
        bool found = f->kind == SL_FILE_EXPERTS && strcmp(name, f->name) == 0;
        for (unsigned p = 0; f->kind == SL_FILE_EXPERTS && p < SL_PARTS_MAX; p++) {
            sl_experts_part_file(known, f->layer, p, SL_PARTS_MAX);
            found = found || strcmp(name, known) == 0;
        }
        if (found)
            return !in_plan(c, name);
    }
    return false;
}

/* Cuts ".part" off NAME; false when it has none. */
static bool cut_part(char *name)
{
    size_t len = strlen(name);
    if (len <= 5 || strcmp(name + len - 5, ".part") != 0)
        return false;
    name[len - 5] = 0;
    return true;
}

/*
 * DEST is empty, or has files of a conversion: never somebody's checkpoint, whose configuration and
 * tokenizer ours would replace.
 */
static int check_dest(const struct sl_conversion *c, struct sluice_err *err)
{
    bool ours = false;
    char stranger[256] = "", split[256] = "";
    struct dirent *entry;
    DIR *dir = opendir(c->dest);
    if (!dir)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot list %s", c->dest);
    while ((entry = readdir(dir))) {
        char name[256];
        snprintf(name, sizeof name, "%s", entry->d_name);
        cut_part(name);
        if (in_plan(c, name))
            ours = true;
        else if (entry->d_name[0] != '.' && strcmp(entry->d_name, "lost+found") != 0)
            snprintf(stranger, sizeof stranger, "%s", entry->d_name);
        if (is_split_otherwise(c, name))
            snprintf(split, sizeof split, "%s", name);
    }
    closedir(dir);
    if (split[0])
        return sl_fail(err, SLUICE_EARG,
                       "%s: %s was made with another --stripe than that of this command; give the "
                       "same, or change a container that is complete with sluice stripe",
                       c->dest, split);
    if (ours || !stranger[0])
        return 0;
    return sl_fail(err, SLUICE_EARG, "%s: not empty (%s …) and not %s; choose another directory",
                   c->dest, stranger, c->target->what);
}

/* Files that a killed run was writing.  DEST is known to be ours. */
static void remove_parts(const struct sl_conversion *c)
{
    struct dirent *entry;
    DIR *dir = opendir(c->dest);
    while (dir && (entry = readdir(dir))) {
        char name[256];
        snprintf(name, sizeof name, "%s", entry->d_name);
        if (cut_part(name) && (in_plan(c, name) || sl_is_copied(name)))
            unlinkat(c->lock, entry->d_name, 0);
    }
    if (dir)
        closedir(dir);
    sl_stripe_clean(&c->stripe);
}

static int open_dest(struct sl_conversion *c, bool *finished, struct sluice_err *err)
{
    int status = sl_make_directory(c->dest, err);
    if (status == 0)
        status = sl_lock_directory(c->dest, &c->lock, err);
    if (status == 0)
        status = check_not_source(c, err);
    if (status == 0)
        status = sl_stripe_open(&c->stripe, c->opts->stripe, err);
    if (status == 0)
        status = check_dest(c, err);
    if (status == 0)
        status = check_files(c, finished, err);
    if (status == 0)
        remove_parts(c);
    if (status == 0 && !*finished)
        status = sl_room_check(c, err);
    for (size_t i = 0; status == 0 && i < c->plan.n_files; i++) {
        const struct sl_plan_file *f = &c->plan.files[i];
        if (!f->complete && f->kind == SL_FILE_RESIDENT && f->layer >= c->config.layers)
            status = check_mtp_copies(c, f, err);
    }
    return status;
}

static int write_files(struct sl_conversion *c, bool finished, struct sl_quantize_report *report,
                       struct sluice_err *err)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < c->plan.n_files; i++) {
        const struct sl_plan_file *f = &c->plan.files[i];
        if (f->complete) {
            report->files_resumed++;
            c->file = f->name;
            for (unsigned p = 1; status == 0 && p < sl_file_parts(c, f); p++)
                status = sl_stripe_link(&c->stripe, f->layer, p, err);
            if (status == 0)
                status = sl_conversion_progress(c, f->source_bytes, err);
            continue;
        }
        status = c->target->write(c, f, err);
        if (status == 0)
            report->files_written++;
        else if (status == SLUICE_ENOSPC)
            status = sl_room_explain(c, i, err);
    }
    if (status == 0 && !finished) {
        status = c->target->finish(c, err);
        if (status == SLUICE_ENOSPC)
            status = sl_room_explain(c, c->plan.n_files, err);
    }
    return status;
}

/* Bytes of everything that the manifest lists, and of itself. */
static int measure_container(const struct sl_conversion *c, uint64_t *bytes, struct sluice_err *err)
{
    struct sl_manifest *m = NULL;
    struct stat info;
    int status = sl_manifest_open(&m, c->dest, err);
    *bytes = 0;
    for (size_t i = 0; status == 0 && i < m->n_files; i++)
        *bytes += m->files[i].bytes;
    if (status == 0 && stat(m->path, &info) == 0)
        *bytes += (uint64_t)info.st_size;
    sl_manifest_close(&m);
    return status;
}

const struct sl_target sl_container = {
    .what = "a container",
    .last = SL_MANIFEST,
    .measure = sl_measure_file,
    .write = sl_write_file,
    .finish = sl_write_manifest,
    .finish_room = sl_manifest_room,
    .total = measure_container,
};

static int print_recipe(struct sl_conversion *c, struct sluice_err *err)
{
    json_t *recipe = sl_recipe_json(c->profile, c->fitting.fast);
    if (!recipe)
        return sl_fail_nomem(err, "recipe", 0);
    snprintf(c->recipe, sizeof c->recipe, "%s",
             json_string_value(json_object_get(recipe, "digest")));
    json_decref(recipe);
    return 0;
}

const struct sl_maker sl_from_checkpoint = {
    .matrix = sl_convert_matrix,
    .fits_bf16 = sl_matrix_fits_bf16,
    .embedding = sl_convert_embedding,
    .vector = sl_convert_vector,
};

int sl_conversion_open(struct sl_conversion *c, const char *profile, struct sluice_err *err)
{
    const struct sl_rung *rung = sl_rung_chosen(err);
    c->lock = -1;
    sl_stripe_init(&c->stripe, c->dest);
    c->team = sl_team_make(c->opts->threads);
    c->fitting.fast = c->opts->fast;
    if (!rung || !(c->profile = sl_profile_find(profile ? profile : "quality", err)))
        return SLUICE_EARG;
    c->fitting.ops = rung->ops;
    return print_recipe(c, err);
}

int sl_conversion_run(struct sl_conversion *c, struct sl_quantize_report *report,
                      struct sluice_err *err)
{
    bool finished = false;
    int status = open_dest(c, &finished, err);
    if (status == 0)
        status = write_files(c, finished, report, err);
    return status < 0 ? status : c->target->total(c, &report->container_bytes, err);
}

void sl_conversion_close(struct sl_conversion *c)
{
    if (c->lock >= 0)
        close(c->lock);
    sl_stripe_close(&c->stripe);
    sl_plan_close(&c->plan);
    free(c->raw.data);
    free(c->packed.data);
    free(c->scratch.data);
    free(c->results.data);
}

int sl_quantize(const char *source, const char *dest, const struct sl_quantize_opts *opts,
                struct sl_quantize_report *report, struct sluice_err *err)
{
    static const struct sl_quantize_opts defaults = {0};
    struct sl_quantize_report unwanted;
    struct sl_checkpoint *checkpoint = NULL;
    double start = sl_now();
    report = report ? report : &unwanted;
    *report = (struct sl_quantize_report){0};
    struct sl_conversion c = {
        .target = &sl_container,
        .make = &sl_from_checkpoint,
        .opts = opts ? opts : &defaults,
        .dest = dest,
    };
    int status = sl_conversion_open(&c, c.opts->profile, err);
    if (status == 0)
        status = sl_open_source(&c, &checkpoint, source, err);
    if (status == 0)
        status = sl_conversion_run(&c, report, err);
    report->source_bytes = c.plan.source_bytes;
    report->weights = c.plan.weights;
    report->seconds = sl_now() - start;
    sl_conversion_close(&c);
    sl_checkpoint_close(&checkpoint);
    return status;
}
