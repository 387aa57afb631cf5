/* SPDX-License-Identifier: MIT */
/* Filling the caller's struct sluice_err. */
#ifndef SL_BASE_ERR_H
#define SL_BASE_ERR_H

#include <stdarg.h>

#include "runtime/sluice.h"

/*
 * Stores CODE and the formatted message in ERR (which may be NULL) and returns CODE, so that
 * callers write `return sl_fail(err, SLUICE_EFORMAT, "%s: …", path, …);`.
 */
__attribute__((format(printf, 3, 4))) int sl_fail(struct sluice_err *err, int code,
                                                  const char *format, ...);

/* Like sl_fail(), and appends ": strerror(errnum)".  ENOSPC and EDQUOT become SLUICE_ENOSPC and
 * ENOMEM becomes SLUICE_ENOMEM whatever CODE says. */
__attribute__((format(printf, 4, 5))) int sl_fail_errno(struct sluice_err *err, int code,
                                                        int errnum, const char *format, ...);

/* "out of memory: WHAT (N bytes)". */
int sl_fail_nomem(struct sluice_err *err, const char *what, size_t bytes);

/* Prefixes the message already in ERR with the formatted text and ": ". Returns err's code. */
__attribute__((format(printf, 2, 3))) int sl_err_prefix(struct sluice_err *err, const char *format,
                                                        ...);

#endif
