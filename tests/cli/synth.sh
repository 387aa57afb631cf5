#!/bin/sh
# SPDX-License-Identifier: MIT
# `sluice synth`: containers and checkpoints of noise; what is refused; going on after a kill.
. "${top_srcdir:-.}/tests/cli/common.sh"
like=$top/tests/golden/tiny-v32/checkpoint/config.json

# ---- containers -----------------------------------------------------------------------------------
expect 0 '4 files written' -- "$sluice" synth noise --like "$like" --layers 1+1
[ ! -s err ] || bad "synth wrote to stderr without a terminal: $(head -c 300 err)"
expect 0 good -- "$sluice" verify noise
expect 0 '"container_bytes"' '"files_resumed": 4' -- \
    "$sluice" synth noise --like "$like" --layers 1+1 --json
expect 3 tokenizer.json -- "$sluice" run -m noise -p x
expect 2 DENSE+MOE -- "$sluice" synth other --layers 61
expect 2 'another source' -- "$sluice" synth noise --like "$like" --layers 2+0
expect 3 num_hidden_layers -- "$sluice" synth other --like "$like" --layers 0+0

# ---- checkpoints ----------------------------------------------------------------------------------
checkpoint() {
    "$sluice" synth "$1" --checkpoint --like "$like" --layers "${2:-1+1}" --threads "${3:-1}"
}
expect 0 ': checkpoint, ' 'files written' -- checkpoint want
files=$(find want -name 'model-*.safetensors' | wc -l)
[ "$files" -ge 2 ] || bad "$files shards, at least 2 wanted"
expect 0 -- checkpoint three 1+1 3
same three '3 threads'
expect 0 "\"files_resumed\": $files" '"checkpoint_bytes"' '"weights"' -- \
    "$sluice" synth three --checkpoint --like "$like" --layers 1+1 --json
same three 'a second run'
bytes=$(cat want/* | wc -c | tr -d ' ')
grep -q "\"checkpoint_bytes\": $bytes," out || bad "$bytes bytes, but it says $(cat out)"

# a run that was interrupted leaves some shards and half of another
rm three/model.safetensors.index.json three/config.json three/model-00002-*
: > "three/$(basename want/model-00002-*).part"
expect 0 ' 1 files written' -- checkpoint three
same three 'going on'
head -c 1000 want/model-00001-* > "three/$(basename want/model-00001-*)"
expect 0 ' 1 files written' -- checkpoint three
same three 'a truncated shard'

expect 0 'files written' -- "$sluice" quantize want made
expect 0 good -- "$sluice" verify made

# ---- other directories are left alone -------------------------------------------------------------
expect 2 'another source' -- checkpoint want 1+2
expect 2 'not a container' -- "$sluice" synth want --like "$like" --layers 1+1
expect 2 'not a checkpoint' -- checkpoint noise
same want 'a refusal'
# a published checkpoint whose shards have the same names
mkdir real
printf mine > real/config.json
cp "$top"/tests/golden/tiny-v32/checkpoint/*-00001-*.safetensors "real/$(basename want/model-00001-*)"
cp -R real kept
expect 2 'another source' -- checkpoint real
diff -r real kept || bad "a strange checkpoint was changed"
finish
