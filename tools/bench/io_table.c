/* SPDX-License-Identifier: MIT */
/* The table of a drive: which tests, and its rows in three formats. */
#include "tools/bench/io_table.h"

#include <jansson.h>

#include "runtime/base/err.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/measure/drive.h"

static const size_t sizes[] = {4 << 10, 256 << 10, 1 << 20, 4 << 20};
static const unsigned depths[] = {1, 4, 16, 32};
static const double seconds = 0.2; /* per row */

enum {
    N_SIZES = sizeof sizes / sizeof *sizes,
    N_DEPTHS = sizeof depths / sizeof *depths,
    N_TESTS = SL_DRIVE_READERS * N_SIZES * N_DEPTHS,
};

struct table {
    enum sl_bench_format format;
    struct sl_drive_files files;
    struct sl_progress progress;
    size_t done; /* tests */
    bool printed;
};

static void print_head(enum sl_bench_format format)
{
    if (format == SL_BENCH_MD)
        printf("| reader | read | in flight | direct | GB/s | ms per read | at most |\n"
               "| --- | ---: | ---: | --- | ---: | ---: | ---: |\n");
    else if (format == SL_BENCH_CSV)
        printf("reader,bytes,depth,direct,gbps,latency_ms,latency_max_ms\n");
    else
        printf("[");
}

static void print_object(struct table *table, json_t *row)
{
    printf("%s\n  ", table->printed ? "," : "");
    json_dumpf(row, stdout, JSON_REAL_PRECISION(6));
    json_decref(row);
    table->printed = true;
}

static void print_row(struct table *table, const struct sl_drive_test *t,
                      const struct sl_drive_result *r)
{
    const char *reader = sl_drive_readers[t->reader], *direct = r->direct ? "yes" : "no";
    double gbps = r->rate * 1e-9, mean = 1e3 * r->latency_mean, max = 1e3 * r->latency_max;
    sl_progress_close(&table->progress);
    if (table->format == SL_BENCH_MD)
        printf("| %s | %s | %u | %s | %.2f | %.3f | %.3f |\n", reader,
               sl_human_bytes(t->bytes).text, t->depth, direct, gbps, mean, max);
    else if (table->format == SL_BENCH_CSV)
        printf("%s,%zu,%u,%s,%.6g,%.6g,%.6g\n", reader, t->bytes, t->depth, direct, gbps, mean,
               max);
    else
        print_object(table,
                     json_pack("{s:s, s:I, s:i, s:b, s:f, s:f, s:f}", "reader", reader, "bytes",
                               (json_int_t)t->bytes, "depth", (int)t->depth, "direct", r->direct,
                               "gbps", gbps, "latency_ms", mean, "latency_max_ms", max));
    fflush(stdout);
}

/* Of a reader that is not to be had: one row for all.  CSV has no place for it. */
static void print_refusal(struct table *table, enum sl_drive_reader reader, const char *why)
{
    sl_progress_close(&table->progress);
    if (table->format == SL_BENCH_MD)
        printf("| %s | %s | | | | | |\n", sl_drive_readers[reader], why);
    else if (table->format == SL_BENCH_JSON)
        print_object(table,
                     json_pack("{s:s, s:s}", "reader", sl_drive_readers[reader], "error", why));
    else
        fprintf(stderr, "%s: %s\n", sl_drive_readers[reader], why);
}

static int run_reader(struct table *table, enum sl_drive_reader reader, struct sluice_err *err)
{
    const struct sl_drive_files *f = &table->files;
    for (size_t i = 0; i < N_SIZES * N_DEPTHS; i++) {
        const struct sl_drive_test test = {reader, sizes[i / N_DEPTHS], depths[i % N_DEPTHS],
                                           seconds};
        struct sl_drive_result result;
        sl_progress_update(&table->progress, table->done++, N_TESTS);
        int status = sl_drive_measure((const char *const *)f->paths, f->n, &test, &result, err);
        if (status == 0 && sl_interrupted())
            return sl_fail(err, SLUICE_ECANCELLED, "interrupted; the rows so far stand");
        if (status < 0)
            return status;
        print_row(table, &test, &result);
    }
    return 0;
}

static void say_files(const struct sl_drive_files *f)
{
    fprintf(stderr, "%s%s: the page cache forgets %s\n", f->paths[0],
            f->n > 1 ? " and others beside it" : "", f->n > 1 ? "them" : "it");
}

int sl_bench_io(const char *path, enum sl_bench_format format, struct sluice_err *err)
{
    struct table table = {.format = format};
    int status = sl_drive_files_find(&table.files, path, err);
    if (status < 0)
        return status;
    say_files(&table.files);
    sl_progress_open(&table.progress, stderr, "drive", SL_PROGRESS_SHARE);
    print_head(format);
    for (int reader = 0; status == 0 && reader < SL_DRIVE_READERS; reader++) {
        status = run_reader(&table, (enum sl_drive_reader)reader, err);
        if (status == SLUICE_EUNSUPPORTED) {
            print_refusal(&table, (enum sl_drive_reader)reader, err->msg);
            table.done = (size_t)(reader + 1) * N_SIZES * N_DEPTHS;
            *err = (struct sluice_err){0};
            status = 0;
        }
    }
    sl_progress_close(&table.progress);
    if (format == SL_BENCH_JSON)
        printf("\n]\n");
    sl_drive_files_close(&table.files);
    return status;
}
