/* SPDX-License-Identifier: MIT */
/* `sluice bench`: tokens per second of prefill and decode at given depths, and where they go. */
#include <errno.h>
#include <stdlib.h>

#include "tools/bench/io_table.h"
#include "tools/bench/kernels_table.h"
#include "tools/bench/model_rows.h"
#include "tools/common/status.h"
#include "tools/verbs.h"

enum { MAX_TOKENS = 1 << 24 };

struct bench_options {
    const char *prompt, *decode, *depth, *layers, *io;
    struct sl_bench_task task;
    bool kernels;
};

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "prompt", .letter = 'p', SL_FIELD(SL_STRING, struct bench_options, prompt),
     .value = "N,…", .fallback = "512", .env = "SLUICE_BENCH_PROMPT",
     .help = "Lengths of prompts to time; 0: none", .group = "Task"},
    {.name = "n", .letter = 'n', SL_FIELD(SL_STRING, struct bench_options, decode),
     .value = "N,…", .fallback = "128", .env = "SLUICE_BENCH_N",
     .help = "Numbers of tokens to decode; 0: none", .group = "Task"},
    {.name = "depth", .letter = 'd', SL_FIELD(SL_STRING, struct bench_options, depth),
     .value = "N,…", .fallback = "0",
     .help = "Tokens in the caches before; they are filled with noise, not computed",
     .group = "Task"},
    {.name = "real-fill", SL_FIELD(SL_FLAG, struct bench_options, task.real_fill),
     .help = "Compute the tokens before instead of filling the caches with noise",
     .group = "Task"},
    {.name = "sessions", SL_FIELD(SL_COUNT, struct bench_options, task.engine.sessions),
     .value = "N", .fallback = "1", .low = 1, .high = SLUICE_BATCH_MAX,
     .help = "Decode with so many sessions, a token of each at a time; t/s counts them all",
     .group = "Task"},
    {.name = "mtp", SL_FIELD(SL_ENUM, struct bench_options, task.mtp), .names = sl_mtp_names,
     .env = "", .help = "Decode what the model itself says, as `run` does, with drafts by its MTP "
                        "layer (auto, on) or without; default: given tokens, without",
     .group = "Task"},
    {.name = "repeat", .letter = 'r', SL_FIELD(SL_COUNT, struct bench_options, task.repeat),
     .value = "N", .fallback = "3", .low = 1, .high = 1000, .help = "Repetitions of each test",
     .group = "Task"},
    {.name = "io", SL_FIELD(SL_STRING, struct bench_options, io), .value = "PATH", .env = "",
     .help = "Instead of a model, time reads of this file or the largest files in this directory, "
             "by reader, size and reads in flight", .group = "Task"},
    {.name = "kernels", SL_FIELD(SL_FLAG, struct bench_options, kernels), .env = "",
     .help = "Time each kernel at the shapes of V3.2 and what limits it, instead of a model",
     .group = "Task"},
    {.name = "warm", SL_FIELD(SL_FLAG, struct bench_options, task.warm),
     .help = "Rows with the model in memory: an untimed run before each test; this is what "
             "happens without --cold; with both there are both kinds of rows", .group = "Task"},
    {.name = "cold", SL_FIELD(SL_FLAG, struct bench_options, task.cold),
     .help = "Rows with the container's files dropped from memory before every repetition",
     .group = "Task"},
    {.name = "routes", SL_FIELD(SL_STRING, struct bench_options, task.routes), .value = "TRACE",
     .help = "Take the experts of this trace (sluice run --trace) instead of the router's",
     .group = "Task"},
    {.name = "trace", SL_FIELD(SL_STRING, struct bench_options, task.trace), .value = "FILE",
     .env = "", .help = "Write the experts of what is timed, and how they came, to a trace "
     "(docs/trace.md), for `sluice replay`", .group = "Output"},
    {.name = "layers", SL_FIELD(SL_STRING, struct bench_options, layers), .value = "DENSE+MOE",
     .help = "Extrapolate each row to a model of so many layers with a dense feed-forward network "
             "and with experts; a single number counts all, 3 of them dense as in the published "
             "models", .group = "Output"},
    {.name = "output", .letter = 'o', SL_FIELD(SL_ENUM, struct bench_options, task.format),
     .fallback = "md", .names = sl_bench_formats, .help = "Format of the table",
     .group = "Output"},
    SL_ENGINE_ROWS_FOR(struct bench_options, task.engine, false),
    {0},
};
/* clang-format on */

static const char *const examples[] = {
    "sluice bench -m /models/v32 -p 512 -n 64 -d 0,4096,32768",
    "sluice bench --kernels",
    "sluice bench --io /models/v32",
    NULL,
};

static const struct sl_command command = {
    .name = "bench",
    .summary = "time prefill and decode of a model",
    .description = "Names are those of llama-bench: pp512 is a prompt of 512 tokens, tg128 the "
                   "generation of 128; every combination of the lists is run.  Memory counts the "
                   "weights and cache rows that the work went over, against the speed of a plain "
                   "loop measured at the beginning.",
    .rows = rows,
    .examples = examples,
};

static bool parse_list(const char *text, struct sl_bench_list *list)
{
    char *end;
    for (list->n = 0; list->n < SL_BENCH_LIST; text = end + 1) {
        errno = 0;
        unsigned long value = strtoul(text, &end, 10);
        if (end == text || errno || *text < '0' || *text > '9' || value > MAX_TOKENS)
            return false;
        list->value[list->n++] = value;
        if (*end != ',')
            return *end == 0;
    }
    return false;
}

/* Rows of a model. */
static int bench_model(struct bench_options *o)
{
    struct sluice_err err = {0};
    if (!o->task.engine.model)
        return sl_usage_error(&command, stderr,
                              "missing --model DIR or SLUICE_MODEL; or --kernels, or --io PATH");
    if (!parse_list(o->prompt, &o->task.prompt) || !parse_list(o->decode, &o->task.decode) ||
        !parse_list(o->depth, &o->task.depth))
        return sl_usage_error(&command, stderr,
                              "-p, -n and -d want numbers with commas between them, at most %d of "
                              "up to %d",
                              SL_BENCH_LIST, MAX_TOKENS);
    if (o->layers && !sl_parse_layers(o->layers, &o->task.layers))
        return sl_usage_error(&command, stderr,
                              "--layers wants DENSE+MOE, for example 3+58, or 4 and more");
    if (o->task.cold && o->task.real_fill)
        return sl_usage_error(&command, stderr,
                              "--cold and --real-fill exclude each other: computing the tokens "
                              "before brings the experts into memory");
    if (o->task.engine.sessions > 1 && (o->task.routes || o->task.trace))
        return sl_usage_error(&command, stderr,
                              "--sessions goes with neither --routes nor --trace: these are of one "
                              "session");
    if (o->task.mtp >= 0 &&
        (o->task.engine.sessions > 1 || o->layers || o->task.routes || o->task.trace))
        return sl_usage_error(&command, stderr,
                              "--mtp goes with none of --sessions, --layers, --routes and --trace: "
                              "these know nothing of drafts");
    o->task.engine.drafting = o->task.mtp < 0 ? SLUICE_DRAFTING_OFF
                                              : (enum sluice_drafting)o->task.mtp;
    o->task.warm |= !o->task.cold;
    sl_interrupt_install();
    return sl_bench_model(&o->task, &err) < 0 ? sl_report(&err) : SL_EXIT_OK;
}

static int bench_kernels(const struct bench_options *o)
{
    struct sluice_err err = {0};
    sl_interrupt_install();
    return sl_bench_kernels(o->task.engine.threads, o->task.repeat, o->task.format, &err) < 0
               ? sl_report(&err)
               : SL_EXIT_OK;
}

static int bench_drive(const struct bench_options *o)
{
    struct sluice_err err = {0};
    sl_interrupt_install();
    return sl_bench_io(o->io, o->task.format, &err) < 0 ? sl_report(&err) : SL_EXIT_OK;
}

int sl_verb_bench(int argc, char **argv)
{
    struct bench_options o = {.task.mtp = -1};
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    if (o.kernels && o.io)
        return sl_usage_error(&command, stderr, "--kernels and --io exclude each other");
    return o.kernels ? bench_kernels(&o) : o.io ? bench_drive(&o) : bench_model(&o);
}
