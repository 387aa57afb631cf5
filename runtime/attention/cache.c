/* SPDX-License-Identifier: MIT */
/* Layout of the latent KV cache and of the index key cache. */
#include "runtime/attention/attention.h"
#include "runtime/base/arith.h"

void sl_cache_take_table(struct sl_layer_cache *cache, struct sl_arena *arena,
                         const struct sl_config *c, struct sl_cache_types types, uint32_t shift,
                         size_t blocks)
{
    struct sl_kv *kv = &cache->kv;
    kv->type = types.kv;
    kv->latent_dim = c->kv_lora;
    kv->rope_dim = c->rope;
    kv->shift = shift;
    kv->latent_stride = sl_round_up(sl_kv_latent_bytes(types.kv, c->kv_lora), 64);
    kv->tail_stride = sl_round_up(sl_kv_tail_bytes(types.kv, c->kv_lora, c->rope), 4);
    kv->block = sl_arena_take(arena, blocks, sizeof *kv->block);
    cache->panel_bytes = types.index ? sl_key_panel_bytes(types.index, c->index_dim) : 0;
    cache->keys = types.index ? sl_arena_take(arena, blocks, sizeof *cache->keys) : NULL;
}

struct sl_cache_rows sl_cache_take_rows(const struct sl_layer_cache *cache, struct sl_arena *arena,
                                        size_t n)
{
    struct sl_cache_rows rows = {0};
    rows.kv.latent = sl_arena_take(arena, n, cache->kv.latent_stride);
    rows.kv.tail = sl_arena_take(arena, n, cache->kv.tail_stride);
    if (cache->panel_bytes > 0)
        rows.keys = sl_arena_take(arena, sl_ceil_div(n, SL_KEY_PANEL), cache->panel_bytes);
    return rows;
}

void sl_cache_take(struct sl_layer_cache *cache, struct sl_arena *arena, const struct sl_config *c,
                   struct sl_cache_types types, size_t capacity)
{
    sl_cache_take_table(cache, arena, c, types, SL_ONE_BLOCK, 1);
    struct sl_cache_rows rows = sl_cache_take_rows(cache, arena, capacity);
    if (arena->base)
        sl_cache_set_rows(cache, 0, rows);
}
