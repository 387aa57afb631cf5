/* SPDX-License-Identifier: MIT */
/*
 * Rows that another session of the engine has computed already are copied, not computed: those of
 * the longest prefix that both want.  What a token leaves in the caches depends on it and the
 * tokens before it and on nothing else, so that the bits are the same.
 */
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/huge.h"
#include "runtime/session/session.h"

enum { ROWS_PER_ITEM = 256 }; /* a multiple of SL_KEY_PANEL */

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
           !s->multiplier == !o->multiplier;
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

struct copying {
    const struct sl_layer_cache *from, *to;
    size_t first, panel_bytes; /* first row; 0: no keys */
};

static void copy_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct copying *c = arg;
    const struct sl_kv *from = &c->from->kv, *to = &c->to->kv;
    size_t row = c->first + begin, n = end - begin;
    (void)thread;
    memcpy(to->latent + row * to->latent_stride, from->latent + row * to->latent_stride,
           n * to->latent_stride);
    memcpy(to->tail + row * to->tail_stride, from->tail + row * to->tail_stride,
           n * to->tail_stride);
    if (c->panel_bytes == 0)
        return;
    size_t panel = row / SL_KEY_PANEL, panels = sl_ceil_div(row + n, SL_KEY_PANEL) - panel;
    memcpy(c->to->keys + panel * c->panel_bytes, c->from->keys + panel * c->panel_bytes,
           panels * c->panel_bytes);
}

/* Rows [first, end) of a layer, from the beginning of a key panel on: none is two items'. */
static void copy_layer(sluice_session *s, const sluice_session *o, uint32_t layer, size_t first,
                       size_t end)
{
    const struct sl_cache_types types = s->ws.attention.types;
    struct copying c = {
        .from = &o->caches[layer],
        .to = &s->caches[layer],
        .first = first / SL_KEY_PANEL * SL_KEY_PANEL,
        .panel_bytes = types.index ? sl_key_panel_bytes(types.index, s->ws.config->index_dim) : 0,
    };
    if (first >= end)
        return;
    size_t n = end - c.first;
    const struct sl_kv *kv = &c.to->kv;
    sl_huge_advise(kv->latent + c.first * kv->latent_stride, n * kv->latent_stride);
    sl_huge_advise(kv->tail + c.first * kv->tail_stride, n * kv->tail_stride);
    if (c.panel_bytes > 0)
        sl_huge_advise(c.to->keys + c.first / SL_KEY_PANEL * c.panel_bytes,
                       n / SL_KEY_PANEL * c.panel_bytes);
    sl_team_run(&s->ws.compute.team, n, ROWS_PER_ITEM, copy_rows, &c);
}

/* Of the first N tokens: what the MTP layer's caches have, and what waits for it. */
static void take_mtp(sluice_session *s, const sluice_session *o, size_t n)
{
    const struct sl_config *c = s->ws.config;
    size_t mtp = sl_min(o->mtp_length, n);
    copy_layer(s, o, c->layers, s->mtp_length, mtp);
    memcpy(s->mtp_rows, o->mtp_rows, (n - mtp) * c->hidden * sizeof *s->mtp_rows);
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
    for (uint32_t layer = 0; layer < layers; layer++)
        copy_layer(s, best, layer, s->length, most);
    memcpy(s->tokens + s->length, tokens + s->length, (most - s->length) * sizeof *tokens);
    if (s->has_mtp)
        take_mtp(s, best, most);
    s->length = most;
    if (most == n) /* the last token of both */
        memcpy(s->logits, best->logits, s->ws.config->vocab * sizeof *s->logits);
    s->have_logits = most == n;
    return most;
}
