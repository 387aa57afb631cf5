/* SPDX-License-Identifier: MIT */
/* Timing of kernels, at sizes far below the true ones: nothing is left out, and the work that rates
 * are computed from is what the shape says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/err.h"
#include "simd/simd.h"
#include "tools/measure/kernels.h"
#include "tools/measure/packed_product.h"

enum { SHRINK = 128, SLOTS = sizeof(struct sl_ops) / sizeof(sl_gemm_fn *) };

struct seen {
    size_t rows, stop_at;
    unsigned slot[SLOTS]; /* rows of each kernel */
    unsigned whole;       /* of the quantiser as a whole */
};

/* Units in a call, from the shape. */
static double work_of(const struct sl_kernel_row *r)
{
    double a, b, c, d;
    if (sscanf(r->shape, "%lf × %lf × %lf, 1 vector", &a, &b, &c) == 3 && a == 8)
        return strstr(r->kernel, "lut4") ? a * b * (c * (0.5 + 1.0 / 32) + 4)
                                         : a * b * (c * (1 + 2.0 / 128) + 4);
    if (strstr(r->kernel, "quantize ") && sscanf(r->shape, "%lf × %lf, 1 thread", &a, &b) == 2)
        return a * b;
    if (sscanf(r->shape, "%lf × %lf, %lf vector", &a, &b, &c) == 3 && c == 1)
        return a * b * (strstr(r->kernel, "f32") ? 4 : 2);
    if (sscanf(r->shape, "%lf × %lf, %lf vector", &a, &b, &c) == 3)
        return a * b * c;
    if (sscanf(r->shape, "%lf keys, %lf heads × %lf, %lf", &a, &b, &c, &d) == 4)
        return a * b * c * d;
    if (sscanf(r->shape, "%*f of %lf, %lf quer", &a, &b) == 2)
        return a * b;
    if (strstr(r->kernel, " rows") && sscanf(r->shape, "%lf × %lf of", &a, &b) == 2)
        return a * b * (512 + 4 * 4 + 2 * 64);
    if (sscanf(r->shape, "%lf of %*f rows, %lf heads × (512 + 64), %lf", &a, &b, &c) == 3)
        return a * b * c *
               (strstr(r->kernel, "values")   ? 512
                : strstr(r->kernel, "scores") ? 512 + 64
                                              : 512 + 64 + 512);
    return 0;
}

static int see(void *user, const struct sl_kernel_row *r, struct sluice_err *err)
{
    struct seen *seen = user;
    const struct sl_rung *best = sl_rung_find(NULL);
    const char *name, *rung;
    bool topk = strncmp(r->kernel, "topk", 4) == 0, all = strncmp(r->kernel, "quantize ", 9) == 0;
    bool fit = all || strncmp(r->kernel, "fit_", 4) == 0; /* what has no limit */
    if (all) {
        assert_string_equal(r->rung, best->name);
        seen->whole++;
    }
    for (size_t i = 0; (name = sl_kernel_name(best->ops, i, &rung)) != NULL; i++)
        if (strncmp(r->kernel, name, strlen(name)) == 0 && strchr(" ", r->kernel[strlen(name)])) {
            seen->slot[i]++;
            assert_string_equal(r->rung, rung);
        }
    assert_true(isfinite(r->ms) && r->ms > 0);
    assert_true(isfinite(r->rate) && r->rate > 0);
    assert_true(fit ? r->limit == 0 && r->fraction == 0 : isfinite(r->limit) && r->limit > 0);
    if (fit) {
        assert_null(r->limit_by);
    } else {
        bool other = sl_packed_name() && strstr(r->shape, ", 256 vectors");
        assert_string_equal(r->limit_by, other ? sl_packed_name() : "loop");
        double fraction = topk ? r->limit / r->rate : r->rate / r->limit;
        assert_true(fabs(r->fraction / fraction - 1) < 1e-9);
    }
    double work = work_of(r);
    if (work > 0)
        assert_true(fabs(r->rate * 1e9 * r->ms * 1e-3 / work - 1) < 1e-9);
    else
        assert_true(strcmp(r->unit, "GB/s") == 0 || strcmp(r->unit, "Gweight/s") == 0);
    return ++seen->rows == seen->stop_at ? sl_fail(err, SLUICE_ECANCELLED, "enough") : 0;
}

static void every_kernel_is_measured(void **unused)
{
    struct seen seen = {0};
    struct sl_kernel_options options = {.threads = 2, .seconds = 0, .shrink = SHRINK};
    struct sluice_err err = {0};
    (void)unused;
    assert_int_equal(sl_measure_kernel_rows(&options, see, &seen, &err), 0);
    for (size_t i = 0; i < SLOTS; i++)
        assert_true(seen.slot[i] > 0);
    assert_int_equal(seen.whole, 1);
    assert_true(seen.rows > SLOTS);
}

static void a_row_can_end_it(void **unused)
{
    struct seen seen = {.stop_at = 3};
    struct sl_kernel_options options = {.threads = 1, .seconds = 0, .shrink = SHRINK};
    struct sluice_err err = {0};
    (void)unused;
    assert_int_equal(sl_measure_kernel_rows(&options, see, &seen, &err), SLUICE_ECANCELLED);
    assert_int_equal(seen.rows, 3);
}

/* oneDNN's product is the one that we mean: each sum is exact. */
static void the_other_product(void **unused)
{
    enum { ROWS = 37, COLS = 70, N = 19 };
    int8_t w[ROWS * COLS], x[N * COLS];
    int32_t y[N * ROWS];
    struct sl_team team = sl_team_make(2);
    (void)unused;
    for (int i = 0; i < ROWS * COLS; i++)
        w[i] = (int8_t)(i * 89 % 255 - 127);
    for (int i = 0; i < N * COLS; i++)
        x[i] = (int8_t)(i * 57 % 255 - 127);
    struct sl_packed_product *p = sl_packed_open(&team, w, ROWS, COLS, x, N, y);
    if (!sl_packed_name()) {
        assert_null(p);
        skip();
    }
    assert_non_null(p);
    assert_true(sl_packed_run(p) > 0);
    for (int t = 0; t < N; t++)
        for (int r = 0; r < ROWS; r++) {
            int32_t sum = 0;
            for (int k = 0; k < COLS; k++)
                sum += w[r * COLS + k] * x[t * COLS + k];
            assert_int_equal(y[t * ROWS + r], sum);
        }
    sl_packed_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_is_measured),
        cmocka_unit_test(a_row_can_end_it),
        cmocka_unit_test(the_other_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
