#!/bin/sh
# SPDX-License-Identifier: MIT
# --dense onednn: with oneDNN and without it, and beside --dense.
. "${top_srcdir:-.}/tests/cli/common.sh"

expect 0 -- "$sluice" quantize "$top/demo" model
topk=$("$sluice" inspect model --json | sed -n 's/.*"index_topk": \([0-9]*\).*/\1/p')
n=$((topk * 2 > 128 ? topk * 2 : 128)) # more than keys are kept, more than oneDNN wants
i=0
while [ $i -lt $n ]; do
    printf "\\$(printf %03o $((i * 7 % 251)))\000\000\000"
    i=$((i + 1))
done > ids

# ---- usage --------------------------------------------------------------------------------------
for verb in run bench plan 'eval logits' 'eval ppl'; do
    # shellcheck disable=SC2086
    expect 0 '--dense kernels|onednn' SLUICE_DENSE_BY -- "$sluice" $verb --help
done
expect 2 "found 'blas'" -- env SLUICE_DENSE_BY=blas "$sluice" run -m model -p x
expect 2 "--dense: found 'blas'" -- "$sluice" run -m model -p x --dense=blas

# ---- by the kernels, which is the default -------------------------------------------------------
expect 0 -- "$sluice" eval logits -m model --tokens ids --out plain --chunk $n
expect 0 -- "$sluice" eval logits -m model --tokens ids --out kernels --chunk $n --dense kernels
cmp plain kernels || bad "--dense kernels is not the default"
expect 0 -- "$sluice" eval logits -m model --tokens ids --out dense --chunk $n --dense
expect 0 -- "$sluice" eval logits -m model --tokens ids --out both --chunk $n --dense --dense kernels
cmp dense both || bad "--dense is lost beside --dense kernels"
! cmp -s plain dense || bad "--dense does not reach beyond index_topk"
expect 0 '"multiplier": "kernels", "multiplier_products": 0' -- \
    "$sluice" run -m model -p x -n 3 --json

# ---- without oneDNN, or on a processor that it is not fast on -----------------------------------
refused() { # WORDS…
    for verb in 'run -p x' 'eval logits --tokens ids --out out.f32' 'bench -p 64 -n 0' plan; do
        # shellcheck disable=SC2086
        expect 3 "$@" -- "$sluice" $verb -m model --dense onednn
    done
    expect 3 "$@" -- env SLUICE_DENSE_BY=onednn "$sluice" run -m model -p x
}
built=$("$sluice" --version -v | sed -n 's/^oneDNN *//p')
if [ "$built" = no ]; then
    refused 'no oneDNN' libdnnl-dev --with-onednn
    finish
    exit
fi
DNNL_MAX_CPU_ISA=AVX2 ONEDNN_MAX_CPU_ISA=AVX2
export DNNL_MAX_CPU_ISA ONEDNN_MAX_CPU_ISA
refused "oneDNN $built" AVX512_BF16 '--dense kernels'
unset DNNL_MAX_CPU_ISA ONEDNN_MAX_CPU_ISA
if ! grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo; then
    refused "oneDNN $built" AVX512_BF16 '--dense kernels'
    finish
    exit
fi

# ---- by oneDNN ----------------------------------------------------------------------------------
expect 0 -- "$sluice" eval logits -m model --tokens ids --out other --chunk $n --dense onednn
! cmp -s plain other || bad "--dense onednn changes nothing"
expect 0 -- env SLUICE_DENSE_BY=onednn "$sluice" eval logits -m model --tokens ids --out again \
    --chunk $n
cmp other again || bad "SLUICE_DENSE_BY=onednn is not --dense onednn"
expect 0 -- "$sluice" eval logits -m model --tokens ids --out few --chunk 63 --dense onednn
cmp plain few || bad "oneDNN multiplies by less than 64 tokens"
text=$(seq 1000)
expect 0 " by oneDNN $built" -- "$sluice" run -m model -p "$text" -n 2 --dense onednn
expect 0 "\"multiplier\": \"oneDNN $built" -- "$sluice" run -m model -p "$text" -n 2 --json \
    --dense onednn
grep -q '"multiplier_products": 0' out && bad "no product by oneDNN"
expect 0 "prompts by oneDNN $built" pp64 -- "$sluice" bench -m model -p 64 -n 0 -r 1 --dense onednn
scratch() {
    "$sluice" plan -m model --memory 8G --chunk $n --json "$@" |
        sed -n 's/.*"scratch": \([0-9]*\).*/\1/p' | head -n 1
}
[ "$(scratch --dense onednn)" -gt "$(scratch)" ] || bad "the plan does not count oneDNN's memory"
finish
