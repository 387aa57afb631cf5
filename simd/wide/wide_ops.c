/* SPDX-License-Identifier: MIT */
/* The table of one rung: data only. */
#include "simd/rungs.h"
#include "simd/wide/wide_kernels.h"

const struct sl_ops SL_WIDE(ops) = {
    .gemm = SL_WIDE(gemm),
    .weights_bf16 = SL_WIDE(weights_bf16),
    .quantize_acts = SL_WIDE(quantize_acts),
    .quantize_groups = SL_WIDE(quantize_groups),
    .rmsnorm = SL_WIDE(rmsnorm),
    .layernorm = SL_WIDE(layernorm),
    .swiglu = SL_WIDE(swiglu),
    .axpy = SL_WIDE(axpy),
    .add = SL_WIDE(add),
    .sigmoid = SL_WIDE(sigmoid),
    .rope_interleaved = SL_WIDE(rope_interleaved),
    .rope_half = SL_WIDE(rope_half),
    .hadamard = SL_WIDE(hadamard),
    .index_store = SL_WIDE(index_store),
    .index_score = SL_WIDE(index_score),
    .topk = SL_WIDE(topk),
    .group_max = SL_WIDE(group_max),
    .reach = SL_WIDE(reach),
    .kv_store = SL_WIDE(kv_store),
    .attend = SL_WIDE(attend),
    .attend_merge = SL_WIDE(attend_merge),
    .attend_finish = SL_WIDE(attend_finish),
    .fp8_decode = SL_WIDE(fp8_decode),
    .bf16_decode = SL_WIDE(bf16_decode),
    .fit_scale = SL_WIDE(fit_scale),
    .fit_codes = SL_WIDE(fit_codes),
};
