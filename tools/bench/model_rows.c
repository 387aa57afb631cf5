/* SPDX-License-Identifier: MIT */
#include "tools/bench/model_rows.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "tools/common/status.h"
#include "tools/measure/bandwidth.h"

struct bench {
    const struct sl_bench_task *task;
    sluice_session *session;
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
    for (size_t i = 0; i < b->task->repeat; i++) {
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
    double count = (double)b->task->repeat, spread = squares - sum * sum / count;
    row.tps = sum / count;
    row.tps_sd = count > 1 && spread > 0 ? sqrt(spread / (count - 1)) : 0;
    sl_bench_row(stdout, b->task->format, &row, !b->printed);
    b->printed = true;
    return 0;
}

/* Every combination; prompts first, as llama-bench does. */
static int run_all(struct bench *b, struct sluice_err *err)
{
    int status = work(b, false, 0, 1, err); /* faults the weights in */
    sl_bench_head(stdout, b->task->format);
    for (size_t d = 0; status == 0 && d < b->task->depth.n; d++) {
        for (size_t i = 0; status == 0 && i < b->task->prompt.n; i++)
            if (b->task->prompt.value[i] > 0)
                status = run_test(b, false, b->task->depth.value[d], b->task->prompt.value[i], err);
        for (size_t i = 0; status == 0 && i < b->task->decode.n; i++)
            if (b->task->decode.value[i] > 0)
                status = run_test(b, true, b->task->depth.value[d], b->task->decode.value[i], err);
    }
    sl_bench_foot(stdout, b->task->format);
    return status;
}

static size_t largest(const struct sl_bench_list *list)
{
    size_t most = 0;
    for (size_t i = 0; i < list->n; i++)
        most = sl_max(most, list->value[i]);
    return most;
}

int sl_bench_model(const struct sl_bench_task *task, struct sluice_err *err)
{
    struct bench b = {.task = task};
    struct sluice_model_info info;
    sluice_engine *engine = NULL;
    int status = sl_open_engine(&engine, &task->engine, false, err);
    if (status < 0)
        return status;
    sluice_engine_info(engine, &info);
    b.vocab = info.vocab;
    b.context = largest(&task->depth) + sl_max(largest(&task->prompt), largest(&task->decode)) + 1;
    if (!(b.tokens = calloc(b.context, sizeof *b.tokens)))
        status = sl_fail_nomem(err, "tokens", b.context * sizeof *b.tokens);
    if (status == 0)
        status = sl_open_session(&b.session, engine, &task->engine, b.context, err);
    if (status == 0)
        status = sl_read_bandwidth(info.threads, &b.bandwidth, err);
    if (status == 0) {
        fprintf(stderr, "%s, %s: %u threads, experts by %s, memory gives %.1f GB/s\n",
                info.architecture, info.profile, info.threads, info.reader, b.bandwidth * 1e-9);
        status = run_all(&b, err);
    }
    sluice_session_close(&b.session);
    sluice_engine_close(&engine);
    free(b.tokens);
    return status;
}
