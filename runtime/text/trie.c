/* SPDX-License-Identifier: MIT */
/*
 * The added tokens as a tree of bytes.  A scan that takes the longest token at the first position
 * where any begins gives the leftmost-longest matches; tokens are at most SL_ADDED_MAX bytes long,
 * so that no failure links are needed to keep it linear.
 */
#include <stdlib.h>

#include "runtime/base/err.h"
#include "runtime/text/text_private.h"

int sl_trie_open(struct sl_trie *trie, size_t bytes, struct sluice_err *err)
{
    *trie = (struct sl_trie){.n = 1};
    trie->node = calloc(bytes + 1, sizeof *trie->node);
    if (!trie->node)
        return sl_fail_nomem(err, "added tokens", (bytes + 1) * sizeof *trie->node);
    return 0;
}

void sl_trie_close(struct sl_trie *trie)
{
    free(trie->node);
    trie->node = NULL;
}

static int32_t next_node(const struct sl_trie *trie, int32_t chain, uint8_t byte)
{
    while (chain && trie->node[chain].byte != byte)
        chain = trie->node[chain].sibling;
    return chain;
}

bool sl_trie_add(struct sl_trie *trie, const char *bytes, size_t len, int32_t id)
{
    int32_t *chain = &trie->root[(uint8_t)bytes[0]];
    int32_t at = 0;
    for (size_t i = 0; i < len; i++) {
        at = next_node(trie, *chain, (uint8_t)bytes[i]);
        if (!at) {
            at = trie->n++;
            trie->node[at] = (struct sl_trie_node){
                .sibling = *chain, .id = -1, .byte = (uint8_t)bytes[i]};
            *chain = at;
        }
        chain = &trie->node[at].child;
    }
    if (trie->node[at].id >= 0)
        return false;
    trie->node[at].id = id;
    return true;
}

int32_t sl_trie_longest(const struct sl_trie *trie, const char *text, size_t len, size_t *matched)
{
    int32_t found = -1;
    int32_t at = len ? trie->root[(uint8_t)text[0]] : 0;
    for (size_t i = 1; at; i++) {
        if (trie->node[at].id >= 0) {
            found = trie->node[at].id;
            *matched = i;
        }
        at = i < len ? next_node(trie, trie->node[at].child, (uint8_t)text[i]) : 0;
    }
    return found;
}
