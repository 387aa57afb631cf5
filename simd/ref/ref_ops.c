/* SPDX-License-Identifier: MIT */
/* The lowest rung: portable C, the definition of every result. */
#include "simd/ref/ref.h"
#include "simd/rungs.h"

const struct sl_ops sl_ref_ops = {
    .gemm = sl_ref_gemm,
    .weights_bf16 = sl_ref_weights_bf16,
    .quantize_acts = sl_ref_quantize_acts,
    .quantize_groups = sl_ref_quantize_groups,
    .rmsnorm = sl_ref_rmsnorm,
    .layernorm = sl_ref_layernorm,
    .swiglu = sl_ref_swiglu,
    .axpy = sl_ref_axpy,
    .add = sl_ref_add,
    .sigmoid = sl_ref_sigmoid,
    .rope_interleaved = sl_ref_rope_interleaved,
    .rope_half = sl_ref_rope_half,
    .hadamard = sl_ref_hadamard,
    .index_store = sl_ref_index_store,
    .index_score = sl_ref_index_score,
    .topk = sl_ref_topk,
    .group_max = sl_ref_group_max,
    .reach = sl_ref_reach,
    .kv_store = sl_ref_kv_store,
    .attend = sl_ref_attend,
    .attend_merge = sl_ref_attend_merge,
    .attend_finish = sl_ref_attend_finish,
    .fp8_decode = sl_ref_fp8_decode,
    .bf16_decode = sl_ref_bf16_decode,
    .fit_scale = sl_ref_fit_scale,
    .fit_codes = sl_ref_fit_codes,
};
