/* SPDX-License-Identifier: MIT */
/* The table of kernels in three formats. */
#include "tools/bench/kernels_table.h"

#include <jansson.h>

#include "runtime/base/err.h"
#include "tools/common/status.h"
#include "tools/measure/kernels.h"

static const double seconds = 0.1; /* per row and repetition */

struct table {
    enum sl_bench_format format;
    bool printed;
};

static void print_md(const struct sl_kernel_row *r)
{
    printf("| %s | %s | %s | %.4g | %.4g %s | ", r->kernel, r->rung, r->shape, r->ms, r->rate,
           r->unit);
    if (r->limit > 0)
        printf("%.4g | %.0f %% | %s |\n", r->limit, 100 * r->fraction, r->limit_by);
    else
        printf("– | – | – |\n");
}

static void print_csv(const struct sl_kernel_row *r)
{
    printf("%s,%s,\"%s\",%.6g,%.6g,%s,", r->kernel, r->rung, r->shape, r->ms, r->rate, r->unit);
    if (r->limit > 0)
        printf("%.6g,%.6g,%s\n", r->limit, r->fraction, r->limit_by);
    else
        printf(",,\n");
}

static int print_json(const struct sl_kernel_row *r, bool first, struct sluice_err *err)
{
    bool known = r->limit > 0;
    json_t *row = json_pack("{s:s, s:s, s:s, s:f, s:f, s:s, s:o, s:o, s:s?}", "kernel", r->kernel,
                            "rung", r->rung, "shape", r->shape, "ms", r->ms, "rate", r->rate,
                            "unit", r->unit, "limit", known ? json_real(r->limit) : json_null(),
                            "fraction", known ? json_real(r->fraction) : json_null(), "limit_by",
                            r->limit_by);
    if (!row)
        return sl_fail_nomem(err, "a row of the table", 0);
    printf("%s\n  ", first ? "" : ",");
    json_dumpf(row, stdout, JSON_REAL_PRECISION(6));
    json_decref(row);
    return 0;
}

static int print_row(void *user, const struct sl_kernel_row *r, struct sluice_err *err)
{
    struct table *table = user;
    int status = 0;
    if (table->format == SL_BENCH_MD)
        print_md(r);
    else if (table->format == SL_BENCH_CSV)
        print_csv(r);
    else
        status = print_json(r, !table->printed, err);
    table->printed = true;
    fflush(stdout);
    if (status == 0 && sl_interrupted())
        status = sl_fail(err, SLUICE_ECANCELLED, "interrupted; the rows so far stand");
    return status;
}

int sl_bench_kernels(size_t threads, size_t repeat, enum sl_bench_format format,
                     struct sluice_err *err)
{
    struct table table = {.format = format};
    const struct sl_kernel_options options = {
        .threads = (unsigned)threads,
        .seconds = seconds * (double)repeat,
        .shrink = 1,
    };
    if (format == SL_BENCH_MD)
        printf("| kernel | rung | shape | ms | rate | limit | of the limit | limit by |\n"
               "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |\n");
    else if (format == SL_BENCH_CSV)
        printf("kernel,rung,shape,ms,rate,unit,limit,fraction,limit_by\n");
    else
        printf("[");
    int status = sl_measure_kernel_rows(&options, print_row, &table, err);
    if (format == SL_BENCH_JSON)
        printf("\n]\n");
    return status;
}
