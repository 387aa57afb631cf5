/* SPDX-License-Identifier: MIT */
/* Opening a container as an engine, and the text functions that need nothing but its tokenizer. */
#include "runtime/engine.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/model/rung.h"
#include "runtime/moe/moe.h"

#ifdef HAVE_CONFIG_H
#include "config.h"
#else
#define PACKAGE_VERSION "0"
#endif

const char *sluice_version(void)
{
    return PACKAGE_VERSION;
}

const char *sluice_kernel(size_t i, const char **instructions, struct sluice_err *err)
{
    const struct sl_rung *rung = sl_rung_chosen(err);
    return rung ? sl_kernel_name(rung->ops, i, instructions) : NULL;
}

static int open_experts(sluice_engine *e, struct sluice_err *err)
{
    const struct sl_config *c = &e->weights->config;
    unsigned first = c->dense_layers, n = e->weights->n_layers - first;
    if (n == 0)
        return 0;
    const struct sl_experts_opts opts = {
        .reader = e->memory.reader,
        .wave = sl_moe_wave(c, e->weights->n_layers),
        .slots = e->memory.slots,
        .stages = e->memory.stages,
    };
    int status = sl_experts_open(&e->experts, e->dir, e->weights->manifest, first, n, &opts, err);
    for (unsigned i = 0; status == 0 && i < n; i++)
        status = sl_experts_check(e->experts, c, e->dir, first + i, err);
    return status;
}

static int preload_experts(sluice_engine *e, const struct sluice_engine_opts *opts,
                           struct sluice_err *err)
{
    if (!e->experts || !opts->usage)
        return 0;
    return sl_experts_preload(e->experts, opts->usage, e->weights->manifest->source_digest,
                              opts->progress, opts->user, err);
}

int sluice_engine_save_usage(const sluice_engine *e, const char *path, struct sluice_err *err)
{
    if (!e->experts)
        return 0;
    return sl_experts_save_usage(e->experts, path, e->weights->manifest->source_digest, err);
}

static int load_weights(sluice_engine *e, const struct sluice_engine_opts *opts,
                        struct sluice_err *err)
{
    const struct sl_load_opts load = {
        .mtp = opts->mtp != 0,
        .copy = e->memory.load == SLUICE_LOAD_COPY,
        .user = opts->user,
        .progress = opts->progress,
    };
    return sl_weights_load(e->weights, e->dir, &load, err);
}

static int open_tokenizer(sluice_engine *e, struct sluice_err *err)
{
    char path[SL_PATH_MAX];
    uint32_t vocab = e->weights->config.vocab;
    if (!(e->drawable = malloc(vocab)))
        return sl_fail_nomem(err, "token table", vocab);
    memset(e->drawable, 1, vocab);
    int status = sl_path_join(path, e->dir, "tokenizer.json", err);
    if (status < 0 || !sl_file_exists(path))
        return status;
    if ((status = sl_tokenizer_open(&e->tokenizer, path, err)) < 0)
        return status;
    if ((uint32_t)sl_tokenizer_size(e->tokenizer) > vocab)
        return sl_fail(err, SLUICE_EFORMAT, "%s: ids up to %d, but config.json has vocab_size %u",
                       path, (int)sl_tokenizer_size(e->tokenizer) - 1, vocab);
    for (uint32_t id = 0; id < vocab; id++) {
        const char *text;
        size_t len;
        e->drawable[id] = sl_tokenizer_token(e->tokenizer, (int32_t)id, &text, &len);
    }
    return 0;
}

int sluice_engine_open(sluice_engine **engine, const char *dir,
                       const struct sluice_engine_opts *opts, struct sluice_err *err)
{
    const struct sluice_engine_opts defaults = {0};
    sluice_engine *e = *engine = calloc(1, sizeof *e);
    if (!e)
        return sl_fail_nomem(err, "engine", sizeof *e);
    if (!opts)
        opts = &defaults;
    const struct sl_rung *rung = sl_rung_chosen(err);
    e->compute.ops = rung ? rung->ops : NULL;
    e->compute.team = sl_team_make(opts->threads);
    int status = rung ? 0 : SLUICE_EARG;
    if (status == 0 && snprintf(e->dir, sizeof e->dir, "%s", dir) >= (int)sizeof e->dir)
        status = sl_fail(err, SLUICE_EARG, "%.200s…: path too long", dir);
    if (status == 0)
        status = sl_weights_begin(&e->weights, dir, err);
    if (status == 0)
        status = sl_engine_plan(&e->memory, e->weights, dir, opts, err);
    if (status == 0)
        status = load_weights(e, opts, err);
    if (status == 0)
        status = open_experts(e, err);
    if (status == 0)
        status = open_tokenizer(e, err);
    if (status == 0)
        status = preload_experts(e, opts, err);
    if (status < 0)
        sluice_engine_close(engine);
    return status;
}

void sluice_engine_close(sluice_engine **engine)
{
    sluice_engine *e = *engine;
    if (!e)
        return;
    sl_tokenizer_close(&e->tokenizer);
    sl_experts_close(&e->experts);
    sl_weights_close(&e->weights);
    free(e->drawable);
    free(e);
    *engine = NULL;
}

void sluice_engine_memory(const sluice_engine *e, struct sluice_memory_plan *plan)
{
    *plan = e->memory;
}

void sluice_engine_info(const sluice_engine *e, struct sluice_model_info *info)
{
    const struct sl_config *c = &e->weights->config;
    *info = (struct sluice_model_info){
        .architecture = c->architecture,
        .profile = e->weights->manifest->profile,
        .reader = e->experts ? sl_experts_reader(e->experts) : "none",
        .reader_how = e->experts ? sl_experts_how(e->experts) : "none",
        .threads = e->compute.team.threads,
        .vocab = (int32_t)c->vocab,
        .context = (int32_t)c->context,
        .eos = c->eos,
        .layers = (int32_t)c->layers,
        .dense_layers = (int32_t)c->dense_layers,
        .experts = e->experts ? (int32_t)c->experts : 0,
        .experts_used = e->experts ? (int32_t)c->experts_used : 0,
        .index_topk = c->index_heads ? (int32_t)c->index_topk : 0,
        .has_mtp = e->weights->n_layers > c->layers,
        .temperature = c->temperature,
        .top_p = c->top_p,
    };
}

int sluice_engine_drive(const sluice_engine *e, unsigned number, struct sluice_drive *drive)
{
    return e->experts && sl_experts_drive(e->experts, number, drive);
}

/* ---- text ----------------------------------------------------------------------------------- */

static int need_tokenizer(const sluice_engine *e, struct sluice_err *err)
{
    if (e->tokenizer)
        return 0;
    return sl_fail(err, SLUICE_EFORMAT,
                   "%s: no tokenizer.json: the model takes token ids, not text; copy the file from "
                   "the checkpoint and run sluice quantize again",
                   e->dir);
}

int64_t sluice_tokenize(const sluice_engine *e, const char *text, size_t len, unsigned flags,
                        int32_t **tokens, struct sluice_err *err)
{
    *tokens = NULL;
    int status = need_tokenizer(e, err);
    if (status < 0)
        return status;
    int64_t n = sl_tokenizer_encode(e->tokenizer, text, len, flags, tokens, err);
    int32_t bos = e->weights->config.bos;
    if (n < 0 || !(flags & SLUICE_ADD_BOS) || bos < 0 || (n > 0 && (*tokens)[0] == bos))
        return n;
    int32_t *longer = realloc(*tokens, ((size_t)n + 1) * sizeof *longer);
    if (!longer) {
        sluice_tokens_free(*tokens);
        *tokens = NULL;
        return sl_fail_nomem(err, "tokens", ((size_t)n + 1) * sizeof *longer);
    }
    memmove(longer + 1, longer, (size_t)n * sizeof *longer);
    longer[0] = bos;
    *tokens = longer;
    return n + 1;
}

void sluice_tokens_free(int32_t *tokens)
{
    free(tokens);
}

int sluice_detokenizer_open(sluice_detokenizer **d, const sluice_engine *e, struct sluice_err *err)
{
    *d = NULL;
    int status = need_tokenizer(e, err);
    return status < 0 ? status : sl_detokenizer_open(d, e->tokenizer, err);
}

void sluice_detokenizer_push(sluice_detokenizer *d, int32_t token, const char **text, size_t *len)
{
    sl_detokenizer_push(d, token, text, len);
}

void sluice_detokenizer_end(sluice_detokenizer *d, const char **text, size_t *len)
{
    sl_detokenizer_end(d, text, len);
}

void sluice_detokenizer_close(sluice_detokenizer **d)
{
    sl_detokenizer_close(d);
}
