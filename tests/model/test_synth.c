/* SPDX-License-Identifier: MIT */
/*
 * Synthetic containers: the same bytes whatever made them, good to `verify`, of every profile, with
 * numbers of order 1 through as many layers as the published models have.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/quant.h"
#include "runtime/container/container.h"
#include "runtime/model/config.h"
#include "tests/model/harness.h"
#include "tests/unit/scratch.h"

static const char *small_config(const char *model)
{
    static char path[4096];
    const char *top = getenv("top_srcdir");
    snprintf(path, sizeof path, "%s/tests/golden/%s/checkpoint/config.json", top ? top : ".",
             model);
    return path;
}

static const char *synthesize(const char *name, const struct sl_synth_opts *opts)
{
    struct sluice_err err = {0};
    struct sl_quantize_report report;
    check_status(sl_synthesize(at(name), opts, &report, &err), &err);
    assert_true(report.weights > 0 && report.container_bytes > 0 && report.files_written > 0);
    return at(name);
}

static void expect_same_file(const char *a, const char *b, const char *name)
{
    char command[9000];
    snprintf(command, sizeof command, "cmp '%s/%s' '%s/%s'", a, name, b, name);
    assert_int_equal(system(command), 0);
}

static void same_bytes(void **unused)
{
    static const char *const names[] = {"config.json", "sluice.json", "head.safetensors",
                                        "resident-00.safetensors", "experts-01.safetensors"};
    (void)unused;
    char a[256], b[256];
    struct sl_synth_opts opts = {
        .like = small_config("tiny-v32"), .dense_layers = 1, .moe_layers = 1, .threads = 1};
    snprintf(a, sizeof a, "%s", synthesize("one", &opts));
    opts.threads = 3;
    snprintf(b, sizeof b, "%s", synthesize("three", &opts));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        expect_same_file(a, b, names[i]);
    remove_tree("one");
    remove_tree("three");
}

/* Root mean square of the residual stream after LAYER. */
static double rms_after(const struct run *r, size_t layer, size_t n, size_t hidden)
{
    double sum = 0;
    for (size_t i = 0; i < n * hidden; i++) {
        double x = (double)r->hiddens[layer * n * hidden + i];
        sum += x * x;
    }
    return sqrt(sum / (double)(n * hidden));
}

static void check_run(const char *container, size_t layers, uint32_t experts, bool sparse)
{
    enum { N = 150 };
    int32_t tokens[N];
    struct run r = {.container = container, .chunk = 64};
    struct sl_config c;
    struct sluice_err err = {0};
    check_status(sl_config_read(&c, container, &err), &err);
    for (int i = 0; i < N; i++)
        tokens[i] = i * 37 % 251;
    run_tokens(&r, tokens, N);
    assert_int_equal(c.layers, layers);
    assert_int_equal(c.mtp_layers, 0);
    if (experts)
        assert_int_equal(c.experts, experts);
    assert_int_equal(r.sparse_queries > 0, sparse);
    for (size_t layer = 0; layer < layers; layer++) {
        double rms = rms_after(&r, layer, N, c.hidden);
        if (!(rms > 0.5 && rms < 2))
            fail_msg("%s: root mean square %g after layer %zu", container, rms, layer);
    }
    run_close(&r);
}

static void order_1_through_all_layers(void **unused)
{
    (void)unused;
    struct sl_synth_opts opts = {
        .like = small_config("tiny-v32"), .dense_layers = 3, .moe_layers = 58};
    check_run(synthesize("deep", &opts), 61, 0, true);
    remove_tree("deep");
}

static void every_profile(void **unused)
{
    const char *profile, *text;
    (void)unused;
    for (size_t i = 0; sl_profile_list(i, &profile, &text); i++) {
        struct sluice_err err = {0};
        struct sl_synth_opts opts = {.like = small_config(i % 2 ? "tiny-v3" : "tiny-v32"),
                                     .dense_layers = 1,
                                     .moe_layers = 2,
                                     .profile = profile};
        const char *dir = synthesize("profile", &opts);
        const struct sl_verify_events quiet = {0};
        assert_int_equal(sl_container_verify(dir, &quiet, &err), 0);
        check_run(dir, 3, 0, i % 2 == 0);
        remove_tree("profile");
    }
}

static void changed_numbers(void **unused)
{
    (void)unused;
    struct sl_synth_opts opts = {.like = small_config("tiny-v32"),
                                 .moe_layers = 1,
                                 .experts = 5, /* no longer a multiple of the groups */
                                 .vocab = 300};
    check_run(synthesize("changed", &opts), 1, 5, true);
}

static void refusals(void **unused)
{
    (void)unused;
    struct sluice_err err = {0};
    struct sl_quantize_report report;
    struct sl_synth_opts opts = {.like = "/nonexistent/config.json", .moe_layers = 1};
    assert_true(sl_synthesize(at("none"), &opts, &report, &err) < 0);
    opts.like = small_config("tiny-v32");
    opts.moe_layers = 0; /* no layers at all */
    assert_int_equal(sl_synthesize(at("none"), &opts, &report, &err), SLUICE_EFORMAT);
    expect_text(err.msg, "num_hidden_layers");
    opts.moe_layers = 1;
    opts.experts = 2; /* fewer than a token uses */
    assert_int_equal(sl_synthesize(at("none"), &opts, &report, &err), SLUICE_EFORMAT);
    opts.experts = 0; /* another model than what lies there */
    assert_true(sl_synthesize(at("changed"), &opts, &report, &err) < 0);
    expect_text(err.msg, "another source");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bytes),    cmocka_unit_test(order_1_through_all_layers),
        cmocka_unit_test(every_profile), cmocka_unit_test(changed_numbers),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
