/* SPDX-License-Identifier: MIT */
/*
 * The multi-token-prediction layer (DeepSeek-V3, section "MTP"): u_i = W [norm(embed(x_{i+1}));
 * norm(h_i)], one transformer layer with caches of its own, logits for x_{i+2}.  h_i is the main
 * model's hidden state after the final norm; the rotation position is i.
 */
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/session.h"

/* Builds the layer's input rows for positions [first, first + n). */
static void prepare(sluice_session *s, const struct sl_layer_weights *w, size_t position,
                    size_t first, size_t n)
{
    const struct sl_config *c = &s->engine->weights->config;
    const struct sl_ops *ops = s->ws.compute.ops;
    for (size_t i = 0; i < n; i++) {
        size_t at = first + i;
        float *row = s->mtp_input + i * 2 * c->hidden;
        const float *h = at < position ? s->mtp_last : s->final + (at - position) * c->hidden;
        sl_embed(s->engine->weights, ops, s->tokens[at + 1], row);
        ops->rmsnorm(row, w->vector[SL_MTP_EMBED_NORM], c->rms_eps, c->hidden, row);
        ops->rmsnorm(h, w->vector[SL_MTP_HIDDEN_NORM], c->rms_eps, c->hidden, row + c->hidden);
        sl_codes_put(&s->mtp_codes, ops, i, 0, row, 2 * c->hidden);
    }
    const struct sl_matrix *proj = &w->matrix[SL_MTP_PROJ];
    struct sl_product product = {
        .w = proj,
        .x = sl_acts_for(proj, &s->mtp_codes, s->mtp_input, 2 * c->hidden),
        .n = n,
        .y = s->mtp_hidden,
        .ldy = c->hidden,
    };
    sl_multiply(&s->ws.compute, &product, 1);
}

int sl_mtp_run(sluice_session *s, size_t position, size_t n,
               const struct sluice_sync_callbacks *callbacks, struct sluice_err *err)
{
    const struct sl_config *c = &s->engine->weights->config;
    const struct sl_layer_weights *w = &s->engine->weights->layers[c->layers];
    size_t before = s->mtp_length;
    size_t end = position + n - 1; /* position end needs a token that is not known yet */
    int status = 0;
    while (status == 0 && s->mtp_length < end) {
        size_t first = s->mtp_length, count = sl_min(end - first, s->chunk);
        prepare(s, w, position, first, count);
        sl_attention_begin(&s->ws.attention, first, count);
        status = sl_layer_run(&s->ws, w, &s->caches[c->layers], c->layers, first, count,
                              s->mtp_hidden, err);
        s->mtp_length += count;
        if (status == 0 && callbacks && callbacks->draft) {
            sl_norm_rows(&s->ws, s->mtp_hidden, w->vector[SL_MTP_FINAL_NORM], count, s->mtp_hidden);
            status = sl_head_show(s, s->mtp_hidden, first, count, callbacks->draft,
                                  callbacks->user);
        }
    }
    if (status == 0)
        memcpy(s->mtp_last, s->final + (n - 1) * c->hidden, c->hidden * sizeof *s->mtp_last);
    else
        s->mtp_length = before; /* the tokens behind it may never become part of the session */
    return status;
}
