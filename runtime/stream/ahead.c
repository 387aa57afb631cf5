/* SPDX-License-Identifier: MIT */
#include "runtime/stream/ahead.h"

#include "runtime/base/arith.h"

/* A guess must save so much of the time without: less is noise, and reads wear on others. */
static const double worth = 0.02;

static bool with_guesses(uint32_t token)
{
    uint32_t window = token / SL_AHEAD_WINDOW;
    return window == 1 || window == 2;
}

bool sl_ahead_wanted(const struct sl_ahead *a)
{
    return a->verdict == SL_AHEAD_ON || (a->verdict == SL_AHEAD_TRYING && with_guesses(a->token));
}

void sl_ahead_count(struct sl_ahead *a, double seconds)
{
    if (a->verdict != SL_AHEAD_TRYING) {
        if (++a->token < a->hold)
            return;
        *a = (struct sl_ahead){.hold = a->hold};
        return;
    }
    if (a->token % SL_AHEAD_WINDOW > 0) /* the first of a window still has the other's reads */
        a->seconds[with_guesses(a->token)] += seconds;
    if (++a->token < 4 * SL_AHEAD_WINDOW)
        return;
    a->verdict = a->seconds[1] < (1 - worth) * a->seconds[0] ? SL_AHEAD_ON : SL_AHEAD_OFF;
    a->token = 0;
    a->hold = a->hold ? (uint32_t)sl_min(2 * a->hold, SL_AHEAD_HOLD_MAX) : SL_AHEAD_HOLD;
}
