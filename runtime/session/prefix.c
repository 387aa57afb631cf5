/* SPDX-License-Identifier: MIT */
/*
 * Rows that another session of the engine has computed already are not computed again: those of the
 * longest prefix that both want.  Whole blocks of them are shared, the rest is copied.  What a
 * token leaves in the caches depends on it and the tokens before it and on nothing else, so that
 * the bits are the same.
 */
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/session/session.h"

void sl_prefix_join(sluice_session *s)
{
    s->next_open = s->engine->sessions;
    s->engine->sessions = s;
}

void sl_prefix_leave(sluice_session *s)
{
    sluice_session **at = &s->engine->sessions;
    while (*at && *at != s)
        at = &(*at)->next_open;
    if (*at)
        *at = s->next_open;
}

/* Whether rows of O are what S would compute. */
static bool is_alike(const sluice_session *s, const sluice_session *o)
{
    const struct sl_cache_types a = s->ws.attention.types, b = o->ws.attention.types;
    return o != s && !o->alone && a.kv == b.kv && a.index == b.index &&
           !s->multiplier == !o->multiplier && s->block_shift == o->block_shift;
}

/* How many tokens of O's S could begin with, to compute those up to N. */
static size_t usable(const sluice_session *s, const sluice_session *o, const int32_t *tokens,
                     size_t n)
{
    size_t same = 0, most = sl_min(n, o->length);
    while (same < most && o->tokens[same] == tokens[same])
        same++;
    bool whole = same == n && same == o->length && o->have_logits;
    /* As in keep_prefix(): the last token's logits, or the hidden state that MTP starts from. */
    if (!whole && same > 0 && (same == n || (s->has_mtp && same <= o->mtp_length)))
        same--;
    return same;
}

/* Of the first N tokens: what the MTP layer's caches have, S and O sharing the rows before SHARED,
 * and what waits for it. */
static void take_mtp(sluice_session *s, const sluice_session *o, size_t shared, size_t n)
{
    const struct sl_config *c = s->ws.config;
    size_t mtp = sl_max(s->mtp_length, sl_min(o->mtp_length, n));
    sl_blocks_copy(s, o, c->layers, sl_max(s->mtp_length, shared), mtp);
    if (mtp < n)
        memcpy(s->mtp_rows, o->mtp_rows + (mtp - o->mtp_length) * c->hidden,
               (n - mtp) * c->hidden * sizeof *s->mtp_rows);
    s->mtp_length = mtp;
}

size_t sl_prefix_take(sluice_session *s, const int32_t *tokens, size_t n)
{
    const sluice_session *best = NULL;
    size_t most = s->length, layers = s->ws.config->layers;
    for (const sluice_session *o = s->alone ? NULL : s->engine->sessions; o; o = o->next_open) {
        size_t k = is_alike(s, o) ? usable(s, o, tokens, n) : 0;
        if (k > most) {
            most = k;
            best = o;
        }
    }
    if (!best)
        return s->length;
    size_t mtp = s->has_mtp ? sl_min(best->mtp_length, most) : most;
    size_t shared = sl_blocks_share(s, best, mtp);
    for (uint32_t layer = 0; layer < layers; layer++)
        sl_blocks_copy(s, best, layer, sl_max(s->length, shared), most);
    memcpy(s->tokens + s->length, tokens + s->length, (most - s->length) * sizeof *tokens);
    if (s->has_mtp)
        take_mtp(s, best, shared, most);
    s->length = most;
    if (most == n) /* the last token of both */
        memcpy(s->logits, best->logits, s->ws.config->vocab * sizeof *s->logits);
    s->have_logits = most == n;
    return most;
}
