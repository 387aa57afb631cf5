/* SPDX-License-Identifier: MIT */
/* The numbers of an evaluation: divergence of two predictions, samples, order statistics. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/evaluation.h"
#include "runtime/base/err.h"

void sl_sample_add(struct sl_sample *s, double x)
{
    double before = x - s->mean;
    s->n++;
    s->mean += before / (double)s->n;
    s->squares += before * (x - s->mean);
}

double sl_sample_error(const struct sl_sample *s)
{
    return s->n < 2 ? 0 : sqrt(s->squares / ((double)s->n * (double)(s->n - 1)));
}

/* ln Σ exp(x), and the index of the largest x. */
static double log_sum(const float *x, size_t n, size_t *best)
{
    double sum = 0;
    *best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[*best])
            *best = i;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - (double)x[*best]);
    return log(sum) + (double)x[*best];
}

double sl_surprise(const float *logits, size_t vocab, int32_t token)
{
    size_t best;
    return log_sum(logits, vocab, &best) - (double)logits[token];
}

void sl_compare_logits(struct sl_comparison *out, const float *reference, const float *candidate,
                       size_t vocab, int32_t next)
{
    size_t best[2];
    double sum[2] = {log_sum(reference, vocab, &best[0]), log_sum(candidate, vocab, &best[1])};
    *out = (struct sl_comparison){
        .finite = {isfinite(sum[0]), isfinite(sum[1])},
        .same_top = best[0] == best[1],
    };
    for (size_t i = 0; i < vocab; i++) {
        double p = (double)reference[i] - sum[0], q = (double)candidate[i] - sum[1];
        out->kl += exp(p) * (p - q);
    }
    if (next >= 0) {
        out->log_p[0] = (double)reference[next] - sum[0];
        out->log_p[1] = (double)candidate[next] - sum[1];
    }
}

size_t sl_common(const uint32_t *a, const uint32_t *b, size_t n)
{
    size_t common = 0;
    for (size_t i = 0, j = 0; i < n && j < n;) {
        common += a[i] == b[j];
        bool forward = a[i] <= b[j];
        j += b[j] <= a[i];
        i += forward;
    }
    return common;
}

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Between the two nearest ranks, in proportion. */
static double quantile(const double *sorted, size_t n, double share)
{
    double rank = share * (double)(n - 1);
    size_t below = (size_t)rank;
    if (below + 1 >= n)
        return sorted[n - 1];
    return sorted[below] + (rank - (double)below) * (sorted[below + 1] - sorted[below]);
}

int sl_rank_divergences(struct sl_evaluate_report *report, struct sluice_err *err)
{
    size_t n = report->tokens;
    double *sorted = malloc(n * sizeof *sorted);
    if (!sorted)
        return sl_fail_nomem(err, "divergences", n * sizeof *sorted);
    memcpy(sorted, report->kl_of, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, ascending);
    report->kl_median = quantile(sorted, n, 0.5);
    report->kl_99 = quantile(sorted, n, 0.99);
    report->kl_999 = quantile(sorted, n, 0.999);
    report->kl_max = sorted[n - 1];
    free(sorted);
    return 0;
}
