/* SPDX-License-Identifier: MIT */
/*
 * slots.h: which routed experts are kept in memory.  Pure bookkeeping: no blocks, no reads, no
 * allocation after opening, and nothing that depends on time or addresses.  Every layer has the
 * same number of slots.  Layers count from 0 at the first one with experts.
 */
#ifndef SL_SLOTS_H
#define SL_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/sluice.h"

/*
 * What makes an expert worth keeping.  SLUICE: a use is worth 5 at first; 4 of them halve every 16
 * tokens, the fifth every 256 (docs/replay.md has how that was chosen).  The others are for replay.
 */
enum sl_slot_policy {
    SL_POLICY_SLUICE,
    SL_POLICY_LRU, /* how lately it was used */
    SL_POLICY_LFU, /* how often it was ever used */
};

struct sl_slots_opts {
    uint32_t layers, experts; /* experts: of the layer that has most */
    uint32_t slots;           /* per layer; at most `experts` are of use */
    enum sl_slot_policy policy;
};

struct sl_slots;

int sl_slots_open(struct sl_slots **s, const struct sl_slots_opts *opts, struct sluice_err *err);
void sl_slots_close(struct sl_slots **s);

/* As opened. */
struct sl_slots_opts sl_slots_shape(const struct sl_slots *s);

/* ---- what is where -------------------------------------------------------------------------- */

/* The slot that holds EXPERT, or -1. */
int32_t sl_slots_find(const struct sl_slots *s, uint32_t layer, uint32_t expert);
/* The expert that SLOT holds, or -1: it is empty. */
int32_t sl_slots_expert(const struct sl_slots *s, uint32_t layer, int32_t slot);
/* How many slots of LAYER hold an expert. */
uint32_t sl_slots_held(const struct sl_slots *s, uint32_t layer);

/* SLOT holds EXPERT from now on, which no other slot does; what it held is forgotten.  Neither may
 * be pinned. */
void sl_slots_put(struct sl_slots *s, uint32_t layer, int32_t slot, uint32_t expert);
/* Empties SLOT, which is not pinned. */
void sl_slots_drop(struct sl_slots *s, uint32_t layer, int32_t slot);

/* A slot in use, or being read, is pinned, once for each who needs it, and stays. */
void sl_slots_pin(struct sl_slots *s, uint32_t layer, int32_t slot);
void sl_slots_unpin(struct sl_slots *s, uint32_t layer, int32_t slot);

/* ---- what is worth keeping ------------------------------------------------------------------ */

/* In a pass: tick, then in each layer all uses, then victims. */

/* A pass over the next TOKENS begins: older uses are worth less, and those that are told from now
 * on are taken to be spread evenly over these tokens. */
void sl_slots_tick(struct sl_slots *s, uint32_t tokens);
/* TIMES tokens of the pass chose EXPERT, held or not. */
void sl_slots_use(struct sl_slots *s, uint32_t layer, uint32_t expert, uint32_t times);

/* Where to put the next expert of LAYER: the lowest empty slot while fewer than the limit hold one,
 * else the slot that is worth least among the unpinned (ties: the lowest), else -1. */
int32_t sl_slots_victim(const struct sl_slots *s, uint32_t layer);

/* Whether EXPERT is one of the best of its layer, as many as the limit (ties: lower ids). */
bool sl_slots_deserves(const struct sl_slots *s, uint32_t layer, uint32_t expert);

/* The N best experts of LAYER, fewer when fewer are worth anything: ids[], ascending.  Returns
 * their number. */
uint32_t sl_slots_best(const struct sl_slots *s, uint32_t layer, uint32_t *ids, uint32_t n);

/* The lasting part of what EXPERT is worth, in uses: what a usage file keeps. */
double sl_slots_count(const struct sl_slots *s, uint32_t layer, uint32_t expert);
void sl_slots_set_count(struct sl_slots *s, uint32_t layer, uint32_t expert, double count);

/* ---- fewer slots ---------------------------------------------------------------------------- */

/*
 * From now on at most SLOTS (at least 1, at most those at opening) hold an expert in each layer:
 * the owner calls sl_slots_surplus() until it returns -1, and again after unpinning.
 */
void sl_slots_limit(struct sl_slots *s, uint32_t slots);
/* Empties the slot that is worth least of those beyond the limit and returns it, so that the owner
 * gives its memory back; -1: none that is not pinned. */
int32_t sl_slots_surplus(struct sl_slots *s, uint32_t layer);

#endif
