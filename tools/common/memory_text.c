/* SPDX-License-Identifier: MIT */
#include "tools/common/memory_text.h"

#include "tools/common/status.h"

static void print_row(FILE *out, uint64_t bytes, const char *what)
{
    fprintf(out, "  %10s  %s\n", sl_human_bytes(bytes).text, what);
}

static bool is_mapped(const struct sluice_memory_plan *p)
{
    return p->reader == SLUICE_READER_MEMORY;
}

static uint64_t sum(const struct sluice_memory_plan *p)
{
    return p->resident + p->kv + p->scratch + p->staging + p->experts;
}

void sl_memory_print(FILE *out, const struct sluice_memory_plan *p)
{
    char what[128];
    if (p->limit == UINT64_MAX)
        fprintf(out, "memory: %s\n", sl_human_bytes(sum(p)).text);
    else
        fprintf(out, "memory: %s of %s\n", sl_human_bytes(sum(p)).text,
                sl_human_bytes(p->limit).text);
    snprintf(what, sizeof what, "weights that every token needs, %s",
             p->load == SLUICE_LOAD_COPY ? "copied" : "mapped");
    print_row(out, p->resident, what);
    if (p->sessions > 1)
        snprintf(what, sizeof what, "KV caches of %u sessions of %zu tokens", p->sessions,
                 p->context);
    else
        snprintf(what, sizeof what, "KV cache of %zu tokens", p->context);
    print_row(out, p->kv, what);
    snprintf(what, sizeof what, "scratch for %zu tokens at a time, %zu meet an expert", p->chunk,
             p->span);
    print_row(out, p->scratch, what);
    if (p->block == 0)
        return;
    if (is_mapped(p))
        snprintf(what, sizeof what, "all experts, mapped");
    else
        snprintf(what, sizeof what, "%u of %u experts in each of %u layers, the others are read",
                 p->slots, p->experts_per_layer, p->moe_layers);
    print_row(out, p->experts, what);
    snprintf(what, sizeof what, "staging: %u experts of %s", p->stages,
             sl_human_bytes(p->block).text);
    if (!is_mapped(p))
        print_row(out, p->staging, what);
}

static json_int_t whole(uint64_t n)
{
    return n > INT64_MAX ? INT64_MAX : (json_int_t)n;
}

json_t *sl_memory_json(const struct sluice_memory_plan *p)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:i, s:I, s:I, s:I, s:b, s:b}", "limit",
        whole(p->limit), "need", whole(p->need), "resident", whole(p->resident), "kv", whole(p->kv),
        "scratch", whole(p->scratch), "staging", whole(p->staging), "experts", whole(p->experts),
        "block", whole(p->block), "moe_layers", (int)p->moe_layers, "experts_per_layer",
        (int)p->experts_per_layer, "slots", (int)p->slots, "context", whole(p->context), "chunk",
        whole(p->chunk), "span", whole(p->span), "mapped", (int)is_mapped(p), "copied",
        (int)(p->load == SLUICE_LOAD_COPY));
}
