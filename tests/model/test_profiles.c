/* SPDX-License-Identifier: MIT */
/*
 * What each profile costs: mean KL(golden ‖ profile) and top-1 agreement on the demo.  Prints the
 * table of docs/quantisation.md and holds the bars on `mid` with free selection.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/model/harness.h"

struct variant {
    const char *profile;
    const char *what;
    struct sluice_session_opts session;
    double bar; /* nats, on `mid`, free selection */
};

/* The caches by themselves are measured on exact weights. */
static const struct variant variants[] = {
    {"reference", "reference", {0}, 1e-5},
    {"reference", "reference, INT8 KV", {.kv = SLUICE_CACHE_INT8}, 0.002},
    {"reference", "reference, BF16 KV", {.kv = SLUICE_CACHE_BF16}, 0.0005},
    {"reference", "reference, INT8 index keys", {.index = SLUICE_CACHE_INT8}, 0.001},
    {"reference", "reference, BF16 index keys", {.index = SLUICE_CACHE_BF16}, 0.0005},
    {"max", "max", {0}, 0.006},
    {"quality", "quality", {0}, 0.020},
    {"balanced", "balanced", {0}, 0.040},
    {"small", "small", {0}, 0.100},
    {"int4", "int4", {0}, 0.030},
};

static double measure(const struct variant *v, const struct golden *g, bool force, double *top1)
{
    struct run r = {.container = converted("demo", v->profile), .chunk = 64, .session = v->session};
    r.force = force ? g : NULL;
    run_tokens(&r, g->tokens, g->n);
    double kl = mean_kl(g, &r, top1);
    run_close(&r);
    return kl;
}

static void test_profiles(void **unused)
{
    (void)unused;
    struct golden mid;
    golden_open(&mid, "demo", "mid");
    print_message("| profile | KL free | top-1 free | KL forced | top-1 forced |\n");
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        const struct variant *v = &variants[i];
        double top_free, top_forced;
        double free_kl = measure(v, &mid, false, &top_free);
        double forced_kl = measure(v, &mid, true, &top_forced);
        print_message("| %s | %.6f | %.2f %% | %.6f | %.2f %% |\n", v->what, free_kl,
                      100 * top_free, forced_kl, 100 * top_forced);
        assert_true(free_kl >= 0 && free_kl <= v->bar);
    }
    golden_close(&mid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_profiles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
