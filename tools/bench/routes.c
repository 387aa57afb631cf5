/* SPDX-License-Identifier: MIT */
#include "tools/bench/routes.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "tools/common/trace.h"

/* The choices of one MoE layer of the trace. */
struct layer {
    uint32_t *experts; /* [room][used] */
    size_t n, room;    /* positions */
};

struct sl_routes {
    size_t used;
    int32_t model_dense; /* of the model that is run */
    size_t n_layers, length;
    struct layer *layers; /* [n_layers] */
};

static int grow(struct layer *l, size_t used, struct sluice_err *err)
{
    size_t bytes, room = l->room ? 2 * l->room : 64;
    uint32_t *more = NULL;
    if (sl_mul(room, used * sizeof *more, &bytes))
        more = realloc(l->experts, bytes);
    if (!more)
        return sl_fail_nomem(err, "choices of a trace", room);
    l->experts = more;
    l->room = room;
    return 0;
}

/* A position comes after those before it, or again. */
static int keep(struct sl_routes *r, struct layer *l, const struct sl_trace_route *route,
                const char *path, struct sluice_err *err)
{
    int status = 0;
    if (route->position > l->n)
        return sl_fail(err, SLUICE_EFORMAT,
                       "%s: layer %u goes on with position %u, but has none from %zu on", path,
                       route->layer, route->position, l->n);
    if (route->position == l->room)
        status = grow(l, r->used, err);
    if (status < 0)
        return status;
    memcpy(l->experts + route->position * r->used, route->experts, r->used * sizeof *l->experts);
    l->n = sl_max(l->n, route->position + 1);
    return 0;
}

static int check(const struct sl_trace_model *t, const struct sluice_model_info *model,
                 const char *path, struct sluice_err *err)
{
    if ((int64_t)t->experts == model->experts && (int64_t)t->used == model->experts_used)
        return 0;
    return sl_fail(err, SLUICE_EARG,
                   "%s: choices of %u out of %u experts; the model has %d and uses %d: make one "
                   "with --experts %u, or take another trace",
                   path, t->used, t->experts, model->experts, model->experts_used, t->experts);
}

static int read_all(struct sl_routes *r, struct sl_trace *t, const char *path,
                    struct sluice_err *err)
{
    const struct sl_trace_model *m = sl_trace_model(t);
    struct sl_trace_route route;
    r->used = m->used;
    r->n_layers = m->layers - m->dense;
    if (!(r->layers = calloc(r->n_layers, sizeof *r->layers)))
        return sl_fail_nomem(err, "choices of a trace", r->n_layers * sizeof *r->layers);
    int status;
    while ((status = sl_trace_next(t, &route, err)) > 0)
        if ((status = keep(r, &r->layers[route.layer - m->dense], &route, path, err)) < 0)
            break;
    r->length = r->layers[0].n;
    for (size_t i = 1; i < r->n_layers; i++)
        r->length = sl_min(r->length, r->layers[i].n);
    if (status == 0 && r->length == 0)
        return sl_fail(err, SLUICE_EFORMAT, "%s: no position with the choices of all layers", path);
    return status;
}

int sl_routes_open(struct sl_routes **out, const char *path, const struct sluice_model_info *model,
                   struct sluice_err *err)
{
    struct sl_trace *trace = NULL;
    struct sl_routes *r = *out = calloc(1, sizeof *r);
    if (!r)
        return sl_fail_nomem(err, "choices of a trace", sizeof *r);
    r->model_dense = model->dense_layers;
    int status = sl_trace_open(&trace, path, err);
    if (status == 0)
        status = check(sl_trace_model(trace), model, path, err);
    if (status == 0)
        status = read_all(r, trace, path, err);
    sl_trace_close(&trace);
    if (status < 0)
        sl_routes_close(out);
    return status;
}

size_t sl_routes_length(const struct sl_routes *r)
{
    return r->length;
}

const uint32_t *sl_routes_get(const struct sl_routes *r, size_t position, int32_t layer)
{
    const struct layer *l = &r->layers[(size_t)(layer - r->model_dense) % r->n_layers];
    return l->experts + position % r->length * r->used;
}

void sl_routes_close(struct sl_routes **out)
{
    struct sl_routes *r = *out;
    if (!r)
        return;
    for (size_t i = 0; r->layers && i < r->n_layers; i++)
        free(r->layers[i].experts);
    free(r->layers);
    free(r);
    *out = NULL;
}
