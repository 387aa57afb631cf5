/* SPDX-License-Identifier: MIT */
/*
 * The evaluator against golden files of an independent forward pass, against sessions, and against
 * slow definitions of what it reports.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/evaluation.h"
#include "tests/model/harness.h"

#define SAME_KL 1e-4  /* mean KL over golden rows: from golden logits, and as reported */
#define EXACT_KL 1e-9 /* golden ‖ reference stream */

/* What most tests compare bits of: the reference stream by the kernels. */
static bool by_kernels = true;

/* An evaluation and the logits that it showed. */
struct evaluated {
    struct sl_evaluate_report report;
    size_t vocab;
    float *reference, *candidate; /* [tokens][vocab] */
    size_t stop;                  /* cancel after so many calls of progress; 0: never */
    size_t calls;
    uint64_t done, total;
};

static void keep_logits(void *user, size_t token, const float *reference, const float *candidate)
{
    struct evaluated *e = user;
    memcpy(e->reference + token * e->vocab, reference, e->vocab * sizeof *reference);
    memcpy(e->candidate + token * e->vocab, candidate, e->vocab * sizeof *candidate);
}

static int count_progress(void *user, uint32_t layer, uint64_t done, uint64_t total)
{
    struct evaluated *e = user;
    assert_true(done > e->done && done <= total && layer <= e->report.layers);
    e->done = done;
    e->total = total;
    return ++e->calls == e->stop;
}

static int evaluate(struct evaluated *e, const char *model, const char *profile,
                    const struct golden *g, size_t context, size_t chunk, struct sluice_err *err)
{
    const struct sl_evaluate_opts opts = {.context = context,
                                          .chunk = chunk,
                                          .exact = by_kernels,
                                          .user = e,
                                          .progress = count_progress,
                                          .logits = keep_logits};
    e->vocab = g->vocab;
    e->reference = calloc(g->n * g->vocab, sizeof *e->reference);
    e->candidate = calloc(g->n * g->vocab, sizeof *e->candidate);
    return sl_evaluate(converted(model, profile), checkpoint(model), g->tokens, g->n, &opts,
                       &e->report, err);
}

static void evaluated_open(struct evaluated *e, const char *model, const char *profile,
                           const struct golden *g, size_t context, size_t chunk)
{
    struct sluice_err err = {0};
    *e = (struct evaluated){0};
    check_status(evaluate(e, model, profile, g, context, chunk, &err), &err);
    assert_true(e->done == e->total && e->report.tokens == g->n);
}

static void evaluated_close(struct evaluated *e)
{
    sl_evaluate_release(&e->report);
    free(e->reference);
    free(e->candidate);
    *e = (struct evaluated){0};
}

/* Portable kernels would take minutes. */
static bool is_slow(void)
{
    const char *instructions = "";
    assert_non_null(sluice_kernel(0, &instructions, NULL));
    return strcmp(instructions, "ref") == 0;
}

/* Tokens of `mid`, some of them for portable kernels. */
static void tokens_open(struct golden *g, const char *model)
{
    golden_open(g, model, "mid");
    if (is_slow() && g->n > 140)
        g->n = 140;
}

/* ---- golden files ---------------------------------------------------------------------------- */

static void compare_with_golden(const char *name, const char *profile)
{
    struct golden g;
    struct evaluated e;
    double top1, reported = 0;
    golden_open(&g, "demo", name);
    evaluated_open(&e, "demo", profile, &g, g.n, 0);
    for (size_t i = g.n - g.logit_rows; i < g.n; i++)
        reported += e.report.kl_of[i] / (double)g.logit_rows;
    struct run reference = {.logits = e.reference}, candidate = {.logits = e.candidate};
    double exact = mean_kl(&g, &reference, &top1), golden = mean_kl(&g, &candidate, &top1);
    print_message("demo %-5s %-7s: KL %.6f from golden logits, %.6f reported; reference %.1e\n",
                  name, profile, golden, reported, exact);
    assert_true(fabs(golden - reported) <= SAME_KL);
    assert_true(fabs(exact) <= EXACT_KL);
    assert_true(!g.selected || g.n > g.topk);
    for (uint32_t i = 0; i < e.report.layers; i++)
        assert_int_equal(e.report.layer[i].selections, g.selected ? g.n - g.topk : 0);
    evaluated_close(&e);
    golden_close(&g);
}

static void equals_the_golden_divergence(void **unused)
{
    (void)unused;
    compare_with_golden("short", "quality");
    compare_with_golden("mid", "quality");
    if (is_slow())
        return;
    compare_with_golden("mid", "max");
    compare_with_golden("long", "quality");
}

/* Sums in another order, where the build has them: as near to the golden logits. */
static void onednn_equals_the_golden_divergence(void **unused)
{
    struct golden g;
    struct evaluated e;
    (void)unused;
    golden_open(&g, "tiny-v32", "mid");
    by_kernels = false;
    evaluated_open(&e, "tiny-v32", "quality", &g, g.n, 0);
    bool found = strncmp(e.report.multiplier, "oneDNN ", 7) == 0;
    assert_true(found || strcmp(e.report.multiplier, "kernels") == 0);
    evaluated_close(&e);
    golden_close(&g);
    if (found) {
        compare_with_golden("mid", "quality");
        compare_with_golden("long", "max");
    }
    by_kernels = true;
    if (!found)
        skip();
}

/* ---- sessions -------------------------------------------------------------------------------- */

/* Sets of a run and of another, or the run's own: mean of common / union, or common / size. */
static double overlap(const uint32_t *a, const uint32_t *b, size_t n, bool jaccard)
{
    size_t both = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            both += a[i] == b[j];
    return (double)both / (double)(jaccard ? 2 * n - both : n);
}

static double norm_error(const float *c, const float *r, size_t n)
{
    long double error = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        error += powl((long double)c[i] - (long double)r[i], 2);
        square += powl((long double)r[i], 2);
    }
    return (double)sqrtl(error / square);
}

static void assert_near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-12 * fmax(1, fabs(b))))
        fail_msg("%.17g is not %.17g", a, b);
}

/* Sequence by sequence, sessions over both containers compute what the evaluator saw. */
static void compare_with_sessions(const char *model, const char *profile, size_t context,
                                  size_t chunk)
{
    struct golden g;
    struct evaluated e;
    tokens_open(&g, model);
    evaluated_open(&e, model, profile, &g, context, chunk);
    for (size_t first = 0; first < g.n; first += context) {
        size_t n = g.n - first < context ? g.n - first : context;
        struct run c = {.container = converted(model, profile), .chunk = 64};
        run_tokens(&c, g.tokens + first, n);
        assert_memory_equal(c.logits, e.candidate + first * g.vocab,
                            n * g.vocab * sizeof *c.logits);
        run_close(&c);
        struct run r = {.container = converted(model, "reference"), .chunk = 64};
        run_tokens(&r, g.tokens + first, n);
        assert_memory_equal(r.logits, e.reference + first * g.vocab,
                            n * g.vocab * sizeof *r.logits);
        run_close(&r);
    }
    evaluated_close(&e);
    golden_close(&g);
}

static void computes_as_sessions_do(void **unused)
{
    (void)unused;
    compare_with_sessions("tiny-v32", "quality", 150, 512);
    compare_with_sessions("tiny-v32", "small", 64, 7);
    compare_with_sessions("tiny-v3", "quality", 99, 32);
    if (!is_slow())
        compare_with_sessions("demo", "quality", 200, 200);
}

/* Layers, in one sequence, from what two sessions recorded. */
static void check_layers(const struct golden *g, const struct sl_evaluate_report *report,
                         const struct run *c, const struct run *r)
{
    size_t dense = g->layers - g->moe_layers;
    double same_routes = 1, same_keys = 1;
    for (size_t layer = 0; layer < g->layers; layer++) {
        const struct sl_evaluate_layer *found = &report->layer[layer];
        size_t at = layer * g->n;
        double routes = 0, keys = 0;
        for (size_t t = at; t < at + g->n; t++) {
            routes += overlap(c->experts + t * g->used, r->experts + t * g->used, g->used, true);
            if (t - at >= g->topk)
                keys += overlap(c->selected + t * g->topk, r->selected + t * g->topk, g->topk,
                                false);
        }
        assert_near(found->output_error, norm_error(c->hiddens + at * g->hidden,
                                                    r->hiddens + at * g->hidden, g->n * g->hidden));
        assert_int_equal(found->routes, layer < dense ? 0 : g->n);
        assert_near(found->router_overlap, layer < dense ? 1 : routes / (double)g->n);
        assert_int_equal(found->selections, g->n - g->topk);
        assert_near(found->selection_overlap, keys / (double)(g->n - g->topk));
        same_routes = fmin(same_routes, found->router_overlap);
        same_keys = fmin(same_keys, found->selection_overlap);
    }
    assert_true(same_routes < 1 && same_keys < 1); /* else this compares nothing */
}

static void reports_layers(void **unused)
{
    (void)unused;
    struct golden g;
    struct evaluated e;
    tokens_open(&g, "tiny-v32");
    evaluated_open(&e, "tiny-v32", "small", &g, g.n, 40);
    struct run c = {.container = converted("tiny-v32", "small"), .chunk = 64};
    run_tokens(&c, g.tokens, g.n);
    struct run r = {.container = converted("tiny-v32", "reference"), .chunk = 64};
    run_tokens(&r, g.tokens, g.n);
    check_layers(&g, &e.report, &c, &r);
    run_close(&c);
    run_close(&r);
    evaluated_close(&e);
    golden_close(&g);
}

/* ---- predictions ----------------------------------------------------------------------------- */

static void softmax(const float *x, size_t n, long double *p)
{
    long double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += p[i] = expl((long double)x[i]);
    for (size_t i = 0; i < n; i++)
        p[i] /= sum;
}

static size_t largest(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* Sums of a sample, the textbook way. */
struct sums {
    long double n, x, xx;
};

static void add(struct sums *s, long double x)
{
    s->n++;
    s->x += x;
    s->xx += x * x;
}

static void assert_sample(const struct sl_sample *found, const struct sums *s)
{
    long double mean = s->x / s->n, variance = (s->xx - s->n * mean * mean) / (s->n - 1);
    assert_int_equal(found->n, (uint64_t)s->n);
    assert_near(found->mean, (double)mean);
    assert_true(fabs(sl_sample_error(found) - (double)sqrtl(variance / s->n)) <= 1e-9);
}

static void reports_predictions(void **unused)
{
    (void)unused;
    struct golden g;
    struct evaluated e;
    enum { CONTEXT = 70 };
    tokens_open(&g, "tiny-v32");
    evaluated_open(&e, "tiny-v32", "small", &g, CONTEXT, 0);
    long double *p = calloc(g.vocab, sizeof *p), *q = calloc(g.vocab, sizeof *q);
    struct sums kl = {0}, reference = {0}, candidate = {0}, difference = {0}, delta = {0};
    size_t same = 0;
    for (size_t t = 0; t < g.n; t++) {
        const float *a = e.reference + t * g.vocab, *b = e.candidate + t * g.vocab;
        long double sum = 0;
        softmax(a, g.vocab, p);
        softmax(b, g.vocab, q);
        for (size_t i = 0; i < g.vocab; i++)
            sum += p[i] * logl(p[i] / q[i]);
        add(&kl, sum);
        assert_near(e.report.kl_of[t], (double)sum);
        same += largest(a, g.vocab) == largest(b, g.vocab);
        if (t % CONTEXT == CONTEXT - 1 || t == g.n - 1)
            continue;
        int32_t next = g.tokens[t + 1];
        add(&reference, -logl(p[next]));
        add(&candidate, -logl(q[next]));
        add(&difference, logl(p[next]) - logl(q[next]));
        add(&delta, q[next] - p[next]);
        assert_near(sl_surprise(b, g.vocab, next), (double)-logl(q[next]));
    }
    assert_sample(&e.report.kl, &kl);
    assert_sample(&e.report.surprise_reference, &reference);
    assert_sample(&e.report.surprise_candidate, &candidate);
    assert_sample(&e.report.surprise_difference, &difference);
    assert_near(e.report.rms_dp, (double)sqrtl(delta.xx / delta.n));
    assert_near(e.report.top1, (double)same / (double)g.n);
    free(p);
    free(q);
    evaluated_close(&e);
    golden_close(&g);
}

static void ranks_divergences(void **unused)
{
    (void)unused;
    double kl[1001];
    struct sl_evaluate_report report = {.tokens = 1001, .kl_of = kl};
    for (size_t i = 0; i < 1001; i++)
        kl[i] = (double)(i * 5 % 1001); /* 0 … 1000, shuffled */
    assert_int_equal(sl_rank_divergences(&report, NULL), 0);
    assert_near(report.kl_median, 500);
    assert_near(report.kl_99, 990);
    assert_near(report.kl_999, 999);
    assert_near(report.kl_max, 1000);
    kl[0] = 3;
    kl[1] = 1;
    report.tokens = 2;
    assert_int_equal(sl_rank_divergences(&report, NULL), 0);
    assert_near(report.kl_median, 2);
    assert_near(report.kl_99, 2.98);
    assert_near(report.kl_max, 3);
}

/* ---- what must make no difference ------------------------------------------------------------ */

/* A container that lost nothing. */
static void finds_no_difference(const char *model)
{
    struct golden g;
    struct evaluated e;
    tokens_open(&g, model);
    evaluated_open(&e, model, "reference", &g, 120, 33);
    for (size_t i = 0; i < g.n; i++)
        assert_true(e.report.kl_of[i] == 0);
    for (uint32_t i = 0; i < e.report.layers; i++) {
        const struct sl_evaluate_layer *layer = &e.report.layer[i];
        assert_true(layer->output_error == 0 && layer->router_overlap == 1 &&
                    layer->selection_overlap == 1);
    }
    assert_true(e.report.top1 == 1 && e.report.rms_dp == 0 && e.report.kl_max == 0);
    assert_true(e.report.surprise_difference.mean == 0 && e.report.kl.mean == 0);
    evaluated_close(&e);
    golden_close(&g);
}

static void finds_nothing_in_reference_containers(void **unused)
{
    (void)unused;
    if (!is_slow())
        finds_no_difference("demo");
    finds_no_difference("tiny-v32");
    finds_no_difference("tiny-v3");
}

static void does_not_depend_on_chunks(void **unused)
{
    (void)unused;
    struct golden g;
    struct evaluated a, b;
    tokens_open(&g, "tiny-v32");
    evaluated_open(&a, "tiny-v32", "quality", &g, 110, 1000);
    evaluated_open(&b, "tiny-v32", "quality", &g, 110, 9);
    assert_memory_equal(a.report.kl_of, b.report.kl_of, g.n * sizeof *a.report.kl_of);
    evaluated_close(&a);
    evaluated_close(&b);
    golden_close(&g);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void expect_refusal(const char *container, const char *source, const int32_t *tokens,
                           size_t n, const struct sl_evaluate_opts *opts, int code,
                           const char *part)
{
    struct sl_evaluate_report report;
    struct sluice_err err = {0};
    assert_int_equal(sl_evaluate(container, source, tokens, n, opts, &report, &err), code);
    if (!strstr(err.msg, part))
        fail_msg("\"%s\" is not in: %s", part, err.msg);
    sl_evaluate_release(&report);
}

static void refuses_what_cannot_be_compared(void **unused)
{
    (void)unused;
    char container[256], own[SL_PATH_MAX];
    const int32_t good[] = {0, 1, 2, 3}, bad[] = {0, 1, -1, 3};
    const struct sl_evaluate_opts plain = {0}, narrow = {.memory = 100000},
                                  wide = {.context = 1 << 20};
    snprintf(container, sizeof container, "%s", converted("tiny-v32", "quality"));
    snprintf(own, sizeof own, "%s", checkpoint("tiny-v32"));
    expect_refusal(container, checkpoint("demo"), good, 4, &plain, SLUICE_EARG,
                   "was not made from");
    expect_refusal(container, container, good, 4, &plain, SLUICE_EFORMAT, "");
    expect_refusal(own, own, good, 4, &plain, SLUICE_EFORMAT, "sluice.json");
    expect_refusal(container, own, good, 1, &plain, SLUICE_EARG, "at least 2");
    expect_refusal(container, own, bad, 4, &plain, SLUICE_EARG, "token 2 is -1");
    expect_refusal(container, own, good, 4, &wide, SLUICE_EARG, "max_position_embeddings");
    expect_refusal(container, own, good, 4, &narrow, SLUICE_ENOMEM, "3 x 4 tokens");
}

static void stops_when_told(void **unused)
{
    (void)unused;
    struct golden g;
    golden_open(&g, "tiny-v3", "short");
    for (size_t stop = 1; stop < 4; stop++) {
        struct evaluated e = {.stop = stop};
        struct sluice_err err = {0};
        assert_int_equal(evaluate(&e, "tiny-v3", "quality", &g, 0, 5, &err), SLUICE_ECANCELLED);
        assert_int_equal(e.calls, stop);
        evaluated_close(&e);
    }
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_golden_divergence),
        cmocka_unit_test(onednn_equals_the_golden_divergence),
        cmocka_unit_test(computes_as_sessions_do),
        cmocka_unit_test(reports_layers),
        cmocka_unit_test(reports_predictions),
        cmocka_unit_test(ranks_divergences),
        cmocka_unit_test(finds_nothing_in_reference_containers),
        cmocka_unit_test(does_not_depend_on_chunks),
        cmocka_unit_test(refuses_what_cannot_be_compared),
        cmocka_unit_test(stops_when_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
