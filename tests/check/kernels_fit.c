/* SPDX-License-Identifier: MIT */
/* Trials of the quantiser's inner loop. */
#include "tests/check/trial.h"

enum { N, BOOK, WEIGHTED, VALUES };
enum { X, WEIGHT, CODEBOOK, CODE, RESULT, SCALE };
enum { NO_BOOK = BOOKS }; /* INT8 */

static bool prepare_fit_scale(struct trial *t)
{
    size_t n = arg(t, N);
    input_floats(t, "x", n, t->arg[VALUES]);
    if (arg(t, WEIGHTED))
        input_floats(t, "weight", n, random_word() % 2 ? VALUES_UNIFORM : t->arg[VALUES]);
    else
        absent(t);
    if (arg(t, BOOK) == NO_BOOK)
        absent(t);
    else
        fill_book(input(t, "codebook", KIND_BYTES, SL_CODEBOOK), t->arg[BOOK]);
    output(t, "code", KIND_BYTES, n);
    output(t, "result", KIND_FLOATS, 1);
    return true;
}

static bool prepare_fit_codes(struct trial *t)
{
    prepare_fit_scale(t);
    float *s = input_floats(t, "s", 1, t->arg[VALUES]);
    if (random_word() % 2)
        *s /= 127;
    return true;
}

static struct sl_fit fit_of(const struct trial *t)
{
    return (struct sl_fit){
        .x = at(t, X), .weight = at(t, WEIGHT), .n = arg(t, N), .codebook = at(t, CODEBOOK)};
}

static void run_fit_scale(const struct sl_ops *ops, const struct trial *t)
{
    struct sl_fit fit = fit_of(t);
    float *result = at(t, RESULT);
    *result = ops->fit_scale(&fit, at(t, CODE));
}

static void run_fit_codes(const struct sl_ops *ops, const struct trial *t)
{
    struct sl_fit fit = fit_of(t);
    const float *s = at(t, SCALE);
    float *result = at(t, RESULT);
    *result = ops->fit_codes(&fit, *s, at(t, CODE));
}

/* clang-format off */
static const long real_fit[][AXES] = {
    {32, 0, 0}, {32, 0, 1}, {64, 0, 1}, {128, 0, 0}, {128, NO_BOOK, 0},
};

#define SHAPES                                                                                     \
    {"n", EVERY, 34, MORE(47, 48, 49, 63, 64, 65, 79, 80, 81, 95, 100, 111, 112, 113, 127, 128)},  \
    {"book", EVERY, BOOKS + 1, NULL, 0}, {"weighted", SOME, 2, NULL, 0},                           \
    {"values", EVERY, VALUES_KINDS, NULL, 0}

const struct kernel fit_kernels[] = {
    {"fit_scale", {SHAPES}, REAL(real_fit), prepare_fit_scale, run_fit_scale, NULL},
    {"fit_codes", {SHAPES}, REAL(real_fit), prepare_fit_codes, run_fit_codes, NULL},
    {0},
};
/* clang-format on */
