/* SPDX-License-Identifier: MIT */
/*
 * streamed.h: experts that are read on demand.  Owns the blocks of memory that they are kept in.  A
 * slot keeps an expert, through a stage one passes: none is ever copied, blocks change their
 * owners.  experts.c is the door.
 */
#ifndef SL_STREAMED_H
#define SL_STREAMED_H

#include <stdatomic.h>

#include "runtime/stream/reader.h"
#include "runtime/stream/slots.h"
#include "runtime/stream/stream.h"

struct sl_streamed;

/* FILES[n]: one per layer, the caller's, open until the close. */
int sl_streamed_open(struct sl_streamed **s, const struct sl_expert_file *files, unsigned n,
                     const struct sl_experts_opts *opts, struct sluice_err *err);
void sl_streamed_close(struct sl_streamed **s);

/* As sl_experts_ask() and the others of stream.h; LAYER counts from 0 at the first file. */
int sl_streamed_ask(struct sl_streamed *s, unsigned layer, const struct sl_ask *ask,
                    struct sluice_err *err);
int sl_streamed_take(struct sl_streamed *s, struct sl_ready *ready, size_t max,
                     struct sluice_err *err);
void sl_streamed_release(struct sl_streamed *s);
struct sl_asked sl_streamed_asked(const struct sl_streamed *s);
void sl_streamed_pass(struct sl_streamed *s, size_t tokens, bool most, const atomic_int *stop);
bool sl_streamed_guessing(const struct sl_streamed *s);
void sl_streamed_expect(struct sl_streamed *s, unsigned layer, const uint32_t *ids, size_t n,
                        double cost);
int sl_streamed_preload(struct sl_streamed *s, const char *path, const char *source,
                        sluice_loading_fn *progress, void *user, struct sluice_err *err);
int sl_streamed_save_usage(const struct sl_streamed *s, const char *path, const char *source,
                           struct sluice_err *err);
void sl_streamed_shrink(struct sl_streamed *s, uint64_t bytes);
size_t sl_streamed_at_once(const struct sl_streamed *s);
struct sl_experts_use sl_streamed_use(const struct sl_streamed *s);
bool sl_streamed_drive(const struct sl_streamed *s, unsigned i, struct sluice_drive *drive);
const struct sl_reader *sl_streamed_reader(const struct sl_streamed *s);

#endif
