/* SPDX-License-Identifier: MIT */
/* Error messages.  Owns no state; never prints. */
#include "runtime/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Messages quote files: no escape sequences, and no line that looks like another message. */
static void clean(char *msg)
{
    for (char *c = msg; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
}

int sl_fail(struct sluice_err *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->msg, sizeof err->msg, format, args);
        va_end(args);
        clean(err->msg);
        err->code = code;
    }
    return code;
}

static int code_of_errno(int errnum, int fallback)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return SLUICE_ENOSPC;
    case ENOMEM:
        return SLUICE_ENOMEM;
    default:
        return fallback;
    }
}

int sl_fail_errno(struct sluice_err *err, int code, int errnum, const char *format, ...)
{
    code = code_of_errno(errnum, code);
    if (err) {
        va_list args;
        va_start(args, format);
        int used = vsnprintf(err->msg, sizeof err->msg, format, args);
        va_end(args);
        if (used >= 0 && (size_t)used < sizeof err->msg) {
            char text[128];
            snprintf(err->msg + used, sizeof err->msg - (size_t)used, ": %s",
                     strerror_r(errnum, text, sizeof text));
        }
        clean(err->msg);
        err->code = code;
    }
    return code;
}

int sl_fail_nomem(struct sluice_err *err, const char *what, size_t bytes)
{
    return sl_fail(err, SLUICE_ENOMEM, "out of memory: %s (%zu bytes)", what, bytes);
}

int sl_err_prefix(struct sluice_err *err, const char *format, ...)
{
    if (!err)
        return SLUICE_EARG;
    char prefix[512], rest[sizeof err->msg];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    memcpy(rest, err->msg, sizeof rest);
    snprintf(err->msg, sizeof err->msg, "%.511s: %.500s", prefix, rest);
    clean(err->msg);
    return err->code;
}
