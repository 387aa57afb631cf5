/* SPDX-License-Identifier: MIT */
/* The wide kernels of one rung, one prototype per slot of struct sl_ops.  Private to simd/wide/. */
#ifndef SL_SIMD_WIDE_KERNELS_H
#define SL_SIMD_WIDE_KERNELS_H

#include "simd/simd.h"
#include "simd/wide/lanes.h"

sl_gemm_fn SL_WIDE(gemm);
/* What gemm does with one vector and integer weights. */
void SL_WIDE(gemv)(const struct sl_matrix *w, size_t panel0, size_t panel1, struct sl_acts x,
                   float *y);
sl_weights_bf16_fn SL_WIDE(weights_bf16);
sl_quantize_acts_fn SL_WIDE(quantize_acts);
sl_quantize_groups_fn SL_WIDE(quantize_groups);
sl_rmsnorm_fn SL_WIDE(rmsnorm);
sl_layernorm_fn SL_WIDE(layernorm);
sl_swiglu_fn SL_WIDE(swiglu);
sl_axpy_fn SL_WIDE(axpy);
sl_add_fn SL_WIDE(add);
sl_sigmoid_fn SL_WIDE(sigmoid);
sl_rope_fn SL_WIDE(rope_interleaved);
sl_rope_fn SL_WIDE(rope_half);
sl_hadamard_fn SL_WIDE(hadamard);
sl_index_store_fn SL_WIDE(index_store);
sl_index_score_fn SL_WIDE(index_score);
sl_topk_fn SL_WIDE(topk);
sl_group_max_fn SL_WIDE(group_max);
sl_reach_fn SL_WIDE(reach);
sl_kv_store_fn SL_WIDE(kv_store);
sl_attend_fn SL_WIDE(attend);
sl_attend_fn SL_WIDE(attend_int8); /* what attend does with an INT8 cache */
sl_attend_merge_fn SL_WIDE(attend_merge);
sl_attend_finish_fn SL_WIDE(attend_finish);
sl_fp8_decode_fn SL_WIDE(fp8_decode);
sl_bf16_decode_fn SL_WIDE(bf16_decode);
sl_fit_scale_fn SL_WIDE(fit_scale);
sl_fit_codes_fn SL_WIDE(fit_codes);

#endif
