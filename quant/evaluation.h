/* SPDX-License-Identifier: MIT */
/* evaluation.h: what the files of the evaluator share. */
#ifndef SL_QUANT_EVALUATION_H
#define SL_QUANT_EVALUATION_H

#include "quant/conversion.h"
#include "runtime/layer.h"
#include "runtime/stream/stream.h"

/* ---- evaluate_reference.c: the checkpoint as a model, a layer at a time ---------------------- */

struct sl_reference {
    struct sl_quantize_opts opts;
    struct sl_conversion conversion; /* of profile `reference`, into memory */
    struct sl_checkpoint *checkpoint;
    /* Of the layer at hand: */
    struct sl_buffer memory;
    struct sl_layer_weights weights;
    struct sl_expert_layout layout;
};

int sl_reference_open(struct sl_reference *r, const char *checkpoint, unsigned threads,
                      struct sluice_err *err);
void sl_reference_close(struct sl_reference *r);

/* Makes r->weights: of LAYER, or the output head for LAYER = config.layers. */
int sl_reference_load(struct sl_reference *r, uint32_t layer, struct sluice_err *err);
void sl_reference_unload(struct sl_reference *r);

/* Bytes that sl_reference_load() will take. */
int sl_reference_measure(struct sl_reference *r, uint32_t layer, uint64_t *bytes,
                         struct sluice_err *err);

/* The experts of LAYER, made one by one. */
int sl_reference_experts(struct sl_reference *r, uint32_t layer, struct sl_expert_source *source,
                         struct sluice_err *err);

/* out[n][hidden] = the embeddings of TOKENS. */
int sl_reference_embed(struct sl_reference *r, const int32_t *tokens, size_t n, float *out,
                       struct sluice_err *err);

/* ---- evaluate_compare.c: two predictions, two sets ------------------------------------------- */

/* What the logits of one token say. */
struct sl_comparison {
    double kl;
    double log_p[2]; /* of the successor: reference, candidate */
    bool finite[2];  /* the logits of reference and candidate are numbers */
    bool same_top;   /* ties: lower id */
};

/* NEXT < 0: no successor, log_p stays 0. */
void sl_compare_logits(struct sl_comparison *out, const float *reference, const float *candidate,
                       size_t vocab, int32_t next);

/* Members that the ascending sets a[n] and b[n] have in common. */
size_t sl_common(const uint32_t *a, const uint32_t *b, size_t n);

/* Fills the order statistics of the report from kl_of. */
int sl_rank_divergences(struct sl_evaluate_report *report, struct sluice_err *err);

#endif
