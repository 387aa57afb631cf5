/* SPDX-License-Identifier: MIT */
/* `sluice eval kld`: how far a container's predictions are from those of its source. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "quant/quant.h"
#include "tools/common/engine_options.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/eval/eval.h"
#include "tools/eval/sequences.h"

struct kld_options {
    const char *model, *reference, *file, *tokens;
    size_t context, limit, chunk, threads;
    enum sluice_cache_type kv, index;
    bool json, exact;
};

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "FILE", .positional = true, SL_FIELD(SL_STRING, struct kld_options, file),
     .help = "Text, UTF-8: cut into sequences, each beginning with BOS"},
    {.name = "tokens", SL_FIELD(SL_STRING, struct kld_options, tokens), .value = "FILE.i32",
     .help = "Instead of a text, token ids: little-endian int32, cut into sequences as they are",
     .group = "Task"},
    {.name = "model", .letter = 'm', SL_FIELD(SL_STRING, struct kld_options, model),
     .value = "DIR", .required = true, .help = "Container directory, made by `sluice quantize`",
     .group = "Task"},
    {.name = "ref", SL_FIELD(SL_STRING, struct kld_options, reference), .value = "CHECKPOINT",
     .required = true, .help = "The checkpoint that the container was made from", .group = "Task"},
    {.name = "ctx", .letter = 'c', SL_FIELD(SL_COUNT, struct kld_options, context), .value = "N",
     .fallback = "0", .low = 0, .high = 16777216,
     .help = "Tokens of a sequence; 0: 2048, or the model's limit if that is less; keys are "
             "selected beyond index_topk only", .group = "Task"},
    {.name = "limit", .letter = 'n', SL_FIELD(SL_COUNT, struct kld_options, limit), .value = "N",
     .fallback = "0", .low = 0, .high = HUGE_VAL,
     .help = "Use the first N tokens only; 0: all of them", .group = "Task"},
    {.name = "exact", SL_FIELD(SL_FLAG, struct kld_options, exact),
     .help = "Compute the checkpoint to the bit: without oneDNN in a build that has it",
     .group = "Task"},
    {.name = "kv-type", SL_FIELD(SL_ENUM, struct kld_options, kv), .fallback = "auto",
     .names = sl_cache_names, .help = "Precision of the container's KV cache, as `sluice run` has "
     "it", .group = "Task"},
    {.name = "index-type", SL_FIELD(SL_ENUM, struct kld_options, index), .fallback = "auto",
     .names = sl_cache_names, .help = "… and of its indexer's keys", .group = "Task"},
    {.name = "json", SL_FIELD(SL_FLAG, struct kld_options, json), .help = "Report as JSON",
     .group = "Output"},
    {.name = "threads", .letter = 't', SL_FIELD(SL_COUNT, struct kld_options, threads),
     .value = "N", .fallback = "0", .low = 0, .high = 4096,
     .help = "Compute threads; 0: one per processor", .group = "Machine"},
    {.name = "chunk", SL_FIELD(SL_COUNT, struct kld_options, chunk), .value = "N",
     .fallback = "512", .low = 1, .high = 1048576,
     .help = "Most tokens computed in one pass", .group = "Machine"},
    {0},
};
/* clang-format on */

static const char *const examples[] = {
    "sluice eval kld book.txt -m /models/v32-quality --ref DeepSeek-V3.2 -c 4096 -n 32768", NULL};

static const struct sl_command command = {
    .name = "eval kld",
    .summary = "divergence of a container from the checkpoint it was made from",
    .description = "Computes both models side by side, a layer at a time: memory does not grow "
                   "with the\nnumber of layers (docs/evaluation.md).",
    .rows = rows,
    .examples = examples,
};

struct showing {
    struct sl_progress progress;
    char what[64];
    const struct sl_evaluate_report *report;
};

static void show_memory(void *user, const struct sl_evaluate_memory *m)
{
    (void)user;
    uint64_t layer = m->weights + m->experts + m->scratch;
    fprintf(stderr,
            "memory: %s: hidden states %s, a layer %s (weights %s, experts %s, caches and scratch "
            "%s) or the output heads %s\n",
            sl_human_bytes(m->total).text, sl_human_bytes(m->hidden).text,
            sl_human_bytes(layer).text, sl_human_bytes(m->weights).text,
            sl_human_bytes(m->experts).text, sl_human_bytes(m->scratch).text,
            sl_human_bytes(m->head).text);
}

static int show_progress(void *user, uint32_t layer, uint64_t done, uint64_t total)
{
    struct showing *s = user;
    if (layer < s->report->layers)
        snprintf(s->what, sizeof s->what, "layer %u of %u", layer + 1, s->report->layers);
    else
        snprintf(s->what, sizeof s->what, "predictions");
    sl_progress_update(&s->progress, done, total);
    return sl_interrupted();
}

/* ---- the report ------------------------------------------------------------------------------ */

/* SHARE as a percentage, right-aligned in a column of WIDTH; "-" when it is of nothing. */
static void print_share(int width, uint64_t of, double share)
{
    if (of)
        printf(" %*.2f %%", width - 2, 100 * share);
    else
        printf(" %*s", width, "-");
}

static void print_layers(const struct sl_evaluate_report *r)
{
    printf("\n%5s %14s %16s %18s\n", "layer", "output error", "router overlap",
           "selection overlap");
    for (uint32_t i = 0; i < r->layers; i++) {
        const struct sl_evaluate_layer *l = &r->layer[i];
        printf("%5u %12.3f %%", i, 100 * l->output_error);
        print_share(16, l->routes, l->router_overlap);
        print_share(18, l->selections, l->selection_overlap);
        putchar('\n');
    }
}

static void print_report(const struct sl_evaluate_report *r)
{
    const struct sl_sample *ratio = &r->surprise_difference;
    double reference = exp(r->surprise_reference.mean), candidate = exp(r->surprise_candidate.mean);
    printf("%zu tokens in sequences of %zu, %" PRIu64 " scored, %s; source by %s\n\n", r->tokens,
           r->context, ratio->n, sl_human_seconds(r->seconds).text, r->multiplier);
    printf("KL(source, container), nats per token\n");
    printf("  mean     %.6f ± %.6f\n", r->kl.mean, sl_sample_error(&r->kl));
    printf("  median   %.6f\n  99 %%     %.6f\n  99.9 %%   %.6f\n  maximum  %.6f\n", r->kl_median,
           r->kl_99, r->kl_999, r->kl_max);
    printf("same most likely token  %.2f %%\n", 100 * r->top1);
    printf("Δp of the next token    %.3f %% RMS\n\n", 100 * r->rms_dp);
    printf("PPL source     %.4f ± %.4f\n", reference,
           reference * sl_sample_error(&r->surprise_reference));
    printf("PPL container  %.4f ± %.4f\n", candidate,
           candidate * sl_sample_error(&r->surprise_candidate));
    printf("ln ratio       %.6f ± %.6f\n", ratio->mean, sl_sample_error(ratio));
    print_layers(r);
}

static void print_json_sample(const char *name, const struct sl_sample *s)
{
    printf("\"%s\": %.9g, \"%s_error\": %.9g, ", name, s->mean, name, sl_sample_error(s));
}

static void print_json(const struct sl_evaluate_report *r)
{
    printf("{\"tokens\": %zu, \"context\": %zu, \"scored\": %" PRIu64 ", ", r->tokens, r->context,
           r->surprise_difference.n);
    print_json_sample("kl", &r->kl);
    printf("\"kl_median\": %.9g, \"kl_99\": %.9g, \"kl_999\": %.9g, \"kl_max\": %.9g, ",
           r->kl_median, r->kl_99, r->kl_999, r->kl_max);
    printf("\"top1\": %.9g, \"rms_dp\": %.9g, ", r->top1, r->rms_dp);
    printf("\"ppl_reference\": %.9g, \"ppl_candidate\": %.9g, ", exp(r->surprise_reference.mean),
           exp(r->surprise_candidate.mean));
    print_json_sample("nll_reference", &r->surprise_reference);
    print_json_sample("nll_candidate", &r->surprise_candidate);
    print_json_sample("ln_ratio", &r->surprise_difference);
    printf("\"memory_bytes\": %" PRIu64
           ", \"seconds\": %.3f, \"multiplier\": \"%s\", \"layers\": [",
           r->memory.total, r->seconds, r->multiplier);
    for (uint32_t i = 0; i < r->layers; i++) {
        const struct sl_evaluate_layer *l = &r->layer[i];
        printf("%s\n  {\"output_error\": %.9g", i ? "," : "", l->output_error);
        if (l->routes)
            printf(", \"router_overlap\": %.9g", l->router_overlap);
        if (l->selections)
            printf(", \"selection_overlap\": %.9g, \"selections\": %" PRIu64, l->selection_overlap,
                   l->selections);
        printf("}");
    }
    printf("]}\n");
}

/* ---- the verb -------------------------------------------------------------------------------- */

/* An engine only for its tokenizer; it also checks every resident file before the long work. */
static int read_text(const struct kld_options *o, size_t *context, int32_t **tokens, size_t *n,
                     struct sluice_err *err)
{
    const struct sluice_session_opts none = {.context = 1};
    const struct sluice_engine_opts opts = {
        .threads = (unsigned)o->threads, .load = SLUICE_LOAD_MAP, .session = &none};
    sluice_engine *e = NULL;
    int status = sluice_engine_open(&e, o->model, &opts, err);
    if (status == 0) {
        *context = sl_choose_context(e, o->context);
        status = sl_read_text(o->file, e, *context, tokens, n, err);
    }
    sluice_engine_close(&e);
    return status;
}

static int evaluate(const struct kld_options *o, struct sl_evaluate_report *report,
                    struct sluice_err *err)
{
    struct showing showing = {.report = report};
    struct sl_evaluate_opts opts = {
        .context = o->context,
        .chunk = o->chunk,
        .threads = (unsigned)o->threads,
        .exact = o->exact,
        .kv = o->kv,
        .index = o->index,
        .user = &showing,
        .begin = show_memory,
        .progress = show_progress,
    };
    int32_t *tokens = NULL;
    size_t n = 0;
    int status = o->file ? read_text(o, &opts.context, &tokens, &n, err)
                         : sl_read_ids(o->tokens, &tokens, &n, err);
    n = o->limit && o->limit < n ? o->limit : n;
    sl_interrupt_install(); /* before, Ctrl-C simply ends the program */
    if (status == 0) {
        sl_progress_open(&showing.progress, stderr, showing.what, SL_PROGRESS_SHARE);
        status = sl_evaluate(o->model, o->reference, tokens, n, &opts, report, err);
        sl_progress_close(&showing.progress);
    }
    free(tokens);
    return status;
}

int sl_verb_eval_kld(int argc, char **argv)
{
    struct kld_options o = {0};
    struct sl_evaluate_report report = {0};
    struct sluice_err err = {0};
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    if (!o.file == !o.tokens)
        return sl_usage_error(&command, stderr, "found %s, wanted either FILE or --tokens",
                              o.file ? "both" : "neither a text nor token ids");
    status = evaluate(&o, &report, &err);
    if (status == 0)
        (o.json ? print_json : print_report)(&report);
    sl_evaluate_release(&report);
    return status < 0 ? sl_report(&err) : SL_EXIT_OK;
}
