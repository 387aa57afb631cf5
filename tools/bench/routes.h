/* SPDX-License-Identifier: MIT */
/* The choices of a trace, to compute a model with in place of its own. */
#ifndef SL_TOOLS_BENCH_ROUTES_H
#define SL_TOOLS_BENCH_ROUTES_H

#include <stddef.h>

#include "runtime/sluice.h"

struct sl_routes;

/* Reads the whole trace PATH.  SLUICE_EARG when its experts, or the number used of them, are not
 * those of MODEL. */
int sl_routes_open(struct sl_routes **r, const char *path, const struct sluice_model_info *model,
                   struct sluice_err *err);

/*
 * Positions for which every layer of the trace has a choice.  Positions and layers of a run wrap
 * round the trace's.
 */
size_t sl_routes_length(const struct sl_routes *r);

/* The choice for a token; LAYER counts from the model's first layer.  Good until closing. */
const uint32_t *sl_routes_get(const struct sl_routes *r, size_t position, int32_t layer);

void sl_routes_close(struct sl_routes **r);

#endif
