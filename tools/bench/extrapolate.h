/* SPDX-License-Identifier: MIT */
/* From a few layers to all of them: what a measurement would be on a model with more layers. */
#ifndef SL_TOOLS_BENCH_EXTRAPOLATE_H
#define SL_TOOLS_BENCH_EXTRAPOLATE_H

#include <stdbool.h>

#include "runtime/sluice.h"

struct sl_layer_count {
    unsigned dense, moe;
};

/* "3+58", or a total: "61" means the published models' 3 dense layers and 58 others. */
bool sl_parse_layers(const char *text, struct sl_layer_count *layers);

/* SLUICE_EARG when FROM has no layer of a kind that TO has. */
int sl_check_layers(struct sl_layer_count from, struct sl_layer_count to, struct sluice_err *err);

/*
 * Scales the time, bytes and experts of *USE, SECONDS in all, by the number of layers that each
 * part occurs in; what no part covers grows with all layers.  Returns the scaled SECONDS.
 */
double sl_extrapolate(struct sluice_stats *use, double seconds, struct sl_layer_count from,
                      struct sl_layer_count to);

#endif
