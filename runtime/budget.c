/* SPDX-License-Identifier: MIT */
#include "runtime/budget.h"

#include <stdio.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/stream/stream.h"

enum {
    STAGING_PART = 16,   /* of the blocks that there is room for, while they are few */
    CONTEXT_STEP = 1024, /* advice is a multiple of it */
    CHUNK_LEAST = 16,
    SPAN_MOST = 4096,
    SPAN_SLOTS = 8, /* it may cost one in so many */
};

/* Sums and products that stay at the largest number: a need that no limit meets. */
static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/* ---- dividing ------------------------------------------------------------------------------- */

/* Blocks for the experts of one token in every layer, and for reading beside them. */
static uint64_t least_blocks(const struct sl_needs *n)
{
    return plus(times(n->moe_layers, sl_min(n->experts_used, n->experts_per_layer)), SL_STAGES_MIN);
}

static void fill_mapped(struct sluice_memory_plan *plan, const struct sl_needs *n)
{
    plan->reader = SLUICE_READER_MEMORY;
    plan->experts = n->experts;
    plan->slots = n->block ? n->experts_per_layer : 0;
}

/* ROOM bytes are left for blocks, at least the least. */
static void fill_streamed(struct sluice_memory_plan *plan, const struct sl_needs *n, uint64_t room)
{
    uint64_t blocks = room / n->block, least = least_blocks(n);
    uint64_t stages = sl_min(SL_STAGES, sl_max(blocks / STAGING_PART, SL_STAGES_MIN));
    plan->stages = (uint32_t)sl_min(stages, SL_STAGES_MIN + blocks - least);
    plan->slots = (uint32_t)sl_min((blocks - plan->stages) / n->moe_layers, n->experts_per_layer);
    plan->staging = plan->stages * n->block;
    plan->experts = (uint64_t)plan->slots * n->moe_layers * n->block;
}

bool sl_budget_divide(struct sluice_memory_plan *plan, const struct sl_needs *n, uint64_t limit)
{
    *plan = (struct sluice_memory_plan){
        .limit = limit,
        .resident = n->resident,
        .kv = n->session.kv_bytes,
        .scratch = n->session.scratch_bytes,
        .block = n->block,
        .sessions = n->session.sessions,
        .context = n->session.context,
        .chunk = n->session.chunk,
        .span = n->session.span,
        .moe_layers = n->block ? n->moe_layers : 0,
        .experts_per_layer = n->experts_per_layer,
        .experts_used = n->experts_used,
        .reader = n->reader,
    };
    uint64_t fixed = plus(n->resident, plus(plan->kv, plan->scratch));
    uint64_t mapped = plus(fixed, n->experts);
    uint64_t streamed = plus(fixed, times(n->block, least_blocks(n)));
    bool can_map = n->block == 0 || n->reader == SLUICE_READER_MEMORY ||
                   (n->reader == SLUICE_READER_AUTO && !n->split);
    bool can_stream = n->block > 0 && n->reader != SLUICE_READER_MEMORY;
    plan->need = !can_stream ? mapped : can_map ? sl_min(mapped, streamed) : streamed;
    bool maps = can_map && (mapped <= limit || !can_stream);
    bool fits = plan->need <= limit && plan->need < UINT64_MAX;
    if (maps)
        fill_mapped(plan, n);
    else if (fits)
        fill_streamed(plan, n, limit - fixed);
    plan->load = n->load != SLUICE_LOAD_AUTO ? n->load : maps ? SLUICE_LOAD_MAP : SLUICE_LOAD_COPY;
    return fits;
}

/* ---- what would do -------------------------------------------------------------------------- */

static bool would_do_with(const struct sl_needs *needs, const struct sl_sizing *sizing,
                          const struct sluice_session_opts *opts, uint64_t limit)
{
    struct sl_needs n = *needs;
    struct sl_sizing z = *sizing;
    struct sluice_memory_plan plan;
    z.session = opts;
    return sl_session_measure(&n.session, &z, NULL) == 0 && sl_budget_divide(&plan, &n, limit);
}

static bool would_do(const struct sl_needs *needs, const struct sl_sizing *sizing, size_t context,
                     size_t chunk, uint64_t limit)
{
    struct sluice_session_opts opts = *sizing->session;
    opts.context = context;
    opts.chunk = chunk;
    return would_do_with(needs, sizing, &opts, limit);
}

static bool would_do_streamed(const struct sl_needs *needs, uint64_t limit)
{
    struct sl_needs n = *needs;
    struct sluice_memory_plan plan;
    n.reader = SLUICE_READER_AUTO;
    return sl_budget_divide(&plan, &n, limit);
}

size_t sl_budget_context(const struct sl_needs *needs, const struct sl_sizing *sizing,
                         uint64_t limit)
{
    size_t low = 0, high = (needs->session.context - 1) / CONTEXT_STEP; /* low does, high + 1 not */
    while (low < high) {
        size_t middle = (low + high + 1) / 2;
        if (would_do(needs, sizing, middle * CONTEXT_STEP, needs->session.chunk, limit))
            low = middle;
        else
            high = middle - 1;
    }
    return low * CONTEXT_STEP;
}

size_t sl_budget_chunk(const struct sl_needs *needs, const struct sl_sizing *sizing, uint64_t limit)
{
    size_t chunk = CHUNK_LEAST;
    if (chunk >= needs->session.chunk ||
        !would_do(needs, sizing, needs->session.context, chunk, limit))
        return 0;
    while (2 * chunk < needs->session.chunk &&
           would_do(needs, sizing, needs->session.context, 2 * chunk, limit))
        chunk *= 2;
    return chunk;
}

size_t sl_budget_shorter(const struct sl_needs *needs, const struct sl_sizing *sizing,
                         uint64_t limit)
{
    struct sluice_session_opts opts = *sizing->session;
    for (size_t span = opts.span / 2; span >= needs->session.chunk; span /= 2) {
        opts.span = span;
        if (would_do_with(needs, sizing, &opts, limit))
            return span;
    }
    return 0;
}

size_t sl_budget_span(const struct sl_needs *needs, const struct sl_sizing *sizing, uint64_t limit)
{
    struct sl_needs n = *needs;
    struct sl_sizing z = *sizing;
    struct sluice_memory_plan without, with;
    if (!sl_budget_divide(&without, needs, limit) || without.stages == 0 || z.session->span)
        return 0;
    for (z.span = SPAN_MOST; z.span > needs->session.chunk; z.span /= 2)
        if (sl_session_measure(&n.session, &z, NULL) == 0 && sl_budget_divide(&with, &n, limit) &&
            with.slots >= without.slots - without.slots / SPAN_SLOTS)
            return z.span;
    return 0;
}

/* ---- words ---------------------------------------------------------------------------------- */

void sl_budget_print(char out[32], uint64_t bytes)
{
    const unsigned long long mib = 1 << 20, gib = 1 << 30;
    unsigned long long tenths = bytes / gib * 10 + bytes % gib * 10 / gib + 1;
    if (bytes < 100 * mib)
        snprintf(out, 32, "%lluK", bytes / 1024ull + (bytes % 1024 != 0));
    else if (bytes < 10 * gib)
        snprintf(out, 32, "%lluM", bytes / mib + (bytes % mib != 0));
    else
        snprintf(out, 32, "%llu.%lluG", tenths / 10, tenths % 10);
}

struct text {
    char text[32];
};

static struct text human(uint64_t bytes)
{
    struct text t;
    if (bytes >= 1 << 30)
        snprintf(t.text, sizeof t.text, "%.1f GiB", (double)bytes / (1 << 30));
    else
        snprintf(t.text, sizeof t.text, "%.1f MiB", (double)bytes / (1 << 20));
    return t;
}

static void print_experts(char *out, size_t size, const struct sluice_memory_plan *p,
                          const struct sl_needs *n)
{
    uint64_t rest = p->need - plus(p->resident, plus(p->kv, p->scratch));
    out[0] = 0;
    if (rest > 0 && rest == n->experts)
        snprintf(out, size, ", all %u experts of %u layers %s", n->experts_per_layer, p->moe_layers,
                 human(rest).text);
    else if (rest > 0)
        snprintf(out, size, ", %u experts in each of %u layers and %d more, of %s, %s",
                 (unsigned)sl_min(n->experts_used, n->experts_per_layer), p->moe_layers,
                 SL_STAGES_MIN, human(p->block).text, human(rest).text);
}

int sl_budget_refuse(const struct sluice_memory_plan *p, const struct sl_needs *n,
                     const struct sl_sizing *sizing, uint64_t available, struct sluice_err *err)
{
    char experts[160], limit[96], memory[32];
    char context[64] = "", chunk[64] = "", span[64] = "", times[32] = "";
    size_t fits = sl_budget_context(n, sizing, p->limit);
    if (available)
        snprintf(limit, sizeof limit, "%s of the %s available may be used", human(p->limit).text,
                 human(available).text);
    else
        snprintf(limit, sizeof limit, "%s allowed", human(p->limit).text);
    print_experts(experts, sizeof experts, p, n);
    sl_budget_print(memory, p->need);
    if (p->sessions > 1)
        snprintf(times, sizeof times, "%u times ", p->sessions);
    if (fits)
        snprintf(context, sizeof context, ", or --ctx %zu", fits);
    if ((fits = sl_budget_chunk(n, sizing, p->limit)) > 0)
        snprintf(chunk, sizeof chunk, ", or --chunk %zu", fits);
    if ((fits = sl_budget_shorter(n, sizing, p->limit)) > 0)
        snprintf(span, sizeof span, ", or --span %zu", fits);
    const char *streaming = n->reader == SLUICE_READER_MEMORY && would_do_streamed(n, p->limit)
                                ? ", or another --reader than memory"
                                : "";
    return sl_fail(
        err, SLUICE_ENOMEM,
        "memory: %s, at least %s needed: weights %s, KV cache of %s%zu tokens %s, scratch "
        "for %zu tokens at a time %s%s; use --memory %s%s%s%s%s%s",
        limit, human(p->need).text, human(p->resident).text, times, p->context, human(p->kv).text,
        p->span, human(p->scratch).text, experts, memory,
        available && p->need > available ? " with as much free" : "", streaming, context, chunk,
        span);
}
