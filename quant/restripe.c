/* SPDX-License-Identifier: MIT */
/*
 * sl_restripe(): divides the expert files of a finished container among directories, or joins them,
 * layer by layer: new files, then a manifest that lists them, then the old files go.  So a layer is
 * always whole under one of the two divisions, and only one layer takes room twice.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quant/conversion.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/stream/stream.h"

enum { MAX_LAYERS = 4096, MANIFEST_ROOM = 1 << 20 };

struct restripe {
    const char *dir;
    int lock;
    struct sl_stripe stripe; /* as it is to be */
    struct sl_manifest *manifest;
    unsigned layers[MAX_LAYERS]; /* those with experts */
    bool change[MAX_LAYERS];
    size_t n_layers;
    char *left[SL_PARTS_MAX]; /* directories of parts that were joined */
    uint64_t done, total;     /* bytes of experts to divide anew */
    const struct sl_restripe_opts *opts;
    struct sl_restripe_report *report;
};

static int no_memory(struct sluice_err *err)
{
    return sl_fail_nomem(err, SL_MANIFEST, 0);
}

/* True for a file of experts; *layer is whose. */
static bool is_of_layer(const char *name, unsigned *layer)
{
    return sscanf(name, "experts-%u.", layer) == 1;
}

static int list_layers(struct restripe *r, struct sluice_err *err)
{
    const struct sl_manifest *m = r->manifest;
    for (size_t i = 0; i < m->n_files; i++) { /* a layer's files are neighbours */
        unsigned layer;
        if (!is_of_layer(m->files[i].name, &layer) ||
            (r->n_layers > 0 && r->layers[r->n_layers - 1] == layer))
            continue;
        if (r->n_layers == MAX_LAYERS)
            return sl_fail(err, SLUICE_EFORMAT, "%s: more than %d layers", m->path, MAX_LAYERS);
        r->layers[r->n_layers++] = layer;
    }
    if (r->n_layers > 0)
        return 0;
    return sl_fail(err, SLUICE_EARG, "%s: this model has no routed experts: nothing to divide",
                   r->dir);
}

/* ---- before anything is written -------------------------------------------------------------- */

/* Where part PART really is; malloc'ed, NULL when it cannot be told. */
static char *directory_of(const struct sl_expert_file *f, unsigned part)
{
    char *found = realpath(f->parts[part].path, NULL), *slash = found ? strrchr(found, '/') : NULL;
    if (slash)
        *slash = 0;
    return found;
}

/* A layer that is divided as asked for must be so among the same directories. */
static int check_directories(const struct restripe *r, const struct sl_expert_file *f,
                             struct sluice_err *err)
{
    for (unsigned p = 1; p < f->n_parts; p++) {
        char *found = directory_of(f, p);
        bool same = found && strcmp(found, r->stripe.dir[p]) == 0;
        int status = same
                         ? 0
                         : sl_fail(err, SLUICE_EARG,
                                   "%s lies in %.400s, not in %.400s; give the directories that "
                                   "it is divided among, in the same order, or join first: "
                                   "sluice stripe %.400s --join",
                                   f->parts[p].path, found ? found : "?", r->stripe.dir[p], r->dir);
        free(found);
        if (status < 0)
            return status;
    }
    return 0;
}

/* What is in the way of a new part must be of the same model. */
static int check_in_the_way(const struct restripe *r, const struct sl_safetensors *first,
                            unsigned layer, unsigned part, struct sluice_err *err)
{
    static const char *const keys[] = {"source", "recipe"};
    char path[SL_PATH_MAX];
    struct sl_safetensors *st = NULL;
    struct sluice_err ignored;
    int status = sl_stripe_path(&r->stripe, layer, part, path, err);
    if (status < 0 || sl_safetensors_open(&st, path, &ignored) < 0)
        return status;
    for (int i = 0; status == 0 && i < 2; i++) {
        const char *found = sl_safetensors_meta(st, keys[i]);
        const char *want = sl_safetensors_meta(first, keys[i]);
        if (!found || !want || strcmp(found, want) != 0)
            status = sl_fail(err, SLUICE_EARG,
                             "%s: belongs to another model; choose another directory or delete it",
                             path);
    }
    sl_safetensors_close(&st);
    return status;
}

/* The writer of a layer's new files, nothing written yet. */
static int open_writer(const struct restripe *r, const struct sl_expert_file *f,
                       const struct sl_safetensors *first, struct sl_expert_writer *w,
                       struct sluice_err *err)
{
    const char *recipe = sl_safetensors_meta(first, "recipe");
    const char *source = sl_safetensors_meta(first, "source");
    return sl_expert_writer_open(w, &f->layout, f->n_experts, r->stripe.n_parts,
                                 recipe ? recipe : "", source ? source : "", err);
}

static int add_room(const struct restripe *r, const struct sl_expert_file *f,
                    const struct sl_safetensors *first, struct sl_room *room,
                    struct sluice_err *err)
{
    struct sl_expert_writer w = {0};
    int status = open_writer(r, f, first, &w, err);
    for (unsigned p = 0; status == 0 && p < w.n_parts; p++) {
        uint64_t bytes;
        status = sl_writer_measure(&w.part[p], &bytes, err);
        if (status == 0)
            status = check_in_the_way(r, first, f->layer, p, err);
        if (status == 0)
            sl_room_add(room, p, bytes);
    }
    sl_room_remove(room, f->parts[0].path);
    sl_expert_writer_close(&w);
    return status;
}

/* Whether LAYER is to change, and whether it can. */
static int check_layer(struct restripe *r, size_t i, struct sl_room *room, struct sluice_err *err)
{
    struct sl_expert_file f;
    struct sl_safetensors *first = NULL;
    unsigned wanted = r->stripe.n_parts;
    int status = sl_expert_file_open(&f, r->dir, r->manifest, r->layers[i], err);
    if (status < 0)
        return status;
    r->change[i] = f.n_parts != wanted;
    if (!r->change[i]) {
        status = check_directories(r, &f, err);
    } else if (f.n_parts > 1 && wanted > 1) {
        status = sl_fail(err, SLUICE_EARG,
                         "%s: divided among %u directories, %u wanted; join first: sluice stripe "
                         "%.400s --join",
                         f.parts[0].path, f.n_parts, wanted, r->dir);
    } else {
        status = sl_safetensors_open(&first, f.parts[0].path, err);
        if (status == 0)
            status = add_room(r, &f, first, room, err);
        r->total += f.n_experts * f.layout.stride;
        for (unsigned p = 1; p < f.n_parts && !r->left[p]; p++)
            r->left[p] = directory_of(&f, p);
    }
    sl_safetensors_close(&first);
    sl_expert_file_close(&f);
    return status;
}

static int check_layers(struct restripe *r, struct sluice_err *err)
{
    struct sl_room room;
    int status = 0;
    sl_room_open(&room, &r->stripe);
    sl_room_add(&room, 0, MANIFEST_ROOM);
    for (size_t i = 0; status == 0 && i < r->n_layers; i++)
        status = check_layer(r, i, &room, err);
    return status < 0 ? status : sl_room_verdict(&room, "dividing layer by layer", err);
}

/* ---- one layer ------------------------------------------------------------------------------- */

static int progress(struct restripe *r, uint64_t bytes, struct sluice_err *err)
{
    r->done += bytes;
    if (!r->opts->progress || r->opts->progress(r->opts->user, r->done, r->total) == 0)
        return 0;
    return sl_fail(err, SLUICE_ECANCELLED,
                   "cancelled; finished layers are kept, the same command continues");
}

/* Damage must not be copied: every chunk is compared with its checksum. */
static int read_expert(const struct sl_expert_file *f, uint32_t expert, uint8_t *block,
                       struct sluice_err *err)
{
    int status = 0;
    for (uint64_t c = 0; status == 0 && c < f->layout.chunks; c++) {
        struct sl_chunk_place place = sl_chunk_place(f, expert, c);
        const struct sl_expert_part *part = &f->parts[place.part];
        uint8_t *chunk = block + c * SL_CHUNK_BYTES;
        status = sl_read_at(part->fd, chunk, place.length, place.offset, part->path, err);
        if (status == 0)
            status = sl_chunk_check(f, expert, c, chunk, err);
    }
    return status;
}

static int read_errors(const struct sl_safetensors *first, struct sl_expert_writer *w,
                       struct sluice_err *err)
{
    size_t bytes = (size_t)w->n_experts * 2 * sizeof *w->errors;
    const struct sl_tensor *t = sl_safetensors_find(first, "errors");
    if (!t || t->dtype != SL_F32 || t->bytes != bytes)
        return sl_fail(err, SLUICE_EFORMAT, "%s: tensor errors is not F32 [%u, 2]", first->path,
                       w->n_experts);
    return sl_tensor_read(first, t, w->errors, bytes, 0, err);
}

static int copy_experts(struct restripe *r, const struct sl_expert_file *f,
                        struct sl_expert_writer *w, struct sluice_err *err)
{
    uint8_t *block = malloc(f->layout.stride);
    int status = block ? 0 : sl_fail_nomem(err, "one expert", f->layout.stride);
    for (uint32_t i = 0; status == 0 && i < f->n_experts; i++) {
        status = read_expert(f, i, block, err);
        if (status == 0)
            status = sl_expert_writer_append(w, block, err);
        if (status == 0)
            status = progress(r, f->layout.stride, err);
    }
    free(block);
    return status;
}

static int write_layer(struct restripe *r, unsigned layer, struct sluice_err *err)
{
    struct sl_expert_file f;
    struct sl_expert_writer w = {0};
    struct sl_safetensors *first = NULL;
    int status = sl_expert_file_open(&f, r->dir, r->manifest, layer, err);
    if (status < 0)
        return status;
    if ((status = sl_safetensors_open(&first, f.parts[0].path, err)) < 0 ||
        (status = open_writer(r, &f, first, &w, err)) < 0 ||
        (status = read_errors(first, &w, err)) < 0)
        goto done;
    memcpy(w.checksums, f.checksums, f.n_experts * f.layout.chunks * sizeof *w.checksums);
    if ((status = sl_expert_writer_begin(&w, &r->stripe, layer, err)) == 0 &&
        (status = copy_experts(r, &f, &w, err)) == 0)
        status = sl_expert_writer_commit(&w, err);
done:
    sl_safetensors_close(&first);
    sl_expert_writer_close(&w);
    sl_expert_file_close(&f);
    return status;
}

/* ---- the manifest ---------------------------------------------------------------------------- */

static int add_new_files(const struct restripe *r, json_t *files, unsigned layer,
                         struct sluice_err *err)
{
    int status = 0;
    for (unsigned p = 0; status == 0 && p < r->stripe.n_parts; p++) {
        char name[64];
        sl_experts_part_file(name, layer, p, r->stripe.n_parts);
        status = sl_manifest_add(files, r->dir, name, err);
    }
    return status;
}

/* A copy of the list with LAYER's new files in the place of the old ones. */
static json_t *new_list(const struct restripe *r, unsigned layer, struct sluice_err *err)
{
    json_t *files = json_object(), *value;
    const char *name;
    bool placed = false;
    int status = files ? 0 : no_memory(err);
    json_object_foreach (json_object_get(r->manifest->root, "files"), name, value) {
        unsigned of;
        if (status < 0)
            break;
        if (!is_of_layer(name, &of) || of != layer) {
            status = json_object_set(files, name, value) == 0 ? 0 : no_memory(err);
        } else if (!placed) {
            status = add_new_files(r, files, layer, err);
            placed = true;
        }
    }
    if (status == 0)
        return files;
    json_decref(files);
    return NULL;
}

static int write_manifest(struct restripe *r, unsigned layer, struct sluice_err *err)
{
    json_t *files = new_list(r, layer, err);
    if (!files)
        return err ? err->code : SLUICE_ENOMEM;
    char *text = json_object_set_new(r->manifest->root, "files", files) == 0
                     ? sl_manifest_text(r->manifest->root)
                     : NULL;
    int status = text ? sl_file_replace(r->manifest->path, text, strlen(text), err)
                      : no_memory(err);
    free(text);
    sl_manifest_close(&r->manifest);
    return status < 0 ? status : sl_manifest_open(&r->manifest, r->dir, err);
}

/* ---- what is left of the other division ------------------------------------------------------ */

static void remove_named(const struct restripe *r, const char *name)
{
    char path[SL_PATH_MAX], part[SL_PATH_MAX + 16];
    if (sl_path_join(path, r->dir, name, NULL) < 0)
        return;
    snprintf(part, sizeof part, "%s.part", path);
    unlink(path);
    unlink(part);
}

/* Files and links in the container itself, also of a run that was killed or went the other way.
 * What links lead to may serve a copy of the container, too. */
static void remove_old(const struct restripe *r, unsigned layer)
{
    char name[64];
    for (unsigned p = 0; r->stripe.n_parts == 1 && p < SL_PARTS_MAX; p++) {
        sl_experts_part_file(name, layer, p, SL_PARTS_MAX);
        remove_named(r, name);
    }
    if (r->stripe.n_parts > 1) {
        sl_experts_file(name, layer);
        remove_named(r, name);
    }
}

/* ---- all layers ------------------------------------------------------------------------------ */

static int change_layers(struct restripe *r, struct sluice_err *err)
{
    int status = progress(r, 0, err);
    for (size_t i = 0; status == 0 && i < r->n_layers; i++) {
        if (r->change[i] && (status = write_layer(r, r->layers[i], err)) == 0)
            status = write_manifest(r, r->layers[i], err);
        if (status < 0)
            break;
        remove_old(r, r->layers[i]);
        ++*(r->change[i] ? &r->report->layers_changed : &r->report->layers_found);
    }
    for (unsigned p = 1; status == 0 && p < SL_PARTS_MAX; p++)
        if (r->left[p] && r->opts->left)
            r->opts->left(r->opts->user, r->left[p]);
    return status;
}

int sl_restripe(const char *dir, const char *list, const struct sl_restripe_opts *opts,
                struct sl_restripe_report *report, struct sluice_err *err)
{
    double start = sl_now();
    struct restripe *r = calloc(1, sizeof *r);
    *report = (struct sl_restripe_report){0};
    if (!r)
        return sl_fail_nomem(err, "list of layers", sizeof *r);
    r->dir = dir;
    r->lock = -1;
    r->opts = opts;
    r->report = report;
    sl_stripe_init(&r->stripe, dir);
    int status = sl_manifest_open(&r->manifest, dir, err);
    if (status < 0 || (status = sl_lock_directory(dir, &r->lock, err)) < 0 ||
        (status = list_layers(r, err)) < 0 ||
        (status = sl_stripe_open(&r->stripe, list, err)) < 0 || (status = check_layers(r, err)) < 0)
        goto done;
    status = change_layers(r, err);
    report->parts = r->stripe.n_parts;
    report->bytes = r->done;
done:
    report->seconds = sl_now() - start;
    sl_manifest_close(&r->manifest);
    sl_stripe_close(&r->stripe);
    if (r->lock >= 0)
        close(r->lock);
    for (unsigned p = 0; p < SL_PARTS_MAX; p++)
        free(r->left[p]);
    free(r);
    return status;
}
