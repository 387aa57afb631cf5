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

/* ---- an evaluation at work ------------------------------------------------------------------- */

enum { SL_REFERENCE, SL_CANDIDATE, SL_STREAMS };

enum { SL_EVALUATE_ROWS = 64 }; /* logits computed together: the head is as large as a layer */

/* One model's way through the layers. */
struct sl_stream {
    struct sl_compute compute;
    struct sl_cache_types types;
    float *hidden;    /* [tokens][hidden] */
    uint32_t *chosen; /* [tokens][experts_used]: experts, in the layer at hand */
    /* Of the layer at hand: */
    const struct sl_layer_weights *weights;
    struct sl_experts *experts;
    struct sl_arena arena; /* what follows */
    struct sl_workspace ws;
    struct sl_layer_cache cache;
};

/* Logits of some tokens, of both models. */
struct sl_logit_rows {
    struct sl_arena arena;
    float *normed; /* [SL_EVALUATE_ROWS][hidden] */
    struct sl_codes codes;
    float *logits[SL_STREAMS]; /* [SL_EVALUATE_ROWS][vocab] */
    struct sl_comparison *compared;
};

struct sl_evaluation {
    const char *dir;
    const struct sl_evaluate_opts *opts;
    const int32_t *tokens;
    size_t n, context, chunk;
    struct sl_weights *weights;    /* the container's, without layers */
    struct sl_layer_weights layer; /* the container's at hand */
    struct sl_reference reference;
    struct sl_arena arena; /* what is kept of all tokens: the next, and the streams' */
    float *update;         /* [tokens][hidden]: what a stream's experts add up to */
    float *weight;         /* [tokens][experts_used]: theirs, of the stream at work */
    uint32_t *used;        /* [experts]: those that any token chose, ascending */
    struct sl_stream stream[SL_STREAMS];
    struct sl_logit_rows rows;
    uint64_t done; /* of the units of sl_evaluate_progress() */
    double delta_squares;
    struct sl_evaluate_report *report;
    struct sluice_err *err;
};

static inline const struct sl_config *sl_config_of(const struct sl_evaluation *e)
{
    return &e->weights->config;
}

/* ---- evaluate_layer.c ------------------------------------------------------------------------ */

/* Takes the hidden states of all tokens through LAYER, in both streams. */
int sl_evaluate_layer(struct sl_evaluation *e, uint32_t layer);

/* The experts of both streams; and everything else that a stream needs beside its weights, in both
 * passes of its arena. */
int sl_evaluate_open_experts(struct sl_evaluation *e, uint32_t layer);
void sl_evaluate_take_layer(const struct sl_evaluation *e, struct sl_stream *s);

/* Releases whatever of a layer is open. */
void sl_evaluate_close_layer(struct sl_evaluation *e);

/* What a token counts for: a guess at how the time is divided, in units small enough for the steps
 * of experts. */
enum {
    SL_ATTEND_UNITS = 256,
    SL_FFN_UNITS = 768,
    SL_LAYER_UNITS = SL_ATTEND_UNITS + SL_FFN_UNITS,
    SL_HEAD_UNITS = 256,
};
int sl_evaluate_progress(struct sl_evaluation *e, uint32_t layer, uint64_t done);

#endif
