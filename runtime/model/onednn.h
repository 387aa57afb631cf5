/* SPDX-License-Identifier: MIT */
/* oneDNN multiplies float weights by many vectors: faster than the kernels, not the same bits. */
#ifndef SL_MODEL_ONEDNN_H
#define SL_MODEL_ONEDNN_H

#include "runtime/model/matmul.h"
#include "runtime/sluice.h"

/*
 * A multiplier for F32 and BF16 weights (decoded; activations stay F32) by at least
 * SL_ONEDNN_VECTORS vectors.  Results depend on processor, threads and version of oneDNN; NaN,
 * infinities and denormals come out as in any F32 sum.  SLUICE_EUNSUPPORTED when this build has no
 * oneDNN.  One thread at a time may use it.
 */
enum { SL_ONEDNN_VECTORS = 64 };
int sl_onednn_open(struct sl_multiplier **m, struct sluice_err *err);
void sl_onednn_close(struct sl_multiplier **m);

#endif
