/* SPDX-License-Identifier: MIT */
/* Times llama.cpp through its public C API, on behalf of `run` (README.md).  It loads the model
 * once and does what lines on stdin say, so that another program can be timed between them:
 *
 *   fill N   N tokens in the cache, the depth of what follows: computed, and kept in a file beside
 *            the model for the next time
 *   pp N     a prompt of N tokens behind them
 *   tg N     N tokens, one after another, behind them
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

struct bench {
    struct llama_model *model;
    struct llama_context *context;
    struct llama_batch batch; /* of UBATCH tokens */
    const char *path;
    bool flash;
    int ubatch, vocab, depth;
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

/* One line of stdin; *SECONDS is what the work took. */
static bool obey(struct bench *b, const char *what, int n, double *seconds)
{
    bool filling = strcmp(what, "fill") == 0, decode = strcmp(what, "tg") == 0;
    llama_memory_seq_rm(llama_get_memory(b->context), 0, filling ? 0 : b->depth, -1);
    double start = now();
    bool good = filling ? fill(b, n) : compute(b, b->depth, n, decode ? 1 : b->ubatch);
    *seconds = now() - start;
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
