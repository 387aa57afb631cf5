/* SPDX-License-Identifier: MIT */
/*
 * payoff.h: whether something pays.  Passes go without it and with it by turns, and the seconds per
 * token are compared; the better way holds for a while, and is tried again: the less a trial costs
 * the sooner.  Pure bookkeeping.
 */
#ifndef SL_BASE_PAYOFF_H
#define SL_BASE_PAYOFF_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SL_TRIAL_HOLD = 256,      /* passes until the second trial; then always twice as many … */
    SL_TRIAL_HOLD_MAX = 8192, /* … up to this; */
    SL_TRIAL_SHARE = 100,     /* and at least so many times what a trial loses */
};

enum sl_verdict { SL_TRYING, SL_OFF, SL_ON };

/* All but `window` is zero at the beginning. */
struct sl_trial {
    uint32_t window; /* passes; a trial has four windows: without, with, with, without */
    enum sl_verdict verdict;
    uint32_t pass; /* of the trial, or of the time that the verdict holds for */
    uint32_t hold;
    double seconds[2];  /* of the trial at hand, or the last one: without and with … */
    uint32_t tokens[2]; /* … and what they were spent on */
};

/* A pass cost SECONDS, and gave TOKENS. */
void sl_trial_count(struct sl_trial *t, double seconds, uint32_t tokens);

/* Whether the next pass should be with it. */
bool sl_trial_wanted(const struct sl_trial *t);

/* As struct sluice_stats has it: 0 not decided yet, -1 does not pay, 1 pays. */
int sl_trial_says(const struct sl_trial *t);

#endif
