/* SPDX-License-Identifier: MIT */
/* What caches of experts would have held while a trace was made. */
#ifndef SL_TOOLS_SIMULATE_H
#define SL_TOOLS_SIMULATE_H

#include "tools/replay/choices.h"

enum sl_replay_policy {
    SL_REPLAY_LRU,
    SL_REPLAY_LFU,
    SL_REPLAY_SLUICE, /* what the runtime does */
    SL_REPLAY_BOUND,  /* the most that any cache can find, which knows what will be needed (Belady):
                       * of prompts and of answers apart */
    SL_REPLAY_POLICIES
};
extern const char *const sl_replay_names[];

/* Experts that passes needed, each once per pass and layer. */
struct sl_replay_count {
    uint64_t wanted;
    uint64_t held; /* of them, when they were wanted */
};

/*
 * Goes through LAYER with SLOTS slots, empty at first, and adds to count[2], of prompts and of
 * answers.  Generated tokens put every expert that they need into a slot; prompts go past the slots
 * and leave behind what deserves one.
 */
int sl_replay(struct sl_replay_count count[2], const struct sl_choices *c, uint32_t layer,
              enum sl_replay_policy policy, uint32_t slots, struct sluice_err *err);

#endif
