/* SPDX-License-Identifier: MIT */
/* `sluice eval logits`: token ids in, logits of every position out, as raw little-endian arrays. */
#include <stdlib.h>
#include <sys/stat.h>

#include "runtime/base/err.h"
#include "runtime/base/file.h"
#include "tools/common/engine_options.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"
#include "tools/eval/eval.h"
#include "tools/eval/sequences.h"

struct logits_options {
    struct sl_engine_options engine;
    const char *tokens, *out;
    bool mtp;
};

/* clang-format off */
static const struct sl_option rows[] = {
    {.name = "tokens", SL_FIELD(SL_STRING, struct logits_options, tokens), .value = "FILE.i32",
     .required = true, .help = "Token ids: little-endian int32", .group = "Task"},
    {.name = "out", .letter = 'o', SL_FIELD(SL_STRING, struct logits_options, out),
     .value = "FILE.f32", .required = true,
     .help = "Where to write float32 [n_tokens][vocab], little-endian", .group = "Task"},
    {.name = "mtp", SL_FIELD(SL_FLAG, struct logits_options, mtp),
     .help = "Write the MTP layer's logits instead, [n_tokens - 1][vocab]: row i is for token "
             "i + 2", .group = "Task"},
    SL_ENGINE_ROWS(struct logits_options, engine),
    {0},
};
/* clang-format on */

static const struct sl_command command = {
    .name = "eval logits",
    .summary = "write the logits of every position of a token file",
    .rows = rows,
};

struct writing {
    struct sl_newfile file;
    struct sl_progress progress;
    size_t row_bytes;
    int status;
    struct sluice_err *err;
};

static int write_row(void *user, size_t position, const float *logits)
{
    struct writing *w = user;
    w->status = sl_newfile_write_at(&w->file, logits, w->row_bytes,
                                    (uint64_t)position * w->row_bytes, w->err);
    return w->status < 0;
}

static int show_progress(void *user, size_t done, size_t total)
{
    struct writing *w = user;
    sl_progress_update(&w->progress, done, total);
    return sl_interrupted();
}

/* The file to replace: links are followed; what is there and no file (/dev/null) is refused. */
static int resolve_out(const char *out, char path[SL_PATH_MAX], struct sluice_err *err)
{
    struct stat st;
    if (!realpath(out, path)) {
        if (lstat(out, &st) == 0)
            return sl_fail(err, SLUICE_EARG, "%s: a link to nothing; name a file", out);
        if (snprintf(path, SL_PATH_MAX, "%s", out) >= SL_PATH_MAX)
            return sl_fail(err, SLUICE_EARG, "%.200s…: path too long", out);
        return 0;
    }
    if (!sl_file_exists(path))
        return sl_fail(err, SLUICE_EARG, "%s: not a regular file; logits are written to one", out);
    return 0;
}

static int compute(const struct logits_options *o, const char *out, sluice_engine *engine,
                   const int32_t *tokens, size_t n, struct sluice_err *err)
{
    struct sluice_model_info info;
    sluice_session *session = NULL;
    struct writing w = {.err = err};
    w.file.fd = -1;
    sluice_engine_info(engine, &info);
    w.row_bytes = (size_t)info.vocab * sizeof(float);
    int status = sl_open_session(&session, engine, &o->engine, n, err);
    if (status == 0)
        status = sl_newfile_open(&w.file, out, err);
    if (status == 0) {
        const struct sluice_sync_callbacks callbacks = {
            .user = &w,
            .progress = show_progress,
            .logits = o->mtp ? NULL : write_row,
            .draft = o->mtp ? write_row : NULL,
        };
        sl_progress_open(&w.progress, stderr, "evaluating", SL_PROGRESS_TOKENS);
        sl_progress_update(&w.progress, 0, n);
        struct sluice_err sync_err = {0};
        status = sluice_session_sync(session, tokens, n, &callbacks, &sync_err);
        sl_progress_close(&w.progress);
        if (status < 0 && w.status == 0)
            *err = sync_err;
        status = w.status < 0 ? w.status : status;
    }
    if (status == 0)
        status = sl_newfile_commit(&w.file, err);
    sl_newfile_close(&w.file);
    sluice_session_close(&session);
    return status;
}

int sl_verb_eval_logits(int argc, char **argv)
{
    struct logits_options o = {0};
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    int32_t *tokens = NULL;
    size_t n = 0;
    int status = sl_options_parse(&command, argc, argv, &o, stdout, stderr);
    if (status >= 0)
        return status;
    char out[SL_PATH_MAX];
    status = sl_read_ids(o.tokens, &tokens, &n, &err);
    if (status == 0)
        status = resolve_out(o.out, out, &err);
    if (status == 0)
        status = sl_open_engine(&engine, &o.engine,
                                o.mtp ? SLUICE_DRAFTING_ON : SLUICE_DRAFTING_OFF, n, &err);
    sl_interrupt_install(); /* before, Ctrl-C simply ends the program */
    if (status == 0)
        status = compute(&o, out, engine, tokens, n, &err);
    sluice_engine_close(&engine);
    free(tokens);
    return status < 0 ? sl_report(&err) : SL_EXIT_OK;
}
