/* SPDX-License-Identifier: MIT */
/*
 * ahead.h: whether guessing pays.  Tokens are generated with guesses and without by turns, and the
 * seconds spent on waiting and guessing compared; the better way holds for a while, and is tried
 * again.  Pure bookkeeping.
 */
#ifndef SL_AHEAD_H
#define SL_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SL_AHEAD_WINDOW = 8,      /* tokens; a trial has four windows: without, with, with, without */
    SL_AHEAD_HOLD = 256,      /* tokens until the second trial; then always twice as many … */
    SL_AHEAD_HOLD_MAX = 8192, /* … up to this */
};

enum sl_ahead_verdict { SL_AHEAD_TRYING, SL_AHEAD_OFF, SL_AHEAD_ON };

struct sl_ahead {
    enum sl_ahead_verdict verdict;
    uint32_t token; /* of the trial, or of the time that the verdict holds for */
    uint32_t hold;
    double seconds[2]; /* of the trial at hand, or the last one: without and with guesses */
};

/* A token cost SECONDS of waiting and guessing; all zero at the beginning. */
void sl_ahead_count(struct sl_ahead *a, double seconds);

/* Whether the next token's experts should be guessed. */
bool sl_ahead_wanted(const struct sl_ahead *a);

#endif
