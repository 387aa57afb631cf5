/* SPDX-License-Identifier: MIT */
/*
 * attention.h: Multi-head Latent Attention in its absorbed form, with the lightning indexer where
 * the model has one.  A query with more than index_topk visible keys attends to the selected ones
 * and no others.
 */
#ifndef SL_ATTENTION_H
#define SL_ATTENTION_H

#include "runtime/model/matmul.h"
#include "runtime/model/weights.h"

/* ---- caches --------------------------------------------------------------------------------- */

struct sl_cache_types {
    enum sl_cache kv;
    enum sl_cache index; /* 0: no selection, every key is attended to */
};

/* One layer's caches: latent rows, and index keys where keys are selected; both in blocks of
 * 2^kv.shift tokens, a multiple of SL_KEY_PANEL. */
struct sl_layer_cache {
    struct sl_kv kv;
    uint8_t **keys;     /* [blocks]: key panels of each; NULL: no keys are selected */
    size_t panel_bytes; /* 0: likewise */
};

/* What a block has of one layer. */
struct sl_cache_rows {
    struct sl_kv_block kv;
    uint8_t *keys; /* or NULL */
};

/* Takes the tables of one layer's caches of BLOCKS blocks of 2^SHIFT rows from ARENA; */
void sl_cache_take_table(struct sl_layer_cache *cache, struct sl_arena *arena,
                         const struct sl_config *c, struct sl_cache_types types, uint32_t shift,
                         size_t blocks);

/* then the memory of N rows of a block. */
struct sl_cache_rows sl_cache_take_rows(const struct sl_layer_cache *cache, struct sl_arena *arena,
                                        size_t n);

/* All of a cache for CAPACITY tokens, in one block. */
void sl_cache_take(struct sl_layer_cache *cache, struct sl_arena *arena, const struct sl_config *c,
                   struct sl_cache_types types, size_t capacity);

static inline struct sl_cache_rows sl_cache_rows(const struct sl_layer_cache *cache, size_t block)
{
    return (struct sl_cache_rows){cache->kv.block[block], cache->keys ? cache->keys[block] : NULL};
}

static inline void sl_cache_set_rows(struct sl_layer_cache *cache, size_t block,
                                     struct sl_cache_rows rows)
{
    cache->kv.block[block] = rows.kv;
    if (cache->keys)
        cache->keys[block] = rows.keys;
}

/* The panel of key S. */
static inline uint8_t *sl_cache_panel(const struct sl_layer_cache *cache, size_t s)
{
    return cache->keys[s >> cache->kv.shift] +
           sl_kv_row(&cache->kv, s) / SL_KEY_PANEL * cache->panel_bytes;
}

/* ---- hooks ---------------------------------------------------------------------------------- */

/* Sees, and may change, what the model decides: for tests and measurements. */
struct sl_hooks {
    void *user;
    /* The N keys chosen for the query at POSITION, ascending; entries may be replaced. */
    void (*select)(void *user, unsigned layer, size_t position, uint32_t *keys, size_t n);
    /* The experts chosen, ascending, and their weights; experts may be replaced. */
    void (*route)(void *user, unsigned layer, size_t position, uint32_t *experts,
                  const float *weights, size_t n);
    /* How the experts of a layer were brought and computed. */
    void (*experts)(void *user, const struct sluice_expert_event *event);
    /* The residual stream after LAYER: float[n][hidden]. */
    void (*hidden)(void *user, unsigned layer, size_t position, size_t n, const float *hidden);
};

/* ---- places --------------------------------------------------------------------------------- */

/* Whose tokens they are: who hears of them, and what is counted. */
struct sl_owner {
    const struct sl_hooks *hooks; /* or NULL */
    uint64_t sparse_queries;      /* (layer, query) pairs that used a selection */
    uint64_t expert_uses;         /* experts that a token was routed to */
};

/* Where a token belongs. */
struct sl_place {
    struct sl_layer_cache *cache;
    size_t position;
    struct sl_owner *owner; /* or NULL */
};

/* Of the tokens of a call: consecutive ones from `first` on, or EACH has its own, in a cache of its
 * own. */
struct sl_places {
    struct sl_place first;
    const struct sl_place *each; /* or NULL */
};

static inline struct sl_place sl_place_of(const struct sl_places *p, size_t t)
{
    return p->each ? p->each[t]
                   : (struct sl_place){p->first.cache, p->first.position + t, p->first.owner};
}

/* The places from token T on. */
static inline struct sl_places sl_places_from(const struct sl_places *p, size_t t)
{
    return (struct sl_places){sl_place_of(p, t), p->each ? p->each + t : NULL};
}

/* ---- attention ------------------------------------------------------------------------------ */

enum { SL_QUERY_TILE = 8 }; /* queries scored together */

/* Scores of a tile of queries, and what choosing by them needs. */
struct sl_choice {
    size_t stride, most_groups;
    float *score;    /* [SL_QUERY_TILE][stride] */
    float *largest;  /* [SL_QUERY_TILE][most_groups]: of groups of scores */
    float *bar;      /* [SL_QUERY_TILE]: no score below is chosen */
    uint32_t *index; /* [SL_QUERY_TILE][stride]: keys that reach the bar, */
    float *value;    /* and their scores */
    size_t *found;   /* how many they are, of each part of the keys of each query */
};

/* Scratch for one chunk, and for a tile of its tokens; all is taken from the session's arena. */
struct sl_attention {
    const struct sl_config *config;
    const struct sl_compute *compute;
    struct sl_cache_types types;
    size_t chunk;    /* most tokens per call */
    size_t capacity; /* tokens of a cache */
    float softmax_scale;
    float rope_factor;    /* on cosine and sine */
    float *frequency;     /* [rope/2] */
    float *cosine, *sine; /* [chunk][rope/2] */
    size_t *turned;       /* [chunk]: the position that these are of, plus 1; 0: none yet */

    struct sl_codes x_codes; /* the normed input */
    float *q_a;              /* [chunk][q_lora] */
    struct sl_codes q_a_codes;
    float *kv_a;                 /* [chunk][kv_lora + rope] */
    float *q;                    /* [chunk][heads][nope + rope], rows a little apart */
    struct sl_codes nope_codes;  /* [tile][heads · padded nope] */
    float *latent_q;             /* [tile][heads][kv_lora]: absorbed queries, or NULL */
    float *absorbed;             /* [threads][tile][kv_lora]: of one head, else; rows apart */
    int8_t *latent_q_codes;      /* [tile][heads][kv_lora] */
    float *latent_q_scale;       /* [tile][heads][ceil(kv_lora/128)] */
    float *mixed;                /* [tile][heads][kv_lora]: attention over latents */
    struct sl_codes mixed_codes; /* [tile][heads · padded kv_lora] */
    float *softmax;              /* [tile][heads][2]: max and sum, by groups of heads */
    float *block;                /* [threads][heads · (kv_lora + 2)]: one block's result */
    uint8_t *attend_scratch;     /* [threads][attend_bytes] */
    size_t attend_bytes;
    float *values; /* [chunk][heads][v_dim] */
    struct sl_codes values_codes;

    float *index_key;    /* [chunk][index_dim] */
    float *index_weight; /* [chunk][index_heads] */
    float *index_q;      /* [chunk][index_heads][index_dim] */
    int8_t *index_q_codes;
    struct sl_choice choice;
    uint32_t *selected; /* [chunk][index_topk] */
};

/* Take memory from ARENA: what lasts, and what is of no use between two calls but for `selected`.
 * config, compute, types, chunk and capacity are set before. */
void sl_attention_take_tables(struct sl_attention *a, struct sl_arena *arena);
void sl_attention_take_scratch(struct sl_attention *a, struct sl_arena *arena);

/* Computes the constants, once the arena is allocated. */
void sl_attention_init(struct sl_attention *a);

/*
 * out[n][hidden] = attention of layer LAYER over x[n][hidden], the normed hidden states of the
 * tokens at PLACES, n ≤ chunk.  Writes these positions into their caches, which must hold all
 * earlier ones.  A cache may have no index keys where it is too small for a selection.
 */
void sl_attention_run(struct sl_attention *a, const struct sl_layer_weights *w,
                      const struct sl_places *places, unsigned layer, const float *x, size_t n,
                      float *out);

/* Only writes the positions into their caches, to the same bits. */
void sl_attention_keep(struct sl_attention *a, const struct sl_layer_weights *w,
                       const struct sl_places *places, const float *x, size_t n);

#endif
