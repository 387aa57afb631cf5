/* SPDX-License-Identifier: MIT */
/* Inside the runtime: a session's state, shared by session.c, mtp.c and draft.c; tests set its
 * hooks. */
#ifndef SL_SESSION_H
#define SL_SESSION_H

#include <stdatomic.h>

#include "runtime/engine.h"
#include "runtime/layer.h"
#include "runtime/sample/sample.h"
#include "runtime/session/workbench.h"

enum {
    SL_LOGIT_ROWS = 8,    /* rows of logits computed together */
    SL_DRAFT_WINDOW = 16, /* passes with drafts, or without, in a row, to see what pays */
    SL_MTP_ROWS = 32,     /* tokens that the MTP layer may lag behind; too few for oneDNN */
};

/* What became of the tokens that sluice_session_generate() gave: [1] of passes with a draft. */
struct sl_drafts {
    enum sluice_drafting mode;
    struct sl_trial trial;
    uint64_t made, right;
    uint64_t tokens[2], experts[2]; /* experts: wanted, each once per layer and pass */
};

/* s: scratch, which other sessions overwrite between two calls. */
struct sluice_session {
    sluice_engine *engine;
    struct sl_arena arena;      /* what lasts: tokens, logits, tables */
    struct sl_workbench *bench; /* the scratch */
    struct sl_workspace ws;
    struct sl_owner owner;            /* of its tokens, as layers see it */
    struct sl_multiplier *multiplier; /* NULL: the kernels only */
    struct sl_layer_cache *caches;    /* [n_layers]; their rows are in */
    struct sl_block **blocks;         /* [n_blocks]: of 2^block_shift tokens */
    size_t n_blocks;
    unsigned block_shift;
    uint32_t n_layers; /* with the MTP layer, if that is loaded */
    bool has_mtp;
    size_t chunk;        /* most tokens that attention and networks meet at a time, */
    size_t span;         /* and that routed experts do */
    double span_seconds; /* that a span may take; 0: no limit */
    size_t span_now;     /* tokens, ≤ span, that take so long as far as is known */
    size_t capacity;     /* tokens */

    int32_t *tokens; /* [capacity]: what the caches hold */
    size_t length;
    bool have_logits;                /* `logits` belongs to tokens[length − 1] */
    float *hidden;                   /* s: [span][hidden]: residual stream; with MTP, after a row */
    float *final;                    /* s: [chunk][hidden]: after the final norm */
    float *logits;                   /* [vocab] */
    float *rows;                     /* s: [SL_LOGIT_ROWS][vocab], for callbacks */
    struct sl_codes head_codes;      /* s: [chunk] */
    struct sl_candidate *candidates; /* s: [vocab] */

    /*
     * MTP: position i combines the final hidden state of token i with token i + 1.  Tokens from
     * mtp_length on wait to be put into the layer's caches: until it drafts, or there are too many.
     */
    size_t mtp_length;         /* positions in the MTP layer's caches */
    float *mtp_rows;           /* [SL_MTP_ROWS][hidden]: residual streams of tokens that wait */
    float *mtp_input;          /* s: [chunk][2 · hidden] */
    struct sl_codes mtp_codes; /* s: [chunk] */
    struct sl_drafts drafts;

    bool alone;                /* neither takes rows from other sessions nor gives any */
    sluice_session *next_open; /* of the engine's list */

    atomic_int cancelled;
    struct sluice_stats stats;
    struct sl_meter meter;
    struct sluice_observer observer;
    struct sl_hooks observing; /* its hooks */
};

/* ---- span.c --------------------------------------------------------------------------------- */

/* What the first layers of a span took, in seconds. */
struct sl_span_time {
    size_t tokens;
    unsigned layers; /* with experts, that the span goes through */
    double dense;    /* all layers before the first of those */
    double compute;  /* that one, without waiting for its experts */
    double read;     /* these, whatever was computed meanwhile */
};

/*
 * About as many tokens as take LIMIT seconds, but not so few that experts take longer to read than
 * to compute: a multiple of CHUNK.
 */
size_t sl_span_tokens(const struct sl_span_time *t, size_t chunk, double limit);

/* The time, and how much of it was spent waiting for experts and reading them. */
struct sl_lap {
    double now, waited, read;
};
struct sl_lap sl_span_lap(const sluice_session *s);

/* With how many to go on of a span of N tokens that began with START, and its first layer with
 * experts, which is done, with FIRST. */
size_t sl_span_shorten(sluice_session *s, const struct sl_lap *start, const struct sl_lap *first,
                       size_t n);

/* ---- blocks.c ------------------------------------------------------------------------------- */

/* The rows of 2^block_shift consecutive tokens, one layer's behind the other's. */
struct sl_block {
    struct sl_arena memory;
    unsigned sessions;     /* that use it */
    struct sl_block *next; /* of the engine's spare ones */
};

/* What a session's block_shift will be.  Tests make blocks small: not below SL_KEY_PANEL. */
extern unsigned sl_block_shift;

/* Takes the tables of all layers' caches from ARENA, and counts kv_bytes. */
void sl_blocks_take(sluice_session *s, struct sl_arena *arena, struct sl_cache_types types);

/* Maps the blocks, once the arena is allocated; and lets go of them, however many there are. */
int sl_blocks_open(sluice_session *s, struct sluice_err *err);
void sl_blocks_close(sluice_session *s);

/* The first N rows are about to be written. */
void sl_blocks_advise(sluice_session *s, size_t n);

/* Makes whole blocks of the first N rows the same memory as those of FROM.  Returns how many rows
 * they have. */
size_t sl_blocks_share(sluice_session *s, const sluice_session *from, size_t n);

/* Copies a layer's rows [first, end). */
void sl_blocks_copy(sluice_session *s, const sluice_session *from, uint32_t layer, size_t first,
                    size_t end);

/* No other session uses the blocks of rows from FIRST on, which may be written then: what the
 * session holds of them is copied. */
void sl_blocks_own(sluice_session *s, size_t first);

/*
 * Forgets what is behind the first LENGTH tokens.  Timelines become shorter by it: rows
 * from `length` on, in the MTP layer from mtp_length on, are always the session's own, so that
 * whoever appends tokens may write.
 */
void sl_session_cut(sluice_session *s, size_t length);

/* ---- prefix.c ------------------------------------------------------------------------------- */

/* The engine's list of open sessions. */
void sl_prefix_join(sluice_session *s);
void sl_prefix_leave(sluice_session *s);

/*
 * Takes over from another session what S lacks of TOKENS[0..n), of which it holds the first
 * s->length.  Returns how many it holds then: N only if the logits came with them.
 */
size_t sl_prefix_take(sluice_session *s, const int32_t *tokens, size_t n);

/* ---- the rest ------------------------------------------------------------------------------- */

/* Sets test hooks; HOOKS stays the caller's. */
void sl_session_set_hooks(sluice_session *s, const struct sl_hooks *hooks);

/* Ids in range, and no more of them than the session has room for. */
int sl_check_tokens(const sluice_session *s, const int32_t *tokens, size_t n,
                    struct sluice_err *err);

/*
 * A prompt that was cut, and stopped at once, has left an MTP position whose second token is not
 * there any more.  Before another comes the last token is computed once more.
 */
int sl_session_mend(sluice_session *s, struct sluice_err *err);

/* What STATS has of drafts. */
void sl_drafts_stats(const struct sl_drafts *d, struct sluice_stats *stats);

/* What a failed pass returns for STATUS; a cancel has done its work. */
int sl_session_stopped(sluice_session *s, int status, struct sluice_err *err);

/*
 * Runs the main layers over the N tokens at POSITION, N ≤ span, into s->hidden.  Returns how many
 * went through all layers, or a negative status.
 */
int64_t sl_session_layers(sluice_session *s, size_t position, size_t n, struct sluice_err *err);

/* The token that SAMPLING draws for POSITION from LOGITS; −1: all are NaN. */
int32_t sl_session_draw(sluice_session *s, const struct sluice_sampling *sampling, size_t position,
                        const float *logits);

/* out[vocab] = the logits of final[hidden], already normed. */
void sl_head_row(sluice_session *s, const float *final, float *out);

/*
 * Computes the logits of final[n][hidden] (rows already normed), a few rows at a time, and calls
 * SHOW for each with positions POSITION, POSITION + 1, …  A non-zero return of SHOW ends it with
 * SLUICE_ECANCELLED.
 */
typedef int sl_show_fn(void *user, size_t position, const float *logits);
int sl_head_show(sluice_session *s, const float *final, size_t position, size_t n, sl_show_fn *show,
                 void *user);

/* Norm and logits of the N tokens at POSITION, whose residual stream is in s->hidden: as above. */
int sl_session_show(sluice_session *s, size_t position, size_t n, sl_show_fn *show, void *user);

/*
 * The MTP layer learns of the span [position, position + n), which the session is about to hold:
 * s->hidden has its residual stream, and may lose it.  With callbacks->draft it runs for all
 * positions that the span completes, from position − 1 to position + n − 2, and shows them.
 * Without, a span of SL_MTP_ROWS tokens or fewer cannot fail.
 */
int sl_mtp_follow(sluice_session *s, size_t position, size_t n,
                  const struct sluice_sync_callbacks *callbacks, struct sluice_err *err);

/* The same of one more token, whose residual stream is ROW, in scratch of another session, say;
 * sl_mtp_make_room() has made room. */
void sl_mtp_add(sluice_session *s, const float *row);
void sl_mtp_make_room(sluice_session *s);

/* Puts the tokens that wait into the MTP layer's caches, all but the last, whose position wants a
 * token that is not known yet.  Nothing to do without MTP. */
void sl_mtp_catch_up(sluice_session *s);

/*
 * The MTP layer's logits for the token after tokens[length], which is chosen but not computed.
 * This is position length − 1, and s->mtp_length the caller's to raise when the token stays.
 */
int sl_mtp_draft(sluice_session *s, float *logits, struct sluice_err *err);

#endif
