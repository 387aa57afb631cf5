/* SPDX-License-Identifier: MIT */
/*
 * What bit-equality costs: kernels whose definition fixes an order of float operations, timed in
 * turn with variants that need not keep it, after these have been seen to compute the same.  To be
 * run on a quiet machine: equality [--json] [KERNEL].  One thread, data in the caches, calls like
 * those of tests/check/kernels_*.c.  docs/kernels.md has the table.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "tests/check/trial.h"

#ifndef HAVE_RUNG_AVX512VNNI
int main(void)
{
    puts("equality: the variants are written for AVX-512 VNNI, which this build is not for");
    return 77;
}
#else
#include "tests/bench/equality/by_hand.h"

static const double row_seconds = 0.25, batch_seconds = 2e-5;
enum { MOST_CALLS = 64 /* of a batch: kernels that work in place change their input */ };

/* ---- the table ------------------------------------------------------------------------------ */

static const struct sl_ops by_hand = {
    .gemm = sl_free_gemm,
    .index_score = sl_free_index_score,
    .rmsnorm = sl_free_rmsnorm,
    .layernorm = sl_free_layernorm,
    .sigmoid = sl_free_sigmoid,
    .swiglu = sl_free_swiglu,
    .quantize_acts = sl_free_quantize_acts,
    .rope_interleaved = sl_free_rope_interleaved,
    .hadamard = sl_free_hadamard,
    .attend_finish = sl_free_attend_finish,
    .fit_scale = sl_free_fit_scale,
};

struct row {
    const char *kernel, *shape;
    const struct sl_ops *hand; /* has a variant of this kernel; NULL: there is none by hand */
    double tolerance;          /* of the largest value of an output */
    long arg[AXES];            /* as the kernel's axes are */
};

/* clang-format off */
static const struct row rows[] = {
    {"gemm", "LUT4 g32, 128 × 7168, 1 vector", &by_hand, 2e-6,
     {SL_CODE_LUT4, 32, SL_SCALE_S8, 7168, 1, 128}},
    {"gemm", "LUT4 g32, 128 × 7168, 8 vectors", &by_hand, 2e-6,
     {SL_CODE_LUT4, 32, SL_SCALE_S8, 7168, 8, 128}},
    {"gemm", "LUT4 g32, 128 × 7168, 64 vectors", &by_hand, 2e-6,
     {SL_CODE_LUT4, 32, SL_SCALE_S8, 7168, 64, 128}},
    {"gemm", "INT8 g128, 64 × 7168, 1 vector", &by_hand, 2e-6,
     {SL_CODE_INT8, 128, SL_SCALE_BF16, 7168, 1, 64}},
    {"gemm", "INT8 g128, 64 × 7168, 8 vectors", &by_hand, 2e-6,
     {SL_CODE_INT8, 128, SL_SCALE_BF16, 7168, 8, 64}},
    {"gemm", "INT8 g128, 64 × 7168, 64 vectors", &by_hand, 2e-6,
     {SL_CODE_INT8, 128, SL_SCALE_BF16, 7168, 64, 64}},
    {"gemm", "BF16, 64 × 7168, 1 vector", &by_hand, 5e-6, {SL_CODE_BF16, 0, 0, 7168, 1, 64}},
    {"gemm", "BF16, 64 × 7168, 64 vectors", &by_hand, 5e-6, {SL_CODE_BF16, 0, 0, 7168, 64, 64}},
    {"gemm", "F32, 64 × 7168, 1 vector", &by_hand, 5e-6, {SL_CODE_F32, 0, 0, 7168, 1, 64}},
    {"gemm", "F32, 64 × 7168, 64 vectors", &by_hand, 5e-6, {SL_CODE_F32, 0, 0, 7168, 64, 64}},
    {"index_score", "INT8, 64 heads × 128, 1,024 keys", &by_hand, 2e-6,
     {SL_CACHE_INT8, 64, 128, 1024}},
    {"attend", "INT8, 64 heads, 512 gathered rows of 512 + 64", NULL, 2e-6,
     {SL_CACHE_INT8, 512, 64, 0, 0, 512, 1, 64}},
    {"attend", "BF16, 8 heads, 512 gathered rows of 512 + 64", NULL, 2e-6,
     {SL_CACHE_BF16, 512, 64, 0, 0, 512, 1, 8}},
    {"attend_finish", "512", &by_hand, 5e-7, {512}},
    {"attend_merge", "512", NULL, 5e-7, {512}},
    {"quantize_acts", "7168", &by_hand, 5e-7, {7168}},
    {"rmsnorm", "7168", &by_hand, 2e-6, {7168}},
    {"rmsnorm", "512", &by_hand, 2e-6, {512}},
    {"layernorm", "128", &by_hand, 2e-6, {128}},
    {"swiglu", "2048", &by_hand, 1e-6, {2048}},
    {"sigmoid", "256", &by_hand, 1e-6, {256}},
    {"rope_interleaved", "32 pairs", &by_hand, 5e-7, {32}},
    {"hadamard", "128", &by_hand, 1e-6, {128}},
    {"fit_scale", "LUT4, 32 weights", &by_hand, 2e-6, {32}},
    {"fit_scale", "INT8, 128 weights", NULL, 2e-6, {128, BOOKS, 0}},
};
/* clang-format on */

/* ---- do they compute the same? -------------------------------------------------------------- */

/* Element I of codes and of their sums. */
static long code_at(const struct buffer *b, const uint8_t *at, size_t i)
{
    int32_t word;
    if (b->kind != KIND_WORDS)
        return (int8_t)at[i];
    memcpy(&word, at + 4 * i, sizeof word);
    return word;
}

/* The largest difference of WANT and B's contents, by the largest value of WANT.  Codes may be one
 * off, sums of codes by as many as there are; infinite when they are further apart. */
static double difference(const struct buffer *b, const uint8_t *want)
{
    double most = 0, largest = 0;
    for (size_t i = 0; i < b->n; i++) {
        if (b->rule[i] != RULE_SAME)
            continue;
        if (b->kind == KIND_FLOATS) {
            float x = ((const float *)(const void *)want)[i];
            double d = fabs((double)x - (double)((const float *)(const void *)b->at)[i]);
            most = d <= most ? most : d; /* NaN wins */
            largest = fmax(largest, fabs((double)x));
        } else if (labs(code_at(b, want, i) - code_at(b, b->at, i)) >
                   (b->kind == KIND_WORDS ? SL_BLOCK : 1)) {
            return INFINITY;
        }
    }
    return most > 0 ? most / largest : most;
}

/* The largest difference of the outputs of two tables' kernels. */
static double compare(struct trial *t, const struct sl_ops *ops, const struct sl_ops *variant)
{
    double most = 0;
    trial_run(t, ops);
    for (size_t i = 0; i < t->buffers; i++)
        if (t->buffer[i].name)
            memcpy(t->buffer[i].want, t->buffer[i].at, buffer_bytes(&t->buffer[i]));
    trial_run(t, variant);
    for (size_t i = 0; i < t->buffers; i++)
        if (t->buffer[i].name) {
            double d = difference(&t->buffer[i], t->buffer[i].want);
            most = d <= most ? most : d;
        }
    return most;
}

/* ---- timing --------------------------------------------------------------------------------- */

/* The kernel, the same source contracted, and the variant by hand. */
enum { KERNEL, CONTRACTED, BY_HAND, SUBJECTS };
static const char *const names[] = {"", "contracted", "by hand"};

struct result {
    const struct row *row;
    double best[SUBJECTS];    /* seconds; 0: there is none */
    double differs[SUBJECTS]; /* from the kernel */
    int free;                 /* the fastest variant */
};

static void time_subjects(struct trial *t, const struct sl_ops *const ops[SUBJECTS],
                          struct result *r)
{
    double end = sl_now() + row_seconds, first = trial_time(t, ops[KERNEL], 1);
    size_t calls = (size_t)(batch_seconds / (first + 1e-9)) + 1;
    calls = calls < MOST_CALLS ? calls : MOST_CALLS;
    do {
        for (int i = 0; i < SUBJECTS; i++) {
            double seconds = ops[i] ? trial_time(t, ops[i], calls) : 0;
            if (r->best[i] <= 0 || seconds < r->best[i])
                r->best[i] = seconds;
        }
    } while (sl_now() < end);
    r->free = ops[BY_HAND] && r->best[BY_HAND] < r->best[CONTRACTED] ? BY_HAND : CONTRACTED;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static const struct kernel *find_kernel(const char *name)
{
    const struct kernel *k;
    for (size_t i = 0; (k = kernel_at(i)) != NULL; i++)
        if (strcmp(k->name, name) == 0)
            break;
    return k;
}

/* Checks and times one row; false when a variant computes something else. */
static bool measure(const struct row *row, const struct sl_ops *kernels, struct result *r)
{
    struct kernel k = *find_kernel(row->kernel);
    struct trial t;
    const struct sl_ops *const ops[SUBJECTS] = {kernels, &sl_contracted_ops, row->hand};
    bool same = true;
    k.real = &row->arg;
    k.reals = 1;
    *r = (struct result){.row = row};
    trial_open(&t, &k, trial_count(&k) - 1, 20260905);
    for (int i = CONTRACTED; i < SUBJECTS && ops[i]; i++) {
        r->differs[i] = compare(&t, kernels, ops[i]);
        same = same && r->differs[i] <= row->tolerance;
        if (!(r->differs[i] <= row->tolerance))
            fprintf(stderr, "FAIL %s %s: %s differs by %.1e of the largest value, above %.1e\n",
                    row->kernel, row->shape, names[i], r->differs[i], row->tolerance);
    }
    if (same)
        time_subjects(&t, ops, r);
    trial_close(&t);
    return same;
}

/* By what fraction the kernel takes longer than the fastest variant; negative when no variant
 * is faster. */
static double cost(const struct result *r)
{
    return r->best[KERNEL] / r->best[r->free] - 1;
}

static void print_markdown(const struct result *r)
{
    printf("| %s | %s | %.3g | %.3g | %s | %.0f %% | %.0e |\n", r->row->kernel, r->row->shape,
           1e6 * r->best[KERNEL], 1e6 * r->best[r->free], names[r->free],
           round(100 * cost(r)) + 0.0, r->differs[r->free]);
}

static void print_json(const struct result *r, bool first)
{
    printf("%s  {\"kernel\": \"%s\", \"shape\": \"%s\", \"kernel_us\": %.4g", first ? "" : ",\n",
           r->row->kernel, r->row->shape, 1e6 * r->best[KERNEL]);
    printf(", \"contracted_us\": %.4g", 1e6 * r->best[CONTRACTED]);
    if (r->best[BY_HAND] > 0)
        printf(", \"by_hand_us\": %.4g", 1e6 * r->best[BY_HAND]);
    printf(", \"cost\": %.3f, \"differs\": %.1e}", cost(r), r->differs[r->free]);
}

/* Prints all rows of kernel ONLY, or of all kernels; returns the program's status. */
static int print_rows(const struct sl_ops *kernels, bool json, const char *only)
{
    size_t printed = 0, failed = 0;
    printf("%s", json
                     ? "[\n"
                     : "| kernel | shape | kernel µs | variant µs | variant | cost | differs by |\n"
                       "|---|---|---:|---:|---|---:|---:|\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct result r;
        if (only && strcmp(only, rows[i].kernel) != 0)
            continue;
        if (!measure(&rows[i], kernels, &r))
            failed++;
        else if (json)
            print_json(&r, printed++ == 0);
        else
            print_markdown(&r);
        fflush(stdout);
    }
    printf("%s", json ? "\n]\n" : "");
    return failed > 0;
}

int main(int argc, char **argv)
{
    const struct sl_rung *rung = sl_rung_find("avx512vnni");
    bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    const char *only = argc > 1 + json ? argv[1 + json] : NULL;
    if (only && !find_kernel(only)) {
        fputs("usage: equality [--json] [KERNEL]\n", stderr);
        return 2;
    }
    if (!rung) {
        puts("equality: the variants are written for AVX-512 VNNI, which this processor lacks");
        return 77;
    }
    return print_rows(rung->ops, json, only);
}
#endif
