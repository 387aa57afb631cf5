/* SPDX-License-Identifier: MIT */
/* `sluice run --session FILE`: what a run begins with, and leaves to the next. */
#ifndef SL_TOOLS_SESSION_FILE_H
#define SL_TOOLS_SESSION_FILE_H

#include "runtime/sluice.h"

/* Tokens that such a session has room for at least: it is to be gone on with, and index keys are
 * kept only in a context that is longer than what a query selects. */
enum { SL_SESSION_ROOM = 4096 };

/* Before anything is loaded: *saved is what PATH has, no tokens when there is no such file; then
 * one must be allowed there. */
int sl_session_look(struct sluice_saved *saved, const char *path, struct sluice_err *err);

/* The context for a run that needs TOKENS and begins with SAVED. */
size_t sl_session_room(size_t tokens, size_t saved, const struct sluice_model_info *info);

/* Restores, with progress; Ctrl-C stops it. */
int sl_session_restore(sluice_session *session, const char *path, struct sluice_err *err);

/* At the end of a run that ended with STATUS: saves, with progress, what there is; also what a
 * stopped prompt has computed.  Returns STATUS, or the error. */
int sl_session_keep(sluice_session *session, const char *path, int status, struct sluice_err *err);

#endif
