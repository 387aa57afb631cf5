/* SPDX-License-Identifier: MIT */
#include "tools/bench/extrapolate.h"

#include <stdio.h>

#include "runtime/base/err.h"

enum { PUBLISHED_DENSE = 3 };

bool sl_parse_layers(const char *text, struct sl_layer_count *layers)
{
    int used = 0;
    unsigned total;
    if (text[0] < '0' || text[0] > '9')
        return false;
    if (sscanf(text, "%5u%n", &total, &used) == 1 && text[used] == 0) {
        *layers = (struct sl_layer_count){PUBLISHED_DENSE, total - PUBLISHED_DENSE};
        return total > PUBLISHED_DENSE;
    }
    return sscanf(text, "%5u+%5u%n", &layers->dense, &layers->moe, &used) == 2 && text[used] == 0 &&
           layers->dense + layers->moe > 0;
}

int sl_check_layers(struct sl_layer_count from, struct sl_layer_count to, struct sluice_err *err)
{
    if ((from.dense > 0 || to.dense == 0) && (from.moe > 0 || to.moe == 0))
        return 0;
    return sl_fail(err, SLUICE_EARG,
                   "--layers %u+%u: the model has %u+%u layers, none of a kind to extrapolate from",
                   to.dense, to.moe, from.dense, from.moe);
}

/* Which layers a part occurs in. */
enum where { ALL, MOE, DENSE, ONCE };

static const enum where where[SLUICE_PARTS] = {
    [SLUICE_PART_PROJECTIONS] = ALL, [SLUICE_PART_INDEXER] = ALL, [SLUICE_PART_TOPK] = ALL,
    [SLUICE_PART_ATTENTION] = ALL,   [SLUICE_PART_ROUTER] = MOE,  [SLUICE_PART_EXPERTS] = MOE,
    [SLUICE_PART_IO] = MOE,          [SLUICE_PART_SHARED] = MOE,  [SLUICE_PART_DENSE] = DENSE,
    [SLUICE_PART_HEAD] = ONCE,
};

static double ratio(unsigned to, unsigned from)
{
    return from > 0 ? (double)to / from : 0;
}

static void scale(uint64_t *count, double by)
{
    *count = (uint64_t)((double)*count * by + 0.5);
}

double sl_extrapolate(struct sluice_stats *use, double seconds, struct sl_layer_count from,
                      struct sl_layer_count to)
{
    const double by[] = {
        [ALL] = ratio(to.dense + to.moe, from.dense + from.moe),
        [MOE] = ratio(to.moe, from.moe),
        [DENSE] = ratio(to.dense, from.dense),
        [ONCE] = 1,
    };
    double rest = seconds, scaled = 0;
    for (int i = 0; i < SLUICE_PARTS; i++) {
        rest -= use->part_seconds[i];
        use->part_seconds[i] *= by[where[i]];
        scaled += use->part_seconds[i];
        scale(&use->part_bytes[i], by[where[i]]);
    }
    scale(&use->expert_uses, by[MOE]);
    scale(&use->expert_hits, by[MOE]);
    scale(&use->expert_misses, by[MOE]);
    scale(&use->expert_bytes, by[MOE]);
    return scaled + (rest > 0 ? rest * by[ALL] : 0);
}
