/* SPDX-License-Identifier: MIT */
/* Timing a model: a row for every combination of work and depth. */
#ifndef SL_TOOLS_BENCH_MODEL_ROWS_H
#define SL_TOOLS_BENCH_MODEL_ROWS_H

#include "tools/bench/report.h"
#include "tools/common/engine_options.h"

enum { SL_BENCH_LIST = 32 };

struct sl_bench_list {
    size_t n;
    size_t value[SL_BENCH_LIST];
};

struct sl_bench_task {
    struct sl_engine_options engine;
    struct sl_bench_list prompt, decode, depth;
    size_t repeat;
    int mtp; /* enum sluice_drafting, and the model says its own tokens; −1: they are given */
    enum sl_bench_format format;
    bool real_fill;               /* compute what comes before, instead of noise */
    struct sl_layer_count layers; /* to extrapolate to; 0+0: none */
    const char *routes;           /* trace with the choices to compute with, or NULL */
    const char *trace;            /* file for the choices of what is timed, or NULL */
    bool warm, cold;              /* which rows */
};

/* Prints the table on stdout; progress and the machine's limits go to stderr. */
int sl_bench_model(const struct sl_bench_task *task, struct sluice_err *err);

#endif
