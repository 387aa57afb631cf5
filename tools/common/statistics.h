/* SPDX-License-Identifier: MIT */
/* The line at the end of an answer: how long it took and how far the machine was from its limits.
 * Its terms are defined in docs/benchmarking.md. */
#ifndef SL_TOOLS_STATISTICS_H
#define SL_TOOLS_STATISTICS_H

#include <jansson.h>

#include "tools/measure/machine.h"

/* What one drive gave, during the whole answer. */
struct sl_answer_drive {
    char name[32];
    double bytes, seconds; /* while it was being read */
};
enum { SL_ANSWER_DRIVES = 8 };

struct sl_answer {
    uint64_t tokens; /* said */
    uint64_t prefill_tokens, decode_tokens;
    uint64_t reused_tokens; /* of the prompt, not computed */
    double prefill_seconds, decode_seconds;
    /* While decoding: */
    double touched; /* bytes of weights and caches */
    double read;    /* bytes of experts, by the reader */
    uint64_t expert_hits, expert_misses, expert_ahead;
    uint32_t slots, slots_lost; /* experts kept per layer; given up since the prompt began */
    int guessing;               /* as in struct sluice_stats, with the next */
    double guess_seconds[2];
    uint64_t drafts, drafts_right; /* likewise */
    int drafting;
    double draft_seconds[2], draft_experts[2];
    double memory_limit, drive_limit; /* bytes per second; 0: not measured */
    double prefill_read;              /* bytes of experts, before decoding */
    uint64_t kv_bytes;
    const char *reader;     /* borrowed */
    const char *multiplier; /* borrowed: as in struct sluice_stats, with the next */
    uint64_t multiplier_products;
    unsigned n_drives;
    struct sl_answer_drive drives[SL_ANSWER_DRIVES];
};

/* From the statistics at the end of the prompt and at the end; MACHINE has the limits. */
struct sl_answer sl_answer_make(const struct sluice_stats *prompt, const struct sluice_stats *end,
                                uint64_t tokens, const char *reader,
                                const struct sl_machine *machine);

/* What a trial says of guessing or drafting, as in struct sluice_stats: "trying", "on" or "off". */
const char *sl_verdict(int says);

/* One more drive: what it gave to the whole answer. */
void sl_answer_add_drive(struct sl_answer *a, const char *name, uint64_t bytes, double seconds);

/* "42 tok · 3.1 tok/s · prefill …"; parts that do not apply are left out.  A drive that
 * gave much less than was measured is named: some slow down when they get hot. */
void sl_answer_print(const struct sl_answer *a, char *out, size_t size);

/* The same as an object, owned by the caller; what is not known or does not apply is null.  NULL:
 * no memory. */
json_t *sl_answer_json(const struct sl_answer *a);

#endif
