/* SPDX-License-Identifier: MIT */
/*
 * sluice.h: run a DeepSeek-V3-class model from a Sluice container.
 *
 * An *engine* is a loaded model: weights, threads, expert reader.  A *session* is one mutable token
 * timeline on an engine with its own KV cache.  Callers hand a session the full token prefix they
 * want; the session keeps what it already has and computes the rest.
 *
 *     struct sluice_err err = {0};
 *     sluice_engine *engine = NULL;
 *     sluice_session *session = NULL;
 *     if (sluice_engine_open(&engine, "model-dir", NULL, &err) < 0 ||
 *         sluice_session_open(&session, engine, NULL, &err) < 0 ||
 *         sluice_session_sync(session, prompt, n_prompt, NULL, &err) < 0)
 *         fprintf(stderr, "%s\n", err.msg);
 *     ... sluice_session_generate(), or sluice_session_sample() and _step() in turn ...
 *     sluice_session_close(&session);
 *     sluice_engine_close(&engine);
 *
 * Functions return 0 (or a count) on success and a negative `enum sluice_status` on failure, with a
 * message in the caller's `struct sluice_err` (which may be NULL).  Nothing here calls exit() or
 * abort(), and nothing writes to stdout or stderr (only the OpenMP runtime ends the process when
 * the system refuses it a thread).  Handles are not thread-safe, except sluice_session_cancel().
 * Sessions of one engine share its threads and scratch: run one at a time, or several in one call,
 * sluice_sessions_step().  A container's files must not be changed while an engine has them open.
 */
#ifndef SLUICE_H
#define SLUICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLUICE_API __attribute__((visibility("default")))

/* ---- errors -------------------------------------------------------------------------------- */

enum sluice_status {
    SLUICE_OK = 0,
    SLUICE_EARG = -1,         /* the caller asked for something that cannot be */
    SLUICE_EFORMAT = -2,      /* a file is not what it should be */
    SLUICE_EDAMAGED = -3,     /* a checksum does not match: bytes changed after they were written */
    SLUICE_EVERSION = -4,     /* written by a newer or unknown version */
    SLUICE_EUNSUPPORTED = -5, /* well-formed, but this build cannot run it */
    SLUICE_EIO = -6,          /* the operating system refused a read or a write */
    SLUICE_ENOMEM = -7,       /* not enough memory */
    SLUICE_ENOSPC = -8,       /* not enough room on the drive */
    SLUICE_ECONTEXT = -9,     /* the session's context is full */
    SLUICE_ECANCELLED = -10,  /* stopped by sluice_session_cancel() or by a callback */
};

struct sluice_err {
    int code;       /* enum sluice_status */
    char msg[1024]; /* one line: file, what was found, what was wanted, what to do */
};

/* Version of the library, "MAJOR.MINOR.PATCH". */
SLUICE_API const char *sluice_version(void);

/*
 * Name of compute kernel number I, from 0; NULL past the last one.  *instructions receives the name
 * of the instruction set whose version of it an engine opened now would use: the best that the CPU
 * has, or what the environment variable SLUICE_CPU says (ref, avx2, avxvnni, avx512vnni, neon,
 * i8mm).  Every choice computes the same bits.  NULL with err->code set when SLUICE_CPU cannot run
 * here.
 */
SLUICE_API const char *sluice_kernel(size_t i, const char **instructions, struct sluice_err *err);

/* ---- engine -------------------------------------------------------------------------------- */

typedef struct sluice_engine sluice_engine;
typedef struct sluice_session sluice_session;

enum sluice_reader {
    SLUICE_READER_AUTO = 0,   /* memory when everything fits; else the best that streams */
    SLUICE_READER_MEMORY = 1, /* expert files mapped */
    SLUICE_READER_PREAD = 2,  /* experts read on demand by a small pool of threads */
    SLUICE_READER_URING = 3,  /* … by io_uring, one thread per drive */
};

/* How the weights that every token needs reach memory. */
enum sluice_load {
    SLUICE_LOAD_AUTO = 0, /* copied when experts are streamed, else mapped */
    SLUICE_LOAD_MAP = 1,  /* the page cache holds them: ready at once if they are there already */
    SLUICE_LOAD_COPY = 2, /* read into huge pages of this process, which the kernel cannot drop */
};

struct sluice_session_opts;

/* DONE of TOTAL bytes of weights are loaded.  A non-zero return stops with SLUICE_ECANCELLED. */
typedef int sluice_loading_fn(void *user, uint64_t done, uint64_t total);

struct sluice_engine_opts {
    unsigned threads;          /* 0: one per processor; at most that or 16, if more */
    enum sluice_reader reader; /* how routed experts reach memory */
    int mtp;                   /* non-zero: also load the multi-token-prediction layer */
    enum sluice_load load;
    /*
     * Most bytes for weights, experts and sessions together.  0: what is available to the process,
     * by its control groups too, less the larger of 4 GiB and a tenth, but at least half of it.
     */
    uint64_t memory;
    /* The session that memory is kept for, at most the model's own context; NULL: a default one. */
    const struct sluice_session_opts *session;
    unsigned sessions; /* for how many of them at a time; 0: 1 */
    /* A file that sluice_engine_save_usage() wrote: experts that were hot are read at once.  NULL:
     * none; one that does not exist is fine. */
    const char *usage;
    void *user;
    sluice_loading_fn *progress; /* after each file; NULL: none */
};

/* How an engine divides memory, in bytes. */
struct sluice_memory_plan {
    uint64_t limit;    /* what may be used; UINT64_MAX: the system does not tell */
    uint64_t need;     /* the least with which it could be opened */
    uint64_t resident; /* weights that every token needs */
    uint64_t kv;       /* the sessions' caches … */
    uint64_t scratch;  /* … and the rest of them: most of it they share */
    uint64_t staging;  /* blocks that experts pass through */
    uint64_t experts; /* experts that are held: slots × MoE layers × block, or the mapped files */
    uint64_t block;   /* one expert; 0: the model has none */
    uint32_t sessions;
    size_t context; /* tokens of a session, … */
    size_t chunk;   /* … computed at a time, … */
    size_t span;    /* … and for which an expert is read once */
    uint32_t moe_layers;
    uint32_t experts_per_layer;
    uint32_t experts_used;     /* per token and layer */
    uint32_t slots;            /* experts held per layer; all, when they are mapped */
    uint32_t stages;           /* blocks of staging; 0: mapped */
    enum sluice_reader reader; /* MEMORY: mapped; AUTO: the best that streams */
    enum sluice_load load;     /* MAP or COPY */
};

/*
 * What sluice_engine_open() would do with memory, from the configuration, the manifest and the
 * headers of expert files.  SLUICE_ENOMEM with the arithmetic, and *plan filled in, when the limit
 * is too low.
 */
SLUICE_API int sluice_plan_memory(struct sluice_memory_plan *plan, const char *dir,
                                  const struct sluice_engine_opts *opts, struct sluice_err *err);

/*
 * Opens the container directory DIR: divides memory, checks configuration, tensor shapes and the
 * checksums of all resident files, and maps or copies the weights.  OPTS may be NULL for the
 * defaults.  On success *engine is owned by the caller; on failure it is NULL.
 */
SLUICE_API int sluice_engine_open(sluice_engine **engine, const char *dir,
                                  const struct sluice_engine_opts *opts, struct sluice_err *err);

/*
 * Remembers in the file PATH which experts were hot, for sluice_engine_opts.usage.  Where experts
 * are mapped nothing is written.  Besides this and sluice_session_save() nothing in this library
 * writes to a drive.
 */
SLUICE_API int sluice_engine_save_usage(const sluice_engine *engine, const char *path,
                                        struct sluice_err *err);

/* Closes the engine and sets *engine to NULL.  Its sessions must be closed first.  NULL is fine. */
SLUICE_API void sluice_engine_close(sluice_engine **engine);

struct sluice_model_info {
    const char *architecture; /* "deepseek_v3" or "deepseek_v32" */
    const char *profile;      /* the quantisation profile of the container */
    const char *reader;       /* the reader in use: "memory", "pread" or "uring" */
    const char *reader_how;   /* one line: how it reads, and why not otherwise */
    unsigned threads;         /* compute threads in use */
    int32_t vocab;            /* rows of the output head = floats in one row of logits */
    int32_t context;          /* largest context the model was made for, tokens */
    int32_t eos;              /* id that ends an answer; -1: none */
    int32_t layers;           /* main layers, without MTP */
    int32_t dense_layers;     /* those of them without experts, the first ones */
    int32_t experts;          /* routed experts per layer; 0: none */
    int32_t experts_used;     /* per token and layer */
    int32_t index_topk;       /* keys that a query selects; 0: the model attends to all */
    int has_mtp;              /* an MTP layer is loaded */
    float temperature;        /* the model's own sampling defaults (generation_config.json) */
    float top_p;
};

/* How memory was divided when the engine was opened. */
SLUICE_API void sluice_engine_memory(const sluice_engine *engine, struct sluice_memory_plan *plan);

/* Strings stay valid until the engine is closed. */
SLUICE_API void sluice_engine_info(const sluice_engine *engine, struct sluice_model_info *info);

/* One of the drives that experts are read from. */
struct sluice_drive {
    const char *path; /* a file on it; valid until the engine is closed */
    unsigned depth;   /* most reads in flight, of 1 MiB or less */
    uint64_t bytes;   /* read since the engine was opened */
    double seconds;   /* during which a read was in flight */
};

/* Returns non-zero and fills *DRIVE for numbers below that of drives; there are none when experts
 * are mapped. */
SLUICE_API int sluice_engine_drive(const sluice_engine *engine, unsigned number,
                                   struct sluice_drive *drive);

/* ---- text ---------------------------------------------------------------------------------- */

enum {
    SLUICE_PLAIN_TEXT = 1, /* do not recognise added tokens in the text: safe for user content */
    SLUICE_ADD_BOS = 2,    /* begin with the beginning-of-sentence token unless the text does */
};

/*
 * Tokenises LEN bytes of UTF-8.  *tokens (owned by the caller, released with sluice_tokens_free())
 * receives the ids; returns their number.  FLAGS: 0 or SLUICE_PLAIN_TEXT | SLUICE_ADD_BOS.
 */
SLUICE_API int64_t sluice_tokenize(const sluice_engine *engine, const char *text, size_t len,
                                   unsigned flags, int32_t **tokens, struct sluice_err *err);
SLUICE_API void sluice_tokens_free(int32_t *tokens);

/* Turns tokens into text piece by piece, never splitting a UTF-8 character. */
typedef struct sl_detokenizer sluice_detokenizer;
/* D is owned by the caller and must be closed before the engine. */
SLUICE_API int sluice_detokenizer_open(sluice_detokenizer **d, const sluice_engine *engine,
                                       struct sluice_err *err);
/*
 * Feeds one token.  *text points to the *len bytes that became complete (possibly none); they are
 * owned by D and valid until the next call.  Ids without a token decode to nothing.
 */
SLUICE_API void sluice_detokenizer_push(sluice_detokenizer *d, int32_t token, const char **text,
                                        size_t *len);
/* Ends the text: an unfinished character comes out as U+FFFD.  D is ready for another text. */
SLUICE_API void sluice_detokenizer_end(sluice_detokenizer *d, const char **text, size_t *len);
SLUICE_API void sluice_detokenizer_close(sluice_detokenizer **d);

/* ---- session ------------------------------------------------------------------------------- */

enum sluice_cache_type {
    SLUICE_CACHE_AUTO = 0, /* INT8; F32 for a `reference` container */
    SLUICE_CACHE_INT8 = 1,
    SLUICE_CACHE_BF16 = 2,
    SLUICE_CACHE_F32 = 3,
};

enum sluice_multiplier {
    SLUICE_MULTIPLY_KERNELS = 0, /* Sluice's own: the same bits everywhere */
    /*
     * oneDNN, where SLUICE_MULTIPLY_VECTORS tokens or more of a prompt meet an integer matrix:
     * weights and activations are rounded to BF16 and multiplied by AMX or AVX512_BF16.  Meant for
     * processors with AMX.  Results are near the kernels', and depend on processor, number of
     * threads, chunk and version of oneDNN.  While it multiplies, signals wait, and the library
     * allocates a little for each product.
     */
    SLUICE_MULTIPLY_ONEDNN = 1,
};
#define SLUICE_MULTIPLY_VECTORS 64

/* Whether sluice_session_generate() uses the MTP layer, where that is loaded. */
enum sluice_drafting {
    SLUICE_DRAFTING_AUTO = 0, /* while it pays, which is tried out again and again */
    SLUICE_DRAFTING_ON = 1,
    SLUICE_DRAFTING_OFF = 2,
};

struct sluice_session_opts {
    size_t context; /* tokens to make room for; 0: the model's own limit */
    size_t chunk;   /* most tokens computed at a time; 0: 512 */
    /* A prompt goes in spans, for each of which an expert is read once: most tokens of one.  0: a
     * chunk where experts are in memory, else up to 4,096, as memory allows. */
    size_t span;
    /* What a span may take, about, and a cancelled prompt lose.  Longer ones get fewer tokens, but
     * not so few that experts take longer to read than to compute; what is dropped then comes again
     * in the next span, and an observer sees its first layers twice.  0: no limit. */
    double prefill_seconds;
    enum sluice_cache_type kv;         /* latent KV cache */
    enum sluice_cache_type index;      /* keys of the lightning indexer */
    int dense;                         /* non-zero: attend to every key, ignore the indexer */
    enum sluice_multiplier multiplier; /* SLUICE_EUNSUPPORTED where there is none */
    enum sluice_drafting drafting;
    int alone; /* non-zero: takes nothing over from other sessions, and gives nothing */
};

/*
 * Reserves all memory the session will ever need; pages of the caches come into use with the tokens
 * that fill them.  Sessions of an engine share scratch: a further one takes little beside its
 * caches.  These count in full, also while sessions share what is in them.  OPTS may be NULL.
 * SLUICE_ENOMEM when the engine's limit has no room for it beside weights, experts and open
 * sessions: an engine is opened for the sessions it is to have.
 */
SLUICE_API int sluice_session_open(sluice_session **session, sluice_engine *engine,
                                   const struct sluice_session_opts *opts, struct sluice_err *err);
SLUICE_API void sluice_session_close(sluice_session **session);

/*
 * Callbacks of sluice_session_sync(); any may be NULL.  A non-zero return stops the work with
 * SLUICE_ECANCELLED; the spans that were finished before stay in the session.
 */
struct sluice_sync_callbacks {
    void *user;
    /* After each layer: DONE of TOTAL new tokens, a span at work counting by its layers. */
    int (*progress)(void *user, size_t done, size_t total);
    /* Logits of every newly computed position: float[vocab], valid during the call. */
    int (*logits)(void *user, size_t position, const float *logits);
    /* MTP logits: at POSITION, for the token at POSITION + 2.  Needs sluice_engine_opts.mtp. */
    int (*draft)(void *user, size_t position, const float *logits);
};

/*
 * Makes the session hold exactly TOKENS[0..n): keeps the longest common prefix with what it
 * holds, forgets the rest, computes what is missing.  At least the last token is computed again
 * when its logits are not at hand.  n ≥ 1.
 *
 * If another session of the engine with the same types of caches, selection and multiplier holds
 * more of the prefix, its rows are taken over instead of computed, to the same bits: blocks of
 * 1,024 tokens become the same memory for both, the rest is copied.  A session that goes back into
 * such a block, or is closed, changes nothing for the others.  Nothing is taken over if a callback
 * wants logits, for which all new tokens are computed, and from or to a session that is `alone`,
 * was filled with noise, or had an observer of routes.
 */
SLUICE_API int sluice_session_sync(sluice_session *session, const int32_t *tokens, size_t n,
                                   const struct sluice_sync_callbacks *callbacks,
                                   struct sluice_err *err);

/* Appends one token and computes its logits. */
SLUICE_API int sluice_session_step(sluice_session *session, int32_t token, struct sluice_err *err);

#define SLUICE_BATCH_MAX 8

/*
 * Appends TOKENS[i] to SESSIONS[i] and computes the logits of each, 1 ≤ n ≤ SLUICE_BATCH_MAX: what
 * sluice_session_step() would do for one after the other, to the bit; but weights are gone over,
 * and experts read, once for all.  The sessions are different ones of one engine, with the same
 * types of caches and the same `dense`.  Contexts may differ; the session with the largest one has
 * to have a chunk of N tokens or more.  A step that fails, or that is cancelled by any of the
 * sessions, changes none of them: their logits stay at hand.
 */
SLUICE_API int sluice_sessions_step(sluice_session *const *sessions, const int32_t *tokens,
                                    size_t n, struct sluice_err *err);

/*
 * Logits after the last token: float[vocab], owned by the session.  NULL while the session is
 * empty, and after a call that failed while computing or was cancelled: sync it again.
 */
SLUICE_API const float *sluice_session_logits(const sluice_session *session);

/* Number of tokens held. */
SLUICE_API size_t sluice_session_length(const sluice_session *session);

/*
 * Writes what the session holds to the file PATH: whole or not at all, in place of what was there.
 * docs/session-file.md has the format.  PROGRESS (NULL: none) hears of bytes.  An empty session
 * cannot be saved.
 */
SLUICE_API int sluice_session_save(sluice_session *session, const char *path,
                                   sluice_loading_fn *progress, void *user, struct sluice_err *err);

/*
 * Makes the session hold what sluice_session_save() wrote, to the bit: it goes on as the saved one
 * would have.  The model, its profile, the types of caches, whether keys are selected
 * (sluice_session_opts.dense) and the multiplier must be the same, and the context must have room
 * for the tokens.  What the file has of MTP is left out if the engine is without; an engine with
 * MTP needs it.  A file that is refused for its header leaves the session as it is.  A failure
 * while data are read, or PROGRESS's wish, leaves it empty, and usable.
 */
SLUICE_API int sluice_session_restore(sluice_session *session, const char *path,
                                      sluice_loading_fn *progress, void *user,
                                      struct sluice_err *err);

/* What an engine and a session have to offer to a file of sluice_session_save(). */
struct sluice_saved {
    size_t tokens; /* room for so many */
    int mtp;       /* the file has what an engine with MTP needs */
};

/* Only the file's header is checked. */
SLUICE_API int sluice_session_saved(struct sluice_saved *saved, const char *path,
                                    struct sluice_err *err);

struct sluice_sampling {
    float temperature; /* 0: always the most likely token */
    float top_p;       /* in (0, 1]; 1: no cut */
    uint64_t seed;     /* the same seed, prompt and options give the same tokens */
};

/*
 * Draws the next token from the current logits without appending it.  Ids that the tokenizer
 * cannot decode are never drawn.  Ties: lower id.  Returns the token id or a negative status.
 */
SLUICE_API int32_t sluice_session_sample(sluice_session *session,
                                         const struct sluice_sampling *sampling,
                                         struct sluice_err *err);

/*
 * Draws the next token, appends it and computes its logits: TOKENS[0], as sluice_session_sample()
 * and sluice_session_step() would.  Where the MTP layer drafts, a second one may come from the same
 * pass, TOKENS[1], if MAX ≥ 2: the same that the next call would draw, and all logits are the same
 * bits.  Returns how many, or a negative status; then the session holds what it held before.
 *
 * The model's eos ends an answer: it is always TOKENS[0] of a call, and not appended.
 */
SLUICE_API int sluice_session_generate(sluice_session *session,
                                       const struct sluice_sampling *sampling, int32_t *tokens,
                                       size_t max, struct sluice_err *err);

/*
 * For benchmarks: makes the session hold exactly TOKENS[0..n) without computing them; the caches
 * get reproducible pseudo-random rows of the usual size.  n ≥ 1.
 */
SLUICE_API int sluice_session_fill(sluice_session *session, const int32_t *tokens, size_t n,
                                   struct sluice_err *err);

/* How a layer's routed experts were brought and computed, in one pass over some tokens.  In a step
 * of several sessions, each of them hears. */
struct sluice_expert_event {
    int32_t layer;
    /* The first token of the pass, or the one of the session that hears; and how many. */
    size_t position, tokens;
    /* Experts in memory; that had to be read; and whose read had begun before, by a guess. */
    uint32_t hits, misses, ahead;
    uint64_t bytes;  /* read since the router's choice */
    double before;   /* seconds from the end of the last layer with experts to the choice */
    double resident; /* computing what needs no read: experts in memory, shared expert */
    double reading;  /* from the choice to the landing of the last read; 0: nothing was read */
    double rest;     /* computing what landed last, and adding up; 0: nothing was read */
    double all;      /* from the choice to the end */
};

/* For measurements and traces. */
struct sluice_observer {
    void *user;
    /*
     * The experts that LAYER's router chose for the token at POSITION: experts[n], ascending, and
     * their weights.  Returns NULL, or n other experts to compute with these weights instead (the
     * model then says something else): ascending ids that exist; a wrong list is ignored.  Called
     * by the thread that calls sync or step.
     */
    const uint32_t *(*route)(void *user, int32_t layer, size_t position, const uint32_t *experts,
                             const float *weights, size_t n);
    /* After each layer with experts.  Both may be NULL. */
    void (*experts)(void *user, const struct sluice_expert_event *event);
};

/* Copies OBSERVER; NULL: none any more. */
SLUICE_API void sluice_session_observe(sluice_session *session,
                                       const struct sluice_observer *observer);

/*
 * Stops the running sync, step or generate soon, within a chunk of a layer or the read of an expert
 * (a step of several sessions: within a layer), or else the next one.  May be called from any
 * thread or signal handler.
 */
SLUICE_API void sluice_session_cancel(sluice_session *session);

/* What a session's time is spent on. */
enum sluice_part {
    SLUICE_PART_PROJECTIONS, /* attention's norms, matrices and caches */
    SLUICE_PART_INDEXER,     /* scoring of cached keys */
    SLUICE_PART_TOPK,        /* choosing among them */
    SLUICE_PART_ATTENTION,   /* attention over cached latents */
    SLUICE_PART_ROUTER,
    SLUICE_PART_EXPERTS, /* computing routed experts */
    SLUICE_PART_IO,      /* waiting for routed experts */
    SLUICE_PART_SHARED,  /* shared experts */
    SLUICE_PART_DENSE,   /* dense feed-forward layers */
    SLUICE_PART_HEAD,    /* logits */
    SLUICE_PARTS
};

/* A step of several sessions counts for each of them in full: its seconds and bytes, too. */
struct sluice_stats {
    uint64_t prefill_tokens; /* computed by sync */
    uint64_t decode_tokens;  /* computed by step and generate */
    uint64_t reused_tokens;  /* not computed by sync, since it or another session had them */
    double prefill_seconds;
    double decode_seconds;
    uint64_t expert_uses; /* experts a token was routed to */
    /* The engine's reader, for all sessions; an expert counts once per layer and span. */
    uint64_t expert_hits;   /* experts in memory when they were wanted */
    uint64_t expert_misses; /* experts that had to be read */
    uint64_t expert_ahead;  /* experts whose read had begun before, by a guess */
    uint64_t expert_bytes;  /* read for them */
    uint32_t expert_slots;  /* experts kept per layer: fewer than planned if memory became short */
    double read_seconds;    /* while something was being read */
    double wait_seconds;    /* while nothing could be done but wait for a read */
    /* Guessing the next layer's experts: 0 not decided yet, -1 does not pay, 1 pays; and the
     * seconds of waiting and guessing of the last trial, without and with. */
    int guessing;
    double guess_seconds[2];
    /* Drafts by the MTP layer: how many the model computed, and would have drawn itself; whether
     * they pay, as above; seconds per token of the last trial, without and with; and experts per
     * token that generate wanted, each counted once per layer and pass, likewise. */
    uint64_t drafts, drafts_right;
    int drafting;
    double draft_seconds[2];
    double draft_experts[2];
    uint64_t kv_bytes;       /* memory of this session's caches, also what it shares */
    uint64_t sparse_queries; /* (layer, query) pairs that attended to selected keys only */
    double part_seconds[SLUICE_PARTS];
    /* Bytes of weights and cache rows that the work went over, each once per chunk of tokens. */
    uint64_t part_bytes[SLUICE_PARTS];
    /* What multiplies: "kernels", or "oneDNN 3.2.0, brg:avx512_core_bf16"; while the session is
     * open.  And how many products oneDNN has computed. */
    const char *multiplier;
    uint64_t multiplier_products;
};
SLUICE_API void sluice_session_stats(const sluice_session *session, struct sluice_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
