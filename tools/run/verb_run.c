/* SPDX-License-Identifier: MIT */
/* `sluice run`: one prompt, one answer.  The answer goes to stdout, everything else to stderr; with
 * --json stdout gets one object with the answer and its statistics. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "tools/common/engine_options.h"
#include "tools/common/drive_name.h"
#include "tools/common/memory_text.h"
#include "tools/common/progress.h"
#include "tools/common/recorder.h"
#include "tools/common/statistics.h"
#include "tools/common/status.h"
#include "tools/plan/plan.h"
#include "tools/run/session_file.h"
#include "tools/verbs.h"

enum {
    MAX_PROMPT = 64 << 20,
    BYTES_PER_TOKEN = 2,
    DRAWN = 2, /* most tokens of one pass */
};

struct run_options {
    struct sl_engine_options engine;
    const char *prompt;
    size_t n;
    double temperature, top_p;
    size_t seed;
    const char *trace;
    const char *session;
    bool json;
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
    {.name = "mtp", SL_FIELD(SL_ENUM, struct run_options, engine.drafting), .fallback = "auto",
     .names = sl_mtp_names,
     .help = "Drafts by the model's MTP layer, which change no token; auto: while they pay, where "
             "everything fits into memory; on: always", .group = "Sampling"},
    {.name = "json", SL_FIELD(SL_FLAG, struct run_options, json),
     .help = "When the answer is complete, print one JSON object with \"text\", \"stats\" and "
             "\"memory\" on standard output instead of the text", .group = "Output"},
    {.name = "trace", SL_FIELD(SL_STRING, struct run_options, trace), .value = "FILE",
     .help = "Write the experts that the routers choose to FILE, compressed (docs/trace.md)",
     .group = "Output"},
    {.name = "usage", SL_FIELD(SL_STRING, struct run_options, engine.usage), .value = "FILE",
     .help = "Remember in FILE which experts were hot, and read those first in the next run",
     .group = "Machine"},
    {.name = "session", SL_FIELD(SL_STRING, struct run_options, session), .value = "FILE",
     .help = "Begin with what FILE holds of the prompt, if it exists, and save prompt and answer "
             "there for the next run", .group = "Task"},
    SL_ENGINE_ROWS(struct run_options, engine),
    {0},
};
/* clang-format on */

static const char *const examples[] = {
    "sluice run -m /models/v32 -p 'Once upon a time' -n 100",
    "sluice run -m /models/v32 --temp 0 < prompt.txt > answer.txt",
    "sluice run -m /models/v32 --session book.session < book.txt   # and the next chapter later",
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

/* All of standard input into *text (malloc'ed). */
static int read_stdin(char **text, size_t *len, struct sluice_err *err)
{
    size_t n;
    *len = 0;
    if (!(*text = malloc(MAX_PROMPT + 1)))
        return sl_fail_nomem(err, "prompt", MAX_PROMPT + 1);
    while ((n = fread(*text + *len, 1, MAX_PROMPT + 1 - *len, stdin)) > 0)
        *len += n;
    if (ferror(stdin))
        return sl_fail(err, SLUICE_EIO, "cannot read the prompt from standard input");
    if (*len > MAX_PROMPT)
        return sl_fail(err, SLUICE_EARG, "the prompt on standard input is longer than 64 MiB");
    return 0;
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

/* Everything that one answer needs. */
struct answer {
    const struct run_options *options;
    struct sluice_model_info info;
    sluice_engine *engine;
    sluice_session *session;
    sluice_detokenizer *text;
    char *input; /* standard input, when the prompt comes from there */
    int32_t *prompt;
    size_t n, room;                   /* tokens of the prompt; of the context */
    struct sluice_saved saved;        /* session; without tokens: there is none */
    struct sluice_stats prompt_stats; /* at the end of the prompt */
    uint64_t said;                    /* tokens */
    FILE *out;                        /* stdout, or the memory of `buffer` */
    char *buffer;
    size_t buffer_size;
    struct sl_recorder trace;
};

/* ---- the answer ----------------------------------------------------------------------------- */

/*
 * Draws the next token, or two, of at most LEFT and appends them: but for the last one, after which
 * nothing will be drawn.  Returns how many.
 */
static int draw(struct answer *a, const struct sluice_sampling *sampling, size_t left,
                int32_t *tokens, struct sluice_err *err)
{
    if (left > 1)
        return sluice_session_generate(a->session, sampling, tokens, sl_min(left, DRAWN), err);
    tokens[0] = sluice_session_sample(a->session, sampling, err);
    return tokens[0] < 0 ? tokens[0] : 1;
}

static void print_piece(struct answer *a, int32_t token)
{
    const char *piece;
    size_t len;
    sluice_detokenizer_push(a->text, token, &piece, &len);
    fwrite(piece, 1, len, a->out);
}

/* Draws and prints until the end token, N tokens, a full context or Ctrl-C. */
static int generate(struct answer *a, struct sluice_err *err)
{
    const struct run_options *o = a->options;
    const struct sluice_sampling sampling = {
        .temperature = (float)(o->temperature >= 0 ? o->temperature : (double)a->info.temperature),
        .top_p = (float)(o->top_p > 0 ? o->top_p : (double)a->info.top_p),
        .seed = o->seed,
    };
    int32_t tokens[DRAWN];
    const char *piece;
    size_t len;
    int status = 0;
    bool more = true;
    while (more && !sl_interrupted() && !ferror(a->out)) {
        size_t left = sl_min(o->n - a->said, a->room - sluice_session_length(a->session) + 1);
        status = draw(a, &sampling, left, tokens, err);
        if (status < 0 || tokens[0] == a->info.eos)
            break;
        for (int i = 0; i < status; i++)
            print_piece(a, tokens[i]);
        fflush(a->out);
        a->said += (uint64_t)status;
        more = left > (size_t)status;
    }
    sluice_detokenizer_end(a->text, &piece, &len);
    fwrite(piece, 1, len, a->out);
    if (!o->json)
        printf("\n");
    return status < 0 && status != SLUICE_ECANCELLED ? status : 0; /* the answer so far stands */
}

/* The limits that doctor measured; a file that is none of ours is told, and otherwise ignored. */
static struct sl_machine load_machine(void)
{
    char path[4096];
    struct sl_machine machine;
    struct sluice_err err = {0};
    if (sl_machine_path(path, sizeof path, NULL) < 0)
        return sl_machine_typical;
    if (sl_machine_load(&machine, path, &err) >= 0)
        return machine;
    sl_report(&err);
    return sl_machine_typical;
}

/* {"text": …, "stats": {…}, "memory": {…}} */
static int print_json(const struct answer *a, const struct sl_answer *stats, struct sluice_err *err)
{
    json_t *text = json_stringn(a->buffer, a->buffer_size), *numbers = sl_answer_json(stats);
    struct sluice_memory_plan plan;
    sluice_engine_memory(a->engine, &plan);
    json_t *memory = sl_memory_json(&plan), *object = NULL;
    if (text && numbers && memory)
        object = json_pack("{s:O, s:O, s:O}", "text", text, "stats", numbers, "memory", memory);
    char *line = object ? json_dumps(object, JSON_REAL_PRECISION(6)) : NULL;
    int status = line ? 0 : sl_fail_nomem(err, "the answer as JSON", a->buffer_size);
    if (line)
        printf("%s\n", line);
    free(line);
    json_decref(object);
    json_decref(memory);
    json_decref(numbers);
    json_decref(text);
    return status;
}

static void add_drives(struct sl_answer *stats, const struct answer *a)
{
    struct sluice_drive drive;
    for (unsigned i = 0; sluice_engine_drive(a->engine, i, &drive); i++) {
        char name[32];
        sl_drive_name(drive.path, name, sizeof name);
        sl_answer_add_drive(stats, name, drive.bytes, drive.seconds);
    }
}

static int print_end(struct answer *a, struct sluice_err *err)
{
    const struct sl_machine machine = load_machine();
    struct sluice_stats end;
    char line[512];
    sluice_session_stats(a->session, &end);
    struct sl_answer stats = sl_answer_make(&a->prompt_stats, &end, a->said, a->info.reader,
                                            &machine);
    add_drives(&stats, a);
    if (a->options->json)
        return fflush(a->out) == 0 ? print_json(a, &stats, err)
                                   : sl_fail_nomem(err, "the answer", a->buffer_size);
    sl_answer_print(&stats, line, sizeof line);
    fflush(stdout);
    fprintf(stderr, "%s\n", line);
    return 0;
}

/* ---- from options to the end ---------------------------------------------------------------- */

/* A trace has each position once, and a session that was saved without MTP goes on without. */
static enum sluice_drafting wanted_mtp(const struct answer *a)
{
    enum sluice_drafting wanted = a->options->engine.drafting;
    bool possible = !a->options->trace && (a->saved.tokens == 0 || a->saved.mtp);
    return wanted == SLUICE_DRAFTING_AUTO && !possible ? SLUICE_DRAFTING_OFF : wanted;
}

/* The engine, with memory for a session of TOKENS, and the prompt's tokens. */
static int open_engine(struct answer *a, const char *text, size_t len, size_t tokens,
                       struct sluice_err *err)
{
    const struct sl_engine_options *o = &a->options->engine;
    int status = sl_open_engine(&a->engine, o, wanted_mtp(a), tokens, err);
    if (status < 0)
        return status;
    int64_t n = sluice_tokenize(a->engine, text, len, SLUICE_ADD_BOS, &a->prompt, err);
    if (n < 0)
        return (int)n;
    a->n = (size_t)n;
    sluice_engine_info(a->engine, &a->info);
    a->room = sl_min(a->n + a->options->n, (size_t)a->info.context);
    if (a->options->session)
        a->room = sl_session_room(a->room, a->saved.tokens, &a->info);
    return 0;
}

/* How many tokens a text has is known when the engine is open, which is opened for so many. */
static int open_model(struct answer *a, struct sluice_err *err)
{
    const struct run_options *o = a->options;
    size_t len = o->prompt ? strlen(o->prompt) : 0, guess;
    int status = o->prompt ? 0 : read_stdin(&a->input, &len, err);
    const char *text = o->prompt ? o->prompt : a->input;
    guess = len / BYTES_PER_TOKEN + o->n + 1;
    if (status == 0 && o->session)
        status = sl_session_look(&a->saved, o->session, err);
    if (o->session)
        guess = sl_max(guess, sl_max(a->saved.tokens, SL_SESSION_ROOM));
    if (status == 0)
        status = open_engine(a, text, len, guess, err);
    if (status == 0 && a->room > guess && !o->engine.context) {
        sluice_tokens_free(a->prompt);
        a->prompt = NULL;
        sluice_engine_close(&a->engine);
        status = open_engine(a, text, len, a->room, err);
    }
    return status;
}

static int open_all(struct answer *a, struct sluice_err *err)
{
    const struct run_options *o = a->options;
    struct sluice_memory_plan memory;
    int status = open_model(a, err);
    if (status < 0)
        return status;
    sluice_engine_memory(a->engine, &memory);
    a->out = o->json ? open_memstream(&a->buffer, &a->buffer_size) : stdout;
    if (!a->out)
        return sl_fail_nomem(err, "the answer", 0);
    status = sluice_detokenizer_open(&a->text, a->engine, err);
    if (status == 0)
        status = sl_open_session(&a->session, a->engine, &o->engine, a->room, err);
    if (status == 0 && !o->json)
        sl_plan_hint(&o->engine, &a->info, &memory);
    if (o->engine.context)
        a->room = o->engine.context;
    if (status == 0 && o->trace)
        status = sl_recorder_open(&a->trace, o->trace, &a->info, err);
    if (status == 0 && o->trace) {
        const struct sluice_observer observer = {&a->trace, .route = sl_recorder_route,
                                                 .experts = sl_recorder_experts};
        sluice_session_observe(a->session, &observer);
    }
    return status;
}

static void close_all(struct answer *a)
{
    sluice_session_close(&a->session);
    sluice_detokenizer_close(&a->text);
    sluice_tokens_free(a->prompt);
    free(a->input);
    sluice_engine_close(&a->engine);
    if (a->out && a->out != stdout)
        fclose(a->out);
    free(a->buffer);
}

static void cancel_session(void *session)
{
    sluice_session_cancel(session);
}

static int answer(struct answer *a, struct sluice_err *err)
{
    /* From here on Ctrl-C ends the answer; before, it ends the program. */
    struct sl_interrupt_action cancel = {cancel_session, a->session};
    sl_interrupt_install();
    sl_interrupt_set_action(&cancel);
    int status = a->saved.tokens ? sl_session_restore(a->session, a->options->session, err) : 0;
    if (status < 0) {
        sl_interrupt_set_action(NULL);
        return status;
    }
    status = prefill(a->session, a->prompt, a->n, err);
    sluice_session_stats(a->session, &a->prompt_stats);
    a->trace.decoding = true;
    if (status == 0)
        status = generate(a, err);
    sl_interrupt_set_action(NULL);
    if (status == 0 && a->options->engine.usage)
        status = sluice_engine_save_usage(a->engine, a->options->engine.usage, err);
    if (status == 0)
        status = print_end(a, err);
    return a->options->session ? sl_session_keep(a->session, a->options->session, status, err)
                               : status;
}

static int run(const struct run_options *o, struct sluice_err *err)
{
    struct answer a = {.options = o};
    struct sluice_err trace_err;
    int status = open_all(&a, err);
    if (status == 0)
        status = answer(&a, err);
    int traced = sl_recorder_close(&a.trace, &trace_err);
    if (traced < 0 && status == 0) {
        *err = trace_err;
        status = traced;
    }
    close_all(&a);
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
    if (o.trace && o.engine.drafting == SLUICE_DRAFTING_ON)
        return sl_usage_error(&command, stderr,
                              "--trace and --mtp on exclude each other: a trace has each position "
                              "once");
    if (run(&o, &err) < 0)
        return sl_report(&err);
    return sl_interrupted() ? SL_EXIT_INTERRUPTED : SL_EXIT_OK;
}
