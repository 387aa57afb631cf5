/* SPDX-License-Identifier: MIT */
/* Reports of forecasts, and the line that `sluice run` prints. */
#ifndef SL_TOOLS_PLAN_H
#define SL_TOOLS_PLAN_H

#include <jansson.h>
#include <stdio.h>

#include "tools/common/engine_options.h"
#include "tools/plan/forecast.h"

/* A forecast and what would change it. */
struct sl_plan_report {
    const char *model;  /* as the user called it */
    const char *filled; /* rates that are typical ones though the machine was measured; "" */
    struct sl_forecast forecast;
    struct sl_change changes[SL_CHANGES_MAX];
    int n_changes;
};

void sl_plan_print(FILE *out, const struct sl_plan_report *report);

/* One row per profile. */
void sl_plan_print_table(FILE *out, const struct sl_plan_report *reports, size_t n);

/* The report as a JSON object; NULL without memory. */
json_t *sl_plan_json(const struct sl_plan_report *report);

/*
 * What speed to expect, in a line on stderr; nothing when that is no terminal, or when nothing can
 * be said.  INFO and MEMORY: of the engine that is open.
 */
void sl_plan_hint(const struct sl_engine_options *o, const struct sluice_model_info *info,
                  const struct sluice_memory_plan *memory);

#endif
