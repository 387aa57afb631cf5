/* SPDX-License-Identifier: MIT */
#include "tools/plan/forecast.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"

enum { MORE_GIB = 32, LARGE_CHUNK = 2048 };

static struct sluice_session_opts session_of(const struct sl_wish *w)
{
    return (struct sluice_session_opts){
        .context = w->context, .chunk = w->chunk, .multiplier = w->multiplier};
}

static struct sl_sizing sizing_of(const struct sl_forecast *f,
                                  const struct sluice_session_opts *opts)
{
    const struct sl_wish *w = &f->wish;
    return (struct sl_sizing){
        .config = w->config,
        .session = opts,
        .threads = w->threads ? w->threads : (unsigned)w->machine->threads,
        .mtp = f->mtp,
        .exact = strcmp(w->profile, "reference") == 0,
        .sessions = w->sessions,
    };
}

static struct sl_case case_of(const struct sl_forecast *f)
{
    const struct sl_wish *w = &f->wish;
    return (struct sl_case){
        .config = w->config,
        .sizes = &f->sizes,
        .machine = w->machine,
        .session = f->session,
        .mtp = f->mtp,
        .memory = w->memory,
        .chunk = w->chunk,
        .drives = w->drives,
        .hits = w->hits,
    };
}

static void fill_rows(struct sl_forecast *f, const struct sl_case *k)
{
    static const size_t depths[SL_FORECAST_ROWS] = {0, 4096, 32768, 131072};
    for (size_t i = 0; i < SL_FORECAST_ROWS && depths[i] < f->wish.context; i++) {
        size_t depth = depths[i], n = sl_min(SL_PROMPT_ROW, f->wish.context - depth);
        f->rows[i].depth = depth;
        f->rows[i].prompt = n;
        f->rows[i].decode = sl_predict_decode(k, &f->memory, depth);
        f->rows[i].prefill = sl_predict_prompt(k, &f->memory, depth, n);
        f->n_rows = i + 1;
    }
}

static void fill_times(struct sl_forecast *f, const struct sl_case *k)
{
    f->prompt = sl_min(SL_LONG_PROMPT, sl_max(1, f->wish.context / 3 * 2));
    f->answer = sl_min(SL_LONG_ANSWER, f->wish.context - f->prompt);
    struct sl_speed prompt = sl_predict_prompt(k, &f->memory, 0, f->prompt);
    struct sl_speed token = sl_predict_decode(k, &f->memory, f->prompt + f->answer / 2);
    f->prompt_seconds = prompt.seconds * (double)f->prompt;
    f->answer_token_seconds = token.seconds;
    f->answer_seconds = token.seconds * (double)f->answer;
    f->cost = sl_cost_of(&f->wish.prices, token.seconds);
}

static int forecast(struct sl_forecast *f, const struct sl_wish *wish, bool mtp,
                    struct sluice_err *err)
{
    const struct sluice_session_opts opts = session_of(wish);
    *f = (struct sl_forecast){.wish = *wish, .mtp = mtp};
    struct sl_sizing sizing = sizing_of(f, &opts);
    int status = sl_sizes_measure(&f->sizes, wish->config, wish->profile, wish->container, err);
    if (status == 0)
        status = sl_session_measure(&f->session, &sizing, err);
    if (status < 0)
        return status;
    struct sl_case k = case_of(f);
    const struct sl_needs needs = sl_case_needs(&k);
    sizing.span = sl_budget_span(&needs, &sizing, wish->memory);
    if ((status = sl_session_measure(&f->session, &sizing, err)) < 0)
        return status;
    k.session = f->session;
    f->memory = sl_divide_memory(&k);
    f->hits = sl_case_hits(&k, &f->memory);
    if (!f->memory.fits)
        return 0;
    fill_rows(f, &k);
    fill_times(f, &k);
    return 0;
}

int sl_forecast(struct sl_forecast *f, const struct sl_wish *wish, struct sluice_err *err)
{
    bool possible = wish->config->mtp_layers > 0;
    if (wish->mtp == SLUICE_DRAFTING_ON && !possible)
        return sl_fail(err, SLUICE_EARG, "the model has no MTP layer: plan without --mtp on");
    int status = forecast(f, wish, possible && wish->mtp != SLUICE_DRAFTING_OFF, err);
    if (status == 0 && f->mtp && wish->mtp == SLUICE_DRAFTING_AUTO &&
        !(f->memory.fits && f->memory.mapped))
        status = forecast(f, wish, false, err);
    return status;
}

size_t sl_context_that_fits(const struct sl_forecast *f)
{
    const struct sl_case k = case_of(f);
    const struct sl_needs needs = sl_case_needs(&k);
    const struct sluice_session_opts opts = session_of(&f->wish);
    const struct sl_sizing sizing = sizing_of(f, &opts);
    return sl_budget_context(&needs, &sizing, f->wish.memory);
}

/* ---- changes --------------------------------------------------------------------------------- */

static int add_change(struct sl_change *changes, int n, const struct sl_wish *wish,
                      const char *what, struct sluice_err *err)
{
    if (n < 0 || n == SL_CHANGES_MAX)
        return n;
    snprintf(changes[n].what, sizeof changes[n].what, "%s", what);
    int status = sl_forecast(&changes[n].forecast, wish, err);
    return status < 0 ? status : n + 1;
}

int sl_changes(struct sl_change changes[SL_CHANGES_MAX], const struct sl_forecast *f,
               struct sluice_err *err)
{
    struct sl_wish wish = f->wish;
    const char *profile, *text;
    char what[80];
    int n = 0;
    if (f->memory.share < 1) {
        wish.memory += (uint64_t)MORE_GIB << 30;
        n = add_change(changes, n, &wish, "32 GiB more memory", err);
        wish = f->wish;
        wish.drives++;
        n = add_change(changes, n, &wish, "a second drive like this", err);
        wish = f->wish;
        wish.chunk = LARGE_CHUNK;
        if (f->wish.chunk < LARGE_CHUNK)
            n = add_change(changes, n, &wish, "--chunk 2048", err);
        wish = f->wish;
    }
    wish.container = NULL;
    for (size_t i = 0; sl_profile_list(i, &profile, &text); i++) {
        wish.profile = profile;
        snprintf(what, sizeof what, "profile %s", profile);
        if (strcmp(profile, f->wish.profile) != 0)
            n = add_change(changes, n, &wish, what, err);
    }
    return n;
}
