/* SPDX-License-Identifier: MIT */
/* The resident weights of a container: mapped or copied, checked, and found by role. */
#ifndef SL_MODEL_WEIGHTS_H
#define SL_MODEL_WEIGHTS_H

#include "runtime/base/file.h"
#include "runtime/base/huge.h"
#include "runtime/container/container.h"
#include "runtime/model/config.h"
#include "runtime/model/tensors.h"
#include "simd/simd.h"

/* The tensors of one layer (or of head.safetensors), by role; absent ones are zero. */
struct sl_layer_weights {
    struct sl_map map; /* the file … */
    bool copied;       /* … or a copy of it in the memory of struct sl_weights */
    struct sl_matrix matrix[SL_N_ROLES];
    const float *vector[SL_N_ROLES];
};

/* Row-major embedding; exactly one of the three kinds. */
struct sl_embedding {
    enum sl_dtype dtype; /* SL_I8, SL_BF16 or SL_F32 */
    const uint8_t *rows; /* [vocab][hidden] */
    const float *scale;  /* [vocab], SL_I8 only */
};

struct sl_weights {
    struct sl_config config;
    struct sl_manifest *manifest;
    uint32_t n_layers; /* config.layers, + 1 when the MTP layer is loaded */
    struct sl_layer_weights *layers;
    struct sl_layer_weights head;
    struct sl_embedding embedding;
    struct sl_huge copy; /* of all files, or closed */
};

/*
 * Opens the container DIR: manifest, configuration, every resident file with its checksum and every
 * tensor against the shape the configuration demands.  WITH_MTP: also the MTP layer, which must
 * exist then.  The expert files are opened by stream/.
 */
int sl_weights_open(struct sl_weights **w, const char *dir, bool with_mtp, struct sluice_err *err);
void sl_weights_close(struct sl_weights **w);

/* The same in two steps: manifest and configuration, then all weights.  W is to be closed, also
 * after an error of the second. */
int sl_weights_begin(struct sl_weights **w, const char *dir, struct sluice_err *err);

struct sl_load_opts {
    bool mtp;
    bool copy; /* instead of mapping */
    void *user;
    sluice_loading_fn *progress; /* or NULL */
};
int sl_weights_load(struct sl_weights *w, const char *dir, const struct sl_load_opts *opts,
                    struct sluice_err *err);

/* Bytes of all weights, each file in whole pages.  Loading finds files that are missing. */
uint64_t sl_weights_bytes(const struct sl_weights *w, bool with_mtp);

/* Without layers (n_layers is 0): manifest, configuration, embedding and head. */
int sl_weights_open_head(struct sl_weights **w, const char *dir, struct sluice_err *err);

/* Opens one layer (config.layers: the MTP layer) of the container DIR that W is the head of.  To be
 * closed, also after an error. */
int sl_layer_open(struct sl_layer_weights *layer, const struct sl_weights *w, const char *dir,
                  uint32_t number, struct sluice_err *err);
void sl_layer_close(struct sl_layer_weights *layer);

/* out[hidden] = the embedding of TOKEN. */
void sl_embed(const struct sl_weights *w, const struct sl_ops *ops, int32_t token, float *out);

/* A `reference` container, which computes in floats. */
bool sl_is_exact(const struct sl_weights *w);

/* The cache of a session that wants this one; AUTO: by whether the container is EXACT. */
enum sl_cache sl_cache_type(enum sluice_cache_type wanted, bool exact);

/* True when P is a matrix of the shape that the configuration gives ROLE. */
bool sl_shape_fits(const struct sl_config *c, enum sl_role role, const struct sl_packing *p);

#endif
