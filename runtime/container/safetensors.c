/* SPDX-License-Identifier: MIT */
/*
 * One safetensors file.  Owns the checks of its header: every byte of it may be hostile, and after
 * sl_safetensors_open() nobody has to look again.  Reads with pread only; maps nothing.
 */
#include "runtime/container/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/container/container_private.h"

enum {
    MAX_HEADER = 128 << 20, /* bytes */
};

static const struct {
    const char *name;
    size_t bytes;
} dtypes[SL_N_DTYPES] = {
    [SL_U8] = {"U8", 1},           [SL_I8] = {"I8", 1},           [SL_I16] = {"I16", 2},
    [SL_I32] = {"I32", 4},         [SL_I64] = {"I64", 8},         [SL_U64] = {"U64", 8},
    [SL_F8_E4M3] = {"F8_E4M3", 1}, [SL_F8_E8M0] = {"F8_E8M0", 1}, [SL_BF16] = {"BF16", 2},
    [SL_F16] = {"F16", 2},         [SL_F32] = {"F32", 4},         [SL_F64] = {"F64", 8},
};

const char *sl_dtype_name(enum sl_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t sl_dtype_bytes(enum sl_dtype dtype)
{
    return dtypes[dtype].bytes;
}

/* ---- one tensor's entry --------------------------------------------------------------------- */

/* EFORMAT: "FILE: tensor NAME: WHAT". */
__attribute__((format(printf, 4, 5))) static int bad_tensor(const struct sl_safetensors *st,
                                                            const char *name,
                                                            struct sluice_err *err,
                                                            const char *format, ...)
{
    char what[256], shown[SL_SHOWN];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return sl_fail(err, SLUICE_EFORMAT, "%.500s: tensor %s: %s", st->path, sl_shown(name, shown),
                   what);
}

static int read_dtype(const struct sl_safetensors *st, const json_t *entry, struct sl_tensor *t,
                      struct sluice_err *err)
{
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    if (!text)
        return bad_tensor(st, t->name, err, "no \"dtype\" string");
    for (int i = 0; i < SL_N_DTYPES; i++) {
        if (strcmp(text, dtypes[i].name) == 0) {
            t->dtype = (enum sl_dtype)i;
            return 0;
        }
    }
    char shown[SL_SHOWN];
    bad_tensor(st, t->name, err, "dtype %s is unknown to this build", sl_shown(text, shown));
    if (err)
        err->code = SLUICE_EUNSUPPORTED;
    return SLUICE_EUNSUPPORTED;
}

/* Fills dims and bytes. */
static int read_shape(const struct sl_safetensors *st, const json_t *entry, struct sl_tensor *t,
                      struct sluice_err *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return bad_tensor(st, t->name, err, "no \"shape\" array");
    size_t n = json_array_size(shape), bytes = sl_dtype_bytes(t->dtype);
    if (n > SL_MAX_DIMS)
        return bad_tensor(st, t->name, err, "%zu dimensions, at most %d wanted", n, SL_MAX_DIMS);
    for (size_t i = 0; i < n; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return bad_tensor(st, t->name, err, "dimension %zu is no integer ≥ 0", i);
        t->dims[i] = (uint64_t)json_integer_value(dim);
        if (!sl_mul(bytes, t->dims[i], &bytes))
            return bad_tensor(st, t->name, err, "shape is beyond any file");
    }
    t->n_dims = (unsigned)n;
    t->bytes = bytes;
    return 0;
}

static int read_range(const struct sl_safetensors *st, const json_t *entry, struct sl_tensor *t,
                      struct sluice_err *err)
{
    const json_t *range = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(range, 0), *last = json_array_get(range, 1);
    if (json_array_size(range) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        json_integer_value(first) < 0 || json_integer_value(last) < json_integer_value(first))
        return bad_tensor(st, t->name, err, "\"data_offsets\" is not [begin, end]");
    uint64_t begin = (uint64_t)json_integer_value(first), end = (uint64_t)json_integer_value(last);
    char shape[128];
    if (end - begin != t->bytes)
        return bad_tensor(st, t->name, err, "%" PRIu64 " bytes, %s %s needs %" PRIu64, end - begin,
                          sl_dtype_name(t->dtype), sl_tensor_shape(t, shape), t->bytes);
    if (end > st->file_bytes - st->data_start)
        return bad_tensor(st, t->name, err,
                          "ends at byte %" PRIu64 ", the file at %" PRIu64
                          ": truncated; copy or download it again",
                          end + st->data_start, st->file_bytes);
    t->offset = st->data_start + begin;
    return 0;
}

static int read_tensor(const struct sl_safetensors *st, const char *name, const json_t *entry,
                       struct sl_tensor *t, struct sluice_err *err)
{
    t->name = name;
    if (!sl_is_name(name, SL_NAME_MAX))
        return bad_tensor(st, name, err, "name is empty, over %d bytes or has control characters",
                          SL_NAME_MAX);
    if (!json_is_object(entry))
        return bad_tensor(st, name, err, "entry is no JSON object");
    int status = read_dtype(st, entry, t, err);
    if (status == 0)
        status = read_shape(st, entry, t, err);
    if (status == 0)
        status = read_range(st, entry, t, err);
    return status;
}

/* ---- the table ------------------------------------------------------------------------------ */

static int check_metadata(const struct sl_safetensors *st, json_t *metadata, struct sluice_err *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return sl_fail(err, SLUICE_EFORMAT, "%s: __metadata__ is no JSON object", st->path);
    json_object_foreach (metadata, key, value) {
        char shown[SL_SHOWN];
        if (!json_is_string(value))
            return sl_fail(err, SLUICE_EFORMAT, "%.500s: __metadata__: \"%s\" is no string",
                           st->path, sl_shown(key, shown));
    }
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct sl_tensor *s = a, *t = b;
    if (s->offset != t->offset)
        return s->offset < t->offset ? -1 : 1;
    return (s->bytes > t->bytes) - (s->bytes < t->bytes); /* empty ones first */
}

static int by_name(const void *a, const void *b)
{
    const struct sl_tensor *s = a, *t = b;
    return strcmp(s->name, t->name);
}

/* The ranges must fill the file from data_start to its end. */
static int check_places(struct sl_safetensors *st, struct sluice_err *err)
{
    uint64_t end = st->data_start;
    if (st->n_tensors > 1)
        qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_place);
    for (size_t i = 0; i < st->n_tensors; i++) {
        const struct sl_tensor *t = &st->tensors[i];
        if (t->offset < end)
            return bad_tensor(st, t->name, err,
                              "begins at byte %" PRIu64 ", inside the tensor before it", t->offset);
        if (t->offset > end)
            return bad_tensor(st, t->name, err,
                              "begins at byte %" PRIu64 ", the tensor before it ends at %" PRIu64
                              ": a hole",
                              t->offset, end);
        end += t->bytes;
    }
    if (end != st->file_bytes)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: %" PRIu64 " bytes behind the last tensor, none wanted", st->path,
                       st->file_bytes - end);
    return 0;
}

static int read_table(struct sl_safetensors *st, struct sluice_err *err)
{
    size_t n = json_object_size(st->header);
    if (n > SL_MAX_TENSORS)
        return sl_fail(err, SLUICE_EFORMAT, "%s: %zu tensors, at most %d wanted", st->path, n,
                       SL_MAX_TENSORS);
    st->tensors = calloc(n ? n : 1, sizeof *st->tensors);
    if (!st->tensors)
        return sl_fail_nomem(err, st->path, n * sizeof *st->tensors);
    const char *name;
    json_t *entry;
    json_object_foreach (st->header, name, entry) {
        int status = strcmp(name, "__metadata__") == 0
                         ? check_metadata(st, entry, err)
                         : read_tensor(st, name, entry, &st->tensors[st->n_tensors++], err);
        if (status < 0)
            return status;
    }
    int status = check_places(st, err);
    if (status == 0 && st->n_tensors > 1)
        qsort(st->tensors, st->n_tensors, sizeof *st->tensors, by_name);
    return status;
}

/* ---- header --------------------------------------------------------------------------------- */

static int open_file(struct sl_safetensors *st, struct sluice_err *err)
{
    struct stat info;
    st->fd = open(st->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
    if (st->fd < 0)
        return sl_fail_errno(err, errno == ENOENT ? SLUICE_EFORMAT : SLUICE_EIO, errno,
                             "cannot open %s", st->path);
    if (fstat(st->fd, &info) != 0)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot stat %s", st->path);
    if (!S_ISREG(info.st_mode))
        return sl_fail(err, SLUICE_EFORMAT, "%s: not a regular file", st->path);
    st->file_bytes = (uint64_t)info.st_size;
    return 0;
}

static int read_length(struct sl_safetensors *st, size_t *length, struct sluice_err *err)
{
    uint8_t b[8];
    uint64_t n = 0;
    if (st->file_bytes < sizeof b)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: %" PRIu64 " bytes, too short for a safetensors file: truncated; copy "
                       "or download it again",
                       st->path, st->file_bytes);
    int status = sl_read_at(st->fd, b, sizeof b, 0, st->path, err);
    if (status < 0)
        return status;
    if (memcmp(b, "version ", sizeof b) == 0)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: a git-lfs pointer, not the file itself; run git lfs pull", st->path);
    for (int i = 7; i >= 0; i--)
        n = n << 8 | b[i];
    if (n < 2 || n > MAX_HEADER)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: header of %" PRIu64 " bytes, 2 to %d wanted: not a safetensors file",
                       st->path, n, MAX_HEADER);
    if (n > st->file_bytes - sizeof b)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: header of %" PRIu64 " bytes in a file of %" PRIu64
                       ": truncated; copy or download it again",
                       st->path, n, st->file_bytes);
    *length = (size_t)n;
    st->data_start = sizeof b + n;
    return 0;
}

static int read_header(struct sl_safetensors *st, struct sluice_err *err)
{
    size_t length = 0;
    int status = read_length(st, &length, err);
    if (status < 0)
        return status;
    char *text = malloc(length);
    if (!text)
        return sl_fail_nomem(err, st->path, length);
    status = sl_read_at(st->fd, text, length, 8, st->path, err);
    if (status == 0)
        status = sl_json_parse(st->path, text, length, &st->header, err);
    free(text);
    return status;
}

int sl_safetensors_open(struct sl_safetensors **out, const char *path, struct sluice_err *err)
{
    int status;
    struct sl_safetensors *st = *out = calloc(1, sizeof *st);
    if (!st)
        return sl_fail_nomem(err, path, sizeof *st);
    st->fd = -1;
    st->path = strdup(path);
    if (!st->path) {
        status = sl_fail_nomem(err, path, strlen(path) + 1);
        goto fail;
    }
    if ((status = open_file(st, err)) < 0 || (status = read_header(st, err)) < 0 ||
        (status = read_table(st, err)) < 0)
        goto fail;
    return 0;
fail:
    sl_safetensors_close(out);
    return status;
}

void sl_safetensors_close(struct sl_safetensors **out)
{
    struct sl_safetensors *st = *out;
    if (!st)
        return;
    if (st->fd >= 0)
        close(st->fd);
    json_decref(st->header);
    free(st->tensors);
    free(st->path);
    free(st);
    *out = NULL;
}

/* ---- use ------------------------------------------------------------------------------------ */

const struct sl_tensor *sl_safetensors_find(const struct sl_safetensors *st, const char *name)
{
    const struct sl_tensor key = {.name = name};
    if (st->n_tensors == 0)
        return NULL;
    return bsearch(&key, st->tensors, st->n_tensors, sizeof key, by_name);
}

const char *sl_safetensors_meta(const struct sl_safetensors *st, const char *key)
{
    return json_string_value(json_object_get(json_object_get(st->header, "__metadata__"), key));
}

int sl_tensor_read(const struct sl_safetensors *st, const struct sl_tensor *t, void *data,
                   size_t len, uint64_t offset, struct sluice_err *err)
{
    if (offset > t->bytes || len > t->bytes - offset)
        return sl_fail(err, SLUICE_EARG,
                       "%.500s: bytes %" PRIu64 " to %" PRIu64 " of tensor %.200s wanted, which "
                       "has %" PRIu64,
                       st->path, offset, offset + len, t->name, t->bytes);
    return sl_read_at(st->fd, data, len, t->offset + offset, st->path, err);
}

const char *sl_tensor_shape(const struct sl_tensor *t, char out[128])
{
    int used = snprintf(out, 128, "[");
    for (unsigned i = 0; i < t->n_dims && used < 126; i++)
        used += snprintf(out + used, 128 - (size_t)used, "%s%" PRIu64, i ? ", " : "", t->dims[i]);
    snprintf(out + sl_min((size_t)used, 126), 2, "]");
    return out;
}
