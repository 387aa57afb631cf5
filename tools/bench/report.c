/* SPDX-License-Identifier: MIT */
#include "tools/bench/report.h"

const char *const sl_bench_formats[] = {"md", "csv", "json", NULL};

/* Keys of the split, in the order of enum sluice_part. */
static const char *const parts[SLUICE_PARTS] = {
    "projections", "indexer", "topk",   "attention", "router",
    "experts",     "io_wait", "shared", "dense",     "head",
};

static double touched(const struct sl_bench_row *r)
{
    double sum = 0;
    for (int i = 0; i < SLUICE_PARTS; i++)
        sum += (double)r->used.part_bytes[i];
    return sum;
}

static double memory_rate(const struct sl_bench_row *r)
{
    return touched(r) / r->seconds;
}

static double ms_of(const struct sl_bench_row *r, int part)
{
    return 1000 * r->used.part_seconds[part] / r->tokens;
}

void sl_bench_head(FILE *out, enum sl_bench_format format)
{
    if (format == SL_BENCH_MD) {
        fprintf(out, "| test | t/s | memory | of its bandwidth | read | ms per token |\n"
                     "| --- | ---: | ---: | ---: | ---: | --- |\n");
    } else if (format == SL_BENCH_CSV) {
        fprintf(out, "test,depth,n,tps,tps_sd,mem_gbps,mem_fraction,io_gbps,bytes_per_token");
        for (int i = 0; i < SLUICE_PARTS; i++)
            fprintf(out, ",ms_%s", parts[i]);
        fprintf(out, "\n");
    } else {
        fprintf(out, "[");
    }
}

/* "pp512 @ d4096" */
static void print_test(FILE *out, const struct sl_bench_row *r, bool with_depth)
{
    fprintf(out, "%s%zu", r->decode ? "tg" : "pp", r->n);
    if (with_depth && r->depth > 0)
        fprintf(out, " @ d%zu", r->depth);
}

static void print_md(FILE *out, const struct sl_bench_row *r)
{
    const char *between = "";
    fprintf(out, "| ");
    print_test(out, r, true);
    fprintf(out, " | %.2f ± %.2f | %.1f GB/s | %.0f %% | %.2f GB/s | ", r->tps, r->tps_sd,
            memory_rate(r) * 1e-9, 100 * memory_rate(r) / r->bandwidth,
            (double)r->used.expert_bytes / r->seconds * 1e-9);
    for (int i = 0; i < SLUICE_PARTS; i++)
        if (ms_of(r, i) >= 0.0005) {
            fprintf(out, "%s%s %.3f", between, parts[i], ms_of(r, i));
            between = ", ";
        }
    fprintf(out, " |\n");
}

static void print_csv(FILE *out, const struct sl_bench_row *r)
{
    print_test(out, r, false);
    fprintf(out, ",%zu,%zu,%.6g,%.6g,%.6g,%.6g,%.6g,%.0f", r->depth, r->n, r->tps, r->tps_sd,
            memory_rate(r) * 1e-9, memory_rate(r) / r->bandwidth,
            (double)r->used.expert_bytes / r->seconds * 1e-9, touched(r) / r->tokens);
    for (int i = 0; i < SLUICE_PARTS; i++)
        fprintf(out, ",%.6g", ms_of(r, i));
    fprintf(out, "\n");
}

static void print_json(FILE *out, const struct sl_bench_row *r, bool first)
{
    fprintf(out, "%s\n  {\"test\": \"", first ? "" : ",");
    print_test(out, r, false);
    fprintf(out,
            "\", \"depth\": %zu, \"n\": %zu, \"tps\": %.6g, \"tps_sd\": %.6g, \"mem_gbps\": %.6g, "
            "\"mem_fraction\": %.6g, \"io_gbps\": %.6g, \"bytes_per_token\": %.0f, \"ms\": {",
            r->depth, r->n, r->tps, r->tps_sd, memory_rate(r) * 1e-9, memory_rate(r) / r->bandwidth,
            (double)r->used.expert_bytes / r->seconds * 1e-9, touched(r) / r->tokens);
    for (int i = 0; i < SLUICE_PARTS; i++)
        fprintf(out, "%s\"%s\": %.6g", i ? ", " : "", parts[i], ms_of(r, i));
    fprintf(out, "}}");
}

void sl_bench_row(FILE *out, enum sl_bench_format format, const struct sl_bench_row *row,
                  bool first)
{
    if (format == SL_BENCH_MD)
        print_md(out, row);
    else if (format == SL_BENCH_CSV)
        print_csv(out, row);
    else
        print_json(out, row, first);
    fflush(out);
}

void sl_bench_foot(FILE *out, enum sl_bench_format format)
{
    if (format == SL_BENCH_JSON)
        fprintf(out, "\n]\n");
}
