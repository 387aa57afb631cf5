#!/bin/sh
# SPDX-License-Identifier: MIT
# Every verb on the demo: what goes to stdout, what to stderr, resuming, JSON, environment twins.
. "${top_srcdir:-.}/tests/cli/common.sh"

expect 0 quantize run inspect verify eval -- "$sluice" --help
expect 0 'sluice 0' -- "$sluice" --version
expect 0 compiler 'kernel gemm' -- "$sluice" --version -v
SLUICE_CPU=abacus expect 2 'SLUICE_CPU=abacus' 'ref' 'unset it' -- "$sluice" --version -v
rungs=$(sed -n 's/.*this build and CPU have \([a-z0-9, ]*\);.*/\1/p' err | tr -d ,)
[ "${rungs%% *}" = ref ] || bad "which rungs are there? $(cat err)"
for rung in $rungs; do
    SLUICE_CPU=$rung expect 0 -- "$sluice" --version -v
    [ "$(grep -c "^kernel .* $rung\$" out)" -ge 20 ] || bad "SLUICE_CPU=$rung: $(cat out)"
done
expect 2 'did you mean' -- "$sluice" quantise
for verb in quantize run inspect verify stripe synth bench replay 'eval logits'; do
    # shellcheck disable=SC2086 # "eval logits" is two words
    expect 0 SLUICE_ Exit -- "$sluice" $verb --help
done

# ---- quantize: every instruction set writes the same bytes --------------------------------------
for profile in quality max; do
    SLUICE_CPU=ref expect 0 -- "$sluice" quantize "$top/tests/golden/tiny-v32/checkpoint" \
        "ref-$profile" --profile $profile
    for rung in $rungs; do
        [ $rung != ref ] || continue
        SLUICE_CPU=$rung expect 0 -- "$sluice" quantize "$top/tests/golden/tiny-v32/checkpoint" \
            "$rung-$profile" --profile $profile
        diff -r "ref-$profile" "$rung-$profile" || bad "$rung writes another container: $profile"
    done
done
SLUICE_CPU=abacus expect 2 SLUICE_CPU=abacus -- "$sluice" quantize "$top/demo" abacus
[ ! -e abacus ] || bad "a conversion that could not begin left a folder"
SLUICE_CPU=abacus expect 2 SLUICE_CPU=abacus -- "$sluice" run -m ref-max -p x

# ---- quantize: resuming gives the same bytes ----------------------------------------------------
expect 0 'profile quality' 'files written' -- "$sluice" quantize "$top/demo" model
[ ! -s err ] || bad "quantize wrote to stderr without a terminal: $(head -c 300 err)"
cp -R model again
rm again/sluice.json again/experts-02.safetensors again/resident-00.safetensors
touch again/head.safetensors.part
# damage must not be sealed in by the manifest
flip again/resident-01.safetensors $(($(size_of again/resident-01.safetensors) / 2))
expect 0 '3 files written' 'found complete' -- "$sluice" quantize "$top/demo" again --threads 1
for file in model/*; do
    cmp "$file" "again/${file#model/}" || bad "resuming changed $file"
done
[ "$(find model | wc -l)" -eq "$(find again | wc -l)" ] || bad "resuming left other files"
expect 2 'another' -- "$sluice" quantize "$top/demo" model --profile small
expect 0 '"profile": "max"' -- "$sluice" quantize "$top/demo" max --profile max --json

# ---- inspect, verify ----------------------------------------------------------------------------
expect 0 deepseek_v32 'profile quality' -- "$sluice" inspect model
expect 0 model.layers.1.self_attn.o_proj lut4 'group=32' lm_head -- "$sluice" inspect model --tensors
expect 0 '"architecture": "deepseek_v32"' '"rel_rms"' -- "$sluice" inspect model --tensors --json
expect 0 good -- "$sluice" verify model
expect 0 '"ok": true' -- "$sluice" verify model --json

# ---- run ----------------------------------------------------------------------------------------
prompt='Alice was beginning to get very tired of sitting by her sister'
expect 0 -- "$sluice" run -m model -p "$prompt" -n 20 --temp 0
cp out first
grep -q 'tok/s' err || bad "run prints no statistics on stderr"
[ "$(size_of first)" -gt 20 ] || bad "run printed almost nothing"
for variation in '--threads 1' '--threads 2' '--reader pread' '--chunk 3' '--seed 9' '--mtp on' '--mtp off' \
    '--mtp on --reader pread' '--mtp on --chunk 1'; do
    # shellcheck disable=SC2086
    expect 0 -- "$sluice" run -m model -p "$prompt" -n 20 --temp 0 $variation
    cmp -s out first || bad "run $variation gives another answer"
done
# the least memory that the refusal asks for is enough, and gives the same answer
expect 4 'allowed, at least' 'weights' 'use --memory' -- \
    "$sluice" run -m model -p "$prompt" -n 20 --temp 0 --memory 1k
least=$(sed -n 's/.*use --memory \([0-9.]*[KMG]\).*/\1/p' err)
for variation in '' '--load map' '--load copy' '--reader pread'; do
    # shellcheck disable=SC2086
    expect 0 -- "$sluice" run -m model -p "$prompt" -n 20 --temp 0 --memory "$least" $variation
    cmp -s out first || bad "run --memory $least $variation gives another answer"
done
printf %s "$prompt" > prompt
expect 0 -- sh -c "'$sluice' run -m model -n 20 --temp 0 < prompt"
cmp -s out first || bad "a piped prompt gives another answer"
expect 0 -- env SLUICE_MODEL=model SLUICE_TEMP=0 SLUICE_N_PREDICT=20 "$sluice" run -p "$prompt"
cmp -s out first || bad "options from the environment give another answer"
expect 0 -- "$sluice" run -m model -p "$prompt" -n 20 --temp 1 --seed 5
cp out drawn
expect 0 -- "$sluice" run -m model -p "$prompt" -n 20 --temp 1 --seed 5 --reader pread
cmp -s out drawn || bad "the same seed gives another answer"
expect 0 -- "$sluice" run -m model -p "$prompt" -n 20 --temp 1 --seed 5 --mtp on
cmp -s out drawn || bad "drafts give another answer"
grep -q ' · drafts on ([0-9]* % right)$' err || bad "nothing about drafts: $(cat err)"
expect 0 '"drafts": {"state": "on", "made": ' -- \
    "$sluice" run -m model -p "$prompt" -n 20 --mtp on --json
expect 0 '"drafts": null' -- "$sluice" run -m model -p "$prompt" -n 20 --mtp off --json
for most in 1 2 3; do
    expect 0 -- "$sluice" run -m model -p "$prompt" -n $most --temp 0 --mtp on
    cp out some
    expect 0 -- "$sluice" run -m model -p "$prompt" -n $most --temp 0 --mtp off
    cmp -s out some || bad "drafts give another answer of $most tokens"
done
expect 2 'exclude each other' -- "$sluice" run -m model -p x --mtp on --trace trace
expect 0 -- "$sluice" run -m model -p "$prompt" -n 20 --temp 1 --seed 6
! cmp -s out drawn || bad "another seed gives the same answer"
expect 1 -- sh -c "'$sluice' run -m model -p x -n 3 > /dev/full"
SLUICE_MACHINE=none expect 0 -- "$sluice" run -m model -p "$prompt" -n 20 --temp 0
grep -q '^[0-9]* tok · [0-9.]* tok/s · prefill [0-9]* tok [0-9.]* s · RAM [0-9.]* GB/s · experts' err ||
    bad "the line at the end: $(cat err)"
printf '%s' '{"sluice_machine": 1, "threads": 1, "memory_all": 1e6, "drive_pread": 1e6}' > machine
SLUICE_MACHINE=machine expect 0 -- \
    "$sluice" run -m model -p "$prompt" -n 20 --temp 0 --reader pread
grep -q ' · RAM [0-9]* % · NVMe [0-9]* % · experts [0-9.]* % hit, [0-9.]* .iB read$' err ||
    bad "the line at the end: $(cat err)"
SLUICE_MACHINE=prompt expect 0 'sluice doctor' 'RAM' -- "$sluice" run -m model -p x -n 3
SLUICE_MACHINE=none expect 0 '"text": "' '"stats": {"tokens": ' '"mem_fraction": null' \
    '"memory": {"limit": ' -- \
    "$sluice" run -m model -p "$prompt" -n 20 --temp 0 --json
[ ! -s err ] || bad "run --json writes to stderr: $(cat err)"
[ "$(wc -l < out)" -eq 1 ] || bad "run --json: not one line"
grep -qF "{\"text\": \"$(head -1 first | sed 's/[\\"]/\\&/g')" out || bad "run --json: another answer"
expect 1 'standard output' -- sh -c "'$sluice' run -m model -p x -n 3 --json > /dev/full"

# ---- eval logits --------------------------------------------------------------------------------
"$sluice" inspect model --json > info
vocab=$(sed -n 's/.*"vocab": \([0-9]*\).*/\1/p' info)
printf '\000\000\000\000\042\000\000\000\011\000\000\000' > ids
expect 0 -- "$sluice" eval logits -m model --tokens ids --out a.f32
[ "$(size_of a.f32)" -eq $((3 * vocab * 4)) ] || bad "eval logits wrote $(size_of a.f32) bytes"
expect 0 -- "$sluice" eval logits -m model --tokens ids --out b.f32 --chunk 1 --dense --ctx 4096
cmp a.f32 b.f32 || bad "a short text is dense anyway"
topk=$(sed -n 's/.*"index_topk": \([0-9]*\).*/\1/p' info)
i=0 # twice as many ids as keys are kept
while [ $i -lt $((topk * 2)) ]; do
    printf "\\$(printf %03o $((i * 7 % 251)))\000\000\000"
    i=$((i + 1))
done > many
for way in '' --dense '--dense --chunk 1' '--kv-type bf16' '--index-type f32'; do
    # shellcheck disable=SC2086
    expect 0 -- "$sluice" eval logits -m model --tokens many --out "many$way.f32" $way
done
! cmp -s many.f32 many--dense.f32 || bad "--dense changes nothing beyond index_topk"
! cmp -s many.f32 'many--kv-type bf16.f32' || bad "--kv-type changes nothing"
cmp many--dense.f32 'many--dense --chunk 1.f32' || bad "--dense differs by chunk"
head -c $((topk * vocab * 4)) many.f32 > a && head -c $((topk * vocab * 4)) many--dense.f32 > b
cmp a b || bad "--dense differs where every key is visible"
expect 0 -- "$sluice" eval logits -m model --tokens ids --out m.f32 --mtp
[ "$(size_of m.f32)" -eq $((2 * vocab * 4)) ] || bad "eval logits --mtp wrote $(size_of m.f32) bytes"
finish
