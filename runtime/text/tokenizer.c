/* SPDX-License-Identifier: MIT */
/* Opening and closing a tokenizer; its parts are loaded by their own files. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/json.h"
#include "runtime/text/text_private.h"

int sl_tokenizer_open(struct sl_tokenizer **t, const char *path, struct sluice_err *err)
{
    json_t *root = NULL;
    *t = NULL;
    int status = sl_json_read(path, SL_TOKENIZER_FILE_MAX, &root, err);
    if (status < 0)
        return status;
    *t = calloc(1, sizeof **t);
    if (!*t || !((*t)->path = strdup(path)))
        status = sl_fail_nomem(err, "tokenizer", sizeof **t);
    if (status == 0)
        status = sl_settings_check(root, path, err);
    if (status == 0)
        status = sl_pretokenize_load(*t, root, err);
    if (status == 0)
        status = sl_vocabulary_load(*t, root, err);
    if (status < 0)
        sl_tokenizer_close(t);
    json_decref(root);
    return status;
}

void sl_tokenizer_close(struct sl_tokenizer **t)
{
    struct sl_tokenizer *closing = *t;
    if (!closing)
        return;
    for (size_t i = 0; i < closing->n_stages; i++)
        pcre2_code_free(closing->stage[i]);
    for (int set = 0; set < 2; set++)
        sl_trie_close(&closing->added[set]);
    sl_table_close(&closing->words);
    sl_table_close(&closing->pairs);
    free(closing->merge);
    free(closing->token);
    free(closing->bytes);
    free(closing->path);
    free(closing);
    *t = NULL;
}

bool sl_tokenizer_token(const struct sl_tokenizer *t, int32_t id, const char **bytes, size_t *len)
{
    if (id < 0 || id >= t->size || t->token[id].len == 0)
        return false;
    *bytes = t->bytes + t->token[id].offset;
    *len = t->token[id].len;
    return true;
}

int32_t sl_tokenizer_size(const struct sl_tokenizer *t)
{
    return t->size;
}
