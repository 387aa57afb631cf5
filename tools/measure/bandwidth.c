/* SPDX-License-Identifier: MIT */
#include "tools/measure/bandwidth.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/arith.h"
#include "runtime/base/clock.h"
#include "runtime/base/err.h"
#include "runtime/model/rung.h"

enum {
    BYTES = 512 << 20,
    PIECE = 1 << 20, /* read at a time: streams need some length, threads a fair share */
    SHARES = 16,     /* pieces per thread, if these are smaller */
    PASSES = 8,
};

struct reading {
    const struct sl_peaks *peaks;
    const char *data;
    size_t n, piece;
};

static void read_work(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct reading *r = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t n = sl_min(r->n - i * r->piece, r->piece);
        r->peaks->read(r->data + i * r->piece, n / SL_PEAK_BYTES * SL_PEAK_BYTES, true);
    }
}

void sl_read_once(const struct sl_team *team, const struct sl_peaks *peaks, const void *data,
                  size_t n)
{
    size_t share = sl_round_up(sl_ceil_div(n, SHARES * team->threads), SL_PEAK_BYTES);
    struct reading reading = {peaks, data, n, sl_min(PIECE, share)};
    sl_team_run(team, sl_ceil_div(n, reading.piece), 1, read_work, &reading);
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
