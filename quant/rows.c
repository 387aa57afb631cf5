/* SPDX-License-Identifier: MIT */
/* What is stored row by row, without panels: the embedding, and vectors. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/conversion.h"
#include "runtime/base/arith.h"
#include "runtime/base/err.h"

enum {
    BATCH_BYTES = 4 << 20,
    ROWS_PER_ITEM = 16,
};

struct rows_job {
    struct sl_conversion *c;
    struct sl_input input;
    enum sl_dtype dtype;
    size_t begin; /* first row of the batch */
    size_t thread_scratch;
    float *scale; /* of the batch; INT8 only */
};

struct row_result {
    struct sl_error error;
    bool bad;
};

/* code = x · 127/max, rounded; scale = max/127. */
static float row_to_int8(const float *x, size_t n, int8_t *code)
{
    float max = 0;
    for (size_t i = 0; i < n; i++)
        max = fmaxf(max, fabsf(x[i]));
    float inverse = max < 0x1p-100f ? 0 : 127.0f / max;
    for (size_t i = 0; i < n; i++)
        code[i] = (int8_t)rintf(fmaxf(-127.0f, fminf(127.0f, x[i] * inverse)));
    return inverse > 0 ? max / 127.0f : 0;
}

static float row_value(enum sl_dtype dtype, const void *row, float scale, size_t i)
{
    if (dtype == SL_I8)
        return (float)((const int8_t *)row)[i] * scale;
    return dtype == SL_BF16 ? sl_from_bf16(((const uint16_t *)row)[i]) : ((const float *)row)[i];
}

static void store_row(struct rows_job *job, const float *x, void *out, float *scale,
                      struct sl_error *e)
{
    size_t n = job->input.cols;
    if (job->dtype == SL_I8)
        *scale = row_to_int8(x, n, out);
    else if (job->dtype == SL_F32)
        memcpy(out, x, n * sizeof *x);
    for (size_t i = 0; job->dtype == SL_BF16 && i < n; i++)
        ((uint16_t *)out)[i] = sl_to_bf16(x[i]);
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)row_value(job->dtype, out, *scale, i);
        e->error += d * d;
        e->square += (double)x[i] * (double)x[i];
        e->max = fabs(d) > e->max ? fabs(d) : e->max;
    }
}

static void convert_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct rows_job *job = arg;
    struct sl_conversion *c = job->c;
    float *x = (float *)(void *)(c->scratch.data + thread * job->thread_scratch);
    size_t out_bytes = job->input.cols * sl_dtype_bytes(job->dtype);
    for (size_t i = begin; i < end; i++) {
        struct row_result *result = (struct row_result *)(void *)c->results.data + i;
        *result = (struct row_result){0};
        result->bad = !sl_input_decode(&job->input, c->fitting.ops,
                                       c->raw.data + i * job->input.row_bytes, job->begin + i, 0,
                                       job->input.cols, x);
        if (!result->bad)
            store_row(job, x, c->packed.data + i * out_bytes, &job->scale[i], &result->error);
    }
}

static int convert_batch(struct rows_job *job, size_t n, struct sl_writer *writer,
                         struct sl_error *error, struct sluice_err *err)
{
    struct sl_conversion *c = job->c;
    int status = sl_input_read(&job->input, job->begin, n, c->raw.data, err);
    if (status < 0)
        return status;
    sl_team_run(&c->team, n, ROWS_PER_ITEM, convert_rows, job);
    for (size_t i = 0; i < n; i++) {
        const struct row_result *result = (const struct row_result *)(const void *)c->results.data;
        if (result[i].bad)
            return sl_input_explain(&job->input, c->fitting.ops,
                                    c->raw.data + i * job->input.row_bytes, job->begin + i, err);
        sl_error_add(error, &result[i].error);
    }
    status = sl_writer_append(writer, c->packed.data,
                              n * job->input.cols * sl_dtype_bytes(job->dtype), err);
    return status < 0 ? status : sl_conversion_progress(c, n * job->input.row_bytes, err);
}

static int reserve_buffers(struct rows_job *job, size_t batch, struct sluice_err *err)
{
    struct sl_conversion *c = job->c;
    job->thread_scratch = sl_round_up(job->input.cols * sizeof(float), 64);
    int status = sl_buffer_reserve(&c->raw, batch * job->input.row_bytes, err);
    if (status == 0)
        status = sl_buffer_reserve(&c->packed, batch * job->input.cols * sizeof(float), err);
    if (status == 0)
        status = sl_buffer_reserve(&c->scratch, c->team.threads * job->thread_scratch, err);
    if (status == 0)
        status = sl_buffer_reserve(&c->results, batch * sizeof(struct row_result), err);
    return status;
}

int sl_convert_embedding(struct sl_conversion *c, enum sl_dtype dtype, struct sl_writer *writer,
                         float *scales, struct sl_error *error, struct sluice_err *err)
{
    struct rows_job job = {.c = c, .dtype = dtype};
    *error = (struct sl_error){0};
    int status = sl_input_open(&job.input, c->checkpoint, &c->config, SL_EMBED, 0, 0, 0, err);
    size_t batch = sl_max(1, BATCH_BYTES / sl_max(1, job.input.row_bytes));
    if (status == 0)
        status = reserve_buffers(&job, batch, err);
    for (; status == 0 && job.begin < job.input.rows; job.begin += batch) {
        job.scale = scales + job.begin;
        status = convert_batch(&job, sl_min(batch, job.input.rows - job.begin), writer, error, err);
    }
    sl_input_close(&job.input);
    return status;
}

int sl_read_vector(struct sl_conversion *c, enum sl_role role, uint32_t layer, float *out,
                   struct sluice_err *err)
{
    struct sl_input in;
    int status = sl_input_open(&in, c->checkpoint, &c->config, role, 0, layer, 0, err);
    if (status == 0)
        status = sl_buffer_reserve(&c->raw, in.row_bytes, err);
    if (status == 0)
        status = sl_input_read(&in, 0, 1, c->raw.data, err);
    if (status == 0 && !sl_input_decode(&in, c->fitting.ops, c->raw.data, 0, 0, in.cols, out))
        status = sl_input_explain(&in, c->fitting.ops, c->raw.data, 0, err);
    if (status == 0)
        status = sl_conversion_progress(c, in.row_bytes, err);
    sl_input_close(&in);
    return status;
}

int sl_convert_vector(struct sl_conversion *c, enum sl_role role, uint32_t layer,
                      struct sl_writer *writer, struct sluice_err *err)
{
    size_t bytes = sl_checkpoint_shape_of(&c->config, role).cols * sizeof(float);
    int status = sl_buffer_reserve(&c->packed, bytes, err);
    if (status == 0)
        status = sl_read_vector(c, role, layer, (float *)(void *)c->packed.data, err);
    return status < 0 ? status : sl_writer_append(writer, c->packed.data, bytes, err);
}
