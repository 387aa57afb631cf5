/* SPDX-License-Identifier: MIT */
/* Tokens of a prompt that follow each other in a layer were computed together: a pass. */
#include "tools/replay/choices.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"

struct loader {
    struct sl_choices *c;
    struct sl_trace_route last; /* of the pass that is being read */
    uint32_t tokens;            /* of it; 0: none is */
    struct sl_use *uses;        /* [experts], those of the pass; times 0: not needed */
    uint32_t *order;            /* [experts]: ids of those that are */
    uint32_t n;
};

/* Room for MORE elements of SIZE bytes behind N. */
static int make_room(void **data, size_t *room, size_t n, size_t more, size_t size,
                     struct sluice_err *err)
{
    size_t bytes, want = sl_max(2 * *room, n + more);
    if (n + more <= *room)
        return 0;
    void *grown = sl_mul(want, size, &bytes) ? realloc(*data, bytes) : NULL;
    if (!grown)
        return sl_fail_nomem(err, "choices of a trace", n * size);
    *data = grown;
    *room = want;
    return 0;
}

static int by_last_use(const void *a, const void *b)
{
    const struct sl_use *x = a, *y = b;
    if (x->last != y->last)
        return x->last < y->last ? -1 : 1;
    return x->expert < y->expert ? -1 : 1;
}

static int end_pass(struct loader *l, struct sluice_err *err)
{
    if (l->tokens == 0)
        return 0;
    struct sl_choice_layer *layer = &l->c->layers[l->last.layer - l->c->model.dense];
    void *passes = layer->passes, *uses = layer->uses;
    int status = make_room(&passes, &layer->passes_room, layer->n_passes, 1, sizeof *layer->passes,
                           err);
    layer->passes = passes;
    if (status == 0)
        status = make_room(&uses, &layer->uses_room, layer->n_uses, l->n, sizeof *layer->uses, err);
    layer->uses = uses;
    if (status < 0)
        return status;
    layer->passes[layer->n_passes++] = (struct sl_pass){
        .decode = l->last.decode, .tokens = l->tokens, .first = layer->n_uses, .n = l->n};
    struct sl_use *to = layer->uses + layer->n_uses;
    for (uint32_t i = 0; i < l->n; i++) {
        to[i] = l->uses[l->order[i]];
        l->uses[l->order[i]].times = 0;
    }
    qsort(to, l->n, sizeof *to, by_last_use);
    layer->n_uses += l->n;
    l->tokens = l->n = 0;
    return 0;
}

static int add_token(struct loader *l, const struct sl_trace_route *r, struct sluice_err *err)
{
    bool goes_on = l->tokens > 0 && !r->decode && !l->last.decode && r->layer == l->last.layer &&
                   r->position == l->last.position + 1;
    int status = goes_on ? 0 : end_pass(l, err);
    if (status < 0)
        return status;
    for (uint32_t i = 0; i < l->c->model.used; i++) {
        struct sl_use *u = &l->uses[r->experts[i]];
        if (u->times == 0)
            l->order[l->n++] = r->experts[i];
        *u = (struct sl_use){r->experts[i], u->times + 1, l->tokens};
    }
    l->last = *r;
    l->tokens++;
    return 0;
}

static int read_all(struct loader *l, struct sl_trace *t, struct sluice_err *err)
{
    struct sl_trace_record r;
    int status;
    while ((status = sl_trace_read(t, &r, err)) > 0) {
        if (!r.is_event)
            status = add_token(l, &r.route, err);
        else if ((status = end_pass(l, err)) == 0)
            sl_overlap_add(&l->c->overlap[r.event.decode], &r.event);
        if (status < 0)
            return status;
    }
    return status < 0 ? status : end_pass(l, err);
}

/* What a layer that was cut off has less does not count. */
static void count(struct sl_choices *c)
{
    for (uint32_t i = 0; i < c->n_layers; i++) {
        size_t tokens[2] = {0}, passes[2] = {0};
        for (size_t p = 0; p < c->layers[i].n_passes; p++) {
            tokens[c->layers[i].passes[p].decode] += c->layers[i].passes[p].tokens;
            passes[c->layers[i].passes[p].decode]++;
        }
        for (int decode = 0; decode < 2; decode++) {
            c->tokens[decode] = sl_max(c->tokens[decode], tokens[decode]);
            c->passes[decode] = sl_max(c->passes[decode], passes[decode]);
        }
    }
    for (int decode = 0; decode < 2; decode++)
        sl_overlap_end(&c->overlap[decode]);
}

int sl_choices_load(struct sl_choices *c, const char *path, struct sluice_err *err)
{
    struct sl_trace *t;
    struct loader l = {.c = c};
    *c = (struct sl_choices){0};
    int status = sl_trace_open(&t, path, err);
    if (status < 0)
        return status;
    c->model = *sl_trace_model(t);
    c->n_layers = c->model.layers - c->model.dense;
    c->layers = calloc(c->n_layers, sizeof *c->layers);
    l.uses = calloc(c->model.experts, sizeof *l.uses);
    l.order = calloc(c->model.experts, sizeof *l.order);
    if (!c->layers || !l.uses || !l.order)
        status = sl_fail_nomem(err, "choices of a trace", 0);
    if (status == 0)
        status = read_all(&l, t, err);
    if (status == 0)
        count(c);
    if (status == 0 && c->tokens[0] + c->tokens[1] == 0)
        status = sl_fail(err, SLUICE_EFORMAT, "%s: no choices in it", path);
    sl_trace_close(&t);
    free(l.uses);
    free(l.order);
    if (status < 0)
        sl_choices_free(c);
    return status;
}

void sl_choices_free(struct sl_choices *c)
{
    for (uint32_t i = 0; c->layers && i < c->n_layers; i++) {
        free(c->layers[i].passes);
        free(c->layers[i].uses);
    }
    free(c->layers);
    *c = (struct sl_choices){0};
}
