/* SPDX-License-Identifier: MIT */
/*
 * The multi-token-prediction layer (DeepSeek-V3, section "MTP"): u_i = W [norm(embed(x_{i+1}));
 * norm(h_i)], one transformer layer with caches of its own, logits for x_{i+2}.  h_i is the main
 * model's hidden state after the final norm; the rotation position is i.
 */
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/session/session.h"

/* Input I of the projection: ROW, the main model's residual stream, and the TOKEN after it. */
static void combine(sluice_session *s, const struct sl_layer_weights *w, size_t i, int32_t token,
                    const float *row)
{
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
static void project(sluice_session *s, const struct sl_layer_weights *w, size_t n, float *rows)
{
    const struct sl_config *c = &s->engine->weights->config;
    const struct sl_matrix *proj = &w->matrix[SL_MTP_PROJ];
    struct sl_product product = {
        .w = proj,
        .x = sl_acts_for(proj, &s->mtp_codes, s->mtp_input, 2 * c->hidden),
        .n = n,
        .y = rows,
        .ldy = c->hidden,
    };
    sl_multiply(&s->ws.compute, &product, 1);
}

/* ROWS[n], the main model's residual stream at positions [first, first + n), become the layer's. */
static void prepare(sluice_session *s, const struct sl_layer_weights *w, size_t first, size_t n,
                    float *rows)
{
    size_t hidden = s->engine->weights->config.hidden;
    for (size_t i = 0; i < n; i++)
        combine(s, w, i, s->tokens[first + i + 1], rows + i * hidden);
    project(s, w, n, rows);
}

static int show_drafts(sluice_session *s, const struct sl_layer_weights *w, size_t first, size_t n,
                       float *rows, const struct sluice_sync_callbacks *callbacks)
{
    size_t hidden = s->engine->weights->config.hidden;
    int status = 0;
    for (size_t t = 0; status == 0 && t < n; t += s->chunk) {
        size_t count = sl_min(s->chunk, n - t);
        float *x = rows + t * hidden;
        sl_norm_rows(&s->ws, x, w->vector[SL_MTP_FINAL_NORM], count, x);
        status = sl_head_show(s, x, first + t, count, callbacks->draft, callbacks->user);
    }
    return status;
}

/* ROWS, the main model's residual stream at positions [first, first + n), becomes the layer's.
 * Token first + n must be known. */
static int run_rows(sluice_session *s, size_t first, size_t n, float *rows, struct sluice_err *err)
{
    const struct sl_config *c = &s->engine->weights->config;
    const struct sl_layer_weights *w = &s->engine->weights->layers[c->layers];
    for (size_t t = 0; t < n; t += s->chunk)
        prepare(s, w, first + t, sl_min(s->chunk, n - t), rows + t * c->hidden);
    s->ws.next = NULL;
    return sl_layer_run(&s->ws, w, &s->caches[c->layers], c->layers, first, n, rows, err);
}

/* The residual streams of both models have one place: position i of the MTP layer takes that of
 * token i of the main model. */
int sl_mtp_run(sluice_session *s, size_t position, size_t n,
               const struct sluice_sync_callbacks *callbacks, struct sluice_err *err)
{
    const struct sl_config *c = &s->engine->weights->config;
    const struct sl_layer_weights *w = &s->engine->weights->layers[c->layers];
    size_t first = s->mtp_length;  /* position, or the one before it */
    size_t end = position + n - 1; /* this position needs a token that is not known yet */
    float *before = s->hidden - c->hidden, *rows = first < position ? before : s->hidden;
    int status = 0;
    memcpy(before, s->mtp_last, c->hidden * sizeof *before);
    if (first < end)
        status = run_rows(s, first, end - first, rows, err);
    if (status == 0 && first < end && callbacks && callbacks->draft)
        status = show_drafts(s, w, first, end - first, rows, callbacks);
    if (status == 0) {
        memcpy(s->mtp_last, s->hidden + (n - 1) * c->hidden, c->hidden * sizeof *s->mtp_last);
        s->mtp_length = end;
    }
    return status;
}

int sl_mtp_step(sluice_session *lead, sluice_session *const *sessions, const int32_t *tokens,
                size_t n, struct sluice_err *err)
{
    const struct sl_config *c = &lead->engine->weights->config;
    const struct sl_layer_weights *w = &lead->engine->weights->layers[c->layers];
    struct sl_place place[SLUICE_BATCH_MAX];
    size_t rows = 0;
    for (size_t i = 0; i < n; i++) {
        sluice_session *s = sessions[i];
        if (s->mtp_length == s->length)
            continue;
        combine(lead, w, rows, tokens[i], s->mtp_last);
        place[rows++] = (struct sl_place){&s->caches[c->layers], s->mtp_length, &s->owner};
    }
    if (rows == 0)
        return 0;
    project(lead, w, rows, lead->hidden);
    lead->ws.next = NULL; /* a pass that was stopped has left it */
    return sl_layer_run_at(&lead->ws, w, &(struct sl_places){.each = place}, c->layers, rows,
                           lead->hidden, err);
}

int sl_mtp_draft(sluice_session *s, float *logits, struct sluice_err *err)
{
    const struct sl_config *c = &s->engine->weights->config;
    const struct sl_layer_weights *w = &s->engine->weights->layers[c->layers];
    float *row = s->hidden - c->hidden;
    memcpy(row, s->mtp_last, c->hidden * sizeof *row);
    int status = run_rows(s, s->length - 1, 1, row, err);
    if (status < 0)
        return status;
    sl_norm_rows(&s->ws, row, w->vector[SL_MTP_FINAL_NORM], 1, row);
    sl_head_row(s, row, logits);
    return 0;
}
