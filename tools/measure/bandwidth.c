/* SPDX-License-Identifier: MIT */
#include "tools/measure/bandwidth.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/model/rung.h"

enum { BYTES = 512 << 20, PIECE = 1 << 20, PASSES = 8 };

struct reading {
    const struct sl_peaks *peaks;
    const char *data;
    size_t n;
};

static void read_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct reading *r = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t n = sl_min(r->n - i * PIECE, PIECE);
        r->peaks->read(r->data + i * PIECE, n / SL_PEAK_BYTES * SL_PEAK_BYTES);
    }
}

void sl_read_once(const struct sl_team *team, const struct sl_peaks *peaks, const void *data,
                  size_t n)
{
    struct reading reading = {peaks, data, n};
    sl_team_run(team, sl_ceil_div(n, PIECE), 1, read_work, &reading);
}

static void touch_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    (void)thread;
    memset((char *)arg + begin * PIECE, 1, (end - begin) * PIECE);
}

int sl_read_bandwidth(unsigned threads, double *bytes_per_second, struct sluice_err *err)
{
    struct sl_team team = sl_team_make(threads);
    const struct sl_rung *rung = sl_rung_chosen(err);
    if (!rung)
        return SLUICE_EARG;
    void *data = aligned_alloc(4096, BYTES);
    if (!data)
        return sl_fail_nomem(err, "memory to measure bandwidth with", BYTES);
    sl_team_run(&team, BYTES / PIECE, 1, touch_work, data);
    *bytes_per_second = 0;
    for (int i = 0; i < PASSES; i++) {
        double start = sl_now();
        sl_read_once(&team, rung->peaks, data, BYTES);
        double rate = BYTES / (sl_now() - start);
        *bytes_per_second = rate > *bytes_per_second ? rate : *bytes_per_second;
    }
    free(data);
    return 0;
}
