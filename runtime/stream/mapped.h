/* SPDX-License-Identifier: MIT */
/* mapped.h: expert files mapped, for models that fit into memory. */
#ifndef SL_MAPPED_H
#define SL_MAPPED_H

#include "runtime/stream/stream.h"

struct sl_mapped;

/* Maps FILES[n], the caller's until the close. */
int sl_mapped_open(struct sl_mapped **m, const struct sl_expert_file *files, unsigned n,
                   struct sluice_err *err);
void sl_mapped_close(struct sl_mapped **m);

/* *block = the block of EXPERT in files[i], checked when it is first asked for. */
int sl_mapped_block(struct sl_mapped *m, unsigned i, uint32_t expert, const uint8_t **block,
                    struct sluice_err *err);

#endif
