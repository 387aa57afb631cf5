/* SPDX-License-Identifier: MIT */
/* A published checkpoint: config.json, safetensors shards with or without an index. */
#ifndef SL_CONTAINER_CHECKPOINT_H
#define SL_CONTAINER_CHECKPOINT_H

#include "runtime/base/file.h"
#include "runtime/container/safetensors.h"

struct sl_checkpoint_entry {
    const struct sl_tensor *tensor;
    uint32_t shard;
};

struct sl_checkpoint {
    char dir[SL_PATH_MAX]; /* the directory that holds config.json */
    size_t n_shards;
    struct sl_safetensors **shards;
    size_t n_tensors;
    struct sl_checkpoint_entry *entries; /* ascending by name */
};

/*
 * Opens PATH: a plain directory, a Hugging Face hub folder (models--…, resolved through refs/main)
 * or a snapshot in one.  Reads model.safetensors.index.json when there is one, else all
 * *.safetensors.  Missing shards are all named in one message; a tensor that the index puts
 * elsewhere, or that two shards hold, is an error.
 */
int sl_checkpoint_open(struct sl_checkpoint **c, const char *path, struct sluice_err *err);
void sl_checkpoint_close(struct sl_checkpoint **c);

/* Finds a tensor; *st receives its shard.  NULL when there is none. */
const struct sl_tensor *sl_checkpoint_find(const struct sl_checkpoint *c, const char *name,
                                           const struct sl_safetensors **st);

#endif
