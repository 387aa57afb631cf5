/* SPDX-License-Identifier: MIT */
/* The peak loops of every rung do all the work that they are timed for. */
#include <stdio.h>

#include "tests/check/ladder.h"
#include "tests/check/values.h"

static int failures;

static void wrong(const struct sl_rung *rung, const char *what, size_t n)
{
    fprintf(stderr, "%s: %s of %zu is wrong\n", rung->name, what, n);
    failures++;
}

static void check_dot(const struct sl_rung *rung, size_t n)
{
    int8_t w[64], x[4];
    uint32_t sum[SL_PANEL];
    fill_codes(w, 64, VALUES_SPECIAL);
    fill_codes(x, 4, VALUES_SPECIAL);
    rung->peaks->dot(w, x, n, sum);
    for (size_t r = 0; r < SL_PANEL; r++) {
        uint32_t want = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < 4; j++)
                want += (uint32_t)(w[4 * r + j] * x[j]);
        if (sum[r] != want) {
            wrong(rung, "dot", n);
            return;
        }
    }
}

/* Small integers: the sums are exact in any order. */
static void check_fma(const struct sl_rung *rung, size_t n)
{
    float a[SL_PANEL], b = (float)(random_word() % 9) - 4, sum[SL_PANEL];
    for (size_t r = 0; r < SL_PANEL; r++)
        a[r] = (float)(random_word() % 101) - 50;
    rung->peaks->fma(a, b, n, sum);
    for (size_t r = 0; r < SL_PANEL; r++)
        if (sum[r] != a[r] * b * (float)n) {
            wrong(rung, "fma", n);
            return;
        }
}

static void check_read(const struct sl_rung *rung, size_t n)
{
    uint32_t data[1024];
    uint32_t want = 0;
    fill_bytes(data, n);
    for (size_t i = 0; i < n / sizeof *data; i++)
        want ^= data[i];
    if (rung->peaks->read(data, n, false) != want || rung->peaks->read(data, n, true) != want)
        wrong(rung, "read", n);
}

static void check_write(const struct sl_rung *rung, size_t n)
{
    uint32_t data[1024] = {0}, word = random_word() | 1;
    rung->peaks->write(data, n, word);
    for (size_t i = 0; i < 1024; i++)
        if (data[i] != (i < n / sizeof *data ? word : 0)) {
            wrong(rung, "write", n);
            return;
        }
}

int main(void)
{
    const struct sl_rung *rung;
    seed_values(1);
    for (size_t i = 0; (rung = checked_rung_at(i)) != NULL; i++)
        for (size_t times = 0; times < 9; times++) {
            check_dot(rung, times * SL_PEAK_STEP);
            check_fma(rung, times * SL_PEAK_STEP);
            check_read(rung, times * SL_PEAK_BYTES);
            check_write(rung, times * SL_PEAK_BYTES);
        }
    return failures != 0;
}
