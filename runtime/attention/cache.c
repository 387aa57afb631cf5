/* SPDX-License-Identifier: MIT */
/* Sizes of the latent KV cache and of the index key cache. */
#include "runtime/attention/attention.h"
#include "runtime/base/arith.h"

void sl_cache_take(struct sl_layer_cache *cache, struct sl_arena *arena, const struct sl_config *c,
                   struct sl_cache_types types, size_t capacity)
{
    struct sl_kv *kv = &cache->kv;
    kv->type = types.kv;
    kv->latent_dim = c->kv_lora;
    kv->rope_dim = c->rope;
    kv->latent_stride = sl_round_up(sl_kv_latent_bytes(types.kv, c->kv_lora), 64);
    kv->tail_stride = sl_round_up(sl_kv_tail_bytes(types.kv, c->kv_lora, c->rope), 4);
    kv->latent = sl_arena_take(arena, capacity, kv->latent_stride);
    kv->tail = sl_arena_take(arena, capacity, kv->tail_stride);
    if (types.index)
        cache->keys = sl_arena_take(arena, sl_ceil_div(capacity, SL_KEY_PANEL),
                                    sl_key_panel_bytes(types.index, c->index_dim));
}
