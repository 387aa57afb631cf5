/* SPDX-License-Identifier: MIT */
/* An engine's share of memory: what its container wants, what it gets, what sessions may take. */

#include "runtime/base/arith.h"
#include "runtime/base/available.h"
#include "runtime/base/err.h"
#include "runtime/budget.h"
#include "runtime/engine.h"

static int check_opts(const struct sluice_engine_opts *opts, struct sluice_err *err)
{
    if ((unsigned)opts->reader > SLUICE_READER_URING)
        return sl_fail(err, SLUICE_EARG, "reader %d; SLUICE_READER_… wanted", (int)opts->reader);
    if ((unsigned)opts->load > SLUICE_LOAD_COPY)
        return sl_fail(err, SLUICE_EARG, "load %d; SLUICE_LOAD_… wanted", (int)opts->load);
    return 0;
}

static int measure(struct sl_needs *needs, const struct sl_sizing *sizing,
                   const struct sl_weights *w, const char *dir, struct sluice_err *err)
{
    const struct sl_config *c = &w->config;
    struct sl_experts_sizes sizes;
    uint32_t layers = c->layers + (sizing->mtp ? 1 : 0);
    uint32_t moe = layers > c->dense_layers ? layers - c->dense_layers : 0;
    int status = sl_experts_measure(&sizes, dir, w->manifest, c->dense_layers, moe, err);
    if (status == 0)
        status = sl_session_measure(&needs->session, sizing, err);
    needs->resident = sl_weights_bytes(w, sizing->mtp);
    needs->experts = sizes.bytes;
    needs->block = sizes.block;
    needs->split = sizes.split;
    needs->moe_layers = moe;
    needs->experts_per_layer = c->experts;
    needs->experts_used = c->experts_used;
    return status;
}

int sl_engine_plan(struct sluice_memory_plan *plan, const struct sl_weights *w, const char *dir,
                   const struct sluice_engine_opts *opts, struct sluice_err *err)
{
    struct sluice_session_opts session = {0};
    struct sl_needs needs = {.reader = opts->reader, .load = opts->load};
    struct sl_sizing sizing = {
        .config = &w->config,
        .session = &session,
        .threads = opts->threads,
        .mtp = opts->mtp != 0,
        .sessions = opts->sessions,
        .exact = sl_is_exact(w),
    };
    uint64_t available = opts->memory ? 0 : sl_memory_available(), limit = opts->memory;
    int status = check_opts(opts, err);
    if (status < 0)
        return status;
    if (opts->mtp && w->config.mtp_layers == 0)
        return sl_fail(err, SLUICE_EARG, "%s: the model has no MTP layer", dir);
    if (opts->session)
        session = *opts->session;
    session.context = sl_min(session.context, w->config.context);
    if (limit == 0)
        limit = available ? sl_memory_budget(available) : UINT64_MAX;
    if ((status = measure(&needs, &sizing, w, dir, err)) < 0)
        return status;
    sizing.span = sl_budget_span(&needs, &sizing, limit);
    if ((status = sl_session_measure(&needs.session, &sizing, err)) < 0)
        return status;
    if (sl_budget_divide(plan, &needs, limit))
        return 0;
    return sl_budget_refuse(plan, &needs, &sizing, available, err);
}

int sluice_plan_memory(struct sluice_memory_plan *plan, const char *dir,
                       const struct sluice_engine_opts *opts, struct sluice_err *err)
{
    static const struct sluice_engine_opts defaults = {0};
    struct sl_weights *w = NULL;
    *plan = (struct sluice_memory_plan){0};
    int status = sl_weights_begin(&w, dir, err);
    if (status == 0)
        status = sl_engine_plan(plan, w, dir, opts ? opts : &defaults, err);
    sl_weights_close(&w);
    return status;
}

int sl_engine_grant(const sluice_engine *e, uint64_t size, uint64_t kv, struct sluice_err *err)
{
    const struct sluice_memory_plan *p = &e->memory;
    uint64_t held = p->resident + p->staging + p->experts, free = p->limit - held;
    if (e->session_bytes <= free && size <= free - e->session_bytes)
        return 0;
    return sl_fail(err, SLUICE_ENOMEM,
                   "memory: %.1f MiB wanted for a session (caches %.1f), but of the %.1f allowed "
                   "weights have %.1f, experts %.1f and other sessions %.1f: open the engine for "
                   "such sessions (sluice_engine_opts.session, .sessions), or with more memory",
                   (double)size / (1 << 20), (double)kv / (1 << 20), (double)p->limit / (1 << 20),
                   (double)p->resident / (1 << 20), (double)(p->staging + p->experts) / (1 << 20),
                   (double)e->session_bytes / (1 << 20));
}
