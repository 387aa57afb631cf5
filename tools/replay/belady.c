/* SPDX-License-Identifier: MIT */
/*
 * Belady's rule: of what a pass finds or reads, keep what will be found soonest.  It is the best
 * also when a pass needs many experts at a time, since all of them are at hand when it ends.  What
 * a pass that does not count will bring before it is needed is not worth keeping.
 */
#include "tools/replay/belady.h"

#include <stdlib.h>

#include "runtime/base/err.h"

struct belady {
    const struct sl_choice_layer *layer;
    bool decode;
    uint32_t slots;
    size_t *used;     /* [n_uses]: passes that use an expert, ascending, expert by expert */
    size_t *at, *end; /* [experts]: what is left of each expert's part of `used` */
    uint32_t *kept;   /* [experts]: ids at hand, the first n of them */
    bool *is_kept;    /* [experts] */
    uint32_t n;
};

static bool counts(const struct belady *b, const struct sl_pass *p)
{
    return p->decode == b->decode;
}

static void list_uses(struct belady *b, uint32_t experts)
{
    const struct sl_choice_layer *l = b->layer;
    size_t sum = 0;
    for (size_t i = 0; i < l->n_uses; i++)
        b->end[l->uses[i].expert]++;
    for (uint32_t e = 0; e < experts; e++) {
        size_t n = b->end[e];
        b->at[e] = b->end[e] = sum;
        sum += n;
    }
    for (size_t p = 0; p < l->n_passes; p++)
        for (size_t i = 0; i < l->passes[p].n; i++)
            b->used[b->end[l->uses[l->passes[p].first + i].expert]++] = p;
}

/* The pass that counts for which EXPERT would have to be kept. */
static size_t next_need(const struct belady *b, uint32_t expert)
{
    size_t p = b->at[expert] < b->end[expert] ? b->used[b->at[expert]] : SIZE_MAX;
    return p < SIZE_MAX && counts(b, &b->layer->passes[p]) ? p : SIZE_MAX;
}

static void drop_latest(struct belady *b)
{
    uint32_t latest = 0;
    for (uint32_t i = 1; i < b->n; i++)
        if (next_need(b, b->kept[i]) > next_need(b, b->kept[latest]))
            latest = i;
    b->is_kept[b->kept[latest]] = false;
    b->kept[latest] = b->kept[--b->n];
}

static void run_pass(struct belady *b, const struct sl_pass *pass, struct sl_replay_count *count)
{
    const struct sl_use *uses = b->layer->uses + pass->first;
    for (size_t i = 0; i < pass->n; i++) {
        uint32_t e = uses[i].expert;
        b->at[e]++;
        if (counts(b, pass)) {
            count->wanted++;
            count->held += b->is_kept[e];
        }
        if (!b->is_kept[e])
            b->kept[b->n++] = e;
        b->is_kept[e] = true;
    }
    while (b->n > b->slots)
        drop_latest(b);
}

int sl_belady(struct sl_replay_count *count, const struct sl_choices *c, uint32_t layer,
              bool decode, uint32_t slots, struct sluice_err *err)
{
    uint32_t experts = c->model.experts;
    struct belady b = {.layer = &c->layers[layer], .decode = decode, .slots = slots};
    b.used = calloc(b.layer->n_uses + 1, sizeof *b.used);
    b.at = calloc(experts, sizeof *b.at);
    b.end = calloc(experts, sizeof *b.end);
    b.kept = calloc(experts, sizeof *b.kept);
    b.is_kept = calloc(experts, sizeof *b.is_kept);
    bool good = b.used && b.at && b.end && b.kept && b.is_kept;
    if (good) {
        list_uses(&b, experts);
        for (size_t p = 0; p < b.layer->n_passes; p++)
            run_pass(&b, &b.layer->passes[p], count);
    }
    free(b.used);
    free(b.at);
    free(b.end);
    free(b.kept);
    free(b.is_kept);
    return good ? 0 : sl_fail_nomem(err, "uses of experts", b.layer->n_uses * sizeof *b.used);
}
