/* SPDX-License-Identifier: MIT */
/*
 * Look-ahead: the next layer's router, applied to the residual stream that this layer's experts
 * have not been added to yet, names most of the experts that it will want.
 */
#include "runtime/base/clock.h"
#include "runtime/moe/moe_private.h"

void sl_guess_take(struct sl_moe *m, struct sl_arena *arena)
{
    const struct sl_config *c = m->config;
    m->guess_x = sl_arena_take(arena, c->hidden, sizeof(float));
    m->guess_logits = sl_arena_take(arena, c->experts, sizeof(float));
    m->guess_chosen = sl_arena_take(arena, c->experts_used, sizeof(uint32_t));
    m->guess_weight = sl_arena_take(arena, c->experts_used, sizeof(float));
}

void sl_moe_guess(struct sl_moe *m, unsigned layer)
{
    const struct sl_config *c = m->config;
    const struct sl_layer_weights *w = m->guess.next;
    if (!w || !w->matrix[SL_ROUTER].data || !sl_experts_guessing(m->experts))
        return;
    double begin = sl_now();
    m->compute->ops->rmsnorm(m->guess.hidden, w->vector[SL_FFN_NORM], c->rms_eps, c->hidden,
                             m->guess_x);
    struct sl_product product = {
        .w = &w->matrix[SL_ROUTER],
        .x = sl_acts_for(&w->matrix[SL_ROUTER], NULL, m->guess_x, c->hidden),
        .n = 1,
        .y = m->guess_logits,
        .ldy = c->experts,
    };
    sl_multiply(m->compute, &product, 1);
    sl_route_choose(c, m->compute->ops, m->guess_logits, w->vector[SL_ROUTER_BIAS],
                    m->route_scratch, (struct sl_route){m->guess_chosen, m->guess_weight});
    sl_experts_expect(m->experts, layer + 1, m->guess_chosen, c->experts_used, sl_now() - begin);
    sl_meter_lap(m->compute->meter, SLUICE_PART_ROUTER);
}
