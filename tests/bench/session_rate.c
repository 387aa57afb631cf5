/* SPDX-License-Identifier: MIT */
/*
 * How fast a session of noise is saved, restored and taken over: session_rate CONTAINER TOKENS
 * FILE.  Run by hand, on an otherwise idle machine; FILE is overwritten.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/huge.h"
#include "runtime/session/session.h"

enum { ROUNDS = 3 };

static double bytes; /* of what the session holds */

static void tell(const char *what, double seconds)
{
    printf("%-22s %6.2f s  %6.2f GB/s\n", what, seconds, bytes / seconds * 1e-9);
    fflush(stdout);
}

static int open_session(sluice_session **s, sluice_engine *engine, size_t n, struct sluice_err *err)
{
    const struct sluice_session_opts opts = {.context = n};
    return sluice_session_open(s, engine, &opts, err);
}

/* Memory that was not in use before: what the system takes to give as much. */
static int touch(struct sluice_err *err)
{
    struct sl_huge memory;
    int status = sl_huge_open(&memory, (size_t)bytes, "memory", err);
    if (status < 0)
        return status;
    double start = sl_now();
    memset(memory.base, 1, memory.size);
    tell("new memory, set", sl_now() - start);
    sl_huge_close(&memory);
    return 0;
}

/* Into memory that is in use already, and into that of a new session. */
static int restore(sluice_engine *engine, sluice_session *s, size_t n, const char *path,
                   struct sluice_err *err)
{
    sluice_session *other = NULL;
    double start = sl_now();
    int status = sluice_session_restore(s, path, NULL, NULL, err);
    tell("restored", sl_now() - start);
    if (status == 0)
        status = open_session(&other, engine, n, err);
    start = sl_now();
    if (status == 0)
        status = sluice_session_restore(other, path, NULL, NULL, err);
    tell("restored, new session", sl_now() - start);
    sluice_session_close(&other);
    return status;
}

/* All but the last token, by a session that takes the noise for computed rows. */
static int take(sluice_engine *engine, sluice_session *s, const int32_t *tokens, size_t n,
                struct sluice_err *err)
{
    sluice_session *other = NULL;
    int status = open_session(&other, engine, n, err);
    s->alone = false;
    for (int i = 0; status == 0 && i < 2; i++) {
        sl_session_cut(other, 0);
        double start = sl_now();
        sl_prefix_take(other, tokens, n);
        tell(i == 0 ? "taken over, new" : "taken over", sl_now() - start);
    }
    sluice_session_close(&other);
    return status;
}

int main(int argc, char **argv)
{
    struct sluice_err err = {0};
    sluice_engine *engine = NULL;
    sluice_session *s = NULL;
    if (argc != 4) {
        fprintf(stderr, "usage: session_rate CONTAINER TOKENS FILE\n");
        return 2;
    }
    size_t n = strtoul(argv[2], NULL, 10);
    int32_t *tokens = calloc(n, sizeof *tokens);
    const struct sluice_session_opts session = {.context = n};
    const struct sluice_engine_opts opts = {.session = &session};
    int status = tokens ? sluice_engine_open(&engine, argv[1], &opts, &err) : SLUICE_ENOMEM;
    if (status == 0)
        status = open_session(&s, engine, n, &err);
    if (status == 0)
        status = sluice_session_fill(s, tokens, n, &err);
    for (int i = 0; status == 0 && i < ROUNDS; i++) {
        struct sluice_stats stats;
        sluice_session_stats(s, &stats);
        bytes = (double)stats.kv_bytes;
        double start = sl_now();
        status = sluice_session_save(s, argv[3], NULL, NULL, &err);
        tell("saved", sl_now() - start);
        if (status == 0)
            status = touch(&err);
        if (status == 0)
            status = take(engine, s, tokens, n, &err);
        if (status == 0)
            status = restore(engine, s, n, argv[3], &err);
    }
    if (status < 0)
        fprintf(stderr, "%s\n", err.msg);
    sluice_session_close(&s);
    sluice_engine_close(&engine);
    free(tokens);
    return status < 0;
}
