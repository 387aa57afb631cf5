/* SPDX-License-Identifier: MIT */
/* Rows of `sluice bench`, in the formats of llama-bench. */
#ifndef SL_TOOLS_BENCH_REPORT_H
#define SL_TOOLS_BENCH_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "runtime/sluice.h"

enum sl_bench_format { SL_BENCH_MD, SL_BENCH_CSV, SL_BENCH_JSON };
extern const char *const sl_bench_formats[];

/* One test: N tokens at DEPTH, repeated. */
struct sl_bench_row {
    bool decode; /* tg, else pp */
    size_t depth, n;
    double tps, tps_sd;       /* mean and standard deviation of tokens per second */
    double seconds;           /* of all repetitions */
    double tokens;            /* of all repetitions */
    double bandwidth;         /* bytes per second that memory can give */
    struct sluice_stats used; /* by all repetitions */
};

void sl_bench_head(FILE *out, enum sl_bench_format format);
void sl_bench_row(FILE *out, enum sl_bench_format format, const struct sl_bench_row *row,
                  bool first);
void sl_bench_foot(FILE *out, enum sl_bench_format format);

#endif
