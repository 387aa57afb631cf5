/* SPDX-License-Identifier: MIT */
/*
 * Which experts are kept.  A count halves with time by growing the worth of a use instead: `unit`
 * doubles every half-life, and everything is scaled down by a power of two, exactly, before it
 * overflows.
 */
#include "runtime/stream/slots.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"

enum { UNIT_DOUBLINGS = 64 }; /* `unit` stays below two to this */

struct sl_slots {
    struct sl_slots_opts opts;
    uint32_t limit;  /* slots that may hold an expert */
    uint64_t now;    /* tokens that went by */
    uint64_t base;   /* the token at which `unit` was 1 */
    double unit;     /* what one use adds to a count now */
    uint64_t uses;   /* calls of sl_slots_use() */
    double *count;   /* [layers][experts], in units of the token `base` */
    uint64_t *token; /* [layers][experts]: the last use; counted from 1, 0: never */
    uint64_t *order; /* [layers][experts]: the last use among all, the same */
    int32_t *slot;   /* [layers][experts], or -1 */
    int32_t *expert; /* [layers][slots], or -1 */
    uint32_t *pins;  /* [layers][slots] */
    uint32_t *held;  /* [layers] */
};

static size_t at_expert(const struct sl_slots *s, uint32_t layer, uint32_t expert)
{
    return (size_t)layer * s->opts.experts + expert;
}

static size_t at_slot(const struct sl_slots *s, uint32_t layer, int32_t slot)
{
    return (size_t)layer * s->opts.slots + (uint32_t)slot;
}

int sl_slots_open(struct sl_slots **out, const struct sl_slots_opts *opts, struct sluice_err *err)
{
    size_t experts, slots;
    struct sl_slots *s = *out = calloc(1, sizeof *s);
    if (!s || !sl_mul(opts->layers, opts->experts, &experts) ||
        !sl_mul(opts->layers, opts->slots, &slots))
        goto fail;
    s->opts = *opts;
    s->limit = opts->slots;
    s->unit = 1;
    s->count = calloc(experts, sizeof *s->count);
    s->token = calloc(experts, sizeof *s->token);
    s->order = calloc(experts, sizeof *s->order);
    s->slot = calloc(experts, sizeof *s->slot);
    s->expert = calloc(slots, sizeof *s->expert);
    s->pins = calloc(slots, sizeof *s->pins);
    s->held = calloc(opts->layers, sizeof *s->held);
    if (!s->count || !s->token || !s->order || !s->slot || !s->expert || !s->pins || !s->held)
        goto fail;
    for (size_t i = 0; i < experts; i++)
        s->slot[i] = -1;
    for (size_t i = 0; i < slots; i++)
        s->expert[i] = -1;
    return 0;
fail:
    sl_slots_close(out);
    return sl_fail(err, SLUICE_ENOMEM, "out of memory: %u slots for each of %u layers", opts->slots,
                   opts->layers);
}

void sl_slots_close(struct sl_slots **out)
{
    struct sl_slots *s = *out;
    if (!s)
        return;
    free(s->count);
    free(s->token);
    free(s->order);
    free(s->slot);
    free(s->expert);
    free(s->pins);
    free(s->held);
    free(s);
    *out = NULL;
}

/* ---- what is where -------------------------------------------------------------------------- */

int32_t sl_slots_find(const struct sl_slots *s, uint32_t layer, uint32_t expert)
{
    return s->slot[at_expert(s, layer, expert)];
}

int32_t sl_slots_expert(const struct sl_slots *s, uint32_t layer, int32_t slot)
{
    return s->expert[at_slot(s, layer, slot)];
}

uint32_t sl_slots_held(const struct sl_slots *s, uint32_t layer)
{
    return s->held[layer];
}

void sl_slots_drop(struct sl_slots *s, uint32_t layer, int32_t slot)
{
    int32_t *expert = &s->expert[at_slot(s, layer, slot)];
    if (*expert < 0)
        return;
    s->slot[at_expert(s, layer, (uint32_t)*expert)] = -1;
    s->held[layer]--;
    *expert = -1;
}

void sl_slots_put(struct sl_slots *s, uint32_t layer, int32_t slot, uint32_t expert)
{
    sl_slots_drop(s, layer, slot);
    s->expert[at_slot(s, layer, slot)] = (int32_t)expert;
    s->slot[at_expert(s, layer, expert)] = slot;
    s->held[layer]++;
}

void sl_slots_pin(struct sl_slots *s, uint32_t layer, int32_t slot)
{
    s->pins[at_slot(s, layer, slot)]++;
}

void sl_slots_unpin(struct sl_slots *s, uint32_t layer, int32_t slot)
{
    s->pins[at_slot(s, layer, slot)]--;
}

/* ---- what is worth keeping ------------------------------------------------------------------ */

void sl_slots_use(struct sl_slots *s, uint32_t layer, uint32_t expert, uint32_t times)
{
    size_t i = at_expert(s, layer, expert);
    s->count[i] += times * s->unit;
    s->token[i] = s->now + 1;
    s->order[i] = ++s->uses;
}

/* Counts all over again from a later token. */
static void rebase(struct sl_slots *s)
{
    uint64_t halvings = (s->now - s->base) / SL_SLOTS_HALF_LIFE;
    double scale = exp2(-(double)halvings);
    for (size_t i = 0; i < (size_t)s->opts.layers * s->opts.experts; i++)
        s->count[i] *= scale;
    s->base += halvings * SL_SLOTS_HALF_LIFE;
}

void sl_slots_tick(struct sl_slots *s, uint32_t tokens)
{
    s->now += tokens;
    if (s->opts.policy == SL_POLICY_LFU)
        return;
    if (s->now - s->base >= UNIT_DOUBLINGS * SL_SLOTS_HALF_LIFE)
        rebase(s);
    s->unit = exp2((double)(s->now - s->base) / SL_SLOTS_HALF_LIFE);
}

/* A use counts twice at first: the bonus fades with the tokens since. */
static double score(const struct sl_slots *s, uint32_t layer, uint32_t expert)
{
    size_t i = at_expert(s, layer, expert);
    if (s->opts.policy == SL_POLICY_LRU)
        return (double)s->order[i];
    if (s->opts.policy == SL_POLICY_LFU || s->token[i] == 0)
        return s->count[i];
    return s->count[i] + s->unit / (double)(s->now + 2 - s->token[i]);
}

/* The slot worth least that holds an expert and is not pinned, or -1. */
static int32_t worst(const struct sl_slots *s, uint32_t layer)
{
    int32_t found = -1;
    double least = 0;
    for (int32_t slot = 0; slot < (int32_t)s->opts.slots; slot++) {
        int32_t expert = s->expert[at_slot(s, layer, slot)];
        if (expert < 0 || s->pins[at_slot(s, layer, slot)])
            continue;
        double its = score(s, layer, (uint32_t)expert);
        if (found < 0 || its < least) {
            found = slot;
            least = its;
        }
    }
    return found;
}

int32_t sl_slots_victim(const struct sl_slots *s, uint32_t layer)
{
    if (s->held[layer] >= s->limit)
        return worst(s, layer);
    int32_t slot = 0;
    while (s->expert[at_slot(s, layer, slot)] >= 0)
        slot++;
    return slot;
}

/* Experts of LAYER that go before EXPERT in the order of worth. */
static uint32_t rank(const struct sl_slots *s, uint32_t layer, uint32_t expert)
{
    uint32_t before = 0;
    double its = score(s, layer, expert);
    for (uint32_t other = 0; other < s->opts.experts; other++) {
        double theirs = score(s, layer, other);
        before += theirs > its || (theirs == its && other < expert);
    }
    return before;
}

bool sl_slots_deserves(const struct sl_slots *s, uint32_t layer, uint32_t expert)
{
    return rank(s, layer, expert) < s->limit;
}

uint32_t sl_slots_best(const struct sl_slots *s, uint32_t layer, uint32_t *ids, uint32_t n)
{
    uint32_t found = 0;
    for (uint32_t expert = 0; expert < s->opts.experts; expert++)
        if (s->token[at_expert(s, layer, expert)] && rank(s, layer, expert) < n)
            ids[found++] = expert;
    return found;
}

double sl_slots_count(const struct sl_slots *s, uint32_t layer, uint32_t expert)
{
    return s->count[at_expert(s, layer, expert)] / s->unit;
}

void sl_slots_set_count(struct sl_slots *s, uint32_t layer, uint32_t expert, double count)
{
    size_t i = at_expert(s, layer, expert);
    s->count[i] = count * s->unit;
    s->token[i] = s->now + 1;
    s->order[i] = ++s->uses;
}

/* ---- fewer slots ---------------------------------------------------------------------------- */

void sl_slots_limit(struct sl_slots *s, uint32_t slots)
{
    s->limit = slots < 1 ? 1 : slots < s->opts.slots ? slots : s->opts.slots;
}

int32_t sl_slots_surplus(struct sl_slots *s, uint32_t layer)
{
    int32_t slot = s->held[layer] > s->limit ? worst(s, layer) : -1;
    if (slot >= 0)
        sl_slots_drop(s, layer, slot);
    return slot;
}
