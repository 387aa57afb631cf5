/* SPDX-License-Identifier: MIT */
/* From command-line options to an open engine and session. */
#include "tools/common/engine_options.h"

#include <unistd.h>

#include "tools/common/memory_text.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"

const char *const sl_reader_names[] = {"auto", "memory", "pread", "uring", NULL};
const char *const sl_load_names[] = {"auto", "map", "copy", NULL};
const char *const sl_cache_names[] = {"auto", "int8", "bf16", "f32", NULL};
const char *const sl_multiplier_names[] = {"kernels", "onednn", NULL};
const char *const sl_mtp_names[] = {"auto", "on", "off", NULL};

static struct sluice_session_opts session_of(const struct sl_engine_options *o, size_t tokens)
{
    return (struct sluice_session_opts){
        .context = o->context ? o->context : tokens,
        .chunk = o->chunk,
        .span = o->span,
        .prefill_seconds = o->prefill_seconds,
        .kv = o->kv,
        .index = o->index,
        .dense = o->dense,
        .multiplier = o->multiplier,
        .drafting = o->drafting,
    };
}

static int show_loading(void *user, uint64_t done, uint64_t total)
{
    sl_progress_update(user, done, total);
    return sl_interrupted();
}

/* Decides whether to load the MTP layer.  Whether *plan is what the engine will do. */
static bool plan_mtp(struct sluice_memory_plan *plan, struct sluice_engine_opts *opts,
                     const char *model, enum sluice_drafting mtp)
{
    opts->mtp = mtp != SLUICE_DRAFTING_OFF;
    if (mtp != SLUICE_DRAFTING_AUTO)
        return false;
    opts->mtp = sluice_plan_memory(plan, model, opts, NULL) == 0 &&
                plan->reader == SLUICE_READER_MEMORY;
    return opts->mtp;
}

int sl_open_engine(sluice_engine **engine, const struct sl_engine_options *o,
                   enum sluice_drafting mtp, size_t tokens, struct sluice_err *err)
{
    const struct sluice_session_opts session = session_of(o, tokens);
    struct sl_progress progress;
    struct sluice_engine_opts opts = {
        .threads = (unsigned)o->threads,
        .reader = o->reader,
        .load = o->load,
        .memory = o->memory,
        .session = &session,
        .sessions = (unsigned)o->sessions,
        .usage = o->usage,
        .user = &progress,
        .progress = show_loading,
    };
    struct sluice_memory_plan plan;
    struct sluice_model_info info;
    bool shown = isatty(STDERR_FILENO), planned = plan_mtp(&plan, &opts, o->model, mtp);
    if (shown && (planned || sluice_plan_memory(&plan, o->model, &opts, NULL) == 0))
        sl_memory_print(stderr, &plan);
    sl_progress_open(&progress, stderr, "loading", SL_PROGRESS_BYTES);
    int status = sluice_engine_open(engine, o->model, &opts, err);
    sl_progress_close(&progress);
    if (status < 0 || !shown)
        return status;
    sluice_engine_info(*engine, &info);
    fprintf(stderr, "experts by %s%s\n", info.reader_how,
            info.has_mtp ? "; the MTP layer is loaded" : "");
    return 0;
}

int sl_open_session(sluice_session **session, sluice_engine *engine,
                    const struct sl_engine_options *o, size_t tokens, struct sluice_err *err)
{
    const struct sluice_session_opts opts = session_of(o, tokens);
    return sluice_session_open(session, engine, &opts, err);
}
