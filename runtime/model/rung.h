/* SPDX-License-Identifier: MIT */
/* Which kernels this process computes with: the user's word, else the best that the CPU has. */
#ifndef SL_MODEL_RUNG_H
#define SL_MODEL_RUNG_H

#include "runtime/sluice.h"
#include "simd/simd.h"

/* The rung named by the environment variable SLUICE_CPU, or the best one when it is not set or
 * empty.  NULL, with an error that lists the names, when that one cannot run here. */
const struct sl_rung *sl_rung_chosen(struct sluice_err *err);

#endif
