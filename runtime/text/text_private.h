/* SPDX-License-Identifier: MIT */
/* Private to runtime/text. */
#ifndef SL_TEXT_INTERNAL_H
#define SL_TEXT_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>

#include "runtime/text/text.h"

enum {
    SL_TOKENS_MAX = 1 << 24,      /* ids are below this */
    SL_WORD_MAX = 1 << 16,        /* bytes of one entry of the vocabulary */
    SL_ADDED_MAX = 1024,          /* bytes of one added token */
    SL_ADDED_TOTAL_MAX = 1 << 20, /* bytes of all added tokens */
    SL_STAGES_MAX = 16,           /* Split entries of the pre-tokenizer */
    SL_PATTERN_MAX = 1 << 14,     /* bytes of one pattern */
    SL_REPLACEMENT_LEN = 3,       /* bytes of U+FFFD */
};

#define SL_TOKENIZER_FILE_MAX ((size_t)64 << 20)
#define SL_REPLACEMENT "\xef\xbf\xbd"

/* Open addressing over indices into an array of the owner; -1: free.  At most half full. */
struct sl_table {
    uint64_t seed; /* random, so that a file cannot be made to collide */
    size_t mask;
    int32_t *slot;
};

/* Added tokens by their bytes.  Node 0 does not exist: 0 ends the child and sibling chains. */
struct sl_trie {
    struct sl_trie_node {
        int32_t child;
        int32_t sibling;
        int32_t id; /* of the token that ends here, or -1 */
        uint8_t byte;
    } * node;
    int32_t n;
    int32_t root[256]; /* node of each first byte, or 0 */
};

struct sl_token {
    uint32_t offset; /* into sl_tokenizer.bytes */
    uint32_t len;    /* 0: no token has this id */
};

struct sl_merge {
    int32_t left, right, result;
};

struct sl_tokenizer {
    char *path; /* for messages */
    int32_t size;
    struct sl_token *token; /* [size] */
    char *bytes;            /* of all tokens */
    size_t n_bytes;
    size_t longest;         /* bytes of the longest token */
    int32_t byte_id[256];   /* token of each single byte; -1 only for bytes UTF-8 never has */
    struct sl_table words;  /* bytes of a vocabulary token -> id */
    struct sl_merge *merge; /* [n_merges], by rank */
    size_t n_merges;
    struct sl_table pairs;   /* (left, right) -> rank */
    bool ignore_merges;      /* a piece that is a token stays whole */
    struct sl_trie added[2]; /* "normalized": false, true: matched in this order */
    pcre2_code *stage[SL_STAGES_MAX];
    size_t n_stages;
};

/* State of one sl_tokenizer_encode(). */
struct sl_encoder {
    const struct sl_tokenizer *t;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    struct sl_symbol {
        int32_t id;         /* -1: merged into its left neighbour */
        int32_t next, prev; /* -1: none */
    } * symbol;
    uint64_t *heap; /* rank << 32 | position of the left symbol; smallest first */
    size_t n_heap;
    size_t room; /* symbols that `symbol` and half of `heap` can hold */
    int32_t *ids;
    size_t n, capacity;
    struct sluice_err *err;
};

/* settings.c: refuses what this build does not do. */
int sl_settings_check(json_t *root, const char *path, struct sluice_err *err);
/* Every key of OBJECT must be in the NULL-terminated list KNOWN. */
int sl_settings_known(json_t *object, const char *path, const char *what, const char *const *known,
                      struct sluice_err *err);
/* "PATH: KEY is FOUND, WANTED is wanted"; SLUICE_EUNSUPPORTED. */
int sl_settings_refuse(const char *path, const char *key, const json_t *found, const char *wanted,
                       struct sluice_err *err);

/* vocabulary.c: added tokens, vocabulary and merges. */
int sl_vocabulary_load(struct sl_tokenizer *t, json_t *root, struct sluice_err *err);

/* pattern.c: a pattern for PCRE2 that matches what PATTERN matches in Oniguruma; malloc'ed. */
int sl_pattern_translate(const char *path, const char *pattern, char **out, struct sluice_err *err);

/* pretokenize.c */
int sl_pretokenize_load(struct sl_tokenizer *t, json_t *root, struct sluice_err *err);
int sl_pretokenize(struct sl_encoder *e, const char *text, size_t len, size_t stage);

/* bpe.c: appends the ids of one piece. */
int sl_bpe_encode(struct sl_encoder *e, const char *piece, size_t len);

/* encode.c */
int sl_encoder_push(struct sl_encoder *e, int32_t id);

/* table.c */
int sl_table_open(struct sl_table *table, size_t n, struct sluice_err *err);
void sl_table_close(struct sl_table *table);
/* Slot of the token with these bytes (of this pair), or the free slot where it would go. */
int32_t *sl_words_slot(const struct sl_tokenizer *t, const char *bytes, size_t len);
int32_t *sl_pairs_slot(const struct sl_tokenizer *t, int32_t left, int32_t right);

/* trie.c */
int sl_trie_open(struct sl_trie *trie, size_t bytes, struct sluice_err *err);
void sl_trie_close(struct sl_trie *trie);
/* Adds LEN ≥ 1 bytes; the bytes given to open must suffice.  False: they are there already. */
bool sl_trie_add(struct sl_trie *trie, const char *bytes, size_t len, int32_t id);
/* Id of the longest token that TEXT begins with, and its length; -1: none. */
int32_t sl_trie_longest(const struct sl_trie *trie, const char *text, size_t len, size_t *matched);

/* utf8.c */
enum sl_utf8 {
    SL_UTF8_CHAR, /* a whole character */
    SL_UTF8_BAD,  /* bytes that cannot begin a character: one U+FFFD */
    SL_UTF8_PART, /* a character cut off by the end of the text */
};
/* What LEN ≥ 1 bytes begin with, and its length in *used. */
enum sl_utf8 sl_utf8_next(const char *text, size_t len, size_t *used);
/* Bytes of TEXT with every bad part as U+FFFD; OUT may be NULL to count. */
size_t sl_utf8_repair(const char *text, size_t len, char *out);
/* Length of the longest prefix of at most LIMIT bytes that does not cut a character. */
int sl_utf8_cut(const char *text, int limit);

#endif
