/* SPDX-License-Identifier: MIT */
/* `sluice bench`: tokens per second of prefill and decode at given depths, and where they go. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "tools/measure/bandwidth.h"
#include "tools/bench/kernels_table.h"
#include "tools/bench/report.h"
#include "tools/common/engine_options.h"
#include "tools/common/status.h"
#include "tools/verbs.h"

enum { MAX_LIST = 32, MAX_TOKENS = 1 << 24 };

struct bench_options {
    struct sl_engine_options engine;
    const char *prompt, *decode, *depth;
    bool kernels;
    size_t repeat;
    int format;
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
    {.name = "repeat", .letter = 'r', SL_FIELD(SL_COUNT, struct bench_options, repeat),
     .value = "N", .fallback = "3", .low = 1, .high = 1000, .help = "Repetitions of each test",
     .group = "Task"},
    {.name = "kernels", SL_FIELD(SL_FLAG, struct bench_options, kernels), .env = "",
     .help = "Time each kernel at the shapes of V3.2 and what limits it, instead of a model",
     .group = "Task"},
    {.name = "output", .letter = 'o', SL_FIELD(SL_ENUM, struct bench_options, format),
     .fallback = "md", .names = sl_bench_formats, .help = "Format of the table",
     .group = "Output"},
    SL_ENGINE_ROWS_FOR(struct bench_options, engine, false),
    {0},
};
/* clang-format on */

static const char *const examples[] = {
    "sluice bench -m /models/v32 -p 512 -n 64 -d 0,4096,32768",
    "sluice bench --kernels",
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

/* ---- lists ---------------------------------------------------------------------------------- */

struct list {
    size_t n;
    size_t value[MAX_LIST];
};

static bool parse_list(const char *text, struct list *list)
{
    char *end;
    for (list->n = 0; list->n < MAX_LIST; text = end + 1) {
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

static size_t largest(const struct list *list)
{
    size_t most = 0;
    for (size_t i = 0; i < list->n; i++)
        most = list->value[i] > most ? list->value[i] : most;
    return most;
}

/* ---- one test ------------------------------------------------------------------------------- */

struct bench {
    sluice_session *session;
    struct list prompt, decode, depth;
    size_t repeat;
    enum sl_bench_format format;
    int32_t *tokens; /* [context] */
    size_t context;
    int32_t vocab;
    double bandwidth;
    bool printed;
};

/* Other tokens from FIRST on, so that the session keeps what is before and computes the rest. */
static void change_tokens(struct bench *b, size_t first, size_t salt)
{
    for (size_t i = first; i < b->context; i++)
        b->tokens[i] = (int32_t)((i * 2654435761u + (salt + 1) * 40503u) % (uint32_t)b->vocab);
    if (first < b->context) /* surely another one */
        b->tokens[first] = (int32_t)((salt + first) % (uint32_t)b->vocab);
}

static int stop(void *user, size_t done, size_t total)
{
    (void)user, (void)done, (void)total;
    return sl_interrupted();
}

/* Something has to be decoded from: at depth 0 one token. */
static size_t decode_start(size_t depth)
{
    return depth > 0 ? depth : 1;
}

/* What comes before the part that is timed. */
static int prepare(struct bench *b, bool decode, size_t depth, size_t salt, struct sluice_err *err)
{
    int status = 0;
    change_tokens(b, depth, salt);
    if (sluice_session_length(b->session) < depth)
        status = sluice_session_fill(b->session, b->tokens, depth, err);
    if (status == 0 && decode)
        status = sluice_session_sync(b->session, b->tokens, decode_start(depth), NULL, err);
    return status;
}

static int work(struct bench *b, bool decode, size_t depth, size_t n, struct sluice_err *err)
{
    const struct sluice_sync_callbacks callbacks = {.progress = stop};
    int status = 0;
    if (!decode)
        status = sluice_session_sync(b->session, b->tokens, depth + n, &callbacks, err);
    for (size_t i = 0; status == 0 && decode && i < n; i++)
        status = sl_interrupted()
                     ? SLUICE_ECANCELLED
                     : sluice_session_step(b->session, b->tokens[decode_start(depth) + i], err);
    if (status == SLUICE_ECANCELLED)
        return sl_fail(err, SLUICE_ECANCELLED, "interrupted; the rows so far stand");
    return status;
}

/* sum += after − before */
static void add_use(struct sluice_stats *sum, const struct sluice_stats *after,
                    const struct sluice_stats *before)
{
    sum->expert_hits += after->expert_hits - before->expert_hits;
    sum->expert_misses += after->expert_misses - before->expert_misses;
    sum->expert_bytes += after->expert_bytes - before->expert_bytes;
    for (int i = 0; i < SLUICE_PARTS; i++) {
        sum->part_seconds[i] += after->part_seconds[i] - before->part_seconds[i];
        sum->part_bytes[i] += after->part_bytes[i] - before->part_bytes[i];
    }
}

static int run_test(struct bench *b, bool decode, size_t depth, size_t n, struct sluice_err *err)
{
    struct sl_bench_row row = {.decode = decode, .depth = depth, .n = n, .bandwidth = b->bandwidth};
    double sum = 0, squares = 0;
    for (size_t i = 0; i < b->repeat; i++) {
        struct sluice_stats before, after;
        int status = prepare(b, decode, depth, i, err);
        sluice_session_stats(b->session, &before);
        double start = sl_now();
        if (status == 0)
            status = work(b, decode, depth, n, err);
        if (status < 0)
            return status;
        double seconds = sl_now() - start;
        sluice_session_stats(b->session, &after);
        add_use(&row.used, &after, &before);
        row.seconds += seconds;
        row.tokens += (double)n;
        sum += (double)n / seconds;
        squares += (double)n / seconds * ((double)n / seconds);
    }
    double count = (double)b->repeat, spread = squares - sum * sum / count;
    row.tps = sum / count;
    row.tps_sd = count > 1 && spread > 0 ? sqrt(spread / (count - 1)) : 0;
    sl_bench_row(stdout, b->format, &row, !b->printed);
    b->printed = true;
    return 0;
}

/* Every combination; prompts first, as llama-bench does. */
static int run_all(struct bench *b, struct sluice_err *err)
{
    int status = work(b, false, 0, 1, err); /* faults the weights in */
    sl_bench_head(stdout, b->format);
    for (size_t d = 0; status == 0 && d < b->depth.n; d++) {
        for (size_t i = 0; status == 0 && i < b->prompt.n; i++)
            if (b->prompt.value[i] > 0)
                status = run_test(b, false, b->depth.value[d], b->prompt.value[i], err);
        for (size_t i = 0; status == 0 && i < b->decode.n; i++)
            if (b->decode.value[i] > 0)
                status = run_test(b, true, b->depth.value[d], b->decode.value[i], err);
    }
    sl_bench_foot(stdout, b->format);
    return status;
}

static int bench(const struct bench_options *o, struct bench *b, struct sluice_err *err)
{
    struct sluice_model_info info;
    sluice_engine *engine = NULL;
    size_t most = largest(&b->prompt) > largest(&b->decode) ? largest(&b->prompt)
                                                            : largest(&b->decode);
    b->context = largest(&b->depth) + most + 1;
    int status = sl_open_engine(&engine, &o->engine, false, err);
    if (status < 0)
        return status;
    sluice_engine_info(engine, &info);
    b->vocab = info.vocab;
    if (!(b->tokens = calloc(b->context, sizeof *b->tokens)))
        status = sl_fail_nomem(err, "tokens", b->context * sizeof *b->tokens);
    if (status == 0)
        status = sl_open_session(&b->session, engine, &o->engine, b->context, err);
    if (status == 0)
        status = sl_read_bandwidth(info.threads, &b->bandwidth, err);
    if (status == 0) {
        fprintf(stderr, "%s, %s: %u threads, experts by %s, memory gives %.1f GB/s\n",
                info.architecture, info.profile, info.threads, info.reader, b->bandwidth * 1e-9);
        status = run_all(b, err);
    }
    sluice_session_close(&b->session);
    sluice_engine_close(&engine);
    free(b->tokens);
    return status;
}

int sl_verb_bench(int argc, char **argv)
{
    struct bench_options o = {0};
    struct bench b = {0};
    struct sluice_err err = {0};
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    if (!parse_list(o.prompt, &b.prompt) || !parse_list(o.decode, &b.decode) ||
        !parse_list(o.depth, &b.depth))
        return sl_usage_error(&command, stderr,
                              "-p, -n and -d want numbers with commas between them, at most %d of "
                              "up to %d",
                              MAX_LIST, MAX_TOKENS);
    if (!o.kernels && !o.engine.model)
        return sl_usage_error(&command, stderr, "missing --model DIR or SLUICE_MODEL");
    b.repeat = o.repeat;
    b.format = (enum sl_bench_format)o.format;
    sl_interrupt_install();
    if (o.kernels)
        return sl_bench_kernels(o.engine.threads, o.repeat, b.format, &err) < 0 ? sl_report(&err)
                                                                                : SL_EXIT_OK;
    if (bench(&o, &b, &err) < 0)
        return sl_report(&err);
    return SL_EXIT_OK;
}
