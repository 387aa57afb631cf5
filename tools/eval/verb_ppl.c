/* SPDX-License-Identifier: MIT */
/* `sluice eval ppl`: the perplexity of a text under a container, through the public interface. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "quant/quant.h"
#include "runtime/base/err.h"
#include "tools/common/engine_options.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/eval/eval.h"
#include "tools/eval/sequences.h"

struct ppl_options {
    const char *file;
    struct sl_engine_options engine;
    size_t tokens;
    bool json;
};

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "FILE", .positional = true, .required = true,
     SL_FIELD(SL_STRING, struct ppl_options, file), .help = "Text, UTF-8"},
    {.name = "limit", .letter = 'n', SL_FIELD(SL_COUNT, struct ppl_options, tokens), .value = "N",
     .fallback = "0", .low = 0, .high = HUGE_VAL,
     .help = "Use the first N tokens only; 0: all of them", .group = "Task"},
    {.name = "json", SL_FIELD(SL_FLAG, struct ppl_options, json), .help = "Report as JSON",
     .group = "Output"},
    SL_ENGINE_ROWS(struct ppl_options, engine),
    {0},
};
/* clang-format on */

static const char *const examples[] = {"sluice eval ppl book.txt -m /models/v32-quality -c 4096",
                                       NULL};

static const struct sl_command command = {
    .name = "eval ppl",
    .summary = "perplexity of a text",
    .description = "The text is cut into sequences of -c tokens (2048, or the model's limit), each "
                   "beginning\nwith BOS.  Every token but the first of a sequence is scored.",
    .rows = rows,
    .examples = examples,
};

struct scoring {
    const struct ppl_options *o;
    sluice_engine *engine;
    size_t context, vocab;
    const int32_t *sequence; /* at work */
    size_t length;
    size_t before, total; /* tokens of earlier sequences, and of all */
    struct sl_sample surprise;
    struct sl_progress progress;
};

static int score(void *user, size_t position, const float *logits)
{
    struct scoring *s = user;
    if (position + 1 < s->length)
        sl_sample_add(&s->surprise, sl_surprise(logits, s->vocab, s->sequence[position + 1]));
    return 0;
}

static int show_progress(void *user, size_t done, size_t total)
{
    struct scoring *s = user;
    (void)total;
    sl_progress_update(&s->progress, s->before + done, s->total);
    return sl_interrupted();
}

/* A session for each sequence: used again, it would not compute what two have in common. */
static int score_sequence(struct scoring *s, struct sluice_err *err)
{
    const struct sluice_sync_callbacks callbacks = {s, show_progress, score, NULL};
    sluice_session *session = NULL;
    int status = sl_open_session(&session, s->engine, &s->o->engine, s->context, err);
    if (status == 0)
        status = sluice_session_sync(session, s->sequence, s->length, &callbacks, err);
    sluice_session_close(&session);
    return status;
}

static int score_all(struct scoring *s, const int32_t *tokens, struct sluice_err *err)
{
    struct sluice_model_info info;
    int status = 0;
    sluice_engine_info(s->engine, &info);
    s->vocab = (size_t)info.vocab;
    sl_progress_open(&s->progress, stderr, "evaluating", SL_PROGRESS_TOKENS);
    sl_progress_update(&s->progress, 0, s->total);
    for (; status == 0 && s->before < s->total; s->before += s->length) {
        size_t left = s->total - s->before;
        s->sequence = tokens + s->before;
        s->length = left < s->context ? left : s->context;
        status = score_sequence(s, err);
    }
    sl_progress_close(&s->progress);
    if (status == 0 && !isfinite(s->surprise.mean))
        status = sl_fail(err, SLUICE_EFORMAT, "%s: logits are not finite: run sluice verify",
                         s->o->engine.model);
    return status;
}

static void print_report(const struct scoring *s)
{
    const struct sl_sample *x = &s->surprise;
    double ppl = exp(x->mean), error = sl_sample_error(x);
    if (s->o->json) {
        printf("{\"ppl\": %.9g, \"ppl_error\": %.9g, \"nll\": %.9g, \"nll_error\": %.9g, "
               "\"context\": %zu, \"tokens\": %zu, \"scored\": %" PRIu64 "}\n",
               ppl, ppl * error, x->mean, error, s->context, s->total, x->n);
        return;
    }
    printf("%zu tokens in sequences of %zu, %" PRIu64 " scored\n", s->total, s->context, x->n);
    printf("Final estimate: PPL = %.4f +/- %.5f\n", ppl, ppl * error);
}

int sl_verb_eval_ppl(int argc, char **argv)
{
    struct ppl_options o = {0};
    struct scoring s = {.o = &o};
    struct sluice_err err = {0};
    int32_t *tokens = NULL;
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    status = sl_open_engine(&s.engine, &o.engine, SLUICE_DRAFTING_OFF, SL_EVALUATE_CONTEXT, &err);
    if (status == 0) {
        s.context = o.engine.context = sl_choose_context(s.engine, o.engine.context);
        status = sl_read_text(o.file, s.engine, s.context, &tokens, &s.total, &err);
    }
    s.total = o.tokens && o.tokens < s.total ? o.tokens : s.total;
    if (status == 0 && s.total < 2)
        status = sl_fail(&err, SLUICE_EARG, "%s: %zu tokens; at least 2 are wanted", o.file,
                         s.total);
    sl_interrupt_install(); /* before, Ctrl-C simply ends the program */
    if (status == 0)
        status = score_all(&s, tokens, &err);
    sluice_engine_close(&s.engine);
    free(tokens);
    if (status < 0)
        return sl_report(&err);
    print_report(&s);
    return SL_EXIT_OK;
}
