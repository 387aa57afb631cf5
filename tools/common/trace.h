/* SPDX-License-Identifier: MIT */
/*
 * Traces: the experts that a model's routers chose, one line of text per token and layer, and what
 * bringing and computing them took, compressed by gzip.  docs/trace.md is the format.
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

/* What became of the choices of a pass in one layer. */
struct sl_trace_event {
    bool decode;
    uint32_t position, tokens; /* of the pass: the first, and how many */
    uint32_t layer;
    uint32_t memory, read, ahead; /* experts held, read when they were wanted, and before that */
    uint64_t bytes;               /* read */
    /* Microseconds. */
    uint64_t before;   /* from the end of the layer before to the choice */
    uint64_t resident; /* computing the shared expert and the experts in memory */
    uint64_t reading;  /* from asking for the others until the last has landed */
    uint64_t rest;     /* computing after that */
    uint64_t all;      /* from the choice to the end of the layer */
};

/* ---- writing -------------------------------------------------------------------------------- */

struct sl_trace_writer;

int sl_trace_create(struct sl_trace_writer **w, const char *path,
                    const struct sl_trace_model *model, struct sluice_err *err);

/* These never fail: a full drive ends the writing, and sl_trace_finish() tells.  They allocate
 * nothing. */
void sl_trace_write(struct sl_trace_writer *w, const struct sl_trace_route *route);
void sl_trace_write_event(struct sl_trace_writer *w, const struct sl_trace_event *event);

/* Closes; fails when something could not be written.  *w == NULL is fine. */
int sl_trace_finish(struct sl_trace_writer **w, struct sluice_err *err);

/* ---- reading -------------------------------------------------------------------------------- */

struct sl_trace;

/* Reads the first line.  PATH is borrowed, for messages. */
int sl_trace_open(struct sl_trace **t, const char *path, struct sluice_err *err);
const struct sl_trace_model *sl_trace_model(const struct sl_trace *t);

struct sl_trace_record {
    bool is_event;
    union {
        struct sl_trace_route route; /* its list is good until the next call */
        struct sl_trace_event event;
    };
};

/* 1: *record is the next one; 0: there are no more; negative: a line is wrong, or the file ends too
 * early. */
int sl_trace_read(struct sl_trace *t, struct sl_trace_record *record, struct sluice_err *err);

/* The same for choices only. */
int sl_trace_next(struct sl_trace *t, struct sl_trace_route *route, struct sluice_err *err);

void sl_trace_close(struct sl_trace **t);

#endif
