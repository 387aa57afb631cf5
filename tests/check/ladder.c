/* SPDX-License-Identifier: MIT */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "tests/check/ladder.h"

#include <string.h>

/* What follows the rung BEFORE, the last of the ladder. */
static const struct sl_rung *rung_behind(const struct sl_rung *before)
{
#ifdef HAVE_RUNG_AVX512VNNI
    extern const struct sl_ops sl_avx512vl_ops;
    extern const struct sl_peaks sl_avx512vl_peaks;
    static const struct sl_rung rung = {"avx512vl", &sl_avx512vl_ops, &sl_avx512vl_peaks};
    if (strcmp(before->name, "avx512vnni") == 0) /* the processor has what it needs */
        return &rung;
#endif
    (void)before;
    return NULL;
}

const struct sl_rung *checked_rung_at(size_t i)
{
    const struct sl_rung *rung = sl_rung_at(i);
    return rung || !sl_rung_at(i - 1) ? rung : rung_behind(sl_rung_at(i - 1));
}

const struct sl_rung *checked_rung_find(const char *name)
{
    const struct sl_rung *rung;
    size_t i = 0;
    while ((rung = checked_rung_at(i)) != NULL && strcmp(rung->name, name) != 0)
        i++;
    return rung;
}
