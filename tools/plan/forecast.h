/* SPDX-License-Identifier: MIT */
/* A whole forecast: what `sluice plan` reports of one combination. */
#ifndef SL_TOOLS_FORECAST_H
#define SL_TOOLS_FORECAST_H

#include "tools/plan/predict.h"

/* What the user wants to know about. */
struct sl_wish {
    const struct sl_config *config;
    const struct sl_machine *machine;
    const char *profile;
    const char *container; /* that has this profile; NULL: none */
    uint64_t memory;
    unsigned threads; /* 0: those that the machine was measured with */
    size_t context, chunk;
    unsigned sessions; /* of such contexts; 0: 1 */
    enum sluice_multiplier multiplier;
    enum sluice_drafting mtp; /* whether with the MTP layer; AUTO: if everything fits with it */
    unsigned drives;
    double hits;             /* as in struct sl_case */
    struct sl_prices prices; /* zeros: not asked for */
};

enum {
    SL_PROMPT_ROW = 512,   /* tokens of the prompts in the table */
    SL_LONG_PROMPT = 8192, /* the prompt and the answer whose minutes are told, */
    SL_LONG_ANSWER = 4000, /* both shorter when the context is */
    SL_FORECAST_ROWS = 4,
};

struct sl_forecast {
    struct sl_wish wish;
    struct sl_sizes sizes;
    struct sl_session_size session;
    bool mtp; /* the MTP layer is counted */
    struct sl_memory_plan memory;
    struct sl_hit_rate hits;
    /* The rest only when memory.fits. */
    size_t n_rows;
    struct {
        size_t depth, prompt; /* tokens */
        struct sl_speed decode, prefill;
    } rows[SL_FORECAST_ROWS];
    size_t prompt, answer; /* tokens */
    double prompt_seconds, answer_seconds;
    double answer_token_seconds;
    struct sl_cost cost; /* of the answer's tokens */
};

int sl_forecast(struct sl_forecast *f, const struct sl_wish *wish, struct sluice_err *err);

/* The largest context of at most f's with which the same wish fits; 0: none. */
size_t sl_context_that_fits(const struct sl_forecast *f);

/* Another wish, and what it would bring. */
struct sl_change {
    char what[80];
    struct sl_forecast forecast;
};
enum { SL_CHANGES_MAX = 16 };

/* What other memory, drives, profiles and chunks would change; returns their number. */
int sl_changes(struct sl_change changes[SL_CHANGES_MAX], const struct sl_forecast *f,
               struct sluice_err *err);

#endif
