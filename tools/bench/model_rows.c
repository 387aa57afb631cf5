/* SPDX-License-Identifier: MIT */
#include "tools/bench/model_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "tools/bench/evict.h"
#include "tools/bench/reading.h"
#include "tools/bench/routes.h"
#include "tools/common/progress.h"
#include "tools/common/recorder.h"
#include "tools/common/status.h"
#include "tools/measure/bandwidth.h"

struct bench {
    const struct sl_bench_task *task;
    sluice_engine *engine;
    sluice_session *session;
    sluice_session *all[SLUICE_BATCH_MAX]; /* it, and the others that step with it */
    struct sluice_model_info info;         /* its strings while the engine is open */
    struct sl_reading reading;             /* how experts come */
    struct sl_routes *routes;
    struct sl_recorder recorder;
    bool recording;  /* what is timed */
    int32_t *tokens; /* [context] */
    size_t context;
    size_t salt;        /* of the tokens */
    size_t tests, test; /* how many rows, and which one */
    /* Bytes per second that memory and drives gave when last measured; the latter 0: not yet. */
    double memory, drive;
    struct sl_bench_table table;
};

/* ---- the model ------------------------------------------------------------------------------ */

static const uint32_t *on_route(void *user, int32_t layer, size_t position, const uint32_t *experts,
                                const float *weights, size_t n)
{
    struct bench *b = user;
    const uint32_t *instead = b->routes ? sl_routes_get(b->routes, position, layer) : NULL;
    (void)weights, (void)n;
    if (b->recording)
        sl_record_route(&b->recorder, layer, position, instead ? instead : experts);
    return instead;
}

static void on_experts(void *user, const struct sluice_expert_event *event)
{
    struct bench *b = user;
    if (b->recording)
        sl_recorder_experts(&b->recorder, event);
}

static int open_model(struct bench *b, struct sluice_err *err)
{
    enum sluice_drafting mtp = b->task->engine.drafting;
    int status = sl_open_engine(&b->engine, &b->task->engine, mtp, b->context, err);
    if (status < 0)
        return status;
    sluice_engine_info(b->engine, &b->info);
    sl_reading_of(&b->reading, b->engine, &b->info);
    if (b->task->routes && !b->routes)
        status = sl_routes_open(&b->routes, b->task->routes, &b->info, err);
    for (size_t i = 0; status == 0 && i < b->task->engine.sessions; i++)
        status = sl_open_session(&b->all[i], b->engine, &b->task->engine, b->context, err);
    b->session = b->all[0];
    if (status == 0 && (b->routes || b->task->trace)) {
        const struct sluice_observer observer = {b, .route = on_route, .experts = on_experts};
        sluice_session_observe(b->session, &observer);
    }
    return status;
}

static void close_model(struct bench *b)
{
    for (size_t i = 0; i < SLUICE_BATCH_MAX; i++)
        sluice_session_close(&b->all[i]);
    b->session = NULL;
    sluice_engine_close(&b->engine);
}

/* Nothing of the container stays in memory but what opening it touches. */
static int open_cold(struct bench *b, struct sluice_err *err)
{
    close_model(b);
    int status = sl_evict_directory(b->task->engine.model, err);
    return status < 0 ? status : open_model(b, err);
}

/* ---- one repetition ------------------------------------------------------------------------- */

static int32_t token_at(const struct bench *b, size_t i, size_t salt)
{
    return (int32_t)((i * 2654435761u + (salt + 1) * 40503u) % (uint32_t)b->info.vocab);
}

/* Other tokens from FIRST on, so that the session keeps what is before and computes the rest. */
static void change_tokens(struct bench *b, size_t first, size_t salt)
{
    uint32_t vocab = (uint32_t)b->info.vocab;
    for (size_t i = first; i < b->context; i++)
        b->tokens[i] = token_at(b, i, salt);
    if (first < b->context) /* surely another one */
        b->tokens[first] = (int32_t)((salt + first) % vocab);
}

/* Something has to be decoded from: at depth 0 one token. */
static size_t decode_start(size_t depth)
{
    return depth > 0 ? depth : 1;
}

/* A repetition under way, for the progress line. */
struct run {
    struct sl_progress *progress;
    uint64_t before, all; /* tokens of the repetitions before, and of all */
};

static int on_progress(void *user, size_t done, size_t total)
{
    const struct run *run = user;
    (void)total;
    sl_progress_update(run->progress, run->before + done, run->all);
    return sl_interrupted();
}

static int on_fill(void *user, size_t done, size_t total)
{
    sl_progress_update(user, done, total);
    return sl_interrupted();
}

static int compute_depth(struct bench *b, sluice_session *session, size_t depth,
                         struct sluice_err *err)
{
    struct sl_progress progress;
    sl_progress_open(&progress, stderr, "computing the tokens before", SL_PROGRESS_TOKENS);
    const struct sluice_sync_callbacks callbacks = {.user = &progress, .progress = on_fill};
    int status = sluice_session_sync(session, b->tokens, depth, &callbacks, err);
    sl_progress_close(&progress);
    return status;
}

/* Sessions that step together say different things. */
static size_t salt_of(size_t salt, size_t session)
{
    return salt + 1009 * session;
}

/* What comes before the part that is timed. */
static int prepare_session(struct bench *b, sluice_session *session, const struct sl_bench_row *row,
                           size_t salt, struct sluice_err *err)
{
    int status = 0;
    change_tokens(b, row->depth, salt);
    if (b->task->real_fill && row->depth > 0)
        status = compute_depth(b, session, row->depth, err);
    else if (sluice_session_length(session) < row->depth)
        status = sluice_session_fill(session, b->tokens, row->depth, err);
    if (status == 0 && row->decode)
        status = sluice_session_sync(session, b->tokens, decode_start(row->depth), NULL, err);
    return status;
}

static int prepare(struct bench *b, const struct sl_bench_row *row, size_t salt,
                   struct sluice_err *err)
{
    int status = 0;
    b->salt = salt;
    for (size_t i = row->sessions; status == 0 && i-- > 0;)
        status = prepare_session(b, b->all[i], row, salt_of(salt, i), err);
    return status;
}

/* Token I of the repetition for all sessions. */
static int step_all(struct bench *b, const struct sl_bench_row *row, size_t i,
                    struct sluice_err *err)
{
    int32_t tokens[SLUICE_BATCH_MAX];
    for (size_t k = 0; k < row->sessions; k++)
        tokens[k] = token_at(b, decode_start(row->depth) + i, salt_of(b->salt, k));
    return row->sessions > 1 ? sluice_sessions_step(b->all, tokens, row->sessions, err)
                             : sluice_session_step(b->session, tokens[0], err);
}

static int step(struct bench *b, const struct sl_bench_row *row, struct run *run,
                struct sluice_err *err)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < row->n; i++) {
        status = step_all(b, row, i, err);
        if (status == 0 && on_progress(run, i + 1, row->n))
            status = SLUICE_ECANCELLED;
    }
    return status;
}

/* The model says what it likes, and does not end. */
static int generate(struct bench *b, const struct sl_bench_row *row, struct run *run,
                    struct sluice_err *err)
{
    const struct sluice_sampling sampling = {b->info.temperature, b->info.top_p, b->salt};
    int32_t tokens[2];
    for (size_t done = 0; done < row->n;) {
        int n = sluice_session_generate(b->session, &sampling, tokens, sl_min(row->n - done, 2),
                                        err);
        if (n > 0 && tokens[0] == b->info.eos)
            n = sluice_session_step(b->session, tokens[0], err) < 0 ? err->code : 1;
        if (n < 0)
            return n;
        done += (size_t)n;
        if (on_progress(run, done, row->n))
            return SLUICE_ECANCELLED;
    }
    return 0;
}

static int work(struct bench *b, const struct sl_bench_row *row, struct run *run,
                struct sluice_err *err)
{
    const struct sluice_sync_callbacks callbacks = {.user = run, .progress = on_progress};
    if (!row->decode)
        return sluice_session_sync(b->session, b->tokens, row->depth + row->n, &callbacks, err);
    return b->task->mtp < 0 ? step(b, row, run, err) : generate(b, row, run, err);
}

/* What a repetition took. */
struct use {
    double seconds, read;
    uint64_t faults;
    struct sluice_stats stats;
};

/* Pages that this process had to wait for until they came from a drive. */
static uint64_t major_faults(void)
{
    struct rusage use;
    return getrusage(RUSAGE_SELF, &use) == 0 ? (uint64_t)use.ru_majflt : 0;
}

/* after − before */
static struct sluice_stats difference(const struct sluice_stats *after,
                                      const struct sluice_stats *before)
{
    struct sluice_stats d = {
        .expert_hits = after->expert_hits - before->expert_hits,
        .expert_misses = after->expert_misses - before->expert_misses,
        .expert_ahead = after->expert_ahead - before->expert_ahead,
        .expert_bytes = after->expert_bytes - before->expert_bytes,
        .read_seconds = after->read_seconds - before->read_seconds,
        .drafts = after->drafts - before->drafts,
        .drafts_right = after->drafts_right - before->drafts_right,
        .drafting = after->drafting,
        .draft_seconds = {after->draft_seconds[0], after->draft_seconds[1]},
    };
    for (int i = 0; i < SLUICE_PARTS; i++) {
        d.part_seconds[i] = after->part_seconds[i] - before->part_seconds[i];
        d.part_bytes[i] = after->part_bytes[i] - before->part_bytes[i];
    }
    return d;
}

static int repeat(struct bench *b, const struct sl_bench_row *row, size_t salt, bool timed,
                  struct run *run, struct use *use, struct sluice_err *err)
{
    struct sluice_stats before, after;
    int status = row->cold ? open_cold(b, err) : 0;
    if (status == 0)
        status = prepare(b, row, salt, err);
    if (status < 0)
        return status;
    sl_progress_update(run->progress, run->before, run->all);
    sluice_session_stats(b->session, &before);
    uint64_t from_drives = sl_bytes_from_drives(), faults = major_faults();
    b->recorder.decoding = row->decode;
    b->recording = timed;
    double start = sl_now();
    status = work(b, row, run, err);
    use->seconds = sl_now() - start;
    b->recording = false;
    use->faults = major_faults() - faults;
    from_drives = sl_bytes_from_drives() - from_drives;
    sluice_session_stats(b->session, &after);
    use->stats = difference(&after, &before);
    use->stats.read_seconds /= b->reading.drives ? b->reading.drives : 1; /* each counts its own */
    use->read = b->reading.mapped ? (double)from_drives : (double)use->stats.expert_bytes;
    return status;
}

/* ---- one row -------------------------------------------------------------------------------- */

static void add_use(struct sl_bench_row *row, const struct use *use)
{
    row->used.expert_hits += use->stats.expert_hits;
    row->used.expert_misses += use->stats.expert_misses;
    row->used.expert_ahead += use->stats.expert_ahead;
    row->used.expert_bytes += use->stats.expert_bytes;
    row->used.read_seconds += use->stats.read_seconds;
    row->used.drafts += use->stats.drafts;
    row->used.drafts_right += use->stats.drafts_right;
    row->used.drafting = use->stats.drafting;
    memcpy(row->used.draft_seconds, use->stats.draft_seconds, sizeof row->used.draft_seconds);
    for (int i = 0; i < SLUICE_PARTS; i++) {
        row->used.part_seconds[i] += use->stats.part_seconds[i];
        row->used.part_bytes[i] += use->stats.part_bytes[i];
    }
    row->read += use->read;
    row->faults += use->faults;
    row->seconds += use->seconds;
    row->tokens += (double)(row->n * row->sessions);
}

static void extrapolate(const struct bench *b, struct use *use)
{
    const struct sl_bench_table *t = &b->table;
    if (t->layers.dense + t->layers.moe == 0)
        return;
    use->seconds = sl_extrapolate(&use->stats, use->seconds, t->from, t->layers);
    use->read *= t->from.moe ? (double)t->layers.moe / t->from.moe : 1;
}

/*
 * What drives can give to this reader.  A drive's speed changes with the hour, too: the mean of
 * before and after a row counts.  Pages that the model maps cannot be dropped from memory: it is
 * closed meanwhile, and that once.
 */
static int measure_drive(struct bench *b, struct sluice_err *err)
{
    double before = b->drive;
    if (b->reading.mapped && before > 0)
        return 0;
    if (b->reading.mapped)
        close_model(b);
    b->drive = sl_drive_limit(b->task->engine.model, &b->reading);
    b->table.drive = before > 0 ? (before + b->drive) / 2 : b->drive;
    return b->reading.mapped ? open_model(b, err) : 0;
}

/* Repetitions, the first one untimed if they are to be warm. */
static int run_repetitions(struct bench *b, struct sl_bench_row *row, struct sl_progress *progress,
                           char *title, size_t title_size, struct sluice_err *err)
{
    size_t count = b->task->repeat, first = row->cold ? 0 : 1;
    double sum = 0, squares = 0;
    char name[96];
    sl_bench_name(row, name, sizeof name);
    for (size_t i = 0; i < count + first; i++) {
        struct run run = {progress, i * row->n, (count + first) * row->n};
        struct use use;
        int len = snprintf(title, title_size, "test %zu of %zu, %s, ", b->test, b->tests, name);
        if (i < first)
            snprintf(title + len, title_size - (size_t)len, "untimed run");
        else
            snprintf(title + len, title_size - (size_t)len, "run %zu of %zu", i + 1 - first, count);
        int status = repeat(b, row, i, i >= first, &run, &use, err);
        if (status < 0)
            return status;
        if (i < first)
            continue;
        extrapolate(b, &use);
        add_use(row, &use);
        double tps = (double)(row->n * row->sessions) / use.seconds;
        sum += tps;
        squares += tps * tps;
    }
    double n = (double)count, spread = squares - sum * sum / n;
    row->tps = sum / n;
    row->tps_sd = count > 1 && spread > 0 ? sqrt(spread / (n - 1)) : 0;
    return 0;
}

/* Neighbours of a virtual machine come and go: the faster of before and after a row counts. */
static int measure_memory(struct bench *b, struct sluice_err *err)
{
    double before = b->memory;
    int status = sl_read_bandwidth(b->info.threads, &b->memory, err);
    b->table.bandwidth = before > b->memory ? before : b->memory;
    return status;
}

static int run_test(struct bench *b, struct sl_bench_row row, struct sluice_err *err)
{
    struct sl_progress progress;
    char title[160] = "";
    if (row.n == 0)
        return 0;
    b->test++;
    sl_progress_open(&progress, stderr, title, SL_PROGRESS_TOKENS);
    int status = run_repetitions(b, &row, &progress, title, sizeof title, err);
    sl_progress_close(&progress);
    if (status == SLUICE_ECANCELLED)
        return sl_fail(err, SLUICE_ECANCELLED, "interrupted; the rows so far stand");
    if (status < 0)
        return status;
    status = measure_memory(b, err);
    if (status == 0 && row.read > 0)
        status = measure_drive(b, err);
    if (status < 0)
        return status;
    sl_bench_row(stdout, &b->table, &row);
    return 0;
}

/* ---- all rows ------------------------------------------------------------------------------- */

/* Warm rows, cold rows. */
static int run_both(struct bench *b, struct sl_bench_row row, struct sluice_err *err)
{
    int status = b->task->warm ? run_test(b, row, err) : 0;
    row.cold = true;
    return status == 0 && b->task->cold ? run_test(b, row, err) : status;
}

static size_t count_wanted(const struct sl_bench_list *list)
{
    size_t n = 0;
    for (size_t i = 0; i < list->n; i++)
        n += list->value[i] > 0;
    return n;
}

/* Every combination; prompts first, as llama-bench does. */
static int run_all(struct bench *b, struct sluice_err *err)
{
    const struct sl_bench_task *t = b->task;
    int status = 0;
    b->tests = t->depth.n * (count_wanted(&t->prompt) + count_wanted(&t->decode)) *
               ((size_t)t->warm + (size_t)t->cold);
    sl_bench_head(stdout, &b->table);
    for (size_t d = 0; status == 0 && d < t->depth.n; d++) {
        struct sl_bench_row row = {.depth = t->depth.value[d], .sessions = 1};
        for (size_t i = 0; status == 0 && i < t->prompt.n; i++) {
            row.n = t->prompt.value[i];
            status = run_both(b, row, err);
        }
        row.decode = true;
        row.sessions = t->engine.sessions;
        for (size_t i = 0; status == 0 && i < t->decode.n; i++) {
            row.n = t->decode.value[i];
            status = run_both(b, row, err);
        }
    }
    sl_bench_foot(stdout, &b->table);
    return status;
}

static size_t largest(const struct sl_bench_list *list)
{
    size_t most = 0;
    for (size_t i = 0; i < list->n; i++)
        most = sl_max(most, list->value[i]);
    return most;
}

static void print_conditions(const struct bench *b)
{
    fprintf(stderr, "%s, %s: %u threads, experts by %s, memory gives %.1f GB/s",
            b->info.architecture, b->info.profile, b->info.threads, b->info.reader,
            b->table.bandwidth * 1e-9);
    struct sluice_stats stats;
    sluice_session_stats(b->session, &stats);
    if (b->info.has_mtp)
        fprintf(stderr, ", with the MTP layer");
    if (b->task->engine.multiplier == SLUICE_MULTIPLY_ONEDNN)
        fprintf(stderr, ", prompts by %s", stats.multiplier);
    if (b->routes)
        fprintf(stderr, ", %zu positions of choices from %s", sl_routes_length(b->routes),
                b->task->routes);
    fprintf(stderr, "\n");
}

int sl_bench_model(const struct sl_bench_task *task, struct sluice_err *err)
{
    struct bench b = {.task = task};
    b.context = largest(&task->depth) + sl_max(largest(&task->prompt), largest(&task->decode)) + 1;
    b.table = (struct sl_bench_table){.format = task->format,
                                      .cold = task->cold,
                                      .sessions = task->engine.sessions,
                                      .drafts = task->mtp >= 0,
                                      .layers = task->layers};
    int status = open_model(&b, err);
    b.table.from = (struct sl_layer_count){(unsigned)b.info.dense_layers,
                                           (unsigned)(b.info.layers - b.info.dense_layers)};
    if (status == 0)
        status = sl_check_layers(b.table.from, task->layers, err);
    if (status == 0 && task->trace)
        status = sl_recorder_open(&b.recorder, task->trace, &b.info, err);
    if (status == 0 && !(b.tokens = calloc(b.context, sizeof *b.tokens)))
        status = sl_fail_nomem(err, "tokens", b.context * sizeof *b.tokens);
    if (status == 0)
        status = measure_memory(&b, err);
    if (status == 0) {
        change_tokens(&b, 0, 0);
        print_conditions(&b);
        status = run_all(&b, err);
    }
    struct sluice_err trace_err;
    int traced = sl_recorder_close(&b.recorder, &trace_err);
    if (traced < 0 && status == 0)
        status = sl_fail(err, trace_err.code, "%s", trace_err.msg);
    close_model(&b);
    sl_routes_close(&b.routes);
    free(b.tokens);
    return status;
}
