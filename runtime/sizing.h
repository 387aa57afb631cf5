/* SPDX-License-Identifier: MIT */
/* What a session will take, known before any file is opened: for plans. */
#ifndef SL_SIZING_H
#define SL_SIZING_H

#include <stdbool.h>

#include "runtime/model/config.h"
#include "runtime/sluice.h"

struct sl_session_size {
    uint64_t kv_bytes;           /* as in struct sluice_stats, of all sessions together */
    uint64_t scratch_bytes;      /* the rest: what each has of its own, and what they share */
    uint32_t sessions;           /* ≥ 1 */
    size_t context, chunk, span; /* tokens, as a session would have them */
    size_t kv_row_bytes;         /* of a token in one layer: latent, scales, rotated key */
    size_t key_panel_bytes; /* of SL_KEY_PANEL tokens' index keys; 0: no key is ever selected */
};

struct sl_sizing {
    const struct sl_config *config;
    const struct sluice_session_opts *session;
    unsigned threads;  /* as in struct sluice_engine_opts */
    bool mtp;          /* with the MTP layer loaded */
    bool exact;        /* a `reference` container: AUTO caches are F32, experts are floats */
    size_t span;       /* where the session leaves it open; 0: a chunk */
    unsigned sessions; /* how many of them; 0: 1 */
};

/* The sizes of the sessions that sluice_session_open() would open; the same errors. */
int sl_session_measure(struct sl_session_size *size, const struct sl_sizing *sizing,
                       struct sluice_err *err);

#endif
