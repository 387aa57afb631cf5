/* SPDX-License-Identifier: MIT */
/* The output head: from final hidden states, already normed, to logits. */
#include "runtime/base/arith.h"
#include "runtime/session/session.h"

/* The INT8 form of final[0..n). */
static void encode_rows(sluice_session *s, const float *final, size_t n)
{
    size_t hidden = s->engine->weights->config.hidden;
    for (size_t t = 0; t < n; t++)
        sl_codes_put(&s->head_codes, s->ws.compute.ops, t, 0, final + t * hidden, hidden);
}

/* out[n][vocab] = logits of the encoded rows [first, first + n). */
static void multiply_rows(sluice_session *s, const float *final, size_t first, size_t n, float *out)
{
    const struct sl_matrix *head = &s->engine->weights->head.matrix[SL_HEAD];
    struct sl_acts x = sl_acts_for(head, &s->head_codes, final, s->engine->weights->config.hidden);
    struct sl_product product = {
        .w = head,
        .x = sl_acts_at(x, first * x.ld),
        .n = n,
        .y = out,
        .ldy = s->engine->weights->config.vocab,
    };
    sl_multiply(&s->ws.compute, &product, 1);
    sl_meter_lap(&s->meter, SLUICE_PART_HEAD);
}

void sl_head_row(sluice_session *s, const float *final, float *out)
{
    encode_rows(s, final, 1);
    multiply_rows(s, final, 0, 1, out);
}

int sl_head_show(sluice_session *s, const float *final, size_t position, size_t n, sl_show_fn *show,
                 void *user)
{
    size_t vocab = s->engine->weights->config.vocab;
    encode_rows(s, final, n);
    for (size_t i = 0; i < n; i += SL_LOGIT_ROWS) {
        size_t count = sl_min(SL_LOGIT_ROWS, n - i);
        multiply_rows(s, final, i, count, s->rows);
        for (size_t k = 0; k < count; k++)
            if (show(user, position + i + k, s->rows + k * vocab))
                return SLUICE_ECANCELLED;
    }
    return 0;
}
