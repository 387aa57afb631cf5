#!/bin/sh
# SPDX-License-Identifier: MIT
# Bad input: a clear error that names file, found, wanted and the fix; the exit code of its class;
# nothing half-written; no crash.
. "${top_srcdir:-.}/tests/cli/common.sh"

# A failed conversion leaves no manifest and no partial file.
nothing_left() {
    [ ! -e dst/sluice.json ] || bad "a failed conversion left sluice.json"
    [ -z "$(find . -name '*.part')" ] || bad "a failed conversion left $(find . -name '*.part')"
}

# ---- checkpoints ------------------------------------------------------------------------------
fresh tiny-v32
rm src/model-00001-of-00003.safetensors src/model-00003-of-00003.safetensors
expect 3 model-00001-of-00003.safetensors model-00003-of-00003.safetensors -- "$sluice" quantize src dst
nothing_left

fresh tiny-v32
truncate -s -1000 src/model-00002-of-00003.safetensors
expect 3 model-00002-of-00003.safetensors truncated -- "$sluice" quantize src dst
nothing_left

fresh tiny-v32
: > src/model-00002-of-00003.safetensors
expect 3 model-00002-of-00003.safetensors -- "$sluice" quantize src dst

fresh tiny-v3
sed 's/"hidden_size": 192/"hidden_size": 224/' src/config.json > c && mv c src/config.json
expect 3 model.embed_tokens.weight 192 224 -- "$sluice" quantize src dst
nothing_left

fresh tiny-v3
sed 's/"n_routed_experts": 16/"n_routed_experts": 20/' src/config.json > c && mv c src/config.json
expect 3 -- "$sluice" quantize src dst

fresh tiny-v3
sed 's/"model_type": "deepseek_v3"/"model_type": "llama"/' src/config.json > c && mv c src/config.json
expect 3 src/config.json llama deepseek_v3 -- "$sluice" quantize src dst

fresh tiny-v3
sed 's/"num_attention_heads": 2/"num_attention_heads": -2/' src/config.json > c && mv c src/config.json
expect 3 src/config.json num_attention_heads -2 -- "$sluice" quantize src dst

fresh tiny-v3
echo '{ "model_type": ' > src/config.json
expect 3 src/config.json JSON -- "$sluice" quantize src dst

fresh tiny-v3 # NaN codes: the end of the last shard is FP8 data
last=src/model-00003-of-00003.safetensors
header=$(od -An -tu8 -N 8 $last | tr -d ' ')
name=$(dd if=$last bs=1 skip=8 count="$header" status=none | tr '}' '\n' | grep F8_E4M3 | head -1 |
    sed 's/.*"\(model[^"]*\)".*/\1/')
begin=$(dd if=$last bs=1 skip=8 count="$header" status=none | tr '}' '\n' | grep F8_E4M3 | head -1 |
    sed 's/.*"data_offsets": *\[\([0-9]*\),.*/\1/')
poke $last $((8 + header + begin + 5)) 7f
expect 3 "$last" "$name" NaN -- "$sluice" quantize src dst
nothing_left

expect 2 nowhere -- "$sluice" quantize nowhere dst
expect 2 nowhere -- "$sluice" verify nowhere
expect 2 nowhere -- "$sluice" run -m nowhere -p text
expect 2 source -- "$sluice" quantize src src
fresh tiny-v3
expect 2 profile nonsense quality -- "$sluice" quantize src dst --profile nonsense
expect 2 SRC -- "$sluice" quantize

# ---- containers -------------------------------------------------------------------------------
fresh tiny-v32
expect 0 -- "$sluice" quantize src good
printf '\001\000\000\000\002\000\000\000\003\000\000\000' > ids
logits() {
    "$sluice" eval logits -m "$1" --tokens ids --out logits "$2" "$3"
}
expect 0 -- logits good --reader memory
expect 0 good -- "$sluice" verify good

spoil() {
    rm -rf bad
    cp -R good bad
}

spoil # a weight of layer 1: the tensor is named
flip bad/resident-01.safetensors 20000
expect 3 resident-01.safetensors model.layers.1 -- "$sluice" verify bad
expect 3 resident-01.safetensors model.layers.1 -- logits bad --reader memory

spoil # the padding of a header
flip bad/resident-00.safetensors 4090
expect 3 resident-00.safetensors -- "$sluice" verify bad
expect 3 resident-00.safetensors -- logits bad --reader memory

spoil # one bit of every expert of layer 2: layer and expert are named
stride=$(($(size_of bad/experts-02.safetensors) / 13))
at=4096
while [ $((at + stride)) -lt "$(size_of bad/experts-02.safetensors)" ]; do
    flip bad/experts-02.safetensors $((at + 100))
    at=$((at + stride / 2))
done
expect 3 'layer 2, expert 3' experts-02.safetensors -- "$sluice" verify bad
for reader in memory pread; do
    expect 3 'layer 2, expert' experts-02.safetensors -- logits bad --reader $reader
done
[ ! -e logits.part ] || bad "a failed evaluation left logits.part"

spoil
truncate -s -1 bad/experts-01.safetensors
expect 3 experts-01.safetensors -- "$sluice" verify bad
expect 3 experts-01.safetensors -- logits bad --reader pread

spoil
rm bad/head.safetensors
expect 3 head.safetensors -- "$sluice" verify bad
expect 3 head.safetensors -- logits bad --reader memory

spoil # files of two layers swapped
mv bad/resident-01.safetensors t && mv bad/resident-02.safetensors bad/resident-01.safetensors
mv t bad/resident-02.safetensors
expect 3 resident-01.safetensors resident-02.safetensors -- "$sluice" verify bad
expect 3 resident-0 -- logits bad --reader memory

spoil # a changed configuration would change every answer
sed 's/"routed_scaling_factor": 2.5/"routed_scaling_factor": 2.4/' good/config.json > bad/config.json
expect 3 config.json -- "$sluice" verify bad
expect 3 config.json -- logits bad --reader memory

spoil # a file that nothing vouches for, but that would be read
: > bad/tokenizer.json
expect 3 bad/tokenizer.json 'not listed' -- "$sluice" verify bad
expect 3 bad/tokenizer.json 'not listed' -- logits bad --reader memory

spoil
flip bad/sluice.json 30
expect 3 sluice.json -- "$sluice" verify bad

spoil # an unfinished conversion
rm bad/sluice.json
expect 3 'sluice quantize' -- "$sluice" verify bad
expect 3 'sluice quantize' -- logits bad --reader memory
expect 3 'sluice quantize' -- logits "$top/demo" --reader memory

# ---- requests ---------------------------------------------------------------------------------
printf '\001\000\000\000\003\002\000\000' > ids # 515: one past the vocabulary
expect 2 'token 1 is 515' 514 -- logits good --reader memory
printf '\377\377\377\377' > ids
expect 2 'token 0 is -1' -- logits good --reader memory
expect 2 nothere -- "$sluice" eval logits -m good --tokens nothere --out logits
printf '\001\000' > ids
expect 2 ids int32 -- logits good --reader memory
: > ids
expect 2 ids -- logits good --reader memory
head -c 4000 /dev/zero > ids # 1,000 tokens, a context of 512
expect 2 1000 512 max_position_embeddings -- logits good --reader memory
expect 1 'context full' 1000 100 -- "$sluice" eval logits -m good --tokens ids --out logits --ctx 100
expect 3 tokenizer.json -- "$sluice" run -m good -p text
expect 0 -- "$sluice" quantize "$top/demo" demo --profile max
printf '\001\000\000\000' > ids
expect 2 'not a regular file' -- "$sluice" eval logits -m good --tokens ids --out /dev/null
[ -c /dev/null ] || bad "/dev/null was replaced"
: > real && ln -s real link
expect 0 -- "$sluice" eval logits -m good --tokens ids --out link
[ -L link ] && [ -s real ] || bad "a link was replaced, not followed"
ln -s nowhere dangling
expect 2 'link to nothing' -- "$sluice" eval logits -m good --tokens ids --out dangling
expect 3 'not a regular file' -- "$sluice" eval logits -m good --tokens / --out logits
expect 1 'standard input' -- sh -c "'$sluice' run -m '$work/demo' < /"
expect 2 --mtp -- "$sluice" eval logits -m good --tokens ids --out logits --mtpp
finish
