/* SPDX-License-Identifier: MIT */
/*
 * A session's cache rows, in blocks that sessions of an engine may share.  Opening a session maps a
 * block for each of its places, so that there are always enough: those that nobody uses, because
 * sessions share others, are the engine's spare ones, and who needs one of its own again takes it
 * from there.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/huge.h"
#include "runtime/session/session.h"

unsigned sl_block_shift = 10;

enum { ROWS_PER_ITEM = 128 }; /* a multiple of SL_KEY_PANEL */

/* ---- memory --------------------------------------------------------------------------------- */

static size_t rows_of_block(const sluice_session *s, size_t block)
{
    size_t first = block << s->block_shift;
    return sl_min((size_t)1 << s->block_shift, s->capacity - first);
}

/* Counts what BLOCK takes. */
static void count_block(const sluice_session *s, size_t block, struct sl_arena *memory)
{
    *memory = (struct sl_arena){0};
    for (uint32_t i = 0; i < s->n_layers; i++)
        sl_cache_take_rows(&s->caches[i], memory, rows_of_block(s, block));
}

/* Makes the layers' caches see BLOCK. */
static void show_block(sluice_session *s, size_t block)
{
    struct sl_arena memory = s->blocks[block]->memory;
    for (uint32_t i = 0; i < s->n_layers; i++) {
        struct sl_layer_cache *cache = &s->caches[i];
        sl_cache_set_rows(cache, block,
                          sl_cache_take_rows(cache, &memory, rows_of_block(s, block)));
    }
}

void sl_blocks_take(sluice_session *s, struct sl_arena *arena, struct sl_cache_types types)
{
    struct sl_arena first, last;
    size_t kv;
    s->block_shift = sl_block_shift;
    s->n_blocks = sl_ceil_div(s->capacity, (size_t)1 << s->block_shift);
    s->blocks = sl_arena_take(arena, s->n_blocks, sizeof *s->blocks);
    for (uint32_t i = 0; i < s->n_layers; i++)
        sl_cache_take_table(&s->caches[i], arena, s->ws.config, types, s->block_shift, s->n_blocks);
    count_block(s, 0, &first);
    count_block(s, s->n_blocks - 1, &last);
    if (first.overflow || last.overflow || !sl_mul(first.used, s->n_blocks - 1, &kv) ||
        !sl_add(kv, last.used, &kv))
        arena->overflow = 1;
    else
        s->stats.kv_bytes = kv;
}

int sl_blocks_open(sluice_session *s, struct sluice_err *err)
{
    int status = 0;
    for (size_t b = 0; status == 0 && b < s->n_blocks; b++) {
        struct sl_block *block = s->blocks[b] = calloc(1, sizeof *block);
        if (!block)
            return sl_fail_nomem(err, "block of a session", sizeof *block);
        block->sessions = 1;
        count_block(s, b, &block->memory);
        status = sl_arena_allocate(&block->memory, "session (caches)", err);
        if (status == 0)
            show_block(s, b);
    }
    return status;
}

/* There is one: sessions brought as many blocks of SIZE as they have places for, and use fewer. */
static struct sl_block *take_spare(sluice_engine *e, size_t size)
{
    struct sl_block **link = &e->spare;
    while ((*link)->memory.size != size)
        link = &(*link)->next;
    struct sl_block *block = *link;
    *link = block->next;
    return block;
}

void sl_blocks_close(sluice_session *s)
{
    for (size_t b = 0; s->blocks && b < s->n_blocks && s->blocks[b]; b++) {
        struct sl_block *block = s->blocks[b];
        if (--block->sessions > 0) /* others go on with it */
            block = take_spare(s->engine, block->memory.size);
        sl_arena_free(&block->memory);
        free(block);
    }
}

void sl_blocks_advise(sluice_session *s, size_t n)
{
    for (size_t b = 0; b << s->block_shift < n; b++)
        sl_huge_advise(s->blocks[b]->memory.base, s->blocks[b]->memory.size);
}

/* ---- copying -------------------------------------------------------------------------------- */

/* Rows of a block from the beginning of a key panel on. */
struct copying {
    const struct sl_layer_cache *cache;
    struct sl_cache_rows from, to;
    size_t first;
};

static void copy_rows(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct copying *c = arg;
    size_t row = c->first + begin, n = end - begin, latent = c->cache->kv.latent_stride;
    size_t tail = c->cache->kv.tail_stride, panel = row / SL_KEY_PANEL * c->cache->panel_bytes;
    (void)thread;
    memcpy(c->to.kv.latent + row * latent, c->from.kv.latent + row * latent, n * latent);
    memcpy(c->to.kv.tail + row * tail, c->from.kv.tail + row * tail, n * tail);
    if (c->to.keys)
        memcpy(c->to.keys + panel, c->from.keys + panel,
               sl_ceil_div(n, SL_KEY_PANEL) * c->cache->panel_bytes);
}

/* Rows [first, end) of a block; no key panel is two items'. */
static void copy_block(sluice_session *s, uint32_t layer, struct sl_cache_rows from,
                       struct sl_cache_rows to, size_t first, size_t end)
{
    struct copying c = {&s->caches[layer], from, to, first / SL_KEY_PANEL * SL_KEY_PANEL};
    if (first < end)
        sl_team_run(&s->ws.compute.team, end - c.first, ROWS_PER_ITEM, copy_rows, &c);
}

void sl_blocks_copy(sluice_session *s, const sluice_session *from, uint32_t layer, size_t first,
                    size_t end)
{
    const struct sl_kv *kv = &s->caches[layer].kv;
    for (size_t at = first, n; at < end; at += n) {
        size_t block = at >> s->block_shift, row = sl_kv_row(kv, at);
        n = sl_kv_beside(kv, at, end - at);
        copy_block(s, layer, sl_cache_rows(&from->caches[layer], block),
                   sl_cache_rows(&s->caches[layer], block), row, row + n);
    }
}

/* ---- sharing -------------------------------------------------------------------------------- */

size_t sl_blocks_share(sluice_session *s, const sluice_session *from, size_t n)
{
    size_t whole = n >> s->block_shift;
    for (size_t b = 0; b < whole; b++) {
        struct sl_block *block = s->blocks[b];
        if (block == from->blocks[b])
            continue;
        s->blocks[b] = from->blocks[b];
        s->blocks[b]->sessions++;
        show_block(s, b);
        if (--block->sessions > 0)
            continue;
        sl_arena_forget(&block->memory);
        block->next = s->engine->spare;
        s->engine->spare = block;
    }
    return whole << s->block_shift;
}

/* Rows that the session holds of a LAYER's part of BLOCK. */
static size_t held(const sluice_session *s, uint32_t layer, size_t block)
{
    size_t first = block << s->block_shift;
    size_t length = layer < s->ws.config->layers ? s->length : s->mtp_length;
    return length > first ? sl_min(length - first, rows_of_block(s, block)) : 0;
}

/* The session gets a BLOCK of its own, with the rows that it holds. */
static void part_with(sluice_session *s, size_t block)
{
    struct sl_block *shared = s->blocks[block];
    struct sl_block *own = s->blocks[block] = take_spare(s->engine, shared->memory.size);
    struct sl_arena memory = own->memory;
    shared->sessions--;
    own->sessions = 1;
    for (uint32_t i = 0; i < s->n_layers; i++) {
        struct sl_layer_cache *cache = &s->caches[i];
        struct sl_cache_rows from = sl_cache_rows(cache, block);
        struct sl_cache_rows to = sl_cache_take_rows(cache, &memory, rows_of_block(s, block));
        sl_cache_set_rows(cache, block, to);
        copy_block(s, i, from, to, 0, held(s, i, block));
    }
}

void sl_blocks_own(sluice_session *s, size_t first)
{
    for (size_t b = first >> s->block_shift; b < s->n_blocks; b++)
        if (s->blocks[b]->sessions > 1)
            part_with(s, b);
}

void sl_session_cut(sluice_session *s, size_t length)
{
    s->length = sl_min(s->length, length);
    s->mtp_length = sl_min(s->mtp_length, length);
    s->have_logits = false;
    sl_blocks_own(s, s->has_mtp ? sl_min(s->length, s->mtp_length) : s->length);
}
