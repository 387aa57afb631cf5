/* SPDX-License-Identifier: MIT */
/*
 * How memory is divided: one arithmetic for engines and for plans.  Numbers in, numbers out;
 * docs/planning.md has the formulas.
 */
#ifndef SL_BUDGET_H
#define SL_BUDGET_H

#include <stdbool.h>

#include "runtime/sizing.h"

/* What wants memory. */
struct sl_needs {
    uint64_t resident; /* files of weights that every token needs */
    uint64_t experts;  /* all routed experts */
    uint64_t block;    /* the largest of them; 0: there are none */
    uint32_t moe_layers, experts_per_layer, experts_used;
    bool split;                /* expert files are in parts, which cannot be mapped */
    enum sluice_reader reader; /* asked for */
    enum sluice_load load;
    struct sl_session_size session;
};

/* Divides LIMIT bytes; false when that is less than plan->need: then there are no slots. */
bool sl_budget_divide(struct sluice_memory_plan *plan, const struct sl_needs *needs,
                      uint64_t limit);

/* The largest context, and chunk, below the session's own for which LIMIT would do, a round number;
 * 0: none.  SIZING measured needs->session. */
size_t sl_budget_context(const struct sl_needs *needs, const struct sl_sizing *sizing,
                         uint64_t limit);
size_t sl_budget_chunk(const struct sl_needs *needs, const struct sl_sizing *sizing,
                       uint64_t limit);

/* Likewise of a span that was asked for: half of it, or half of that, …, but not below a chunk. */
size_t sl_budget_shorter(const struct sl_needs *needs, const struct sl_sizing *sizing,
                         uint64_t limit);

/* The span of a session that leaves it open: as long as it costs experts, if they are streamed, few
 * of their slots; 0: a chunk.  SIZING measured needs->session. */
size_t sl_budget_span(const struct sl_needs *needs, const struct sl_sizing *sizing, uint64_t limit);

/* SIZE for --memory, rounded up: "14.2G", "960M", "8100K". */
void sl_budget_print(char out[32], uint64_t bytes);

/*
 * SLUICE_ENOMEM: what is allowed, what is needed and why, and the options that would do.
 * AVAILABLE: what the limit was taken from; 0: it was given.
 */
int sl_budget_refuse(const struct sluice_memory_plan *plan, const struct sl_needs *needs,
                     const struct sl_sizing *sizing, uint64_t available, struct sluice_err *err);

#endif
