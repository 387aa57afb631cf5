/* SPDX-License-Identifier: MIT */
/* Reading what is measured on. */
#include "tools/eval/sequences.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quant/quant.h"
#include "runtime/base/err.h"
#include "runtime/base/file.h"

enum { MAX_TOKEN_BYTES = 64 << 20, MAX_TEXT_BYTES = 256 << 20 };

static int read_file(const char *path, size_t limit, char **data, size_t *bytes,
                     struct sluice_err *err)
{
    if (access(path, F_OK) != 0)
        return sl_fail(err, SLUICE_EARG, "%s: no such file", path);
    return sl_file_read(path, limit, data, bytes, err);
}

int sl_read_ids(const char *path, int32_t **tokens, size_t *n, struct sluice_err *err)
{
    char *data;
    size_t bytes;
    *tokens = NULL;
    int status = read_file(path, MAX_TOKEN_BYTES, &data, &bytes, err);
    if (status < 0)
        return status;
    *tokens = (int32_t *)(void *)data;
    *n = bytes / sizeof **tokens;
    if (bytes % sizeof **tokens != 0 || bytes == 0)
        return sl_fail(err, SLUICE_EARG,
                       "%s: %zu bytes: not a whole number (at least 1) of int32 ids", path, bytes);
    return 0;
}

/* −1: the model has none. */
static int find_bos(const sluice_engine *engine, int32_t *bos, struct sluice_err *err)
{
    int32_t *tokens;
    int64_t n = sluice_tokenize(engine, "", 0, SLUICE_ADD_BOS, &tokens, err);
    *bos = n > 0 ? tokens[0] : -1;
    sluice_tokens_free(tokens);
    return n < 0 ? (int)n : 0;
}

/* TEXT[0..n) with BOS at every multiple of CONTEXT. */
static int insert_bos(const int32_t *text, size_t n, int32_t bos, size_t context, int32_t **tokens,
                      size_t *total, struct sluice_err *err)
{
    size_t most = 2 * n + 1;
    int32_t *out = *tokens = malloc(most * sizeof *out);
    if (!out)
        return sl_fail_nomem(err, "tokens", most * sizeof *out);
    *total = 0;
    for (size_t i = 0; i < n; i++) {
        if (bos >= 0 && *total % context == 0)
            out[(*total)++] = bos;
        out[(*total)++] = text[i];
    }
    return 0;
}

int sl_read_text(const char *path, const sluice_engine *engine, size_t context, int32_t **tokens,
                 size_t *n, struct sluice_err *err)
{
    char *data = NULL;
    size_t bytes;
    int32_t bos, *text = NULL;
    int64_t length = 0;
    *tokens = NULL;
    if (context < 2)
        return sl_fail(err, SLUICE_EARG, "sequences of %zu tokens; at least 2 are wanted", context);
    int status = read_file(path, MAX_TEXT_BYTES, &data, &bytes, err);
    if (status == 0)
        status = find_bos(engine, &bos, err);
    if (status == 0)
        length = sluice_tokenize(engine, data, bytes, SLUICE_PLAIN_TEXT, &text, err);
    if (status == 0 && length < 0)
        status = (int)length;
    if (status == 0)
        status = insert_bos(text, (size_t)length, bos, context, tokens, n, err);
    sluice_tokens_free(text);
    free(data);
    return status;
}

size_t sl_choose_context(const sluice_engine *engine, size_t wanted)
{
    struct sluice_model_info info;
    sluice_engine_info(engine, &info);
    size_t limit = (size_t)info.context;
    return wanted ? wanted : limit < SL_EVALUATE_CONTEXT ? limit : SL_EVALUATE_CONTEXT;
}
