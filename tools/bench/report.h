/* SPDX-License-Identifier: MIT */
/* Rows of `sluice bench`, in the formats of llama-bench. */
#ifndef SL_TOOLS_BENCH_REPORT_H
#define SL_TOOLS_BENCH_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "runtime/sluice.h"
#include "tools/bench/extrapolate.h"

enum sl_bench_format { SL_BENCH_MD, SL_BENCH_CSV, SL_BENCH_JSON };
extern const char *const sl_bench_formats[];

/* What all rows of a table have in common. */
struct sl_bench_table {
    enum sl_bench_format format;
    double bandwidth; /* bytes per second that memory can give */
    double drive;     /* that drives can give to this reader; 0: not known */
    bool cold;        /* some rows are */
    bool drafts;      /* rows of decoding tell of them */
    /* layers.dense + layers.moe > 0: extrapolated to these, from the model's */
    struct sl_layer_count layers, from;
    size_t sessions; /* that step together, in some rows */
    bool printed;    /* a row, already */
};

/* One test: N tokens at DEPTH, of each of some sessions that step together, repeated. */
struct sl_bench_row {
    bool decode; /* tg, else pp */
    bool cold;
    size_t depth, n, sessions;
    double tps, tps_sd;       /* mean and standard deviation of tokens per second */
    double seconds;           /* of all repetitions */
    double tokens;            /* of all repetitions */
    double read;              /* bytes from the drive, by all repetitions */
    uint64_t faults;          /* page faults that waited for the drive, likewise */
    struct sluice_stats used; /* by all repetitions */
};

/* "pp512 @ d4096", "tg32 x8" of 8 sessions, " cold" if it is, for people. */
void sl_bench_name(const struct sl_bench_row *row, char *out, size_t size);

void sl_bench_head(FILE *out, const struct sl_bench_table *table);
void sl_bench_row(FILE *out, struct sl_bench_table *table, const struct sl_bench_row *row);
void sl_bench_foot(FILE *out, const struct sl_bench_table *table);

#endif
