/* SPDX-License-Identifier: MIT */
/* oneDNN multiplies weights by many vectors: on some processors faster than the kernels, and never
 * to the same bits. */
#ifndef SL_MODEL_ONEDNN_H
#define SL_MODEL_ONEDNN_H

#include "runtime/model/config.h"
#include "runtime/model/matmul.h"
#include "runtime/sluice.h"

/*
 * A multiplier for F32 and BF16 weights (decoded; activations stay F32) by at least
 * SL_ONEDNN_VECTORS vectors.  Results depend on processor, threads and version of oneDNN; NaN,
 * infinities and denormals come out as in any F32 sum.  SLUICE_EUNSUPPORTED when this build has no
 * oneDNN.  One thread at a time may use it.
 */
enum { SL_ONEDNN_VECTORS = SLUICE_MULTIPLY_VECTORS };
int sl_onednn_open(struct sl_multiplier **m, struct sluice_err *err);

/*
 * A multiplier for the integer matrices of a model with configuration CONFIG, by SL_ONEDNN_VECTORS
 * to CHUNK vectors, with the threads and kernels of C: weights and activations rounded to BF16,
 * sums in F32 by instructions for BF16.  Denormals may count as 0.  Makes everything that oneDNN
 * will need but for the memory that sl_onednn_take() takes from ARENA, in both passes.
 * SLUICE_EUNSUPPORTED when this build has no oneDNN, or oneDNN no such instructions here.
 */
int sl_onednn_open_packed(struct sl_multiplier **m, const struct sl_config *config, size_t chunk,
                          const struct sl_compute *c, struct sluice_err *err);
void sl_onednn_take(struct sl_multiplier *m, struct sl_arena *arena);

/* Closes either. */
void sl_onednn_close(struct sl_multiplier **m);

#endif
