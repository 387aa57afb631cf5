/* SPDX-License-Identifier: MIT */
/* The options of every verb that opens a model: rows for its table and the structs they fill. */
#ifndef SL_TOOLS_ENGINE_OPTIONS_H
#define SL_TOOLS_ENGINE_OPTIONS_H

#include "runtime/sluice.h"
#include "tools/common/options.h"

struct sl_engine_options {
    const char *model;
    const char *usage; /* NULL: none */
    size_t threads;
    enum sluice_reader reader;
    enum sluice_load load;
    uint64_t memory; /* 0: what is available, less a reserve */
    size_t context;
    size_t chunk;
    size_t span;
    double prefill_seconds;
    enum sluice_cache_type kv;
    enum sluice_cache_type index;
    bool dense;
    enum sluice_multiplier multiplier;
    enum sluice_drafting drafting;
    size_t sessions; /* that memory is kept for; 0: 1 */
};

extern const char *const sl_reader_names[];
extern const char *const sl_load_names[];
extern const char *const sl_cache_names[];
extern const char *const sl_multiplier_names[];
extern const char *const sl_mtp_names[]; /* enum sluice_drafting */

/* Rows for a verb whose options struct T has a member M of type struct sl_engine_options.  MUST:
 * whether the model has to be named. */
/* clang-format off */
#define SL_MULTIPLIER_ROW(T, field)                                                               \
    {.name = "dense", SL_FIELD(SL_ENUM, T, field), .fallback = "kernels",                         \
     .names = sl_multiplier_names, .env = "SLUICE_DENSE_BY",                                      \
     .help = "What multiplies matrices by 64 prompt tokens and more: onednn, for processors with "\
             "AMX, rounds to BF16, and the last digits depend on the machine; it wants a larger " \
             "--chunk", .group = "Machine"}
#define SL_ENGINE_ROWS(T, m) SL_ENGINE_ROWS_FOR(T, m, true)
#define SL_ENGINE_ROWS_FOR(T, m, must)                                                            \
    {.name = "model", .letter = 'm', SL_FIELD(SL_STRING, T, m.model), .value = "DIR",             \
     .required = must, .help = "Container directory, made by `sluice quantize`",                  \
     .group = "Model"},                                                                           \
    {.name = "ctx", .letter = 'c', SL_FIELD(SL_COUNT, T, m.context), .value = "N",                \
     .fallback = "0", .low = 0, .high = 16777216,                                                 \
     .help = "Tokens of context to make room for; 0: what the task needs", .group = "Model"},     \
    {.name = "kv-type", SL_FIELD(SL_ENUM, T, m.kv), .fallback = "auto", .names = sl_cache_names,  \
     .help = "Precision of the latent KV cache; auto: int8, f32 for a reference container",       \
     .group = "Model"},                                                                           \
    {.name = "index-type", SL_FIELD(SL_ENUM, T, m.index), .fallback = "auto",                     \
     .names = sl_cache_names,                                                                     \
     .help = "Precision of the indexer's keys; auto: int8, f32 for a reference container",        \
     .group = "Model"},                                                                           \
    {.name = "dense", SL_FIELD(SL_FLAG, T, m.dense),                                              \
     .help = "Attend to every token, without the indexer's selection", .group = "Model"},         \
    SL_MULTIPLIER_ROW(T, m.multiplier),                                                           \
    {.name = "threads", .letter = 't', SL_FIELD(SL_COUNT, T, m.threads), .value = "N",            \
     .fallback = "0", .low = 0, .high = 4096,                                                     \
     .help = "Compute threads; 0: one per processor",                     \
     .group = "Machine"},                                                                         \
    {.name = "reader", SL_FIELD(SL_ENUM, T, m.reader), .fallback = "auto",                        \
     .names = sl_reader_names,                                                                    \
     .help = "How experts reach memory: mapped, or read on demand; auto: mapped when they fit",   \
     .group = "Machine"},                                                                         \
    {.name = "memory", SL_FIELD(SL_SIZE, T, m.memory), .value = "SIZE",                           \
     .help = "Most memory for weights, experts, KV cache and scratch, 96G or 1.5T; default: what "\
             "is available, less the larger of 4 GiB and a tenth", .group = "Machine"},           \
    {.name = "load", SL_FIELD(SL_ENUM, T, m.load), .fallback = "auto", .names = sl_load_names,    \
     .help = "Weights that every token needs: mapped, or copied into huge pages; auto: copied "   \
             "when experts are read on demand", .group = "Machine"},                              \
    {.name = "chunk", SL_FIELD(SL_COUNT, T, m.chunk), .value = "N", .fallback = "512", .low = 1,  \
     .high = 1048576, .help = "Most prompt tokens computed at a time", .group = "Machine"},       \
    {.name = "span", SL_FIELD(SL_COUNT, T, m.span), .value = "N", .fallback = "0", .low = 0,       \
     .high = 1048576,                                                                             \
     .help = "Most prompt tokens for which an expert is read once; 0: --chunk where experts are "  \
             "in memory, else up to 4096", .group = "Machine"},                                   \
    {.name = "prefill-seconds", SL_FIELD(SL_REAL, T, m.prefill_seconds), .value = "S",            \
     .fallback = "60", .low = 0, .high = 1e9,                                                     \
     .help = "What a span may take, about, and stopping a prompt lose; it stays long enough to "   \
             "compute while experts are read; 0: no limit", .group = "Machine"}
/* clang-format on */

/*
 * Opens the engine that the options describe, with memory for a session of TOKENS (or of the
 * context that they ask for).  MTP: whether with the MTP layer; AUTO: if the model has one, and
 * everything fits into memory with it.  On a terminal stderr gets the division of memory before,
 * and how far loading is.
 */
int sl_open_engine(sluice_engine **engine, const struct sl_engine_options *o,
                   enum sluice_drafting mtp, size_t tokens, struct sluice_err *err);

/* Opens a session with room for TOKENS, or for the context the options ask for. */
int sl_open_session(sluice_session **session, sluice_engine *engine,
                    const struct sl_engine_options *o, size_t tokens, struct sluice_err *err);

#endif
