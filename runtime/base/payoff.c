/* SPDX-License-Identifier: MIT */
#include "runtime/base/payoff.h"

#include "runtime/base/arith.h"

/* So much of the time without must be saved: less is noise, and the effort burdens others. */
static const double worth = 0.02;

static bool is_with(const struct sl_trial *t)
{
    uint32_t window = t->pass / t->window;
    return window == 1 || window == 2;
}

bool sl_trial_wanted(const struct sl_trial *t)
{
    return t->verdict == SL_ON || (t->verdict == SL_TRYING && is_with(t));
}

int sl_trial_says(const struct sl_trial *t)
{
    return t->verdict == SL_TRYING ? 0 : t->verdict == SL_ON ? 1 : -1;
}

/* What going the worse way has cost in the trial, in passes of the better one. */
static double lost_passes(const struct sl_trial *t)
{
    int better = t->verdict == SL_ON, worse = !better;
    double all = 2.0 * t->window;
    if (!(t->seconds[better] > 0))
        return 0;
    return all * t->seconds[worse] / t->seconds[better] -
           all * t->tokens[worse] / t->tokens[better];
}

/* Passes that the verdict holds for. */
static uint32_t next_hold(const struct sl_trial *t)
{
    uint32_t hold = t->hold ? 2 * t->hold : SL_TRIAL_HOLD;
    double cheap = SL_TRIAL_SHARE * lost_passes(t);
    if (cheap > hold)
        hold = cheap < SL_TRIAL_HOLD_MAX ? (uint32_t)cheap : SL_TRIAL_HOLD_MAX;
    return (uint32_t)sl_min(hold, SL_TRIAL_HOLD_MAX);
}

void sl_trial_count(struct sl_trial *t, double seconds, uint32_t tokens)
{
    if (t->verdict != SL_TRYING) {
        if (++t->pass < t->hold)
            return;
        *t = (struct sl_trial){.window = t->window, .hold = t->hold};
        return;
    }
    if (t->pass % t->window > 0) { /* the first of a window still has the other's reads */
        t->seconds[is_with(t)] += seconds;
        t->tokens[is_with(t)] += tokens;
    }
    if (++t->pass < 4 * t->window)
        return;
    double without = t->seconds[0] * t->tokens[1], with = t->seconds[1] * t->tokens[0];
    t->verdict = with < (1 - worth) * without ? SL_ON : SL_OFF;
    t->pass = 0;
    t->hold = next_hold(t);
}
