/* SPDX-License-Identifier: MIT */
/* For tests of runtime/stream: experts with as many slots as a wave has blocks. */
#ifndef SL_TESTS_OPEN_EXPERTS_H
#define SL_TESTS_OPEN_EXPERTS_H

#include "runtime/stream/stream.h"

static inline int open_experts(struct sl_experts **x, const char *dir, const struct sl_manifest *m,
                               unsigned first, unsigned n, enum sluice_reader kind, size_t wave,
                               struct sluice_err *err)
{
    const struct sl_experts_opts opts = {
        .reader = kind, .wave = wave, .slots = (uint32_t)wave, .stages = SL_STAGES_MIN};
    return sl_experts_open(x, dir, m, first, n, &opts, err);
}

#endif
