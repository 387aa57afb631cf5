/* SPDX-License-Identifier: MIT */
/* `sluice run`: one prompt, one answer.  The answer goes to stdout, everything else to stderr. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/common/engine_options.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/plan/plan.h"
#include "tools/verbs.h"

enum { MAX_PROMPT = 64 << 20 };

struct run_options {
    struct sl_engine_options engine;
    const char *prompt;
    size_t n;
    double temperature, top_p;
    size_t seed;
};

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "prompt", .letter = 'p', SL_FIELD(SL_STRING, struct run_options, prompt),
     .value = "TEXT", .help = "Text to continue; without it, standard input is read",
     .group = "Task"},
    {.name = "n", .letter = 'n', SL_FIELD(SL_COUNT, struct run_options, n), .value = "N",
     .fallback = "256", .low = 1, .high = 16777216, .env = "SLUICE_N_PREDICT",
     .help = "Most tokens to generate", .group = "Task"},
    {.name = "temp", SL_FIELD(SL_REAL, struct run_options, temperature), .value = "T", .low = 0,
     .high = 100, .help = "Temperature; 0: always the likeliest token; default: the model's own",
     .group = "Sampling"},
    {.name = "top-p", SL_FIELD(SL_REAL, struct run_options, top_p), .value = "P", .low = 1e-6,
     .high = 1, .help = "Draw from the likeliest tokens that reach probability P; default: the "
                        "model's own", .group = "Sampling"},
    {.name = "seed", .letter = 's', SL_FIELD(SL_COUNT, struct run_options, seed), .value = "N",
     .fallback = "0", .help = "The same seed gives the same answer", .group = "Sampling"},
    SL_ENGINE_ROWS(struct run_options, engine),
    {0},
};
/* clang-format on */

static const char *const examples[] = {
    "sluice run -m /models/v32 -p 'Once upon a time' -n 100",
    "sluice run -m /models/v32 --temp 0 < prompt.txt > answer.txt",
    NULL,
};

static const struct sl_command command = {
    .name = "run",
    .summary = "continue a text",
    .description = "The prompt is tokenised as it is, after the model's beginning-of-sentence "
                   "token; control tokens written out in it are recognised.",
    .rows = rows,
    .examples = examples,
};

static int fail(struct sluice_err *err, int code, const char *text)
{
    snprintf(err->msg, sizeof err->msg, "%s", text);
    return err->code = code;
}

/* All of standard input into *text (malloc'ed). */
static int read_stdin(char **text, size_t *len, struct sluice_err *err)
{
    size_t n;
    *len = 0;
    if (!(*text = malloc(MAX_PROMPT + 1)))
        return fail(err, SLUICE_ENOMEM, "out of memory: prompt");
    while ((n = fread(*text + *len, 1, MAX_PROMPT + 1 - *len, stdin)) > 0)
        *len += n;
    if (ferror(stdin))
        return fail(err, SLUICE_EIO, "cannot read the prompt from standard input");
    if (*len > MAX_PROMPT)
        return fail(err, SLUICE_EARG, "the prompt on standard input is longer than 64 MiB");
    return 0;
}

/* The prompt's tokens; returns their number or a status. */
static int64_t read_prompt(const struct run_options *o, const sluice_engine *engine,
                           int32_t **tokens, struct sluice_err *err)
{
    size_t len = o->prompt ? strlen(o->prompt) : 0;
    char *input = NULL;
    int64_t n = o->prompt ? 0 : read_stdin(&input, &len, err);
    if (n == 0)
        n = sluice_tokenize(engine, o->prompt ? o->prompt : input, len, SLUICE_ADD_BOS, tokens,
                            err);
    free(input);
    return n;
}

static int show_progress(void *user, size_t done, size_t total)
{
    sl_progress_update(user, done, total);
    return sl_interrupted();
}

static int prefill(sluice_session *session, const int32_t *tokens, size_t n, struct sluice_err *err)
{
    struct sl_progress progress;
    sl_progress_open(&progress, stderr, "reading the prompt", SL_PROGRESS_TOKENS);
    sl_progress_update(&progress, 0, n);
    const struct sluice_sync_callbacks callbacks = {.user = &progress, .progress = show_progress};
    int status = sluice_session_sync(session, tokens, n, &callbacks, err);
    sl_progress_close(&progress);
    return status;
}

/* Samples and prints until the end token, N tokens, a full context or Ctrl-C. */
static int generate(sluice_session *session, sluice_detokenizer *text, const struct run_options *o,
                    const struct sluice_model_info *info, size_t room, struct sluice_err *err)
{
    const struct sluice_sampling sampling = {
        .temperature = (float)(o->temperature >= 0 ? o->temperature : (double)info->temperature),
        .top_p = (float)(o->top_p > 0 ? o->top_p : (double)info->top_p),
        .seed = o->seed,
    };
    const char *piece;
    size_t len;
    int status = 0;
    for (size_t i = 0; i < o->n && !sl_interrupted() && !ferror(stdout); i++) {
        int32_t token = sluice_session_sample(session, &sampling, err);
        if (token < 0)
            return token;
        if (token == info->eos)
            break;
        sluice_detokenizer_push(text, token, &piece, &len);
        fwrite(piece, 1, len, stdout);
        fflush(stdout);
        if (i + 1 == o->n || sluice_session_length(session) == room)
            break;
        if ((status = sluice_session_step(session, token, err)) < 0)
            break;
    }
    sluice_detokenizer_end(text, &piece, &len);
    fwrite(piece, 1, len, stdout);
    printf("\n");
    return status == SLUICE_ECANCELLED ? 0 : status; /* the answer so far stands */
}

static void print_statistics(const sluice_session *session, const struct sluice_model_info *info)
{
    struct sluice_stats st;
    sluice_session_stats(session, &st);
    fprintf(stderr, "%llu tok · %.1f tok/s · prefill %llu tok %s · KV %s · experts by %s",
            (unsigned long long)st.decode_tokens + 1,
            st.decode_seconds > 0 ? (double)st.decode_tokens / st.decode_seconds : 0,
            (unsigned long long)st.prefill_tokens, sl_human_seconds(st.prefill_seconds).text,
            sl_human_bytes(st.kv_bytes).text, info->reader);
    if (st.expert_bytes > 0)
        fprintf(stderr, ", %s read", sl_human_bytes(st.expert_bytes).text);
    fprintf(stderr, "\n");
}

static void cancel_session(void *session)
{
    sluice_session_cancel(session);
}

static int run(const struct run_options *o, struct sluice_err *err)
{
    struct sluice_model_info info;
    sluice_engine *engine = NULL;
    sluice_session *session = NULL;
    sluice_detokenizer *text = NULL;
    int32_t *tokens = NULL;
    int64_t n = 0;
    int status = sl_open_engine(&engine, &o->engine, false, err);
    if (status < 0)
        goto done;
    sluice_engine_info(engine, &info);
    n = read_prompt(o, engine, &tokens, err);
    if ((status = (int)(n < 0 ? n : 0)) < 0 ||
        (status = sluice_detokenizer_open(&text, engine, err)) < 0)
        goto done;
    size_t room = (size_t)n + o->n < (size_t)info.context ? (size_t)n + o->n : (size_t)info.context;
    if ((status = sl_open_session(&session, engine, &o->engine, room, err)) < 0)
        goto done;
    sl_plan_hint(&o->engine, &info, room);
    /* From here on Ctrl-C ends the answer; before, it ends the program. */
    struct sl_interrupt_action cancel = {cancel_session, session};
    sl_interrupt_install();
    sl_interrupt_set_action(&cancel);
    if ((status = prefill(session, tokens, (size_t)n, err)) == 0)
        status = generate(session, text, o, &info, o->engine.context ? o->engine.context : room,
                          err);
    sl_interrupt_set_action(NULL);
    if (status == 0)
        print_statistics(session, &info);
done:
    sluice_session_close(&session);
    sluice_detokenizer_close(&text);
    sluice_tokens_free(tokens);
    sluice_engine_close(&engine);
    return status;
}

int sl_verb_run(int argc, char **argv)
{
    struct run_options o = {.temperature = -1, .top_p = -1};
    struct sluice_err err = {0};
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    if (!o.prompt && isatty(STDIN_FILENO))
        return sl_usage_error(&command, stderr, "no prompt: give -p TEXT or pipe one in");
    if (run(&o, &err) < 0)
        return sl_report(&err);
    return sl_interrupted() ? SL_EXIT_INTERRUPTED : SL_EXIT_OK;
}
