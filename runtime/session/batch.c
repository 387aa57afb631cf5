/* SPDX-License-Identifier: MIT */
/*
 * One more token for each of several sessions, in one pass over weights and experts.  A token of
 * each is in a row of its own, from embedding to logits; only caches are each session's.
 */
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/session/session.h"

struct batch {
    sluice_session *const *sessions; /* [n] */
    const int32_t *tokens;           /* [n] */
    size_t n;
    sluice_session *lead; /* the one whose scratch is used: no other has a larger context */
};

/* ---- checking ------------------------------------------------------------------------------- */

static sluice_session *find_lead(const struct batch *b)
{
    sluice_session *lead = b->sessions[0];
    for (size_t i = 1; i < b->n; i++) {
        sluice_session *s = b->sessions[i];
        if (s->capacity > lead->capacity ||
            (s->capacity == lead->capacity && s->chunk > lead->chunk))
            lead = s;
    }
    return lead;
}

/* A session that is too short ever to select has no index keys. */
static bool fits_lead(const struct batch *b, const sluice_session *s)
{
    const struct sl_cache_types lead = b->lead->ws.attention.types, own = s->ws.attention.types;
    bool short_one = s->capacity <= s->engine->weights->config.index_topk;
    return own.kv == lead.kv && (own.index == lead.index || (own.index == 0 && short_one));
}

static int check_session(const struct batch *b, size_t i, struct sluice_err *err)
{
    const sluice_session *s = b->sessions[i];
    const struct sl_config *c = &s->engine->weights->config;
    for (size_t k = 0; k < i; k++)
        if (b->sessions[k] == s)
            return sl_fail(err, SLUICE_EARG,
                           "sessions %zu and %zu of a step are the same; each takes one token", k,
                           i);
    if (s->engine != b->sessions[0]->engine)
        return sl_fail(err, SLUICE_EARG,
                       "session %zu of a step belongs to another engine than session 0; step them "
                       "separately",
                       i);
    if (!fits_lead(b, s))
        return sl_fail(err, SLUICE_EARG,
                       "session %zu of a step was opened with other types of caches, or another "
                       "`dense`, than the one with the largest context; step them separately",
                       i);
    if (s->length == s->capacity)
        return sl_fail(err, SLUICE_ECONTEXT,
                       "context of session %zu of a step full: %zu tokens; open it with a larger "
                       "context (--ctx), the model allows %u",
                       i, s->capacity, c->context);
    if (b->tokens[i] < 0 || (uint32_t)b->tokens[i] >= c->vocab)
        return sl_fail(err, SLUICE_EARG, "token %zu is %d; the model has ids 0 to %u", i,
                       b->tokens[i], c->vocab - 1);
    return 0;
}

static int check(const struct batch *b, struct sluice_err *err)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < b->n; i++)
        status = check_session(b, i, err);
    if (status == 0 && b->lead->chunk < b->n)
        status = sl_fail(err, SLUICE_EARG,
                         "%zu sessions for one step, but the one with the largest context computes "
                         "%zu tokens at a time; open it with a larger chunk (--chunk)",
                         b->n, b->lead->chunk);
    return status;
}

/* ---- computing ------------------------------------------------------------------------------ */

static bool any_cancelled(const struct batch *b)
{
    for (size_t i = 0; i < b->n; i++)
        if (atomic_load(&b->sessions[i]->cancelled))
            return true;
    return false;
}

static int run_layers(const struct batch *b, struct sluice_err *err)
{
    sluice_session *lead = b->lead;
    const struct sl_weights *w = lead->engine->weights;
    size_t hidden = w->config.hidden, layers = w->config.layers;
    struct sl_place place[SLUICE_BATCH_MAX];
    int status = 0;
    for (size_t i = 0; i < b->n; i++)
        sl_embed(w, lead->ws.compute.ops, b->tokens[i], lead->hidden + i * hidden);
    for (uint32_t layer = 0; status == 0 && layer < layers; layer++) {
        for (size_t i = 0; i < b->n; i++) {
            sluice_session *s = b->sessions[i];
            place[i] = (struct sl_place){&s->caches[layer], s->length, &s->owner};
        }
        if (any_cancelled(b))
            return sl_fail(err, SLUICE_ECANCELLED, "cancelled");
        lead->ws.next = layer + 1 < layers ? &w->layers[layer + 1] : NULL;
        status = sl_layer_run_at(&lead->ws, &w->layers[layer], &(struct sl_places){.each = place},
                                 layer, b->n, lead->hidden, err);
    }
    return status;
}

static int keep_logits(void *user, size_t i, const float *logits)
{
    const struct batch *b = user;
    size_t vocab = b->lead->engine->weights->config.vocab;
    memcpy(b->sessions[i]->logits, logits, vocab * sizeof *logits);
    return 0;
}

/* The tokens are the sessions' from now on. */
static void keep(struct batch *b)
{
    sluice_session *lead = b->lead;
    const struct sl_weights *w = lead->engine->weights;
    size_t hidden = w->config.hidden;
    sl_norm_rows(&lead->ws, lead->hidden, w->head.vector[SL_FINAL_NORM], b->n, lead->final);
    sl_head_show(lead, lead->final, 0, b->n, keep_logits, b);
    for (size_t i = 0; i < b->n; i++) {
        sluice_session *s = b->sessions[i];
        if (s->has_mtp)
            sl_mtp_add(s, lead->hidden + i * hidden);
        s->tokens[s->length++] = b->tokens[i];
        s->have_logits = true;
        s->stats.decode_tokens++;
    }
}

/* What each session must do by itself before. */
static int prepare(const struct batch *b, struct sluice_err *err)
{
    for (size_t i = 0; i < b->n; i++) {
        int status = sl_session_mend(b->sessions[i], err);
        if (status < 0)
            return status;
        sl_mtp_make_room(b->sessions[i]);
    }
    return 0;
}

static int compute(struct batch *b, struct sluice_err *err)
{
    sluice_session *lead = b->lead;
    int status = prepare(b, err);
    if (status == 0) {
        sl_meter_start(&lead->meter);
        sl_moe_begin(&lead->ws.moe, b->n, &lead->cancelled);
        status = run_layers(b, err);
    }
    if (status == 0)
        keep(b);
    if (status == SLUICE_ECANCELLED)
        for (size_t i = 0; i < b->n; i++)
            atomic_store(&b->sessions[i]->cancelled, 0);
    return status;
}

/* What the lead's meter shows since BEFORE counts for the others, too. */
static void share_meter(const struct batch *b, const struct sl_meter *before)
{
    const struct sl_meter *now = &b->lead->meter;
    for (size_t i = 0; i < b->n; i++)
        for (int p = 0; b->sessions[i] != b->lead && p < SLUICE_PARTS; p++) {
            b->sessions[i]->meter.seconds[p] += now->seconds[p] - before->seconds[p];
            b->sessions[i]->meter.bytes[p] += now->bytes[p] - before->bytes[p];
        }
}

int sluice_sessions_step(sluice_session *const *sessions, const int32_t *tokens, size_t n,
                         struct sluice_err *err)
{
    double start = sl_now();
    struct batch b = {sessions, tokens, n, NULL};
    if (n == 0 || n > SLUICE_BATCH_MAX)
        return sl_fail(err, SLUICE_EARG, "%zu sessions for one step; 1 to %d wanted", n,
                       SLUICE_BATCH_MAX);
    b.lead = find_lead(&b);
    int status = check(&b, err);
    if (status < 0)
        return status;
    const struct sl_meter before = b.lead->meter;
    status = compute(&b, err);
    share_meter(&b, &before);
    for (size_t i = 0; i < n; i++)
        sessions[i]->stats.decode_seconds += sl_now() - start;
    return status;
}
