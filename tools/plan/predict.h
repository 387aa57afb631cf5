/* SPDX-License-Identifier: MIT */
/*
 * The arithmetic before loading: how memory is divided, what fraction of experts will be found in
 * it, how long tokens take.  Numbers in, numbers out; docs/planning.md has the formulas.
 */
#ifndef SL_TOOLS_PREDICT_H
#define SL_TOOLS_PREDICT_H

#include "quant/quant.h"
#include "runtime/model/config.h"
#include "runtime/budget.h"
#include "tools/measure/machine.h"

/* One combination of model, profile, machine and wishes. */
struct sl_case {
    const struct sl_config *config;
    const struct sl_sizes *sizes;
    const struct sl_machine *machine; /* every rate known; drive_uring may be 0 */
    struct sl_session_size session;
    bool mtp;        /* with the MTP layer in memory */
    uint64_t memory; /* bytes that may be used in all */
    size_t chunk;    /* most tokens in one pass */
    unsigned drives; /* equal ones */
    double hits;     /* fraction of expert uses found in memory, when it is known; 0: estimated */
};

/* ---- memory ---------------------------------------------------------------------------------- */

struct sl_memory_plan {
    uint64_t resident; /* weights that every token needs */
    uint64_t kv, scratch;
    uint64_t staging;    /* blocks that experts pass through */
    uint32_t moe_layers; /* with the MTP layer, if that is in memory */
    uint32_t slots;      /* experts held per MoE layer */
    uint64_t slot_bytes; /* of all layers */
    double share;        /* of the experts that slots hold; 1 when there are none */
    uint64_t need;       /* the least that a token can be computed with */
    bool fits;           /* need ≤ memory */
    bool mapped;         /* all experts, or there are none */
};
struct sl_memory_plan sl_divide_memory(const struct sl_case *k);

/* What an engine of that container would want, with a whole set of experts. */
struct sl_needs sl_case_needs(const struct sl_case *k);

/* ---- hits ------------------------------------------------------------------------------------ */

/* Fraction of expert uses found in memory: an estimate, with the range of what others measured. */
struct sl_hit_rate {
    double low, central, high;
};
enum { SL_FEW_SLOTS = 8 }; /* below, what was measured collapses under SL_FEW_HITS */
#define SL_FEW_HITS 0.3
struct sl_hit_rate sl_expect_hits(double share, uint32_t slots);

/* What is known of the case, or else the estimate. */
struct sl_hit_rate sl_case_hits(const struct sl_case *k, const struct sl_memory_plan *plan);

/* ---- time ------------------------------------------------------------------------------------ */

enum sl_bound { SL_BOUND_MEMORY, SL_BOUND_ARITHMETIC, SL_BOUND_DRIVE };
extern const char *const sl_bound_names[];

/* Per token, mean over the tokens asked for. */
struct sl_speed {
    double seconds;
    double part_seconds[SLUICE_PARTS]; /* SLUICE_PART_IO: waiting for reads */
    double ram_bytes;                  /* weights and cache rows gone over, and read experts */
    double drive_bytes;
    enum sl_bound bound;
};

/* N tokens of a prompt, computed in spans and chunks, after DEPTH others. */
struct sl_speed sl_predict_prompt(const struct sl_case *k, const struct sl_memory_plan *plan,
                                  size_t depth, size_t n);

/* One token of an answer after DEPTH others. */
struct sl_speed sl_predict_decode(const struct sl_case *k, const struct sl_memory_plan *plan,
                                  size_t depth);

/* ---- money ----------------------------------------------------------------------------------- */

struct sl_prices {
    double watts;   /* of the whole machine at work */
    double kwh;     /* price of energy */
    double machine; /* price of the machine … */
    double years;   /* … which is used up after so many years of work */
};

struct sl_cost {
    double kwh;     /* per million tokens */
    double energy;  /* money for them */
    double machine; /* share of the machine's price */
};
struct sl_cost sl_cost_of(const struct sl_prices *prices, double seconds_per_token);

#endif
