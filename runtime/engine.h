/* SPDX-License-Identifier: MIT */
/* Inside the runtime: what an engine is made of.  Sessions borrow it. */
#ifndef SL_ENGINE_H
#define SL_ENGINE_H

#include "runtime/model/matmul.h"
#include "runtime/model/weights.h"
#include "runtime/stream/stream.h"
#include "runtime/text/text.h"

struct sl_workbench;
struct sl_block;

struct sluice_engine {
    struct sl_weights *weights;
    struct sl_experts *experts;     /* NULL: no layer has experts */
    struct sl_tokenizer *tokenizer; /* NULL: the container has no tokenizer.json */
    struct sl_compute compute;
    uint8_t *drawable; /* [vocab]: 1 for ids that have a token */
    struct sluice_memory_plan memory;
    uint64_t session_bytes;       /* of open sessions and their scratch */
    sluice_session *sessions;     /* the open ones, in a list */
    struct sl_workbench *benches; /* that have sessions */
    struct sl_block *spare;       /* that no session uses at the moment */
    char dir[SL_PATH_MAX];
};

/* How an engine of the container DIR with OPTS would divide memory.  W: the container's manifest
 * and configuration, no weights yet. */
int sl_engine_plan(struct sluice_memory_plan *plan, const struct sl_weights *w, const char *dir,
                   const struct sluice_engine_opts *opts, struct sluice_err *err);

/* SLUICE_ENOMEM when a session of SIZE bytes, KV of them caches, exceeds what is left. */
int sl_engine_grant(const sluice_engine *e, uint64_t size, uint64_t kv, struct sluice_err *err);

#endif
