/* SPDX-License-Identifier: MIT */
/* quant.h: the door of quant/: published checkpoint → container, in one pass of bounded memory; and
 * how far the container's predictions are from the checkpoint's. */
#ifndef SL_QUANT_H
#define SL_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/sluice.h"

struct sl_quantize_opts {
    const char *profile; /* NULL: "quality" */
    unsigned threads;    /* 0: every processor this process may use */
    bool fast;           /* plain absmax scales, no search */
    /* Directories of parts 1 … of the expert files, commas between; NULL: the files are whole. */
    const char *stripe;
    void *user;
    /* Bytes of the checkpoint converted so far; a non-zero return stops with SLUICE_ECANCELLED,
     * leaving whole files that the next call continues from. */
    int (*progress)(void *user, uint64_t done, uint64_t total, const char *file);
};

struct sl_quantize_report {
    uint64_t source_bytes;
    uint64_t container_bytes;
    uint64_t weights; /* parameters packed */
    unsigned files_written;
    unsigned files_resumed; /* found complete from an earlier run */
    double seconds;
};

/*
 * Converts the checkpoint at SOURCE (directory, hub folder or snapshot) into the container
 * directory DEST, created if needed.  Every file is written under a temporary name, synced and
 * renamed; sluice.json comes last.  Running again after any interruption continues with the first
 * missing or damaged file.  Refused before anything is written: a drive without room for the rest
 * (SLUICE_ENOSPC), a DEST of another source or recipe, one that another conversion is writing, and
 * one that is neither empty nor a container; likewise the directories of parts, which have nothing
 * else in them.  The output does not depend on the number of threads.
 */
int sl_quantize(const char *source, const char *dest, const struct sl_quantize_opts *opts,
                struct sl_quantize_report *report, struct sluice_err *err);

struct sl_synth_opts {
    const char *like; /* "v3", "v3.2", or the path of a config.json; NULL: "v3.2" */
    bool all_layers;  /* as the model has, with its MTP layer; else: */
    uint32_t dense_layers, moe_layers; /* in this order; no MTP layer */
    uint32_t experts, vocab;           /* 0: as the model has */
    bool checkpoint;                   /* an FP8 checkpoint, not a container */
    const char *profile;               /* of a container; NULL: "quality" */
    unsigned threads;                  /* 0: every processor this process may use */
    void *user;
    int (*progress)(void *user, uint64_t done, uint64_t total, const char *file);
};

/*
 * Makes the directory DEST of pseudo-random weights with the shapes of a real model, for measuring:
 * a container, or a checkpoint in the published layout, to time sl_quantize() with.  The same
 * options give the same bytes.  Without a tokenizer.  DEST, interruptions and errors as for
 * sl_quantize(); report->source_bytes stays 0.
 */
int sl_synthesize(const char *dest, const struct sl_synth_opts *opts,
                  struct sl_quantize_report *report, struct sluice_err *err);

/* ---- several drives -------------------------------------------------------------------------- */

struct sl_restripe_opts {
    void *user;
    /* Bytes of experts divided anew; a non-zero return stops with SLUICE_ECANCELLED. */
    int (*progress)(void *user, uint64_t done, uint64_t total);
    /* At the end: DIR has parts that the container no longer needs. */
    void (*left)(void *user, const char *dir);
};

struct sl_restripe_report {
    unsigned parts;                        /* of each expert file now */
    unsigned layers_changed, layers_found; /* found: so divided already */
    uint64_t bytes;                        /* of experts, read and written */
    double seconds;
};

/*
 * Divides the expert files of the container DIR among it and the directories of LIST, which has
 * commas between; LIST NULL: joins them in DIR.  The files are those that sl_quantize() would have
 * made.  Layer by layer: a call that was interrupted is continued by the same call, or undone by
 * one with LIST NULL; in between the container is whole for sl_container_verify(), but not for
 * running.  Nothing is deleted outside DIR, since copies of DIR may have links there, too.  Refused
 * before anything is written: no room (SLUICE_ENOSPC), experts that are divided otherwise already,
 * directories that hold something else.
 */
int sl_restripe(const char *dir, const char *list, const struct sl_restripe_opts *opts,
                struct sl_restripe_report *report, struct sluice_err *err);

/* ---- evaluation ------------------------------------------------------------------------------ */

/* A sample's mean and spread, number by number. */
struct sl_sample {
    uint64_t n;
    double mean;
    double squares; /* Σ (x − mean)² */
};
void sl_sample_add(struct sl_sample *s, double x);
double sl_sample_error(const struct sl_sample *s); /* standard error of the mean; 0 for n < 2 */

/* −ln p(TOKEN), where p = softmax(logits[vocab]). */
double sl_surprise(const float *logits, size_t vocab, int32_t token);

/* What an evaluation holds in memory, in bytes; nothing of it grows with the number of layers. */
struct sl_evaluate_memory {
    uint64_t hidden;  /* of all tokens: hidden states, twice, and what experts add to them */
    uint64_t weights; /* one layer of both models, without routed experts; the largest */
    uint64_t experts; /* routed experts at hand */
    uint64_t scratch; /* caches of one layer and scratch of a chunk, of both */
    uint64_t head;    /* both output heads and some rows of logits: after the layers */
    uint64_t total;   /* hidden + max(weights + experts + scratch, head) */
};

enum { SL_EVALUATE_CONTEXT = 2048, SL_EVALUATE_CHUNK = 512 };

struct sl_evaluate_opts {
    size_t context; /* tokens of a sequence; 0: SL_EVALUATE_CONTEXT, or the model's limit if less */
    size_t chunk;   /* most tokens computed in one pass; 0: SL_EVALUATE_CHUNK */
    unsigned threads; /* 0: every processor this process may use */
    uint64_t memory;  /* bytes that may be used; 0: what the system says it has */
    bool exact;       /* the reference, too, to the bit: no oneDNN in a build that has it */
    enum sluice_cache_type kv, index; /* of the container, as those of a session */
    void *user;
    /* Once, before the work. */
    void (*begin)(void *user, const struct sl_evaluate_memory *memory);
    /* LAYER of report->layers is at work (the last number: the output heads); DONE of TOTAL
     * units.  A non-zero return stops with SLUICE_ECANCELLED. */
    int (*progress)(void *user, uint32_t layer, uint64_t done, uint64_t total);
    /* The logits of token TOKEN under both models: float[vocab]. */
    void (*logits)(void *user, size_t token, const float *reference, const float *candidate);
};

struct sl_evaluate_layer {
    double output_error; /* ‖candidate − reference‖ / ‖reference‖ of the hidden states */
    double router_overlap;    /* mean Jaccard index of the chosen experts; 1 without experts */
    double selection_overlap; /* mean share of selected keys in common; 1 without selections */
    uint64_t routes;          /* tokens routed */
    uint64_t selections;      /* queries that attended to selected keys only */
};

struct sl_evaluate_report {
    size_t tokens, context;
    uint32_t layers;
    struct sl_evaluate_memory memory;
    struct sl_sample kl; /* KL(reference ‖ candidate) in nats, of every token's prediction */
    double kl_median, kl_99, kl_999, kl_max;
    double top1; /* share of tokens with the same most likely successor */
    /* Over the tokens that have a successor in their sequence: */
    struct sl_sample surprise_reference, surprise_candidate; /* −ln p(successor) */
    struct sl_sample surprise_difference;                    /* candidate − reference */
    double rms_dp; /* of p_candidate(successor) − p_reference(successor) */
    double seconds;
    char multiplier[32];             /* of the reference's weights: "kernels", or "oneDNN 2.6.3" */
    double *kl_of;                   /* [tokens] */
    struct sl_evaluate_layer *layer; /* [layers] */
};

/*
 * Compares the container with the checkpoint it was made from (refused for another one) over
 * TOKENS[0..n), n ≥ 2, cut into sequences that each begin at position 0.  Goes through the layers
 * once, with the hidden states of all tokens under both models.  The reference computes as the
 * profile `reference` does (but for the order of sums where oneDNN multiplies), the container as a
 * session.  The report is the caller's to release, also after an error.  SLUICE_ENOMEM when the
 * memory would not do.
 */
int sl_evaluate(const char *container, const char *checkpoint, const int32_t *tokens, size_t n,
                const struct sl_evaluate_opts *opts, struct sl_evaluate_report *report,
                struct sluice_err *err);
void sl_evaluate_release(struct sl_evaluate_report *report);

/* ---- a rehearsal ----------------------------------------------------------------------------- */

struct sl_ops;

/* 16 rows of FP8 weights as a checkpoint has them. */
struct sl_fp8_rows {
    const uint8_t *code; /* [16][cols] */
    float *scale;        /* [ceil(cols / 128)], of all rows; only read */
    size_t cols;
};

/* Bytes of the scratch memory and of the panel that sl_rehearse_panel() wants. */
size_t sl_rehearse_scratch(size_t cols);
size_t sl_rehearse_bytes(size_t cols);

/*
 * What sl_quantize() does between reading and writing to a panel of an expert of profile `quality`:
 * decodes, searches scales, packs.  On the calling thread; for those who time it.  False: a weight
 * is not finite, OUT is not written.  SCRATCH is aligned as floats are.
 */
bool sl_rehearse_panel(const struct sl_ops *ops, const struct sl_fp8_rows *in, uint8_t *out,
                       void *scratch);

/* ---- sizes ----------------------------------------------------------------------------------- */

struct sl_config;

/* The configuration that opts->like, layers, experts and vocab ask for. */
int sl_like_config(struct sl_config *config, const struct sl_synth_opts *opts,
                   struct sluice_err *err);

/* What decides how fast a machine multiplies with a matrix. */
enum sl_weight_kind { SL_WEIGHTS_LUT4, SL_WEIGHTS_INT8, SL_WEIGHTS_FLOAT, SL_WEIGHT_KINDS };

/* Matrices that a token goes over in one kind of work, in all main layers together. */
struct sl_matrices {
    uint64_t bytes[SL_WEIGHT_KINDS];
    uint64_t macs[SL_WEIGHT_KINDS]; /* multiply-adds per vector, padding included */
};

enum sl_matrix_part {
    SL_M_PROJECTIONS,   /* attention but for the indexer */
    SL_M_INDEX_KEYS,    /* the indexer's matrices that every token needs */
    SL_M_INDEX_QUERIES, /* and those of tokens that select */
    SL_M_ROUTER,
    SL_M_EXPERT, /* one routed expert per MoE layer */
    SL_M_SHARED,
    SL_M_DENSE,
    SL_M_HEAD,
    SL_M_PARTS
};

/* What a container takes, in bytes, and what its weights cost. */
struct sl_sizes {
    uint64_t head_file, resident_files, expert_files; /* whole files */
    uint64_t mtp_resident_file, mtp_expert_file;      /* 0 without an MTP layer */
    uint64_t embedding;                               /* of head_file; not resident */
    uint64_t embedding_row;
    uint64_t stride; /* one expert of a main layer; 0: no layer has experts */
    struct sl_matrices part[SL_M_PARTS];
};

/*
 * The sizes of the container that sl_quantize() or sl_synthesize() would make for CONFIG, without
 * config.json, tokenizer and sluice.json.  `reference` takes BF16 for every weight, or what the
 * container at DIR has; for other profiles, and with DIR NULL, no file is looked at.
 */
int sl_sizes_measure(struct sl_sizes *sizes, const struct sl_config *config, const char *profile,
                     const char *dir, struct sluice_err *err);

/* Names and one-line descriptions of the profiles; returns false past the last. */
bool sl_profile_list(size_t i, const char **name, const char **text);

#endif
