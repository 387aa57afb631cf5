/* SPDX-License-Identifier: MIT */
/* Times llama.cpp through its public C API, on behalf of `run` (README.md).  It loads the model
 * once and does what lines on stdin say, so that another program can be timed between them:
 *
 *   fill N   N tokens in the caches, the depth of what follows: computed, and kept in a file beside
 *            the model for the next time
 *   seed N   the same, but only the first are computed: rows of the others are noise like theirs
 *   pp N     a prompt of N tokens behind them
 *   tg N     N tokens, one after another, behind them
 *   core N   the same, and the seconds are those of the attention core alone
 *
 * It answers each with the seconds that took.  The first line it writes is llama.cpp's version. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ggml-backend.h"
#include "llama.h"

enum { SEED = 256 }; /* tokens computed for rows to be like */

struct bench {
    struct llama_model *model;
    struct llama_context *context;
    struct llama_batch batch; /* of UBATCH tokens */
    const char *path;
    bool flash;
    int ubatch, vocab, depth;
    bool watching;      /* each operation is computed by itself */
    double began, core; /* an operation; seconds of all those of the core */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void log_errors(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

/* ---- the attention core --------------------------------------------------------------------- */

/* Scoring, choosing, the choice as a mask, and attention with it; projections are not. */
static bool in_core(const struct ggml_tensor *t)
{
    switch (t->op) {
    case GGML_OP_LIGHTNING_INDEXER:
    case GGML_OP_TOP_K:
    case GGML_OP_FILL:
    case GGML_OP_FLASH_ATTN_EXT:
        return true;
    case GGML_OP_SET_ROWS: /* of the mask; other rows are cached ones */
        return t->ne[0] == 1;
    case GGML_OP_ADD: /* to the mask: nothing else is F16 */
        return t->type == GGML_TYPE_F16;
    case GGML_OP_CONT:
        return strncmp(t->name, "top_k", 5) == 0;
    default:
        return false;
    }
}

/* llama.cpp's eval callback: before an operation (ASK), and after it if that returned true. */
static bool watch(struct ggml_tensor *t, bool ask, void *user)
{
    struct bench *b = user;
    if (ask)
        b->began = now();
    else if (in_core(t))
        b->core += now() - b->began;
    return b->watching || !ask;
}

/* ---- the model ------------------------------------------------------------------------------ */

static bool load(struct bench *b, const char *path, int threads, int context, int ubatch,
                 bool flash, bool repack)
{
    struct llama_model_params model = llama_model_default_params();
    model.load_mode = repack ? LLAMA_LOAD_MODE_NONE : LLAMA_LOAD_MODE_MMAP;
    model.use_extra_bufts = repack; /* weights interleaved for the processor when loaded */
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)context;
    params.n_batch = params.n_ubatch = (uint32_t)ubatch;
    params.n_threads = params.n_threads_batch = threads;
    params.cb_eval = watch;
    params.cb_eval_user_data = b;
    params.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    if (!(b->model = llama_model_load_from_file(path, model)) ||
        !(b->context = llama_init_from_model(b->model, params)))
        return false;
    b->path = path;
    b->flash = flash;
    b->batch = llama_batch_init(ubatch, 0, 1);
    b->ubatch = ubatch;
    b->vocab = llama_vocab_n_tokens(llama_model_get_vocab(b->model));
    return true;
}

/* N tokens behind POSITION in one pass; logits of the last. */
static bool pass(struct bench *b, int position, int n)
{
    b->batch.n_tokens = n;
    for (int i = 0; i < n; i++) {
        b->batch.token[i] = 2 + rand() % (b->vocab - 2);
        b->batch.pos[i] = position + i;
        b->batch.n_seq_id[i] = 1;
        b->batch.seq_id[i][0] = 0;
        b->batch.logits[i] = i == n - 1;
    }
    if (llama_decode(b->context, b->batch) != 0)
        return false;
    llama_synchronize(b->context);
    return true;
}

/* N tokens behind POSITION, at most STEP in one pass. */
static bool compute(struct bench *b, int position, int n, int step)
{
    for (int i = 0; i < n; i += step)
        if (!pass(b, position + i, n - i < step ? n - i : step))
            return false;
    return true;
}

static bool fill(struct bench *b, int n)
{
    char file[4096];
    llama_token none; /* no tokens are kept, but NULL would mean to only count them */
    size_t tokens;
    /* Flash attention wants another order of the cache. */
    snprintf(file, sizeof file, "%s.%s%d", b->path, b->flash ? "flash" : "", n);
    b->depth = n;
    if (access(file, R_OK) == 0)
        return llama_state_seq_load_file(b->context, file, 0, &none, 1, &tokens) > 0;
    return compute(b, 0, n, b->ubatch) &&
           llama_state_seq_save_file(b->context, file, 0, NULL, 0) > 0;
}

/* ---- rows of noise -------------------------------------------------------------------------- */

/* The state of a sequence, from one of CELLS cells to one of N.  llama.cpp's source says what there
 * is, in order: magic, sequence; of latents and of index keys: streams, cells; position, 1 and
 * sequence of each cell; transposed, layers; of each layer type, bytes of a row, and the rows. */
struct widening {
    const uint8_t *from, *end;
    uint8_t *to;
    uint32_t cells, n;
};

/* The next value of SIZE bytes, which may be written as well. */
static uint64_t take(struct widening *w, size_t size, bool copied)
{
    uint64_t value = 0;
    if (size > (size_t)(w->end - w->from))
        return 0;
    memcpy(&value, w->from, size);
    if (copied)
        memcpy(w->to, w->from, size);
    w->from += size;
    w->to += copied ? size : 0;
    return value;
}

static void put(struct widening *w, uint32_t value)
{
    memcpy(w->to, &value, sizeof value);
    w->to += sizeof value;
}

/* Each value is that of some row at the same place, so that rows have the usual size and are not
 * alike. */
static bool widen_rows(struct widening *w, size_t row)
{
    size_t values = row / sizeof(ggml_fp16_t);
    if (w->cells * row > (size_t)(w->end - w->from))
        return false;
    for (size_t i = 0; i < w->n; i++, w->to += row)
        for (size_t j = 0; j < values; j++) {
            size_t other = (size_t)rand() % w->cells;
            memcpy(w->to + j * sizeof(ggml_fp16_t), w->from + other * row + j * sizeof(ggml_fp16_t),
                   sizeof(ggml_fp16_t));
        }
    w->from += w->cells * row;
    return true;
}

static bool widen_cache(struct widening *w)
{
    take(w, 4, true);
    if (take(w, 4, false) != w->cells)
        return false;
    put(w, w->n);
    for (uint32_t i = 0; i < 3 * w->cells; i++)
        take(w, 4, false);
    for (uint32_t i = 0; i < w->n; i++) {
        put(w, i);
        put(w, 1);
        put(w, 0);
    }
    take(w, 4, true);
    bool good = true;
    for (uint64_t layers = take(w, 4, true); good && layers > 0; layers--)
        good = take(w, 4, true) == GGML_TYPE_F16 && widen_rows(w, take(w, 8, true));
    return good;
}

/* The caches' N rows from those that are there; true when llama.cpp takes them. */
static bool widen(struct bench *b, int n)
{
    size_t size = llama_state_seq_get_size(b->context, 0);
    uint8_t *from = malloc(size), *to = malloc(size / SEED * (size_t)n + size);
    bool good = from && to && llama_state_seq_get_data(b->context, from, size, 0) == size;
    struct widening w = {from, from + size, to, SEED, (uint32_t)n};
    if (good) {
        take(&w, 8, true);
        good = widen_cache(&w) && widen_cache(&w) && w.from == w.end &&
               llama_state_seq_set_data(b->context, to, (size_t)(w.to - to), 0) > 0;
    }
    free(from);
    free(to);
    return good;
}

static bool seed(struct bench *b, int n)
{
    b->depth = n;
    return n == 0 || (compute(b, 0, SEED, b->ubatch) && widen(b, n));
}

/* ---- commands ------------------------------------------------------------------------------- */

/* One line of stdin; *SECONDS is what the work took. */
static bool obey(struct bench *b, const char *what, int n, double *seconds)
{
    bool seeding = strcmp(what, "seed") == 0, filling = seeding || strcmp(what, "fill") == 0;
    int step = strcmp(what, "pp") == 0 ? b->ubatch : 1;
    b->watching = strcmp(what, "core") == 0;
    b->core = 0;
    llama_memory_seq_rm(llama_get_memory(b->context), 0, filling ? 0 : b->depth, -1);
    double start = now();
    bool good = seeding ? seed(b, n) : filling ? fill(b, n) : compute(b, b->depth, n, step);
    *seconds = b->watching ? b->core : now() - start;
    int last = llama_memory_seq_pos_max(llama_get_memory(b->context), 0);
    return good && last == (filling ? n : b->depth + n) - 1;
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    char what[8];
    int n;
    double seconds;
    if (argc != 7) {
        fprintf(stderr, "usage: llama_bench GGUF THREADS CONTEXT UBATCH FLASH REPACK\n");
        return 2;
    }
    llama_log_set(log_errors, NULL);
    ggml_backend_load_all_from_path(LLAMA_LIBRARIES);
    llama_backend_init();
    if (!load(&b, argv[1], atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]),
              atoi(argv[6]))) {
        fprintf(stderr, "llama.cpp cannot load %s\n", argv[1]);
        return 1;
    }
    printf("%s\n", llama_version());
    fflush(stdout);
    while (scanf("%7s %d", what, &n) == 2) {
        if (!obey(&b, what, n, &seconds)) {
            fprintf(stderr, "llama.cpp failed in %s %d\n", what, n);
            return 1;
        }
        printf("%.6f\n", seconds);
        fflush(stdout);
    }
    llama_batch_free(b.batch);
    llama_free(b.context);
    llama_model_free(b.model);
    return 0;
}
