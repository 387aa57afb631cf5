/* SPDX-License-Identifier: MIT */
/*
 * Byte-pair encoding of one piece: repeatedly merges the adjacent pair of lowest rank, leftmost
 * first.  Symbols are a doubly linked list in an array; candidate pairs wait in a binary heap,
 * where stale ones are left and skipped when they surface.  O(n log n) for n bytes.
 */
#include <assert.h>
#include <stdlib.h>

#include "runtime/base/err.h"
#include "runtime/text/text_private.h"

static void heap_push(struct sl_encoder *e, uint64_t item)
{
    size_t i = e->n_heap++;
    for (; i > 0 && e->heap[(i - 1) / 2] > item; i = (i - 1) / 2)
        e->heap[i] = e->heap[(i - 1) / 2];
    e->heap[i] = item;
}

static uint64_t heap_pop(struct sl_encoder *e)
{
    uint64_t top = e->heap[0], item = e->heap[--e->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < e->n_heap; i = child) {
        if (child + 1 < e->n_heap && e->heap[child + 1] < e->heap[child])
            child++;
        if (e->heap[child] >= item)
            break;
        e->heap[i] = e->heap[child];
    }
    e->heap[i] = item;
    return top;
}

/* Queues the merge of the symbol at AT with its right neighbour, if there is one. */
static void consider(struct sl_encoder *e, int32_t at)
{
    if (at < 0 || e->symbol[at].next < 0)
        return;
    int32_t rank = *sl_pairs_slot(e->t, e->symbol[at].id, e->symbol[e->symbol[at].next].id);
    if (rank >= 0)
        heap_push(e, (uint64_t)rank << 32 | (uint32_t)at);
}

static void merge(struct sl_encoder *e, uint64_t item)
{
    const struct sl_merge *m = &e->t->merge[item >> 32];
    int32_t at = (int32_t)(item & UINT32_MAX);
    struct sl_symbol *left = &e->symbol[at];
    if (left->id != m->left || left->next < 0 || e->symbol[left->next].id != m->right)
        return;
    struct sl_symbol *right = &e->symbol[left->next];
    left->id = m->result;
    left->next = right->next;
    right->id = -1;
    if (left->next >= 0)
        e->symbol[left->next].prev = at;
    consider(e, left->prev);
    consider(e, at);
}

/* The heap holds at most one item per first pair and two more for each merge, which removes one. */
static int reserve(struct sl_encoder *e, size_t len)
{
    if (len <= e->room)
        return 0;
    size_t room = len < 256 ? 256 : len;
    free(e->symbol);
    free(e->heap);
    e->room = 0;
    e->symbol = malloc(room * sizeof *e->symbol);
    e->heap = malloc(2 * room * sizeof *e->heap);
    if (!e->symbol || !e->heap)
        return sl_fail_nomem(e->err, "tokenising",
                             room * (sizeof *e->symbol + 2 * sizeof *e->heap));
    e->room = room;
    return 0;
}

int sl_bpe_encode(struct sl_encoder *e, const char *piece, size_t len)
{
    if (e->t->ignore_merges) {
        int32_t id = *sl_words_slot(e->t, piece, len);
        if (id >= 0)
            return sl_encoder_push(e, id);
    }
    int status = reserve(e, len);
    if (status < 0)
        return status;
    for (size_t i = 0; i < len; i++) {
        e->symbol[i] = (struct sl_symbol){
            .id = e->t->byte_id[(uint8_t)piece[i]],
            .prev = (int32_t)i - 1,
            .next = i + 1 < len ? (int32_t)i + 1 : -1,
        };
        assert(e->symbol[i].id >= 0); /* the text is UTF-8 by now */
    }
    e->n_heap = 0;
    for (size_t i = 0; i < len; i++)
        consider(e, (int32_t)i);
    while (e->n_heap)
        merge(e, heap_pop(e));
    for (int32_t i = 0; i >= 0 && status == 0; i = e->symbol[i].next)
        status = sl_encoder_push(e, e->symbol[i].id);
    return status;
}
