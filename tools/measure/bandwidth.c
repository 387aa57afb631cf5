/* SPDX-License-Identifier: MIT */
#include "tools/measure/bandwidth.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/base/team.h"

enum { BYTES = 512 << 20, PIECE = 1 << 20, PASSES = 8, STREAMS = 8 };

struct reading {
    const uint64_t *data;
    uint64_t sum; /* used, so that the loop stays */
};

static void read_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct reading *r = arg;
    uint64_t sum[STREAMS] = {0}, total = 0;
    const uint64_t *p = r->data + begin * (PIECE / sizeof *p);
    const uint64_t *last = r->data + end * (PIECE / sizeof *p);
    (void)thread;
    for (; p < last; p += STREAMS)
        for (size_t i = 0; i < STREAMS; i++)
            sum[i] += p[i];
    for (size_t i = 0; i < STREAMS; i++)
        total += sum[i];
    __atomic_fetch_add(&r->sum, total, __ATOMIC_RELAXED);
}

static void touch_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    (void)thread;
    memset((char *)arg + begin * PIECE, 1, (end - begin) * PIECE);
}

int sl_read_bandwidth(unsigned threads, double *bytes_per_second, struct sluice_err *err)
{
    struct sl_team team = sl_team_make(threads);
    void *data = aligned_alloc(4096, BYTES);
    if (!data)
        return sl_fail_nomem(err, "memory to measure bandwidth with", BYTES);
    struct reading reading = {.data = data};
    sl_team_run(&team, BYTES / PIECE, 1, touch_work, data);
    *bytes_per_second = 0;
    for (int i = 0; i < PASSES; i++) {
        double start = sl_now();
        sl_team_run(&team, BYTES / PIECE, 1, read_work, &reading);
        double rate = BYTES / (sl_now() - start);
        *bytes_per_second = rate > *bytes_per_second ? rate : *bytes_per_second;
    }
    free(data);
    return reading.sum ? 0 : sl_fail(err, SLUICE_EIO, "memory does not hold what was written");
}
