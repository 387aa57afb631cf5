/* SPDX-License-Identifier: MIT */
#include "tools/replay/simulate.h"

#include "runtime/stream/slots.h"
#include "tools/replay/belady.h"

const char *const sl_replay_names[] = {"lru", "lfu", "sluice", "bound", NULL};

/* As the runtime does it in the token loop: all experts of a token stay until it is done. */
static void keep_all(struct sl_slots *s, const struct sl_use *uses, size_t n)
{
    int32_t slot;
    for (size_t i = 0; i < n; i++)
        if ((slot = sl_slots_find(s, 0, uses[i].expert)) >= 0)
            sl_slots_pin(s, 0, slot);
    for (size_t i = 0; i < n; i++)
        if (sl_slots_find(s, 0, uses[i].expert) < 0 && (slot = sl_slots_victim(s, 0)) >= 0) {
            sl_slots_put(s, 0, slot, uses[i].expert);
            sl_slots_pin(s, 0, slot);
        }
    for (size_t i = 0; i < n; i++)
        if ((slot = sl_slots_find(s, 0, uses[i].expert)) >= 0)
            sl_slots_unpin(s, 0, slot);
}

/* And after a layer of a prompt. */
static void keep_best(struct sl_slots *s, const struct sl_use *uses, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (sl_slots_find(s, 0, uses[i].expert) < 0 && sl_slots_deserves(s, 0, uses[i].expert))
            sl_slots_put(s, 0, sl_slots_victim(s, 0), uses[i].expert);
}

static void run_pass(struct sl_slots *s, const struct sl_pass *pass, const struct sl_use *uses,
                     struct sl_replay_count *count)
{
    sl_slots_tick(s, pass->tokens);
    for (size_t i = 0; i < pass->n; i++) {
        sl_slots_use(s, 0, uses[i].expert, uses[i].times);
        count->wanted++;
        count->held += sl_slots_find(s, 0, uses[i].expert) >= 0;
    }
    if (pass->decode)
        keep_all(s, uses, pass->n);
    else
        keep_best(s, uses, pass->n);
}

int sl_replay(struct sl_replay_count count[2], const struct sl_choices *c, uint32_t layer,
              enum sl_replay_policy policy, uint32_t slots, struct sluice_err *err)
{
    static const enum sl_slot_policy policies[] = {SL_POLICY_LRU, SL_POLICY_LFU, SL_POLICY_SLUICE};
    const struct sl_choice_layer *l = &c->layers[layer];
    struct sl_slots *s;
    if (policy == SL_REPLAY_BOUND) {
        int status = sl_belady(&count[0], c, layer, false, slots, err);
        return status < 0 ? status : sl_belady(&count[1], c, layer, true, slots, err);
    }
    const struct sl_slots_opts opts = {
        .layers = 1, .experts = c->model.experts, .slots = slots, .policy = policies[policy]};
    int status = sl_slots_open(&s, &opts, err);
    for (size_t p = 0; status == 0 && p < l->n_passes; p++)
        run_pass(s, &l->passes[p], l->uses + l->passes[p].first, &count[l->passes[p].decode]);
    sl_slots_close(&s);
    return status;
}
