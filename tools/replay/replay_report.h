/* SPDX-License-Identifier: MIT */
/* What `sluice replay` prints. */
#ifndef SL_TOOLS_REPLAY_REPORT_H
#define SL_TOOLS_REPLAY_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "tools/replay/simulate.h"

enum { SL_BUDGETS_MAX = 16 };

struct sl_replay_report {
    const char *trace;
    const struct sl_choices *choices;
    uint64_t expert_bytes;   /* 0: not known */
    double drive;            /* bytes per second; 0: not asked for */
    const char *drive_known; /* how: "measured 2026-11-26" */
    size_t n;
    struct {
        uint32_t slots; /* per layer */
        struct sl_replay_count count[SL_REPLAY_POLICIES][2];
    } budgets[SL_BUDGETS_MAX];
};

void sl_replay_print(FILE *out, const struct sl_replay_report *r);
/* A new object; NULL without memory. */
json_t *sl_replay_json(const struct sl_replay_report *r);

#endif
