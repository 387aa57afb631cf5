/* SPDX-License-Identifier: MIT */
/*
 * Caches full of noise, for measuring speed at a depth without computing the tokens before.  Rows
 * are pieces of one table of random numbers, from a place and with a size that depend on layer and
 * position: cheap to make, and rarely equal.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/splitmix.h"
#include "runtime/session/session.h"

enum { TABLE = 8192, ROWS_PER_ITEM = 64 };

struct filling {
    sluice_session *s;
    unsigned layer;
    float *rows; /* [threads][row_floats] */
    size_t row_floats;
    float table[TABLE];
};

/* Bijective scrambling of 64 bits. */
static uint64_t scramble(uint64_t x)
{
    return sl_splitmix(&x);
}

/* Sums of four uniform numbers: near enough to normal, with variance 1. */
static void make_table(float *table)
{
    for (size_t i = 0; i < TABLE; i++) {
        uint64_t bits = scramble(i);
        int32_t sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (int16_t)(bits >> 16 * k);
        table[i] = (float)sum * (1.7320508f / 65536);
    }
}

/* out[n] for ROW, KIND being which of its vectors. */
static void noise(const struct filling *f, size_t row, unsigned kind, size_t n, float *out)
{
    uint64_t bits = scramble(scramble(f->layer * 4 + kind) + row);
    float size = 0.75f + (float)(bits >> 40) * 0x1p-25f;
    for (size_t i = 0, at = bits % TABLE; i < n; i++, at = at + 1 == TABLE ? 0 : at + 1)
        out[i] = f->table[at] * size;
}

static void fill_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct filling *f = arg;
    sluice_session *s = f->s;
    const struct sl_config *c = &s->engine->weights->config;
    const struct sl_layer_cache *cache = &s->caches[f->layer];
    float *latent = f->rows + (size_t)thread * f->row_floats;
    float *rope = latent + c->kv_lora, *key = rope + c->rope;
    for (size_t row = begin; row < end; row++) {
        noise(f, row, 0, c->kv_lora, latent);
        noise(f, row, 1, c->rope, rope);
        s->ws.compute.ops->kv_store(&cache->kv, row, latent, rope);
        if (!s->ws.attention.types.index)
            continue;
        noise(f, row, 2, c->index_dim, key);
        s->ws.compute.ops->index_store(s->ws.attention.types.index, key, c->index_dim,
                                       sl_cache_panel(cache, row), row % SL_KEY_PANEL);
    }
}

static void fill_layer(struct filling *f, unsigned layer, size_t n)
{
    f->layer = layer;
    sl_team_run(&f->s->ws.compute.team, n, ROWS_PER_ITEM, fill_work, f);
}

int sluice_session_fill(sluice_session *s, const int32_t *tokens, size_t n, struct sluice_err *err)
{
    const struct sl_weights *w = s->engine->weights;
    const struct sl_config *c = &w->config;
    int status = sl_check_tokens(s, tokens, n, err);
    if (status < 0)
        return status;
    size_t row_floats = (size_t)c->kv_lora + c->rope + c->index_dim;
    struct filling *f = calloc(1, sizeof *f);
    float *rows = calloc(s->ws.compute.team.threads, row_floats * sizeof *rows);
    if (f && rows) {
        *f = (struct filling){.s = s, .rows = rows, .row_floats = row_floats};
        make_table(f->table);
        sl_session_cut(s, 0);
        for (unsigned layer = 0; layer < s->n_layers; layer++)
            fill_layer(f, layer, n);
        memcpy(s->tokens, tokens, n * sizeof *tokens);
        s->length = n;
        s->alone = true; /* noise is for nobody else */
        if (s->has_mtp) {
            s->mtp_length = n - 1;
            memset(s->mtp_rows, 0, c->hidden * sizeof *s->mtp_rows);
        }
    } else {
        status = sl_fail_nomem(err, "rows to fill caches with", row_floats * sizeof *rows);
    }
    free(rows);
    free(f);
    return status;
}
