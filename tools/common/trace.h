/* SPDX-License-Identifier: MIT */
/*
 * Traces: the experts that a model's routers chose, one line of text per token and layer,
 * compressed by gzip.  docs/trace.md is the format.
 */
#ifndef SL_TOOLS_TRACE_H
#define SL_TOOLS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

/* What a trace says about its model. */
struct sl_trace_model {
    uint32_t layers;  /* main layers */
    uint32_t dense;   /* those of them without experts, the first ones */
    uint32_t experts; /* per layer */
    uint32_t used;    /* per token and layer */
};

/* One choice. */
struct sl_trace_route {
    bool decode;             /* false: a token of the prompt */
    uint32_t position;       /* of the token, from 0 */
    uint32_t layer;          /* from `dense` on */
    const uint32_t *experts; /* [used], ascending */
};

/* ---- writing -------------------------------------------------------------------------------- */

struct sl_trace_writer;

int sl_trace_create(struct sl_trace_writer **w, const char *path,
                    const struct sl_trace_model *model, struct sluice_err *err);

/* Never fails: a full drive ends the writing, and sl_trace_finish() tells.  Allocates nothing. */
void sl_trace_write(struct sl_trace_writer *w, const struct sl_trace_route *route);

/* Closes; fails when something could not be written.  *w == NULL is fine. */
int sl_trace_finish(struct sl_trace_writer **w, struct sluice_err *err);

/* ---- reading -------------------------------------------------------------------------------- */

struct sl_trace;

/* Reads the first line.  PATH is borrowed, for messages. */
int sl_trace_open(struct sl_trace **t, const char *path, struct sluice_err *err);
const struct sl_trace_model *sl_trace_model(const struct sl_trace *t);

/* 1: *route is the next choice, its list good until the next call; 0: there are no more; negative:
 * a line is wrong, or the file ends too early. */
int sl_trace_next(struct sl_trace *t, struct sl_trace_route *route, struct sluice_err *err);

void sl_trace_close(struct sl_trace **t);

#endif
