/* SPDX-License-Identifier: MIT */
/* The bound of all caches.  Private to tools/replay. */
#ifndef SL_TOOLS_BELADY_H
#define SL_TOOLS_BELADY_H

#include "tools/replay/simulate.h"

/*
 * Adds to *count the most that passes of prompts (or, with DECODE, generated tokens) of LAYER can
 * find in SLOTS slots.  The other passes only offer what they read.
 */
int sl_belady(struct sl_replay_count *count, const struct sl_choices *c, uint32_t layer,
              bool decode, uint32_t slots, struct sluice_err *err);

#endif
