/* SPDX-License-Identifier: MIT */
/*
 * Sessions that multiply by oneDNN: when they do, that nothing else changes, and how far from the
 * kernels their answers are.  Skipped where oneDNN has no fast BF16 products.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/model/harness.h"

static bool available; /* found out by the first test */

struct pair {
    sluice_engine *engine;
    sluice_session *session;
    struct golden g;
};

static int pair_open(struct pair *p, enum sluice_multiplier multiplier, size_t chunk,
                     struct sluice_err *err)
{
    const struct sluice_engine_opts engine = {.threads = 2};
    const struct sluice_session_opts session = {
        .context = 250, .chunk = chunk, .multiplier = multiplier};
    *p = (struct pair){0};
    golden_open(&p->g, "tiny-v32", "mid");
    check_status(sluice_engine_open(&p->engine, converted("tiny-v32", "quality"), &engine, err),
                 err);
    return sluice_session_open(&p->session, p->engine, &session, err);
}

static void pair_close(struct pair *p)
{
    sluice_session_close(&p->session);
    sluice_engine_close(&p->engine);
    golden_close(&p->g);
}

static struct sluice_stats stats_of(const struct pair *p)
{
    struct sluice_stats stats;
    sluice_session_stats(p->session, &stats);
    return stats;
}

static void opens_or_says_why(void **unused)
{
    struct pair p;
    struct sluice_err err = {0};
    (void)unused;
    int status = pair_open(&p, SLUICE_MULTIPLY_ONEDNN, 64, &err);
    available = status == 0;
    if (available) {
        assert_true(strncmp(stats_of(&p).multiplier, "oneDNN ", 7) == 0);
    } else {
        assert_int_equal(status, SLUICE_EUNSUPPORTED);
        assert_null(p.session);
        assert_non_null(strstr(err.msg, "oneDNN"));
    }
    pair_close(&p);
    check_status(pair_open(&p, SLUICE_MULTIPLY_KERNELS, 64, &err), &err);
    assert_string_equal(stats_of(&p).multiplier, "kernels");
    pair_close(&p);
    assert_int_equal(pair_open(&p, (enum sluice_multiplier)2, 64, &err), SLUICE_EARG);
    pair_close(&p);
}

/* Logits of tokens[0..n) by chunks, then of some steps. */
static void compute(struct pair *p, size_t n, size_t steps)
{
    struct sluice_err err = {0};
    check_status(sluice_session_sync(p->session, p->g.tokens, n, NULL, &err), &err);
    for (size_t i = 0; i < steps; i++)
        check_status(sluice_session_step(p->session, p->g.tokens[n + i], &err), &err);
}

/* Fewer tokens than oneDNN takes at once: to the bit what the kernels compute. */
static void few_tokens_are_left_to_the_kernels(void **unused)
{
    struct pair p, q;
    struct sluice_err err = {0};
    (void)unused;
    if (!available)
        skip();
    check_status(pair_open(&p, SLUICE_MULTIPLY_KERNELS, SLUICE_MULTIPLY_VECTORS - 1, &err), &err);
    check_status(pair_open(&q, SLUICE_MULTIPLY_ONEDNN, SLUICE_MULTIPLY_VECTORS - 1, &err), &err);
    compute(&p, 200, 5);
    compute(&q, 200, 5);
    assert_int_equal(stats_of(&q).multiplier_products, 0);
    assert_memory_equal(sluice_session_logits(p.session), sluice_session_logits(q.session),
                        p.g.vocab * sizeof(float));
    pair_close(&p);
    pair_close(&q);
}

static void prompts_are_multiplied_by_onednn(void **unused)
{
    struct pair p;
    struct sluice_err err = {0};
    (void)unused;
    if (!available)
        skip();
    check_status(pair_open(&p, SLUICE_MULTIPLY_ONEDNN, 100, &err), &err);
    compute(&p, 200, 0);
    uint64_t products = stats_of(&p).multiplier_products;
    assert_true(products >= 2 * p.g.layers * 5); /* q_a, q_b, kv_a, k_up, o at least */
    for (size_t i = 0; i < 5; i++)
        check_status(sluice_session_step(p.session, p.g.tokens[200 + i], &err), &err);
    assert_int_equal(stats_of(&p).multiplier_products, products);
    pair_close(&p);
}

static struct run run_by(const char *model, const char *profile, enum sluice_multiplier multiplier,
                         const struct golden *g)
{
    struct run r = {.container = converted(model, profile),
                    .threads = 2,
                    .chunk = g->n,
                    .session = {.multiplier = multiplier}};
    run_tokens(&r, g->tokens, g->n);
    return r;
}

static double distance(const float *a, const float *b, size_t n)
{
    double error = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        error += pow((double)a[i] - (double)b[i], 2);
        square += pow((double)a[i], 2);
    }
    return sqrt(error / square);
}

/* Mean KL(a ‖ b) over all positions. */
static double divergence(const struct golden *g, const struct run *a, const struct run *b)
{
    struct golden all = *g;
    double top1;
    all.logits = a->logits;
    all.logit_rows = g->n;
    return mean_kl(&all, b, &top1);
}

/*
 * Behind the first layer, before any expert is chosen, 8 products in a row have each rounded both
 * sides to BF16: at most 2 · 8 · 2^-8 of the norm if nothing cancels, and something.  What the
 * logits lose is less than what the profile costs, which the F32 sums of `reference` show.
 */
static void answers_are_near(void **unused)
{
    struct golden g;
    (void)unused;
    if (!available)
        skip();
    golden_open(&g, "demo", "mid");
    struct run kernels = run_by("demo", "quality", SLUICE_MULTIPLY_KERNELS, &g);
    struct run onednn = run_by("demo", "quality", SLUICE_MULTIPLY_ONEDNN, &g);
    struct run exact = run_by("demo", "reference", SLUICE_MULTIPLY_KERNELS, &g);
    double layer = distance(kernels.hiddens, onednn.hiddens, g.n * g.hidden);
    double lost = divergence(&g, &kernels, &onednn), profile = divergence(&g, &exact, &kernels);
    print_message("first layer %.5f; KL(kernels, oneDNN) %.6f, KL(reference, kernels) %.6f, "
                  "KL(reference, oneDNN) %.6f\n",
                  layer, lost, profile, divergence(&g, &exact, &onednn));
    assert_true(layer > 0 && layer < 2 * 8 * 0x1p-8);
    assert_true(lost > 0 && lost < profile);
    run_close(&kernels);
    run_close(&onednn);
    run_close(&exact);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_or_says_why),
        cmocka_unit_test(few_tokens_are_left_to_the_kernels),
        cmocka_unit_test(prompts_are_multiplied_by_onednn),
        cmocka_unit_test(answers_are_near),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
