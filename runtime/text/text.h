/* SPDX-License-Identifier: MIT */
/*
 * The door of the text room: a byte-level BPE tokenizer read from a Hugging Face tokenizer.json,
 * and a detokenizer that turns tokens into whole UTF-8 characters.
 *
 * For valid UTF-8, encoding gives the ids that the Hugging Face library gives with
 * add_special_tokens=False, save for characters that only one of the two knows: PCRE2 10.42 has the
 * categories of Unicode 14, tokenizers 0.23 those of Unicode 16.  Files that ask for anything this
 * room does not do are refused by sl_tokenizer_open().  An open tokenizer is read-only: threads may
 * share it.
 */
#ifndef SL_TEXT_TEXT_H
#define SL_TEXT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

struct sl_tokenizer;
struct sl_detokenizer;

/*
 * Reads the tokenizer.json at PATH.  "post_processor" is not looked at: prompt templates put BOS
 * into the text, so ids are never added around it.
 */
int sl_tokenizer_open(struct sl_tokenizer **t, const char *path, struct sluice_err *err);
void sl_tokenizer_close(struct sl_tokenizer **t);

/*
 * Tokenises LEN bytes; returns the number of ids in *tokens (malloc'ed, owned by the caller, set
 * even when there are none).  FLAGS: 0 or SLUICE_PLAIN_TEXT; other bits mean nothing here.  Bytes
 * that are not UTF-8 are first replaced by U+FFFD.  Time is O(n log n) in LEN for the patterns of
 * published models.
 */
int64_t sl_tokenizer_encode(const struct sl_tokenizer *t, const char *text, size_t len,
                            unsigned flags, int32_t **tokens, struct sluice_err *err);

/*
 * The bytes ID stands for (not NUL-terminated, valid until close, not always UTF-8 by themselves);
 * for an added token, its content.  False when no token has this id.
 */
bool sl_tokenizer_token(const struct sl_tokenizer *t, int32_t id, const char **bytes, size_t *len);

/* Id of the token that stands for exactly TEXT, added tokens first; -1: none. */
int32_t sl_tokenizer_find(const struct sl_tokenizer *t, const char *text);

/* Largest id + 1. */
int32_t sl_tokenizer_size(const struct sl_tokenizer *t);

/*
 * The contract of these four is in sluice.h.  T must outlive D.  Only open allocates.
 */
int sl_detokenizer_open(struct sl_detokenizer **d, const struct sl_tokenizer *t,
                        struct sluice_err *err);
void sl_detokenizer_push(struct sl_detokenizer *d, int32_t token, const char **text, size_t *len);
void sl_detokenizer_end(struct sl_detokenizer *d, const char **text, size_t *len);
void sl_detokenizer_close(struct sl_detokenizer **d);

#endif
