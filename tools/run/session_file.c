/* SPDX-License-Identifier: MIT */
#include "tools/run/session_file.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/arith.h"
#include "runtime/base/err.h"
#include "runtime/base/file.h"
#include "tools/common/progress.h"
#include "tools/common/status.h"

int sl_session_look(struct sluice_saved *saved, const char *path, struct sluice_err *err)
{
    char copy[SL_PATH_MAX];
    *saved = (struct sluice_saved){0};
    if (access(path, F_OK) == 0)
        return sluice_session_saved(saved, path, err);
    if (errno != ENOENT)
        return sl_fail_errno(err, SLUICE_EIO, errno, "cannot open %s", path);
    snprintf(copy, sizeof copy, "%s", path);
    if (access(dirname(copy), W_OK | X_OK) != 0)
        return sl_fail_errno(err, SLUICE_EARG, errno, "cannot create %s", path);
    return 0;
}

size_t sl_session_room(size_t tokens, size_t saved, const struct sluice_model_info *info)
{
    size_t selects = info->index_topk > 0 ? (size_t)info->index_topk + 1 : 0;
    size_t least = sl_max(sl_max(SL_SESSION_ROOM, selects), saved);
    return sl_min(sl_max(tokens, least), (size_t)info->context);
}

static int show_restoring(void *user, uint64_t done, uint64_t total)
{
    sl_progress_update(user, done, total);
    return sl_interrupted();
}

int sl_session_restore(sluice_session *session, const char *path, struct sluice_err *err)
{
    struct sl_progress progress;
    sl_progress_open(&progress, stderr, "restoring the session", SL_PROGRESS_BYTES);
    int status = sluice_session_restore(session, path, show_restoring, &progress, err);
    sl_progress_close(&progress);
    return status;
}

/* Goes on after Ctrl-C, which ended the answer; the second one ends the program. */
static int show_saving(void *user, uint64_t done, uint64_t total)
{
    sl_progress_update(user, done, total);
    return 0;
}

int sl_session_keep(sluice_session *session, const char *path, int status, struct sluice_err *err)
{
    struct sl_progress progress;
    struct sluice_err saving = {0};
    if ((status < 0 && status != SLUICE_ECANCELLED) || sluice_session_length(session) == 0)
        return status;
    sl_progress_open(&progress, stderr, "saving the session", SL_PROGRESS_BYTES);
    int saved = sluice_session_save(session, path, show_saving, &progress, &saving);
    sl_progress_close(&progress);
    if (saved == 0)
        return status;
    *err = saving;
    return saved;
}
