/* SPDX-License-Identifier: MIT */
/*
 * One matrix of the checkpoint → one packed matrix, in batches of stripes: a stripe is the source
 * rows that whole panels are made of.  Threads share the panels of a batch; sums are added in the
 * order of panels, so nothing depends on the number of threads.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"

enum {
    BATCH_BYTES = 4 << 20,      /* of the source: some 100 ms of one core's work */
    BATCH_BYTES_MAX = 64 << 20, /* however many threads there are */
    BATCH_PANELS = 4,           /* per thread, at least */
};

struct matrix_job {
    struct sl_conversion *c;
    enum sl_source source;
    struct sl_packing packing;
    unsigned n_inputs;
    struct sl_input input[2]; /* the tensor, or gate and up */
    size_t stripes;
    size_t panels;       /* per stripe */
    size_t rows;         /* source rows per stripe and input; the last one may be short */
    size_t step, first;  /* stripe s begins at source row first + s · step */
    size_t stripe_bytes; /* of all inputs */
    size_t panel_bytes;
    size_t thread_scratch;
    size_t begin; /* first stripe of the batch */
    uint8_t *out; /* panels of the batch */
};

/* What packing a panel left; in struct sl_conversion.results. */
struct panel_result {
    struct sl_error error;
    bool bad; /* a weight is not finite */
};

static void set_stripes(struct matrix_job *job)
{
    const struct sl_config *config = &job->c->config;
    size_t head = (size_t)config->nope + config->v_dim;
    job->rows = job->step = SL_PANEL;
    job->stripes = sl_ceil_div(job->input[0].rows, SL_PANEL);
    job->panels = job->n_inputs;
    if (job->source == SL_FROM_KV_K || job->source == SL_FROM_KV_V) {
        bool keys = job->source == SL_FROM_KV_K;
        job->stripes = config->heads;
        job->step = head;
        job->rows = keys ? config->nope : config->v_dim;
        job->first = keys ? 0 : config->nope;
        job->panels = sl_panel_count(&job->packing);
    }
    job->stripe_bytes = job->n_inputs * job->rows * job->input[0].row_bytes;
    /* gate and up may differ in type: room for the wider one */
    if (job->n_inputs == 2)
        job->stripe_bytes = 2 * job->rows *
                            sl_max(job->input[0].row_bytes, job->input[1].row_bytes);
}

/* Where the rows of INPUT begin in a stripe at RAW. */
static uint8_t *input_rows(const struct matrix_job *job, uint8_t *raw, unsigned input)
{
    return raw + input * (job->stripe_bytes / job->n_inputs);
}

static size_t stripe_rows(const struct matrix_job *job, size_t stripe)
{
    return sl_min(job->rows, job->input[0].rows - (job->first + stripe * job->step));
}

static int read_batch(struct matrix_job *job, size_t n, uint64_t *bytes, struct sluice_err *err)
{
    *bytes = 0;
    for (size_t s = 0; s < n; s++) {
        uint8_t *raw = job->c->raw.data + s * job->stripe_bytes;
        size_t rows = stripe_rows(job, job->begin + s);
        for (unsigned i = 0; i < job->n_inputs; i++) {
            int status = sl_input_read(&job->input[i], job->first + (job->begin + s) * job->step,
                                       rows, input_rows(job, raw, i), err);
            if (status < 0)
                return status;
            *bytes += rows * job->input[i].row_bytes;
        }
    }
    return 0;
}

/* ---- decoding: x[16][cols] of a panel; returns its rows -------------------------------------- */

/* Panel J of a stripe that is copied row by row. */
static size_t decode_rows(const struct matrix_job *job, size_t stripe, size_t j, uint8_t *raw,
                          float *x, bool *ok)
{
    bool heads = job->source == SL_FROM_KV_V;
    const struct sl_input *in = &job->input[heads ? 0 : j];
    size_t skip = heads ? j * SL_PANEL : 0;
    size_t rows = sl_min(SL_PANEL, stripe_rows(job, stripe) - skip);
    const uint8_t *row = input_rows(job, raw, heads ? 0 : (unsigned)j) + skip * in->row_bytes;
    for (size_t r = 0; r < rows; r++)
        *ok &= sl_input_decode(in, job->c->fitting.ops, row + r * in->row_bytes,
                               job->first + stripe * job->step + skip + r, 0, in->cols,
                               x + r * in->cols);
    return rows;
}

/* Panel J of a head's key rows transposed: columns 16·j … of the source become rows. */
static size_t decode_transposed(const struct matrix_job *job, size_t stripe, size_t j,
                                const uint8_t *raw, float *x, bool *ok)
{
    const struct sl_input *in = &job->input[0];
    size_t col = j * SL_PANEL, rows = sl_min(SL_PANEL, in->cols - col);
    for (size_t k = 0; k < job->rows; k++) {
        float part[SL_PANEL];
        *ok &= sl_input_decode(in, job->c->fitting.ops, raw + k * in->row_bytes,
                               job->first + stripe * job->step + k, col, rows, part);
        for (size_t r = 0; r < rows; r++)
            x[r * job->rows + k] = part[r];
    }
    return rows;
}

static void pack_panels(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct matrix_job *job = arg;
    struct sl_conversion *c = job->c;
    uint8_t *scratch = c->scratch.data + thread * job->thread_scratch;
    float *x = (float *)(void *)(scratch + sl_pack_scratch(&job->packing));
    for (size_t i = begin; i < end; i++) {
        struct panel_result *result = (struct panel_result *)(void *)c->results.data + i;
        size_t s = i / job->panels, j = i % job->panels;
        uint8_t *raw = c->raw.data + s * job->stripe_bytes;
        bool ok = true;
        size_t rows = job->source == SL_FROM_KV_K
                          ? decode_transposed(job, job->begin + s, j, raw, x, &ok)
                          : decode_rows(job, job->begin + s, j, raw, x, &ok);
        result->bad = !ok;
        if (ok)
            sl_pack_panel(&c->fitting, &job->packing, x, rows, job->out + i * job->panel_bytes,
                          scratch, &result->error);
    }
}

/* ---- the job --------------------------------------------------------------------------------- */

/* The error of the first bad weight in a batch of N stripes. */
static int explain_batch(struct matrix_job *job, size_t n, struct sluice_err *err)
{
    for (size_t s = 0; s < n; s++)
        for (unsigned i = 0; i < job->n_inputs; i++) {
            const struct sl_input *in = &job->input[i];
            const uint8_t *raw = input_rows(job, job->c->raw.data + s * job->stripe_bytes, i);
            for (size_t r = 0; r < stripe_rows(job, job->begin + s); r++) {
                int status = sl_input_explain(in, job->c->fitting.ops, raw + r * in->row_bytes,
                                              job->first + (job->begin + s) * job->step + r, err);
                if (status < 0)
                    return status;
            }
        }
    return sl_fail(err, SLUICE_EFORMAT, "%s: %s changed while it was read", job->input[0].st->path,
                   job->input[0].name);
}

static int sum_results(struct matrix_job *job, size_t stripes, struct sl_error *sum,
                       struct sluice_err *err)
{
    const struct panel_result *result = (const void *)job->c->results.data;
    for (size_t i = 0; i < stripes * job->panels; i++) {
        if (result[i].bad)
            return explain_batch(job, stripes, err);
        sl_error_add(sum, &result[i].error);
    }
    return 0;
}

static size_t batch_stripes(const struct matrix_job *job)
{
    size_t panel = job->stripe_bytes / job->panels;
    size_t bytes = sl_max(BATCH_BYTES, job->c->team.threads * BATCH_PANELS * panel);
    return sl_max(1, sl_min(bytes, BATCH_BYTES_MAX) / job->stripe_bytes);
}

static int reserve_buffers(struct matrix_job *job, size_t batch, bool own_output,
                           struct sluice_err *err)
{
    struct sl_conversion *c = job->c;
    size_t panels = batch * job->panels;
    job->panel_bytes = sl_panel_bytes(&job->packing);
    job->thread_scratch = sl_round_up(
        sl_pack_scratch(&job->packing) + SL_PANEL * job->packing.cols * sizeof(float), 64);
    int status = sl_buffer_reserve(&c->raw, batch * job->stripe_bytes, err);
    if (status == 0)
        status = sl_buffer_reserve(&c->scratch, c->team.threads * job->thread_scratch, err);
    if (status == 0)
        status = sl_buffer_reserve(&c->results, panels * sizeof(struct panel_result), err);
    if (status == 0 && !own_output)
        status = sl_buffer_reserve(&c->packed, panels * job->panel_bytes, err);
    return status;
}

static int convert_batch(struct matrix_job *job, size_t n, struct sl_writer *writer, uint8_t *out,
                         struct sl_error *error, struct sluice_err *err)
{
    struct sl_conversion *c = job->c;
    uint64_t bytes;
    int status = read_batch(job, n, &bytes, err);
    if (status < 0)
        return status;
    job->out = out ? out + job->begin * job->panels * job->panel_bytes : c->packed.data;
    sl_team_run(&c->team, n * job->panels, 1, pack_panels, job);
    status = sum_results(job, n, error, err);
    if (status == 0 && !out)
        status = sl_writer_append(writer, job->out, n * job->panels * job->panel_bytes, err);
    return status < 0 ? status : sl_conversion_progress(c, bytes, err);
}

static int open_inputs(struct matrix_job *job, enum sl_role role, uint32_t layer, uint32_t expert,
                       struct sluice_err *err)
{
    int status = 0;
    job->n_inputs = sl_tensor_rules()[role].second ? 2 : 1;
    for (unsigned i = 0; status == 0 && i < job->n_inputs; i++)
        status = sl_input_open(&job->input[i], job->c->checkpoint, &job->c->config, role, i, layer,
                               expert, err);
    return status;
}

static void close_inputs(struct matrix_job *job)
{
    sl_input_close(&job->input[0]);
    sl_input_close(&job->input[1]);
}

/* `reference` promised to lose nothing. */
static int check_lossless(const struct matrix_job *job, const struct sl_error *e,
                          struct sluice_err *err)
{
    if (sl_is_integer(job->packing.code) || e->max == 0)
        return 0;
    return sl_fail(err, SLUICE_EUNSUPPORTED,
                   "%s: %s is not exact in BF16 though its scales are "
                   "powers of two",
                   job->input[0].st->path, job->input[0].name);
}

int sl_convert_matrix(struct sl_conversion *c, enum sl_role role, uint32_t layer, uint32_t expert,
                      const struct sl_packing *packing, struct sl_writer *writer, uint8_t *out,
                      struct sl_error *error, struct sluice_err *err)
{
    struct matrix_job job = {
        .c = c,
        .source = sl_tensor_rules()[role].source,
        .packing = *packing,
    };
    *error = (struct sl_error){0};
    int status = open_inputs(&job, role, layer, expert, err);
    if (status < 0)
        goto done;
    set_stripes(&job);
    size_t batch = sl_min(batch_stripes(&job), job.stripes);
    status = reserve_buffers(&job, batch, out != NULL, err);
    for (; status == 0 && job.begin < job.stripes; job.begin += batch)
        status = convert_batch(&job, sl_min(batch, job.stripes - job.begin), writer, out, error,
                               err);
    if (status == 0 && !isfinite(error->error))
        status = sl_fail(err, SLUICE_EFORMAT, "%s: %s has weights too large to quantise",
                         job.input[0].st->path, job.input[0].name);
    if (status == 0)
        status = check_lossless(&job, error, err);
done:
    close_inputs(&job);
    return status;
}

int sl_matrix_fits_bf16(const struct sl_conversion *c, enum sl_role role, uint32_t layer,
                        uint32_t expert, bool *exact, struct sluice_err *err)
{
    struct matrix_job job = {.c = (struct sl_conversion *)(uintptr_t)c};
    int status = open_inputs(&job, role, layer, expert, err);
    *exact = status == 0;
    for (unsigned i = 0; *exact && i < job.n_inputs; i++)
        *exact = sl_input_fits_bf16(&job.input[i]);
    close_inputs(&job);
    return status;
}
