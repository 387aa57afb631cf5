/* SPDX-License-Identifier: MIT */
/* From command-line options to an open engine and session. */
#include "tools/common/engine_options.h"

const char *const sl_reader_names[] = {"auto", "memory", "pread", "uring", NULL};
const char *const sl_cache_names[] = {"auto", "int8", "bf16", "f32", NULL};
const char *const sl_multiplier_names[] = {"kernels", "onednn", NULL};

int sl_open_engine(sluice_engine **engine, const struct sl_engine_options *o, bool mtp,
                   struct sluice_err *err)
{
    const struct sluice_engine_opts opts = {
        .threads = (unsigned)o->threads,
        .reader = o->reader,
        .mtp = mtp,
    };
    return sluice_engine_open(engine, o->model, &opts, err);
}

int sl_open_session(sluice_session **session, sluice_engine *engine,
                    const struct sl_engine_options *o, size_t tokens, struct sluice_err *err)
{
    const struct sluice_session_opts opts = {
        .context = o->context ? o->context : tokens,
        .chunk = o->chunk,
        .kv = o->kv,
        .index = o->index,
        .dense = o->dense,
        .multiplier = o->multiplier,
    };
    return sluice_session_open(session, engine, &opts, err);
}
