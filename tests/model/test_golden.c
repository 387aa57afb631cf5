/* SPDX-License-Identifier: MIT */
/*
 * The `reference` profile against golden files of an independent FP32 forward pass: logits, hidden
 * states, routing, selection and MTP drafts of three models, with and without sparse attention.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/model/harness.h"

#define BAR 1e-3 /* largest difference of any logit */
#define GAP 1e-5 /* choices are decided beyond this distance */
#define KL_BAR 1e-5

static const char *const cases[] = {"short", "mid", "long"};

static double largest_difference(const float *a, const float *b, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        most = d > most || d != d ? d : most;
    }
    return most;
}

/* Choices that differ from the golden ones with a gap beyond GAP; *ties: all that differ. */
static size_t wrong_experts(const struct golden *g, const struct run *r, size_t *ties)
{
    size_t wrong = 0, dense = g->layers - g->moe_layers;
    *ties = 0;
    for (size_t layer = 0; layer < g->moe_layers; layer++)
        for (size_t t = 0; t < g->n; t++) {
            size_t at = layer * g->n + t;
            bool same = true;
            for (size_t k = 0; k < g->used; k++)
                same &= r->experts[((layer + dense) * g->n + t) * g->used + k] ==
                        (uint32_t)g->experts[at * g->used + k];
            *ties += !same;
            wrong += !same && g->expert_gap[at] > (float)GAP;
        }
    return wrong;
}

static size_t wrong_selections(const struct golden *g, const struct run *r, size_t *ties)
{
    size_t wrong = 0;
    *ties = 0;
    for (size_t at = 0; g->selected && at < g->layers * g->n; at++) {
        if (at % g->n < g->topk) /* all keys are visible and used */
            continue;
        bool same = true;
        for (size_t k = 0; k < g->topk; k++)
            same &= r->selected[at * g->topk + k] == (uint32_t)g->selected[at * g->topk + k];
        *ties += !same;
        wrong += !same && g->selection_gap[at] > (float)GAP;
    }
    return wrong;
}

static void compare_forced(const char *model, const char *name, const struct golden *g,
                           const struct run *r)
{
    size_t ties, wrong = wrong_experts(g, r, &ties);
    double logits = largest_difference(g->logits, r->logits + (g->n - g->logit_rows) * g->vocab,
                                       g->logit_rows * g->vocab);
    double hidden = 0, draft = 0;
    for (size_t layer = 0; layer < g->layers; layer++)
        hidden = fmax(hidden, largest_difference(
                                  g->hiddens + layer * g->hidden_rows * g->hidden,
                                  r->hiddens + ((layer + 1) * g->n - g->hidden_rows) * g->hidden,
                                  g->hidden_rows * g->hidden));
    if (g->drafts)
        draft = largest_difference(g->drafts, r->drafts + (g->n - 1 - g->draft_rows) * g->vocab,
                                   g->draft_rows * g->vocab);
    print_message("%-8s %-5s forced: logits %.2e, hidden %.2e, drafts %.2e, routing %zu wrong "
                  "(%zu ties)\n",
                  model, name, logits, hidden, draft, wrong, ties);
    assert_true(logits <= BAR && hidden <= BAR && draft <= BAR);
    assert_int_equal(wrong, 0);
}

static void compare_free(const char *model, const char *name, const struct golden *g,
                         const struct run *r)
{
    size_t expert_ties, key_ties;
    size_t experts = wrong_experts(g, r, &expert_ties), keys = wrong_selections(g, r, &key_ties);
    double top1, kl = mean_kl(g, r, &top1);
    print_message("%-8s %-5s free:   KL %.2e, top-1 %.4f, routing %zu wrong (%zu ties), "
                  "selection %zu wrong (%zu ties)\n",
                  model, name, kl, top1, experts, expert_ties, keys, key_ties);
    assert_int_equal(experts, 0);
    assert_int_equal(keys, 0);
    assert_true(kl <= KL_BAR);
}

/* Selection must have been at work wherever the sequence is longer than index_topk. */
static void check_sparsity(const struct golden *g, const struct run *r, bool mtp)
{
    size_t per_layer = g->n > g->topk ? g->n - g->topk : 0;
    size_t drafts = g->n - 1 > g->topk ? g->n - 1 - g->topk : 0;
    if (g->selected)
        assert_int_equal(r->sparse_queries, per_layer * g->layers + (mtp ? drafts : 0));
    else
        assert_int_equal(r->sparse_queries, 0);
}

static void check_model(const char *model)
{
    for (size_t i = 0; i < 3; i++) {
        struct golden g;
        golden_open(&g, model, cases[i]);
        struct run r = {
            .container = converted(model, "reference"), .chunk = 64, .mtp = g.drafts != NULL};
        r.force = g.selected ? &g : NULL;
        run_tokens(&r, g.tokens, g.n);
        compare_forced(model, cases[i], &g, &r);
        check_sparsity(&g, &r, g.drafts != NULL);
        run_close(&r);
        r.force = NULL;
        r.mtp = false;
        run_tokens(&r, g.tokens, g.n);
        compare_free(model, cases[i], &g, &r);
        run_close(&r);
        golden_close(&g);
    }
}

static void test_demo(void **unused)
{
    (void)unused;
    check_model("demo");
}

static void test_tiny_v32(void **unused)
{
    (void)unused;
    check_model("tiny-v32");
}

static void test_tiny_v3(void **unused)
{
    (void)unused;
    check_model("tiny-v3");
}

/* Token by token through the decode path. */
static void check_greedy(const char *model)
{
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    sluice_session *session = NULL;
    int32_t *prompt, *greedy;
    size_t n_prompt, n_greedy;
    const struct sluice_sampling sampling = {.temperature = 0, .top_p = 1};
    greedy_open(model, &prompt, &n_prompt, &greedy, &n_greedy);
    assert_true(n_prompt > 0 && n_greedy > 0);
    check_status(sluice_engine_open(&engine, converted(model, "reference"), NULL, &err), &err);
    check_status(sluice_session_open(&session, engine, NULL, &err), &err);
    check_status(sluice_session_sync(session, prompt, n_prompt, NULL, &err), &err);
    for (size_t i = 0; i < n_greedy; i++) {
        int32_t token = sluice_session_sample(session, &sampling, &err);
        if (token != greedy[i])
            fail_msg("%s: token %zu is %d, golden %d", model, i, token, greedy[i]);
        check_status(sluice_session_step(session, token, &err), &err);
    }
    free(prompt);
    free(greedy);
    sluice_session_close(&session);
    sluice_engine_close(&engine);
}

static void test_greedy(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < 3; i++)
        check_greedy(model_names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny_v3),
        cmocka_unit_test(test_tiny_v32),
        cmocka_unit_test(test_demo),
        cmocka_unit_test(test_greedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
