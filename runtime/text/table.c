/* SPDX-License-Identifier: MIT */
/* Hash tables from token bytes to ids and from token pairs to merge ranks. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "runtime/base/err.h"
#include "runtime/text/text_private.h"

int sl_table_open(struct sl_table *table, size_t n, struct sluice_err *err)
{
    size_t slots = 16;
    while (slots < 2 * n)
        slots *= 2;
    table->slot = malloc(slots * sizeof *table->slot);
    if (!table->slot)
        return sl_fail_nomem(err, "hash table of the tokenizer", slots * sizeof *table->slot);
    memset(table->slot, 0xff, slots * sizeof *table->slot);
    table->mask = slots - 1;
    if (getrandom(&table->seed, sizeof table->seed, GRND_NONBLOCK) < 0)
        table->seed = (uintptr_t)table->slot; /* early boot: better than a constant */
    return 0;
}

void sl_table_close(struct sl_table *table)
{
    free(table->slot);
    table->slot = NULL;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_bytes(uint64_t seed, const char *bytes, size_t len)
{
    uint64_t hash = seed ^ len;
    for (size_t i = 0; i < len; i += 8) {
        uint64_t part = 0;
        memcpy(&part, bytes + i, len - i < 8 ? len - i : 8);
        hash = mix(hash ^ part, 0x9e3779b97f4a7c15u);
    }
    return mix(hash ^ seed, 0xd6e8feb86659fd93u);
}

int32_t *sl_words_slot(const struct sl_tokenizer *t, const char *bytes, size_t len)
{
    const struct sl_table *table = &t->words;
    for (size_t i = hash_bytes(table->seed, bytes, len) & table->mask;; i = (i + 1) & table->mask) {
        int32_t id = table->slot[i];
        if (id < 0 ||
            (t->token[id].len == len && memcmp(t->bytes + t->token[id].offset, bytes, len) == 0))
            return &table->slot[i];
    }
}

int32_t *sl_pairs_slot(const struct sl_tokenizer *t, int32_t left, int32_t right)
{
    const struct sl_table *table = &t->pairs;
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t i = mix(key ^ table->seed, 0x9e3779b97f4a7c15u) & table->mask;;
         i = (i + 1) & table->mask) {
        int32_t rank = table->slot[i];
        if (rank < 0 || (t->merge[rank].left == left && t->merge[rank].right == right))
            return &table->slot[i];
    }
}
