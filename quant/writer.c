/* SPDX-License-Identifier: MIT */
/*
 * A safetensors file written front to back: tensors are declared, the header's room is reserved,
 * the data follows in order and is hashed on the way; the header is filled in last.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"

static const char no_digest[] = "0000000000000000"; /* holds the place of a checksum */

static int no_memory(struct sluice_err *err)
{
    return sl_fail_nomem(err, "header of a container file", SL_DATA_ALIGN);
}

int sl_writer_open(struct sl_writer *w, const char *recipe, const char *source,
                   struct sluice_err *err)
{
    *w = (struct sl_writer){.file.fd = -1};
    w->metadata = json_object();
    w->tensors = json_object();
    w->hash = XXH3_createState();
    if (!w->metadata || !w->tensors || !w->hash)
        return no_memory(err);
    int status = sl_writer_meta(w, "sluice", "", "1", err);
    if (status == 0)
        status = sl_writer_meta(w, "recipe", "", recipe, err);
    if (status == 0)
        status = sl_writer_meta(w, "source", "", source, err);
    return status;
}

void sl_writer_close(struct sl_writer *w)
{
    sl_behind_close(&w->behind);
    sl_newfile_close(&w->file);
    json_decref(w->metadata);
    json_decref(w->tensors);
    free(w->list);
    XXH3_freeState(w->hash);
    *w = (struct sl_writer){.file.fd = -1};
}

/* {"dtype": …, "shape": […], "data_offsets": [begin, end]} */
static json_t *header_entry(enum sl_dtype dtype, unsigned n_dims, const uint64_t *dims,
                            uint64_t begin, uint64_t end)
{
    json_t *shape = json_array();
    for (unsigned i = 0; i < n_dims; i++)
        json_array_append_new(shape, json_integer((json_int_t)dims[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", sl_dtype_name(dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

int sl_writer_add(struct sl_writer *w, const char *name, enum sl_dtype dtype, unsigned n_dims,
                  const uint64_t *dims, bool hashed, struct sluice_err *err)
{
    uint64_t bytes = sl_dtype_bytes(dtype);
    for (unsigned i = 0; i < n_dims; i++)
        bytes *= dims[i];
    struct sl_writer_tensor *list = realloc(w->list, (w->n_tensors + 1) * sizeof *list);
    if (!list)
        return no_memory(err);
    w->list = list;
    struct sl_writer_tensor *t = &list[w->n_tensors++];
    *t = (struct sl_writer_tensor){.bytes = bytes, .hashed = hashed};
    snprintf(t->name, sizeof t->name, "%s", name);
    json_t *entry = header_entry(dtype, n_dims, dims, w->data_bytes, w->data_bytes + bytes);
    w->data_bytes += bytes;
    if (json_object_set_new(w->tensors, name, entry) != 0)
        return no_memory(err);
    return hashed ? sl_writer_meta(w, "xxh3:", name, no_digest, err) : 0;
}

int sl_writer_meta(struct sl_writer *w, const char *prefix, const char *name, const char *text,
                   struct sluice_err *err)
{
    char key[160];
    snprintf(key, sizeof key, "%s%s", prefix, name);
    return json_object_set_new(w->metadata, key, json_string(text)) == 0 ? 0 : no_memory(err);
}

int sl_writer_error(struct sl_writer *w, const char *name, const struct sl_error *e,
                    struct sluice_err *err)
{
    const struct sl_error none = {0};
    char text[64];
    e = e ? e : &none;
    snprintf(text, sizeof text, "%.6e %.6e", sl_error_relative(e), e->max);
    return sl_writer_meta(w, "error:", name, text, err);
}

static char *header_text(const struct sl_writer *w)
{
    json_t *root = json_object();
    char *text = NULL;
    if (root && json_object_set(root, "__metadata__", w->metadata) == 0 &&
        json_object_update(root, w->tensors) == 0)
        text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

int sl_writer_measure(struct sl_writer *w, uint64_t *bytes, struct sluice_err *err)
{
    char *text = header_text(w);
    if (!text)
        return no_memory(err);
    w->data_start = sl_round_up(8 + strlen(text), SL_DATA_ALIGN);
    *bytes = w->data_start + w->data_bytes;
    free(text);
    return 0;
}

int sl_writer_begin(struct sl_writer *w, const char *path, bool direct, struct sluice_err *err)
{
    uint64_t bytes;
    int status = sl_writer_measure(w, &bytes, err);
    if (status < 0)
        return status;
    XXH3_64bits_reset(w->hash);
    status = sl_newfile_open(&w->file, path, err);
    return status < 0 ? status : sl_behind_open(&w->behind, &w->file, w->data_start, direct, err);
}

/* The current tensor has all its bytes: notes its checksum and goes to the next. */
static int finish_tensor(struct sl_writer *w, struct sluice_err *err)
{
    const struct sl_writer_tensor *t = &w->list[w->current];
    char digest[SL_DIGEST_CHARS];
    sl_digest_print(digest, XXH3_64bits_digest(w->hash));
    XXH3_64bits_reset(w->hash);
    w->current++;
    w->current_done = 0;
    return t->hashed ? sl_writer_meta(w, "xxh3:", t->name, digest, err) : 0;
}

int sl_writer_append(struct sl_writer *w, const void *data, size_t len, struct sluice_err *err)
{
    assert(w->current < w->n_tensors);
    const struct sl_writer_tensor *t = &w->list[w->current];
    assert(len <= t->bytes - w->current_done);
    int status = sl_behind_append(w->behind, data, len, err);
    if (status < 0)
        return status;
    if (t->hashed)
        XXH3_64bits_update(w->hash, data, len);
    w->current_done += len;
    return w->current_done == t->bytes ? finish_tensor(w, err) : 0;
}

int sl_writer_commit(struct sl_writer *w, struct sluice_err *err)
{
    assert(w->current == w->n_tensors);
    char *text = header_text(w), *header = malloc(w->data_start);
    int status = text && header ? sl_behind_finish(w->behind, err) : no_memory(err);
    if (status == 0) {
        uint64_t length = w->data_start - 8;
        size_t used = strlen(text);
        assert(used <= length);
        memcpy(header, &length, sizeof length);
        memset(header + 8, ' ', length);
        memcpy(header + 8, text, used);
        status = sl_newfile_write_at(&w->file, header, w->data_start, 0, err);
    }
    if (status == 0)
        status = sl_newfile_commit(&w->file, err);
    free(header);
    free(text);
    return status;
}
