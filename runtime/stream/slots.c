/* SPDX-License-Identifier: MIT */
/*
 * Which experts are kept.  Counts halve with time by growing the worth of a use instead: it doubles
 * every half-life, and everything is scaled down by a power of two, exactly, before it overflows.
 */
#include "runtime/stream/slots.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"

enum { LASTING_HALF_LIFE = 256, RECENT_HALF_LIFE = 16, RECENT_WEIGHT = 4, DOUBLINGS_MAX = 64 };

/* Uses of experts, decaying. */
struct counter {
    double half_life; /* tokens; infinite: none */
    uint64_t base;    /* the token whose uses count 1 */
    double unit;      /* what a use counts now … */
    double worth;     /* … and one at an unknown place of the pass */
    double *count;    /* [layers][experts] */
};

struct sl_slots {
    struct sl_slots_opts opts;
    uint32_t limit; /* slots that may hold an expert */
    uint64_t now;   /* tokens that went by */
    struct counter lasting, recent;
    uint64_t uses;   /* calls of sl_slots_use() */
    uint64_t *order; /* [layers][experts]: which of them was the last; 0: never */
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

static struct counter counter_of(double half_life, size_t experts)
{
    return (struct counter){
        .half_life = half_life, .unit = 1, .worth = 1, .count = calloc(experts, sizeof(double))};
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
    s->lasting = counter_of(opts->policy == SL_POLICY_LFU ? HUGE_VAL : LASTING_HALF_LIFE, experts);
    s->recent = counter_of(RECENT_HALF_LIFE, experts);
    s->order = calloc(experts, sizeof *s->order);
    s->slot = calloc(experts, sizeof *s->slot);
    s->expert = calloc(slots, sizeof *s->expert);
    s->pins = calloc(slots, sizeof *s->pins);
    s->held = calloc(opts->layers, sizeof *s->held);
    if (!s->lasting.count || !s->recent.count || !s->order || !s->slot || !s->expert || !s->pins ||
        !s->held)
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
    free(s->lasting.count);
    free(s->recent.count);
    free(s->order);
    free(s->slot);
    free(s->expert);
    free(s->pins);
    free(s->held);
    free(s);
    *out = NULL;
}

struct sl_slots_opts sl_slots_shape(const struct sl_slots *s)
{
    return s->opts;
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

/* The mean of what a use counts over a pass of TOKENS that ends at token NOW. */
static double mean_worth(const struct counter *c, uint32_t tokens)
{
    if (tokens <= 1 || isinf(c->half_life))
        return c->unit;
    double n = tokens;
    return c->unit * expm1(-n * M_LN2 / c->half_life) / (n * expm1(-M_LN2 / c->half_life));
}

static void advance(struct counter *c, size_t n, uint64_t now, uint32_t tokens)
{
    double halvings = floor((double)(now - c->base) / c->half_life);
    if (halvings >= DOUBLINGS_MAX) {
        double scale = exp2(-halvings);
        for (size_t i = 0; i < n; i++)
            c->count[i] *= scale;
        c->base += (uint64_t)(halvings * c->half_life);
    }
    c->unit = exp2((double)(now - c->base) / c->half_life);
    c->worth = mean_worth(c, tokens);
}

void sl_slots_tick(struct sl_slots *s, uint32_t tokens)
{
    size_t n = (size_t)s->opts.layers * s->opts.experts;
    s->now += tokens;
    advance(&s->lasting, n, s->now, tokens);
    advance(&s->recent, n, s->now, tokens);
}

void sl_slots_use(struct sl_slots *s, uint32_t layer, uint32_t expert, uint32_t times)
{
    size_t i = at_expert(s, layer, expert);
    s->lasting.count[i] += times * s->lasting.worth;
    s->recent.count[i] += times * s->recent.worth;
    s->order[i] = ++s->uses;
}

static double score(const struct sl_slots *s, uint32_t layer, uint32_t expert)
{
    size_t i = at_expert(s, layer, expert);
    if (s->opts.policy == SL_POLICY_LRU)
        return (double)s->order[i];
    double lasting = s->lasting.count[i] / s->lasting.unit;
    if (s->opts.policy == SL_POLICY_LFU)
        return lasting;
    return lasting + RECENT_WEIGHT * (s->recent.count[i] / s->recent.unit);
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
        if (score(s, layer, expert) > 0 && rank(s, layer, expert) < n)
            ids[found++] = expert;
    return found;
}

double sl_slots_count(const struct sl_slots *s, uint32_t layer, uint32_t expert)
{
    return s->lasting.count[at_expert(s, layer, expert)] / s->lasting.unit;
}

void sl_slots_set_count(struct sl_slots *s, uint32_t layer, uint32_t expert, double count)
{
    s->lasting.count[at_expert(s, layer, expert)] = count * s->lasting.unit;
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
