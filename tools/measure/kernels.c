/* SPDX-License-Identifier: MIT */
/* Times kernels and their limits in turn. */
#include "tools/measure/kernels.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/base/splitmix.h"
#include "runtime/model/rung.h"
#include "tools/measure/bandwidth.h"
#include "tools/measure/kernel_cases.h"

enum { PIECES = 16 /* per thread, of a limit's work */ };
static const double batch_seconds = 3e-4; /* short calls are timed together */

/* ---- noise ---------------------------------------------------------------------------------- */

void sl_random_bytes(uint64_t seed, void *out, size_t n)
{
    uint64_t state = sl_splitmix(&seed), bits;
    uint8_t *at = out;
    for (size_t i = 0; i < n; i += sizeof bits) {
        bits = sl_splitmix(&state);
        memcpy(at + i, &bits, sl_min(n - i, sizeof bits));
    }
}

void sl_random_floats(uint64_t seed, float size, float *out, size_t n)
{
    uint64_t state = sl_splitmix(&seed);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)((int64_t)sl_splitmix(&state) >> 39) * 0x1p-24f * size;
}

/* ---- limits --------------------------------------------------------------------------------- */

struct limit_phase {
    const struct sl_call *call;
    const struct sl_peaks *peaks;
    size_t n; /* of a piece */
};

static void dots_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct limit_phase *p = arg;
    int8_t w[64], x[4];
    uint32_t sum[SL_PANEL];
    (void)thread;
    sl_random_bytes(1, w, sizeof w);
    sl_random_bytes(2, x, sizeof x);
    for (size_t i = begin; i < end; i++)
        p->peaks->dot(w, x, p->n, sum);
}

static void fmas_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct limit_phase *p = arg;
    float a[SL_PANEL], sum[SL_PANEL];
    (void)thread;
    sl_random_floats(1, 1, a, SL_PANEL);
    for (size_t i = begin; i < end; i++)
        p->peaks->fma(a, 0.5f, p->n, sum);
}

/* The bytes of items [begin, end), but for a rest. */
static size_t bytes_of(const struct limit_phase *p, size_t begin, size_t end)
{
    return (end - begin) * p->n / SL_PEAK_BYTES * SL_PEAK_BYTES;
}

static void inputs_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct limit_phase *p = arg;
    (void)thread;
    p->peaks->read(p->call->in + begin * p->n, bytes_of(p, begin, end), false);
}

static void outputs_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct limit_phase *p = arg;
    (void)thread;
    p->peaks->write(p->call->spare + begin * p->n, bytes_of(p, begin, end), 0);
}

/* Seconds for AMOUNT multiply-adds, EACH of them per round of a peak loop. */
static double time_peak(const struct sl_call *c, const struct sl_peaks *peaks, double amount,
                        size_t each, sl_work_fn *work)
{
    size_t pieces = PIECES * c->team.threads;
    double rounds = amount / (double)each / (double)pieces;
    struct limit_phase phase = {c, peaks, sl_round_up((size_t)rounds + 1, SL_PEAK_STEP)};
    double start = sl_now();
    sl_team_run(&c->team, pieces, 1, work, &phase);
    return (sl_now() - start) * rounds / (double)phase.n;
}

/* Seconds to do as much as BYTES take in caches, divided as the call is. */
static double time_cached(const struct sl_call *c, const struct sl_peaks *peaks, size_t bytes,
                          sl_work_fn *work)
{
    struct limit_phase phase = {c, peaks, bytes / c->items};
    double start = sl_now();
    sl_team_run(&c->team, c->items, c->grain, work, &phase);
    return sl_now() - start;
}

static double time_vectors(const struct sl_call *c, const struct sl_peaks *peaks)
{
    double in = time_cached(c, peaks, c->inputs, inputs_work);
    double out = time_cached(c, peaks, c->outputs, outputs_work);
    return in > out ? in : out;
}

static double time_producer(struct sl_call *c)
{
    double start = sl_now();
    c->producer(c);
    return sl_now() - start;
}

/* Reads a part of the set that the caches do not hold: half the set away from the next call's. */
static double time_read(const struct sl_call *c, const struct sl_peaks *peaks, size_t i)
{
    size_t part = (c->number + c->parts / 2 + i) % c->parts;
    double start = sl_now();
    sl_read_once(&c->team, peaks, c->set + part * c->bytes, c->bytes);
    return sl_now() - start;
}

/* Seconds of the least that call I of a batch has to do; 0: not known. */
static double time_limit(struct sl_call *c, const struct sl_peaks *peaks, size_t i)
{
    double seconds = c->packed ? sl_packed_run(c->packed) : 0;
    if (c->bytes > 0)
        seconds += time_read(c, peaks, i);
    if (c->dots > 0 && !c->packed)
        seconds += time_peak(c, peaks, c->dots, 64, dots_work);
    if (c->fmas > 0)
        seconds += time_peak(c, peaks, c->fmas, SL_PANEL, fmas_work);
    if (c->inputs > 0)
        seconds += time_vectors(c, peaks);
    if (c->producer)
        seconds += time_producer(c);
    return seconds;
}

/* ---- one case ------------------------------------------------------------------------------- */

struct timing {
    double call, limit; /* seconds, the best seen; limit 0: none */
    double usual;       /* seconds of a call, mean of all */
    const char *other;  /* the library that is the limit, or NULL */
};

static double time_work(struct sl_call *c, sl_work_fn *work)
{
    double start = sl_now();
    if (work)
        sl_team_run(&c->team, c->items, c->grain, work, c);
    else
        c->run(c);
    c->number++;
    return sl_now() - start;
}

static double least(double best, double seconds)
{
    return best > 0 && best < seconds ? best : seconds;
}

/* Batches of calls and of limits in turn, for SECONDS and until more than noise is left of a call;
 * a batch counts by its mean. */
static struct timing time_case(struct sl_call *c, const struct sl_peaks *peaks, double seconds)
{
    double end = sl_now() + seconds, first = time_work(c, c->work);
    size_t batch = (size_t)(batch_seconds / (first + 1e-9)) + 1;
    struct timing best = {.call = first};
    double sum = 0, without = 0;
    size_t batches = 0;
    do {
        double call = 0, limit = 0, rest = 0;
        for (size_t i = 0; i < batch; i++)
            call += time_work(c, c->work);
        for (size_t i = 0; c->without && i < batch; i++)
            rest += time_work(c, c->without);
        for (size_t i = 0; peaks && i < batch; i++)
            limit += time_limit(c, peaks, i);
        best.call = least(best.call, call / (double)batch);
        without = least(without, rest / (double)batch);
        best.limit = least(best.limit, limit / (double)batch);
        sum += call;
        batches++;
    } while (sl_now() < end || best.call <= without);
    best.call -= without;
    best.usual = sum / (double)(batch * batches);
    return best;
}

static struct sl_call make_call(const struct sl_kernel_case *k, const struct sl_ops *ops,
                                struct sl_team team, size_t shrink)
{
    return (struct sl_call){
        .detail = k->detail,
        .ops = ops,
        .team = team,
        .n = k->n,
        .shrink = shrink,
        .grain = 1,
        .parts = 1,
    };
}

struct measurement {
    const struct sl_rung *rung;
    struct sl_team team;
    double seconds;
    size_t shrink;
    bool limits;
};

/* Makes *CALL of case K, ready to be timed; the caller frees the arena. */
static int lay_case(const struct measurement *m, const struct sl_kernel_case *k,
                    struct sl_call *call, struct sl_arena *arena, struct sluice_err *err)
{
    *call = make_call(k, m->rung->ops, m->team, m->shrink);
    k->lay(call, arena);
    int status = sl_arena_allocate(arena, "data for kernels", err);
    if (status < 0)
        return status;
    k->lay(call, arena);
    k->fill(call);
    return 0;
}

/* The call's matrix product by oneDNN, or NULL.  Any bytes are weights to it: those of the set,
 * which has several matrices. */
static struct sl_packed_product *pack_case(const struct sl_call *c)
{
    const struct sl_matrix_data *m = &c->matrix;
    return sl_packed_open(&c->team, (const int8_t *)m->bytes, c->rows, c->cols, m->q, c->n,
                          (int32_t *)m->y);
}

/* Times case K.  *CALL keeps its shape and amount; its data are gone. */
static int measure_case(const struct measurement *m, const struct sl_kernel_case *k,
                        struct sl_call *call, struct timing *timing, struct sluice_err *err)
{
    struct sl_arena arena = {0};
    int status = lay_case(m, k, call, &arena, err);
    if (status == 0) {
        if (m->limits && call->rows > 0)
            call->packed = pack_case(call);
        *timing = time_case(call, m->limits ? m->rung->peaks : NULL, m->seconds);
        timing->other = call->packed ? sl_packed_name() : NULL;
        sl_packed_close(call->packed);
    }
    sl_arena_free(&arena);
    return status;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static const struct sl_kernel_case *case_at(size_t i)
{
    static const struct sl_kernel_case *const tables[] = {
        sl_matrix_cases, sl_index_cases, sl_attention_cases, sl_vector_cases, sl_quantize_cases};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct sl_kernel_case *k = tables[t]; k->kernel; k++)
            if (i-- == 0)
                return k;
    return NULL;
}

/* The rung whose code runs for KERNEL: that of the slot which its first word names, or RUNG. */
static const char *rung_of(const struct sl_rung *rung, const char *kernel)
{
    const char *name, *source;
    for (size_t i = 0; (name = sl_kernel_name(rung->ops, i, &source)) != NULL; i++)
        if (strcspn(kernel, " ") == strlen(name) && strncmp(kernel, name, strlen(name)) == 0)
            return source;
    return rung->name;
}

static int give_row(const struct measurement *m, const struct sl_kernel_case *k,
                    sl_kernel_row_fn *row, void *user, struct sluice_err *err)
{
    struct sl_call call;
    struct timing t;
    int status = measure_case(m, k, &call, &t, err);
    if (status < 0)
        return status;
    struct sl_kernel_row out = {
        .kernel = k->kernel,
        .rung = rung_of(m->rung, k->kernel),
        .shape = call.shape,
        .ms = 1e3 * t.call,
        .rate = call.amount / t.call * 1e-9,
        .unit = k->unit,
        .limit = t.limit > 0 ? call.amount / t.limit * 1e-9 : 0,
        .limit_by = t.limit <= 0 ? NULL
                    : t.other    ? t.other
                                 : "loop",
    };
    if (t.limit > 0)
        out.fraction = call.producer ? t.call / t.limit : t.limit / t.call;
    return row(user, &out, err);
}

int sl_measure_kernel_rows(const struct sl_kernel_options *options, sl_kernel_row_fn *row,
                           void *user, struct sluice_err *err)
{
    const struct sl_kernel_case *k;
    struct measurement m = {
        .rung = sl_rung_chosen(err),
        .team = sl_team_make(options->threads),
        .seconds = options->seconds,
        .shrink = options->shrink,
        .limits = true,
    };
    int status = m.rung ? 0 : SLUICE_EARG;
    for (size_t i = 0; status == 0 && (k = case_at(i)) != NULL; i++)
        status = give_row(&m, k, row, user, err);
    return status;
}

/* ---- what a machine can do ------------------------------------------------------------------ */

/* The rates of struct sl_machine. */
static const struct {
    const char *kernel;
    size_t n, offset;
} machine_rates[] = {
    {"gemm lut4 g32", 1, offsetof(struct sl_machine, lut4_vector)},
    {"gemm int8 g128", 1, offsetof(struct sl_machine, int8_vector)},
    {"gemm lut4 g32", 64, offsetof(struct sl_machine, lut4_block)},
    {"gemm int8 g128", 64, offsetof(struct sl_machine, int8_block)},
    {"gemm f32", 64, offsetof(struct sl_machine, f32_block)},
    {"index_score int8", 1, offsetof(struct sl_machine, index_score)},
    {"topk", 1, offsetof(struct sl_machine, topk)},
    {"attend int8", 1, offsetof(struct sl_machine, attend)},
    {"attend int8", 32, offsetof(struct sl_machine, attend_block)},
};

static const struct sl_kernel_case *find_case(const char *kernel, size_t n)
{
    const struct sl_kernel_case *k;
    for (size_t i = 0; (k = case_at(i)) != NULL; i++)
        if (k->n == n && strcmp(k->kernel, kernel) == 0)
            break;
    return k;
}

/* Multiply-adds per second with 2 … SL_FEW + 1 vectors, on the data of a case with that many. */
static int measure_few(const struct measurement *how, const char *kernel, double rates[SL_FEW],
                       struct sluice_err *err)
{
    struct sl_arena arena = {0};
    struct sl_call call;
    int status = lay_case(how, find_case(kernel, SL_FEW + 1), &call, &arena, err);
    double amount = call.amount / (double)call.n; /* of one vector */
    for (size_t n = 2; status == 0 && n <= SL_FEW + 1; n++) {
        call.n = n;
        rates[n - 2] = (double)n * amount / time_case(&call, NULL, how->seconds / 2).usual;
    }
    sl_arena_free(&arena);
    return status;
}

int sl_measure_kernels(struct sl_machine *m, unsigned threads, struct sluice_err *err)
{
    struct measurement how = {
        .rung = sl_rung_chosen(err),
        .team = sl_team_make(threads),
        .seconds = 0.2,
        .shrink = 1,
    };
    if (!how.rung)
        return SLUICE_EARG;
    snprintf(m->rung, sizeof m->rung, "%s", how.rung->name);
    m->threads = how.team.threads;
    int status = sl_read_bandwidth(1, &m->memory_one, err);
    if (status == 0)
        status = sl_read_bandwidth(how.team.threads, &m->memory_all, err);
    for (size_t i = 0; status == 0 && i < sizeof machine_rates / sizeof *machine_rates; i++) {
        const struct sl_kernel_case *k = find_case(machine_rates[i].kernel, machine_rates[i].n);
        struct sl_call call;
        struct timing t = {0};
        status = measure_case(&how, k, &call, &t, err);
        if (status == 0)
            *(double *)(void *)((char *)m + machine_rates[i].offset) = call.amount / t.usual;
    }
    if (status == 0)
        status = measure_few(&how, "gemm lut4 g32", m->lut4_few, err);
    return status < 0 ? status : measure_few(&how, "gemm int8 g128", m->int8_few, err);
}
