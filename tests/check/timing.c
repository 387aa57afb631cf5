/* SPDX-License-Identifier: MIT */
/* The benchmark: calls that are also checked, rungs alternating, the best of several batches. */
#include <stdio.h>

#include "tests/check/check_rungs.h"

enum { BATCHES = 9 };

/* What a call reads and writes, each byte once. */
static double bytes_of(const struct trial *t)
{
    size_t bytes = 0;
    for (size_t i = 0; i < t->buffers; i++)
        bytes += buffer_bytes(&t->buffer[i]);
    return (double)bytes;
}

static void print_line(const struct trial *t, const char *name, double seconds, double ref)
{
    printf("    %-12s %10.3f us %7.1fx %8.2f GB/s", name, seconds * 1e6, ref / seconds,
           bytes_of(t) / seconds * 1e-9);
    if (t->kernel->operations)
        printf(" %8.1f Gop/s", t->kernel->operations(t) / seconds * 1e-9);
    putchar('\n');
}

static void bench_trial(struct trial *t)
{
    struct subject subjects[1 + MOST_RUNGS] = {{.name = "ref", .ops = sl_rung_at(0)->ops}};
    size_t n = 1 + rungs_of(t->kernel, subjects + 1), calls[1 + MOST_RUNGS];
    double best[1 + MOST_RUNGS];
    for (size_t i = 0; i < n; i++) {
        best[i] = trial_time(t, subjects[i].ops, 1);
        calls[i] = best[i] > 1e-3 ? 1 : (size_t)(1e-3 / (best[i] + 1e-8)) + 1;
    }
    for (size_t batch = 0; batch < BATCHES; batch++)
        for (size_t i = 0; i < n; i++) {
            double seconds = trial_time(t, subjects[i].ops, calls[i]);
            best[i] = seconds < best[i] || batch == 0 ? seconds : best[i];
        }
    for (size_t i = 0; i < n; i++)
        print_line(t, subjects[i].name, best[i], best[0]);
}

void bench_case(const struct kernel *k, size_t number, uint64_t seed)
{
    struct trial t;
    char args[200];
    if (trial_open(&t, k, number, seed)) {
        trial_describe(&t, args, sizeof args);
        printf("%s: %s\n", k->name, args);
        bench_trial(&t);
        fflush(stdout);
    }
    trial_close(&t);
}
