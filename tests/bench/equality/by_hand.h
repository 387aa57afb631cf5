/* SPDX-License-Identifier: MIT */
/*
 * Kernels that owe nobody their bits: the functions of docs/kernels.md to about the precision of
 * float, in whatever order is fastest with AVX-512.  For measuring only: each takes the shapes of
 * the table in equality.c and finite values, no others.
 */
#ifndef SL_TESTS_BY_HAND_H
#define SL_TESTS_BY_HAND_H

#include "simd/simd.h"

/* simd/wide/ once more, with mul and add contracted to fma and the functions of free_lanes.h. */
extern const struct sl_ops sl_contracted_ops;

sl_gemm_fn free_gemm;
sl_index_score_fn free_index_score;
sl_rmsnorm_fn free_rmsnorm;
sl_layernorm_fn free_layernorm;
sl_sigmoid_fn free_sigmoid;
sl_swiglu_fn free_swiglu;
sl_quantize_acts_fn free_quantize_acts;
sl_rope_fn free_rope_interleaved;
sl_hadamard_fn free_hadamard;
sl_attend_finish_fn free_attend_finish;
sl_fit_scale_fn free_fit_scale;

#endif
