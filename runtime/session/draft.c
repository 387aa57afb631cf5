/* SPDX-License-Identifier: MIT */
/*
 * Generating with drafts: the MTP layer names the token after the next one, and the main model
 * computes both in one pass, reading weights once.  Its own logits at the first say whether it
 * would have drawn the second: then two tokens are won, else the second is forgotten.  So tokens
 * and logits are those of sample and step, to the bit.
 */
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/session/session.h"

/* ---- accounts ------------------------------------------------------------------------------- */

static bool wanted(const struct sl_drafts *d)
{
    return d->mode == SLUICE_DRAFTING_ON ||
           (d->mode == SLUICE_DRAFTING_AUTO && sl_trial_wanted(&d->trial));
}

static uint64_t experts_wanted(const sluice_session *s)
{
    if (!s->engine->experts)
        return 0;
    const struct sl_experts_use use = sl_experts_use(s->engine->experts);
    return use.hits + use.misses + use.ahead;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

void sl_drafts_stats(const struct sl_drafts *d, struct sluice_stats *stats)
{
    const struct sl_trial *t = &d->trial;
    stats->drafts = d->made;
    stats->drafts_right = d->right;
    stats->drafting = d->mode == SLUICE_DRAFTING_AUTO ? sl_trial_says(t)
                      : d->mode == SLUICE_DRAFTING_ON ? 1
                                                      : -1;
    for (int i = 0; i < 2; i++) {
        stats->draft_seconds[i] = ratio(t->seconds[i], t->tokens[i]);
        stats->draft_experts[i] = ratio((double)d->experts[i], (double)d->tokens[i]);
    }
}

/* ---- one pass ------------------------------------------------------------------------------- */

/* A token and what is drafted to come after it. */
struct pair {
    sluice_session *s;
    const struct sluice_sampling *sampling;
    size_t position; /* of the token */
    int32_t draft;   /* −1: none */
    bool right;
};

/* Keeps the logits of the last token that is right. */
static int judge(void *user, size_t position, const float *logits)
{
    struct pair *p = user;
    sluice_session *s = p->s;
    if (position > p->position && !p->right)
        return 0;
    memcpy(s->logits, logits, s->engine->weights->config.vocab * sizeof *logits);
    if (position == p->position && p->draft >= 0)
        p->right = sl_session_draw(s, p->sampling, position + 1, logits) == p->draft;
    return 0;
}

/* The likeliest token, however the model will draw: docs/long-context.md.  After the end nothing is
 * worth computing. */
static int make_draft(struct pair *p, struct sluice_err *err)
{
    static const struct sluice_sampling likeliest = {.temperature = 0, .top_p = 1};
    sluice_session *s = p->s;
    int status = sl_mtp_draft(s, s->rows, err);
    if (status < 0)
        return status;
    p->draft = sl_session_draw(s, &likeliest, p->position + 1, s->rows);
    if (p->draft == s->engine->weights->config.eos)
        p->draft = -1;
    return 0;
}

/* Appends TOKEN, and after it *next if that is drafted rightly.  Returns how many, or a status. */
static int run_pair(sluice_session *s, const struct sluice_sampling *sampling, int32_t token,
                    int32_t *next, struct sluice_err *err)
{
    struct pair p = {.s = s, .sampling = sampling, .position = s->length};
    int64_t done = 0;
    s->have_logits = false;
    s->tokens[p.position] = token;
    sl_meter_start(&s->meter);
    sl_moe_begin(&s->ws.moe, 2, &s->cancelled);
    int status = make_draft(&p, err);
    if (status == 0) {
        s->tokens[p.position + 1] = p.draft;
        done = sl_session_layers(s, p.position, p.draft < 0 ? 1 : 2, err);
        status = done < 0 ? (int)done : sl_session_show(s, p.position, (size_t)done, judge, &p);
    }
    p.right = p.right && done == 2;
    int n = p.right ? 2 : 1;
    if (status == 0) {
        s->mtp_length++; /* the draft's position counts if the token stays */
        status = sl_mtp_follow(s, p.position, (size_t)n, NULL, err);
    }
    if (status < 0)
        return sl_session_stopped(s, status, err);
    s->length += (size_t)n;
    s->have_logits = true;
    s->drafts.made += p.draft >= 0;
    s->drafts.right += p.right;
    *next = p.draft;
    return n;
}

/* ---- generating ----------------------------------------------------------------------------- */

static int append(sluice_session *s, const struct sluice_sampling *sampling, int32_t *tokens,
                  bool drafting, struct sluice_err *err)
{
    if (!drafting) {
        int status = sluice_session_step(s, tokens[0], err);
        return status < 0 ? status : 1;
    }
    double start = sl_now();
    int n = run_pair(s, sampling, tokens[0], &tokens[1], err);
    s->stats.decode_tokens += n > 0 ? (uint64_t)n : 0;
    s->stats.decode_seconds += sl_now() - start;
    return n;
}

int sluice_session_generate(sluice_session *s, const struct sluice_sampling *sampling,
                            int32_t *tokens, size_t max, struct sluice_err *err)
{
    double start = sl_now();
    if (max == 0)
        return sl_fail(err, SLUICE_EARG, "room for no token; at least one is wanted");
    if ((tokens[0] = sluice_session_sample(s, sampling, err)) < 0)
        return tokens[0];
    if (tokens[0] == s->engine->weights->config.eos)
        return 1;
    bool draft = s->has_mtp && wanted(&s->drafts);
    bool room = max >= 2 && s->span >= 2 && s->capacity - s->length >= 2 &&
                s->mtp_length < s->length;
    uint64_t experts = experts_wanted(s);
    int n = append(s, sampling, tokens, draft && room, err);
    if (n < 0 || !s->has_mtp || !room)
        return n;
    s->drafts.tokens[draft] += (uint64_t)n;
    s->drafts.experts[draft] += experts_wanted(s) - experts;
    if (s->drafts.mode == SLUICE_DRAFTING_AUTO)
        sl_trial_count(&s->drafts.trial, sl_now() - start, (uint32_t)n);
    return n;
}
