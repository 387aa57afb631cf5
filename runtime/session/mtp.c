/* SPDX-License-Identifier: MIT */
/*
 * The multi-token-prediction layer (DeepSeek-V3, section "MTP"): u_i = W [norm(embed(x_{i+1}));
 * norm(h_i)], one transformer layer with caches of its own, logits for x_{i+2}.  h_i is the main
 * model's hidden state after the final norm; the rotation position is i.
 *
 * What a position leaves in the caches depends on u_i alone, so that all but those that draft go no
 * further than that.  And they wait for each other: while nothing drafts the layer rests.
 */
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/session/session.h"

static const struct sl_layer_weights *weights_of(const sluice_session *s)
{
    const struct sl_weights *w = s->engine->weights;
    return &w->layers[w->config.layers];
}

/* Input I of the projection: ROW, the main model's residual stream, and the TOKEN after it. */
static void combine(sluice_session *s, size_t i, int32_t token, const float *row)
{
    const struct sl_layer_weights *w = weights_of(s);
    const struct sl_config *c = &s->engine->weights->config;
    const struct sl_ops *ops = s->ws.compute.ops;
    const float *final = s->engine->weights->head.vector[SL_FINAL_NORM];
    float *embed = s->mtp_input + i * 2 * c->hidden, *h = embed + c->hidden;
    sl_embed(s->engine->weights, ops, token, embed);
    ops->rmsnorm(embed, w->vector[SL_MTP_EMBED_NORM], c->rms_eps, c->hidden, embed);
    ops->rmsnorm(row, final, c->rms_eps, c->hidden, h);
    ops->rmsnorm(h, w->vector[SL_MTP_HIDDEN_NORM], c->rms_eps, c->hidden, h);
    sl_codes_put(&s->mtp_codes, ops, i, 0, embed, 2 * c->hidden);
}

/* rows[n][hidden] = the projection of inputs [0, n). */
static void project(sluice_session *s, size_t n, float *rows)
{
    const struct sl_config *c = &s->engine->weights->config;
    const struct sl_matrix *proj = &weights_of(s)->matrix[SL_MTP_PROJ];
    struct sl_product product = {
        .w = proj,
        .x = sl_acts_for(proj, &s->mtp_codes, s->mtp_input, 2 * c->hidden),
        .n = n,
        .y = rows,
        .ldy = c->hidden,
    };
    sl_multiply(&s->ws.compute, &product, 1);
}

static int show_drafts(sluice_session *s, size_t first, size_t n, float *rows,
                       const struct sluice_sync_callbacks *callbacks)
{
    const struct sl_config *c = &s->engine->weights->config;
    const float *norm = weights_of(s)->vector[SL_MTP_FINAL_NORM];
    int status = 0;
    for (size_t t = 0; status == 0 && t < n; t += s->chunk) {
        size_t count = sl_min(s->chunk, n - t);
        float *x = rows + t * c->hidden;
        sl_norm_rows(&s->ws, x, norm, count, x);
        status = sl_head_show(s, x, first + t, count, callbacks->draft, callbacks->user);
    }
    return status;
}

/* ROWS, the main model's residual stream at positions [first, first + n), becomes the layer's
 * input.  Token first + n must be known. */
static void enter_rows(sluice_session *s, size_t first, size_t n, float *rows)
{
    size_t hidden = s->engine->weights->config.hidden;
    for (size_t t = 0; t < n; t += s->chunk) {
        size_t count = sl_min(s->chunk, n - t);
        for (size_t i = 0; i < count; i++)
            combine(s, i, s->tokens[first + t + i + 1], rows + (t + i) * hidden);
        project(s, count, rows + t * hidden);
    }
}

/* … and then only caches. */
static void keep_rows(sluice_session *s, size_t first, size_t n, float *rows)
{
    enter_rows(s, first, n, rows);
    sl_layer_keep(&s->ws, weights_of(s), &s->caches[s->ws.config->layers], first, n, rows);
}

/* The same of a span. */
static int keep_span(sluice_session *s, size_t first, size_t n, float *rows, struct sluice_err *err)
{
    size_t hidden = s->engine->weights->config.hidden;
    for (size_t t = 0; t < n; t += s->chunk) {
        if (atomic_load(&s->cancelled))
            return sl_fail(err, SLUICE_ECANCELLED, "cancelled");
        keep_rows(s, first + t, sl_min(s->chunk, n - t), rows + t * hidden);
    }
    return 0;
}

/* … and the layer's output. */
static int run_rows(sluice_session *s, size_t first, size_t n, float *rows, struct sluice_err *err)
{
    uint32_t layer = s->ws.config->layers;
    enter_rows(s, first, n, rows);
    s->ws.next = NULL;
    return sl_layer_run(&s->ws, weights_of(s), &s->caches[layer], layer, first, n, rows, err);
}

static int run_and_show(sluice_session *s, size_t first, size_t n, float *rows,
                        const struct sluice_sync_callbacks *callbacks, struct sluice_err *err)
{
    int status = run_rows(s, first, n, rows, err);
    return status < 0 ? status : show_drafts(s, first, n, rows, callbacks);
}

static float *waiting_row(const sluice_session *s, size_t position)
{
    return s->mtp_rows + (position - s->mtp_length) * s->engine->weights->config.hidden;
}

/* Only token POSITION waits, with ROW. */
static void wait_from(sluice_session *s, size_t position, const float *row)
{
    memcpy(s->mtp_rows, row, s->engine->weights->config.hidden * sizeof *row);
    s->mtp_length = position;
}

void sl_mtp_catch_up(sluice_session *s)
{
    size_t n = s->has_mtp ? s->length - s->mtp_length : 0;
    if (n < 2)
        return;
    sl_meter_start(&s->meter);
    keep_rows(s, s->mtp_length, n - 1, s->mtp_rows);
    wait_from(s, s->length - 1, waiting_row(s, s->length - 1));
}

void sl_mtp_make_room(sluice_session *s)
{
    if (s->has_mtp && s->length - s->mtp_length == SL_MTP_ROWS)
        sl_mtp_catch_up(s);
}

void sl_mtp_add(sluice_session *s, const float *row)
{
    memcpy(waiting_row(s, s->length), row, s->engine->weights->config.hidden * sizeof *row);
}

/*
 * The residual streams of both models have one place: position i of the MTP layer takes that of
 * token i of the main model.
 */
int sl_mtp_follow(sluice_session *s, size_t position, size_t n,
                  const struct sluice_sync_callbacks *callbacks, struct sluice_err *err)
{
    size_t hidden = s->engine->weights->config.hidden, end = position + n - 1;
    bool show = callbacks && callbacks->draft;
    int status = 0;
    if (show || end - s->mtp_length >= SL_MTP_ROWS)
        sl_mtp_catch_up(s);
    if (!show && end - s->mtp_length < SL_MTP_ROWS) {
        memcpy(waiting_row(s, position), s->hidden, n * hidden * sizeof *s->hidden);
        return 0;
    }
    size_t first = s->mtp_length; /* position, or the one before it */
    float *before = s->hidden - hidden, *rows = first < position ? before : s->hidden;
    memcpy(before, s->mtp_rows, hidden * sizeof *before);
    if (first < end && show)
        status = run_and_show(s, first, end - first, rows, callbacks, err);
    else if (first < end)
        status = keep_span(s, first, end - first, rows, err);
    if (status == 0)
        wait_from(s, end, s->hidden + (n - 1) * hidden);
    return status;
}

int sl_mtp_draft(sluice_session *s, float *logits, struct sluice_err *err)
{
    size_t hidden = s->engine->weights->config.hidden;
    float *row = s->hidden - hidden;
    sl_mtp_catch_up(s);
    memcpy(row, s->mtp_rows, hidden * sizeof *row);
    int status = run_rows(s, s->length - 1, 1, row, err);
    if (status < 0)
        return status;
    sl_norm_rows(&s->ws, row, weights_of(s)->vector[SL_MTP_FINAL_NORM], 1, row);
    sl_head_row(s, row, logits);
    return 0;
}
