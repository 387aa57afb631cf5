/* SPDX-License-Identifier: MIT */
/* What `sluice doctor` found: lines for people as they come, one JSON array for programs. */
#ifndef SL_TOOLS_FINDINGS_H
#define SL_TOOLS_FINDINGS_H

#include <jansson.h>
#include <stdio.h>

enum sl_finding { SL_FINE, SL_WARN, SL_BAD };

struct sl_findings {
    FILE *out;       /* lines go here at once; NULL: nowhere */
    json_t *list;    /* [{"name", "status", "found", "fix"}]; NULL after memory ran out */
    size_t count[3]; /* by enum sl_finding */
};

void sl_findings_open(struct sl_findings *f, FILE *out);
void sl_findings_close(struct sl_findings *f);

/* Adds a finding.  FIX: what to do about it, text of ours; NULL when there is nothing to do. */
__attribute__((format(printf, 5, 6))) void sl_find(struct sl_findings *f, enum sl_finding status,
                                                   const char *name, const char *fix,
                                                   const char *found, ...);

#endif
