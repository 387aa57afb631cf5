/* SPDX-License-Identifier: MIT */
/* What the verbs of `sluice eval` measure on: files of token ids, and texts cut into sequences. */
#ifndef SL_TOOLS_SEQUENCES_H
#define SL_TOOLS_SEQUENCES_H

#include "runtime/sluice.h"

/* PATH's token ids; *tokens is malloc'ed. */
int sl_read_ids(const char *path, int32_t **tokens, size_t *n, struct sluice_err *err);

/*
 * The text PATH as sequences of CONTEXT tokens one behind the other, the last one may be shorter.
 * Each begins with BOS if the model has one.  Added tokens in the text are text.  *tokens is
 * malloc'ed.
 */
int sl_read_text(const char *path, const sluice_engine *engine, size_t context, int32_t **tokens,
                 size_t *n, struct sluice_err *err);

/* The length of sequences: WANTED, or what is usual for the model when that is 0. */
size_t sl_choose_context(const sluice_engine *engine, size_t wanted);

#endif
