/* SPDX-License-Identifier: MIT */
/* "Did you mean …?" for option and verb names. */
#ifndef SL_TOOLS_SUGGEST_H
#define SL_TOOLS_SUGGEST_H

#include <stddef.h>

struct sl_suggestion {
    const char *found; /* what was typed: LEN bytes */
    size_t len;
    const char *best; /* the closest name offered so far; NULL: none is close */
    size_t distance;  /* edits between the two */
};

/* Considers NAME, which must stay valid as long as `best` is used. */
void sl_suggestion_offer(struct sl_suggestion *suggestion, const char *name);

#endif
