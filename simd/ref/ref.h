/* SPDX-License-Identifier: MIT */
/* The reference kernels, one prototype per slot of struct sl_ops.  Private to simd/. */
#ifndef SL_SIMD_REF_H
#define SL_SIMD_REF_H

#include "simd/simd.h"

sl_gemm_fn sl_ref_gemm;
sl_weights_bf16_fn sl_ref_weights_bf16;
sl_quantize_acts_fn sl_ref_quantize_acts;
sl_quantize_groups_fn sl_ref_quantize_groups;
sl_rmsnorm_fn sl_ref_rmsnorm;
sl_layernorm_fn sl_ref_layernorm;
sl_swiglu_fn sl_ref_swiglu;
sl_axpy_fn sl_ref_axpy;
sl_add_fn sl_ref_add;
sl_sigmoid_fn sl_ref_sigmoid;
sl_rope_fn sl_ref_rope_interleaved;
sl_rope_fn sl_ref_rope_half;
sl_hadamard_fn sl_ref_hadamard;
sl_index_store_fn sl_ref_index_store;
sl_index_score_fn sl_ref_index_score;
sl_topk_fn sl_ref_topk;
sl_group_max_fn sl_ref_group_max;
sl_reach_fn sl_ref_reach;
sl_kv_store_fn sl_ref_kv_store;
sl_attend_fn sl_ref_attend;
sl_attend_merge_fn sl_ref_attend_merge;
sl_attend_finish_fn sl_ref_attend_finish;
sl_fp8_decode_fn sl_ref_fp8_decode;
sl_bf16_decode_fn sl_ref_bf16_decode;
sl_fit_scale_fn sl_ref_fit_scale;
sl_fit_codes_fn sl_ref_fit_codes;

#endif
