/* SPDX-License-Identifier: MIT */
/* Reading one safetensors file: a checked table of tensors.  Serves checkpoints and containers. */
#ifndef SL_CONTAINER_SAFETENSORS_H
#define SL_CONTAINER_SAFETENSORS_H

#include <jansson.h>
#include <stdint.h>

#include "runtime/sluice.h"

enum sl_dtype {
    SL_U8,
    SL_I8,
    SL_I16,
    SL_I32,
    SL_I64,
    SL_U64,
    SL_F8_E4M3,
    SL_F8_E8M0,
    SL_BF16,
    SL_F16,
    SL_F32,
    SL_F64,
    SL_N_DTYPES
};

enum { SL_MAX_DIMS = 8 };

const char *sl_dtype_name(enum sl_dtype dtype); /* as safetensors spells it: "F8_E4M3" */
size_t sl_dtype_bytes(enum sl_dtype dtype);

struct sl_tensor {
    const char *name;
    enum sl_dtype dtype;
    unsigned n_dims;
    uint64_t dims[SL_MAX_DIMS];
    uint64_t offset; /* of its first byte, from the beginning of the file */
    uint64_t bytes;
};

struct sl_safetensors {
    char *path;
    int fd;
    uint64_t file_bytes;
    uint64_t data_start; /* = 8 + header length */
    size_t n_tensors;
    struct sl_tensor *tensors; /* ascending by name */
    json_t *header;            /* owns the names */
};

/*
 * Opens PATH and checks its header: length within the file and ≤ 128 MiB, known dtypes, shape ×
 * dtype = byte range, ranges inside the file and without holes or overlap, file neither truncated
 * nor longer than the last tensor.  Each failure names the file and the tensor.
 */
int sl_safetensors_open(struct sl_safetensors **st, const char *path, struct sluice_err *err);
void sl_safetensors_close(struct sl_safetensors **st);

/* NULL when there is none. */
const struct sl_tensor *sl_safetensors_find(const struct sl_safetensors *st, const char *name);

/* Value of KEY in __metadata__, or NULL. */
const char *sl_safetensors_meta(const struct sl_safetensors *st, const char *key);

/* Reads LEN bytes at OFFSET of the tensor's data. */
int sl_tensor_read(const struct sl_safetensors *st, const struct sl_tensor *t, void *data,
                   size_t len, uint64_t offset, struct sluice_err *err);

/* "[1536, 7168]" for messages. */
const char *sl_tensor_shape(const struct sl_tensor *t, char out[128]);

#endif
