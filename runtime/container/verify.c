/* SPDX-License-Identifier: MIT */
/*
 * Reads every byte of a container and says which ones are not what was written.  Goes on after a
 * problem, holds one buffer of 1 MiB, changes nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/container/container.h"
#include "runtime/container/container_private.h"

#define REPAIR "copy it again from where it came, or remove it and run sluice quantize again"

/* ---- which part of a file ------------------------------------------------------------------- */

/* Compares a tensor with its own checksum: 1 damaged, 0 intact or without one, or a status. */
static int tensor_is_damaged(struct sl_scan *s, const struct sl_safetensors *st,
                             const struct sl_tensor *t, struct sluice_err *err)
{
    char key[SL_NAME_MAX + 8];
    uint64_t want;
    snprintf(key, sizeof key, "xxh3:%s", t->name);
    const char *digits = sl_safetensors_meta(st, key);
    if (!digits)
        return 0;
    sl_scan_reset(s);
    int status = sl_scan_add(s, st->fd, st->path, t->offset, t->offset + t->bytes, err);
    if (status < 0)
        return status;
    return !sl_parse_hash(digits, &want) || sl_scan_hash(s) != want;
}

/* EDAMAGED with the names of the tensors if they are to blame; ENOMEM.  When no tensor is, the
 * header must be if the file is KNOWN_DAMAGED; else all is well. */
static int explain(struct sl_scan *s, const char *path, bool known_damaged, struct sluice_err *err)
{
    struct sl_safetensors *st = NULL;
    struct sl_list damaged = {0};
    int status = sl_safetensors_open(&st, path, err);
    for (size_t i = 0; status >= 0 && i < st->n_tensors; i++) {
        status = tensor_is_damaged(s, st, &st->tensors[i], err);
        if (status > 0)
            sl_list_add(&damaged, st->tensors[i].name);
    }
    if (status < 0 && status != SLUICE_ENOMEM) {
        status = SLUICE_EDAMAGED;
        sl_err_prefix(err, "damaged");
        if (err)
            err->code = status;
    } else if (status >= 0 && damaged.count > 0) {
        status = sl_fail(err, SLUICE_EDAMAGED, "%.300s: %zu damaged of %zu tensors: %s; " REPAIR,
                         path, damaged.count, st->n_tensors, sl_list_text(&damaged));
    } else if (status >= 0 && known_damaged) {
        status = sl_fail(err, SLUICE_EDAMAGED,
                         "%.500s: the header is damaged, or another file is in its place (no "
                         "tensor differs from its own checksum); " REPAIR,
                         path);
    }
    sl_safetensors_close(&st);
    return status < 0 ? status : 0;
}

static int scan_tensors(const char *path, bool known_damaged, struct sluice_err *err)
{
    struct sl_scan s;
    int status = sl_scan_open(&s, err);
    if (status < 0)
        return status;
    status = explain(&s, path, known_damaged, err);
    sl_scan_close(&s);
    return status;
}

int sl_explain_damage(const char *path, struct sluice_err *err)
{
    return scan_tensors(path, true, err);
}

int sl_tensors_check(const char *path, struct sluice_err *err)
{
    return scan_tensors(path, false, err);
}

/* ---- one container -------------------------------------------------------------------------- */

struct verifying {
    const char *dir;
    struct sl_manifest *manifest;
    const struct sl_verify_events *events; /* NULL: nobody listens */
    struct sl_scan scan;
    const struct sl_manifest_file *file; /* the one being checked */
    char path[SL_PATH_MAX];
    int64_t problems;
};

static void report(struct verifying *v, const char *text)
{
    v->problems++;
    if (v->events && v->events->problem)
        v->events->problem(v->events->user, text);
}

__attribute__((format(printf, 2, 3))) static void problem(struct verifying *v, const char *format,
                                                          ...)
{
    char text[sizeof((struct sluice_err *)0)->msg];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    report(v, text);
}

/* The name of the manifest's file that has this checksum, or NULL. */
static const char *file_with_hash(const struct verifying *v, uint64_t hash)
{
    for (size_t i = 0; i < v->manifest->n_files; i++)
        if (v->manifest->files[i].xxh3 == hash)
            return v->manifest->files[i].name;
    return NULL;
}

static void check_progress(struct verifying *v, uint64_t done)
{
    v->scan.done = done;
    if (v->scan.progress)
        v->scan.progress(v->scan.user, done, v->scan.total);
}

/* Says what is wrong with a file whose checksum is HASH.  What is read again for that is no
 * progress. */
static void report_hash(struct verifying *v, uint64_t hash)
{
    const char *other = file_with_hash(v, hash);
    struct sluice_err err;
    if (other) {
        problem(v, "%.500s: has the contents of %.255s; " REPAIR, v->path, other);
    } else if (!sl_is_tensor_file(v->file->name)) {
        problem(v,
                "%.500s: checksum %016" PRIx64 ", %016" PRIx64
                " wanted: changed since the conversion; copy it again from the source",
                v->path, hash, v->file->xxh3);
    } else {
        struct sl_scan quiet = v->scan;
        quiet.progress = NULL;
        explain(&quiet, v->path, true, &err);
        report(v, err.msg);
    }
}

/* True when the file is there and has the size that it should have. */
static bool check_size(struct verifying *v)
{
    struct stat info;
    if (stat(v->path, &info) != 0) {
        char text[128];
        struct sluice_err err;
        if (errno == ENOENT && sl_link_check(v->path, &err) < 0) {
            report(v, err.msg);
            return false;
        }
        problem(v, "%.500s: %s; " REPAIR, v->path,
                errno == ENOENT ? "missing" : strerror_r(errno, text, sizeof text));
        return false;
    }
    if (!S_ISREG(info.st_mode)) {
        problem(v, "%.500s: not a regular file; " REPAIR, v->path);
        return false;
    }
    uint64_t found = (uint64_t)info.st_size;
    if (found != v->file->bytes)
        problem(v, "%.500s: %" PRIu64 " bytes, %" PRIu64 " wanted: %s; " REPAIR, v->path, found,
                v->file->bytes, found < v->file->bytes ? "truncated, or another file" : "longer");
    return found == v->file->bytes;
}

/* ---- experts -------------------------------------------------------------------------------- */

/* Both tensors of an experts file, or false when they do not belong together. */
static bool find_experts(struct verifying *v, const struct sl_safetensors *st,
                         const struct sl_tensor **experts, const struct sl_tensor **sums)
{
    const struct sl_tensor *e = *experts = sl_safetensors_find(st, "experts");
    const struct sl_tensor *c = *sums = sl_safetensors_find(st, "checksums");
    if (e && c && e->dtype == SL_U8 && e->n_dims == 2 && c->dtype == SL_U64 && c->n_dims == 2 &&
        c->dims[0] == e->dims[0] && c->dims[1] == sl_ceil_div(e->dims[1], SL_CHUNK_BYTES))
        return true;
    problem(
        v,
        "%.500s: no tensors experts U8 [n, stride] and checksums U64 [n, stride / 1 MiB]; " REPAIR,
        v->path);
    return false;
}

static void check_chunk(struct verifying *v, const struct sl_safetensors *st,
                        const struct sl_tensor *experts, uint64_t expert, uint64_t chunk,
                        uint64_t want)
{
    struct sluice_err err;
    uint64_t stride = experts->dims[1], begin = chunk * SL_CHUNK_BYTES;
    uint64_t end = sl_min(begin + SL_CHUNK_BYTES, stride), base = experts->offset + expert * stride;
    unsigned layer = (unsigned)strtoul(v->file->name + sizeof "experts-" - 1, NULL, 10);
    sl_scan_reset(&v->scan);
    const char *what = "";
    if (sl_scan_add(&v->scan, st->fd, v->path, base + begin, base + end, &err) < 0)
        what = err.msg;
    else if (sl_scan_hash(&v->scan) != want)
        what = "damaged";
    else
        return;
    problem(v, "layer %u, expert %" PRIu64 ", chunk %" PRIu64 " of %zu (%.255s): %.500s; " REPAIR,
            layer, expert, chunk + 1, sl_ceil_div(stride, SL_CHUNK_BYTES), v->file->name, what);
}

/* Chunks of all experts.  The table of checksums is read one expert at a time. */
static int check_chunks(struct verifying *v, const struct sl_safetensors *st)
{
    const struct sl_tensor *experts, *sums;
    struct sluice_err err;
    if (!find_experts(v, st, &experts, &sums) || experts->bytes == 0)
        return 0;
    uint64_t chunks = sums->dims[1];
    uint64_t *want = calloc(chunks, sizeof *want);
    if (!want)
        return SLUICE_ENOMEM;
    for (uint64_t expert = 0; expert < experts->dims[0]; expert++) {
        if (sl_tensor_read(st, sums, want, chunks * sizeof *want, expert * chunks * sizeof *want,
                           &err) < 0) {
            report(v, err.msg);
            break;
        }
        for (uint64_t chunk = 0; chunk < chunks; chunk++)
            check_chunk(v, st, experts, expert, chunk, want[chunk]);
    }
    free(want);
    return 0;
}

/* SOUND: the header and the table of checksums are known to be what was written.  If not, the
 * table is believed when it fits its own checksum. */
static int check_experts(struct verifying *v, bool sound)
{
    struct sl_safetensors *st = NULL;
    struct sluice_err err;
    int status = sl_safetensors_open(&st, v->path, &err);
    if (status < 0)
        report(v, err.msg);
    if (status == 0 && !sound) {
        struct sl_scan quiet = v->scan;
        const struct sl_tensor *sums = sl_safetensors_find(st, "checksums");
        quiet.progress = NULL;
        sound = sums && sl_safetensors_meta(st, "xxh3:checksums") &&
                tensor_is_damaged(&quiet, st, sums, &err) == 0;
    }
    if (status == 0 && sound)
        status = check_chunks(v, st);
    sl_safetensors_close(&st);
    return status;
}

/* ---- all files ------------------------------------------------------------------------------ */

/* Only running out of memory ends the work. */
static int check_file(struct verifying *v)
{
    struct sluice_err err;
    uint64_t hash = 0;
    if (!check_size(v))
        return 0;
    int status = sl_scan_file(&v->scan, v->path, &hash, &err);
    bool sound = status == 0 && hash == v->file->xxh3;
    if (status < 0)
        report(v, err.msg);
    else if (!sound)
        report_hash(v, hash);
    if (status == 0 && sl_is_experts_file(v->file->name))
        status = check_experts(v, sound);
    return status == SLUICE_ENOMEM ? status : 0;
}

static int check_all(struct verifying *v, struct sluice_err *err)
{
    uint64_t done = 0;
    for (size_t i = 0; i < v->manifest->n_files; i++)
        v->scan.total += v->manifest->files[i].bytes;
    for (size_t i = 0; i < v->manifest->n_files; i++) {
        v->file = &v->manifest->files[i];
        int status = sl_path_join(v->path, v->dir, v->file->name, err);
        if (status == 0 && check_file(v) < 0)
            status = sl_fail_nomem(err, v->path, SL_CHUNK_BYTES);
        if (status < 0)
            return status;
        check_progress(v, done += v->file->bytes);
    }
    return 0;
}

int64_t sl_container_verify(const char *dir, const struct sl_verify_events *events,
                            struct sluice_err *err)
{
    struct verifying v = {.dir = dir, .events = events};
    int status = sl_manifest_open(&v.manifest, dir, err);
    if (status == 0)
        status = sl_scan_open(&v.scan, err);
    if (status == 0 && events) {
        v.scan.user = events->user;
        v.scan.progress = events->progress;
    }
    if (status == 0)
        status = check_all(&v, err);
    sl_scan_close(&v.scan);
    sl_manifest_close(&v.manifest);
    return status < 0 ? status : v.problems;
}
