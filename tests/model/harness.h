/* SPDX-License-Identifier: MIT */
/* What the model tests share: golden files, conversions, runs that record what the model did. */
#ifndef SL_TESTS_HARNESS_H
#define SL_TESTS_HARNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/session/session.h"

/* One golden file; arrays as its metadata describes them, absent ones NULL. */
struct golden {
    size_t n, layers, moe_layers, hidden, vocab, topk, used;
    size_t logit_rows, hidden_rows, draft_rows; /* of the last positions */
    int32_t *tokens;
    float *logits, *hiddens, *drafts;
    int16_t *selected, *experts;
    float *selection_gap, *expert_gap;
};

/* The models with golden files: "demo", "tiny-v32", "tiny-v3". */
extern const char *const model_names[3];

/* MODEL's golden file NAME ("short", "mid", "long"); fails the test when it is not there. */
void golden_open(struct golden *g, const char *model, const char *name);
void golden_close(struct golden *g);

/* MODEL's checkpoint; good until the next call. */
const char *checkpoint(const char *model);

/* The container of MODEL in PROFILE, converted on first use; it goes away at exit.  Good until
 * the next call. */
const char *converted(const char *model, const char *profile);

/* A run and what to record of it; rows are indexed by position. */
struct run {
    /* in */
    const char *container;
    unsigned threads;
    size_t chunk;
    enum sluice_reader reader;
    struct sluice_session_opts session;
    bool mtp;
    const struct golden *force; /* replace every selection by the golden one; or NULL */
    /* out, malloc'ed; released by run_close() */
    float *logits;      /* [n][vocab] */
    float *drafts;      /* [n][vocab] */
    float *hiddens;     /* [layers][n][hidden] */
    uint32_t *selected; /* [layers][n][topk], as chosen, before any replacement */
    uint32_t *experts;  /* [layers][n][used] */
    uint64_t sparse_queries;
    /* private */
    const struct sl_config *config;
    size_t n;
};

/* Runs TOKENS[0..n) through the container; fails the test on any error. */
void run_tokens(struct run *r, const int32_t *tokens, size_t n);
void run_close(struct run *r);

/* Mean KL(golden ‖ run) in nats over the golden logit rows; *top1: share of equal argmax. */
double mean_kl(const struct golden *g, const struct run *r, double *top1);

/* Greedy continuation file: *prompt and *greedy (malloc'ed) and their lengths. */
void greedy_open(const char *model, int32_t **prompt, size_t *n_prompt, int32_t **greedy,
                 size_t *n_greedy);

/* Fails the test with err's message when STATUS < 0. */
void check_status(int64_t status, const struct sluice_err *err);

#endif
