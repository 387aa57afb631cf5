/* SPDX-License-Identifier: MIT */
/* A session's choices of experts, and what became of them, into a trace. */
#ifndef SL_TOOLS_RECORDER_H
#define SL_TOOLS_RECORDER_H

#include "tools/common/trace.h"

struct sl_recorder {
    struct sl_trace_writer *writer; /* NULL: nothing is recorded */
    bool decoding;                  /* set by the owner: whose tokens are computed */
};

/* Creates the trace PATH.  SLUICE_EARG for a model without experts. */
int sl_recorder_open(struct sl_recorder *r, const char *path, const struct sluice_model_info *info,
                     struct sluice_err *err);

/* One choice. */
void sl_record_route(struct sl_recorder *r, int32_t layer, size_t position,
                     const uint32_t *experts);

/* For struct sluice_observer: USER is the recorder. */
const uint32_t *sl_recorder_route(void *user, int32_t layer, size_t position,
                                  const uint32_t *experts, const float *weights, size_t n);
void sl_recorder_experts(void *user, const struct sluice_expert_event *event);

/* Fails when something could not be written. */
int sl_recorder_close(struct sl_recorder *r, struct sluice_err *err);

#endif
