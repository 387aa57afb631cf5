#!/bin/sh
# SPDX-License-Identifier: MIT
# Expert files in parts: both ways to make them give the same bytes, every number of parts the same
# logits; what is damaged, missing or in the wrong place is named; and mended by the same command.
. "${top_srcdir:-.}/tests/cli/common.sh"

large_experts src
convert() { # DIR [OPTION…]
    "$sluice" quantize src "$@" --profile reference
}
expect 0 -- convert want
n=100
awk -v n=$n 'BEGIN {for (i = 0; i < n; i++) printf "\\%03o\\%03o\\000\\000", i * 37 % 256, i % 2}' |
    xargs -0 printf > tokens.i32
logits() { # DIR OUT READER
    expect 0 -- "$sluice" eval logits -m "$1" --tokens tokens.i32 --out "$2" --reader "$3"
}
logits want want.f32 memory
[ "$(size_of want.f32)" -eq $((n * 512 * 4)) ] || bad "$(size_of want.f32) bytes of logits"

# ---- quantize --stripe, stripe, run ---------------------------------------------------------------
list_of() { # PARTS PARENT: directories of parts 1 …
    seq -s , -f "$2/%g" 2 "$1"
}
for parts in 2 3 6; do # 6: more than an expert has chunks
    made=q$parts-made
    mkdir $made
    list=$(list_of $parts $made)
    expect 0 'files written' -- convert $made/0 --stripe "$list"
    expect 0 good -- "$sluice" verify $made/0
    expect 0 "parts       $parts: $made/0, $work/$made/2" -- "$sluice" inspect $made/0
    expect 0 "\"parts\": $parts" -- "$sluice" inspect $made/0 --json
    for reader in auto pread; do
        logits $made/0 made.f32 $reader
        cmp want.f32 made.f32 || bad "$parts parts, reader $reader: other logits"
    done
    expect 3 'one of' "--reader auto" -- \
        "$sluice" eval logits -m $made/0 --tokens tokens.i32 --out x.f32 --reader memory

    divided=q$parts-divided
    mkdir $divided
    cp -R want $divided/0
    list=$(list_of $parts $divided)
    expect 0 "in $parts parts" '2 layers changed' -- "$sluice" stripe $divided/0 "$list"
    [ ! -s err ] || bad "stripe wrote to stderr without a terminal: $(head -c 300 err)"
    diff -r $made $divided || bad "$parts parts: stripe and quantize --stripe differ"
    expect 0 '"layers_changed": 0' '"layers_found": 2' -- \
        "$sluice" stripe $divided/0 "$list" --json
    expect 0 'files are whole' "$work/$divided/2: not needed" -- "$sluice" stripe $divided/0 --join
    same $divided/0 "$parts parts, joined"
    expect 0 "\"parts\": 1" '"not_needed": []' -- "$sluice" stripe $divided/0 --join --json
    diff -r $divided/2 $made/2 || bad "join changed something outside the container"
done
[ "$(find q3-made/2 q3-made/3 -name 'experts-0[12].[12].safetensors' | wc -l)" -eq 4 ] ||
    bad "parts in the wrong places: $(ls -l q3-made/*)"

# ---- wrong arguments ------------------------------------------------------------------------------
expect 2 'either directories or --join' -- "$sluice" stripe want
expect 2 'either directories or --join' -- "$sluice" stripe want a --join
expect 2 'commas between' -- "$sluice" stripe want a,,b
expect 2 'at most 7' -- "$sluice" stripe want a,b,c,d,e,f,g,h
expect 2 'given twice' -- "$sluice" stripe want a,a
expect 2 'given twice' -- "$sluice" stripe want ./want
expect 2 'are no parts of experts' -- "$sluice" stripe want src
expect 2 'are no parts of experts' -- convert other --stripe src
expect 2 'join first' -- "$sluice" stripe q2-made/0 x,y
expect 2 "$work/q2-made/2, not in $work/x" 'join first' -- "$sluice" stripe q2-made/0 x
expect 2 'another --stripe' 'sluice stripe' -- convert q2-made/0
expect 2 'another --stripe' 'sluice stripe' -- convert want --stripe x
expect 2 'no such directory' -- "$sluice" stripe nowhere x
expect 0 -- "$sluice" quantize src max --profile max
expect 2 'belongs to another model' -- "$sluice" stripe max q2-made/2
expect 2 'another profile' -- "$sluice" quantize src other --profile max --stripe q2-made/2
exec 9< q2-made/2
flock 9
expect 2 'another conversion' -- "$sluice" stripe want q2-made/2
exec 9<&-
cmp want/sluice.json q2-divided/0/sluice.json || bad "a refused command changed the container"

# ---- damage, and mending it -----------------------------------------------------------------------
cp -R q3-made damaged
for link in damaged/0/*.[12].safetensors; do
    file=${link##*/}
    number=${file#experts-*.}
    ln -sfn "$work/damaged/$((${number%%.*} + 1))/$file" "$link"
done
refused() { # WORDS…: neither verify nor a run takes it
    expect 3 "$@" -- "$sluice" verify damaged/0
    expect 3 "$@" -- "$sluice" eval logits -m damaged/0 --tokens tokens.i32 --out x.f32
}
mended() {
    expect 0 -- convert damaged/0 --stripe damaged/2,damaged/3
    for dir in 2 3; do
        diff -r q3-made/$dir damaged/$dir || bad "$1: not mended"
    done
    expect 0 good -- "$sluice" verify damaged/0
}
part=damaged/3/experts-02.2.safetensors
other=damaged/3/experts-01.2.safetensors
flip $part 5000
expect 3 'layer 2, expert 0, chunk 1 of 1 (experts-02.2.safetensors): damaged' -- \
    "$sluice" verify damaged/0
expect 3 'layer 2, expert 0, chunk 3 of 5' experts-02.2.safetensors -- \
    "$sluice" eval logits -m damaged/0 --tokens tokens.i32 --out x.f32
rm $part
mended 'a flipped bit'
flip $part $(($(size_of $part) - 5)) # a checksum
refused experts-02.2.safetensors
rm damaged/0/sluice.json # else a container that has all its files is believed
mended 'a damaged table'
truncate -s 8192 $part
refused experts-02.2.safetensors truncated
mended 'a truncated part'
mv $part aside && mv $other $part && mv aside $other
refused experts-01.2.safetensors
rm $part $other
mended 'two layers swapped'
rm $part
refused "a link to $work/$part" 'no such file' 'ln -sfn'
mended 'a part is gone'
mv damaged/3 gone
refused "a link to $work/$other" 'no such directory' 'mount that drive'
mended 'a drive is gone'
rm damaged/0/experts-01.1.safetensors
refused experts-01.1.safetensors
mended 'a link is gone'
cp damaged/2/experts-01.1.safetensors damaged/0/experts-01.2.safetensors.new
mv damaged/0/experts-01.2.safetensors.new damaged/0/experts-01.2.safetensors
expect 3 'part 1/3, part 2/3 wanted' -- \
    "$sluice" eval logits -m damaged/0 --tokens tokens.i32 --out x.f32
rm damaged/0/experts-01.2.safetensors
mended 'one part in the place of another'

# Damage is not copied into another division.
flip $part 5000
expect 3 'layer 2, expert 0, chunk 3 of 5' -- "$sluice" stripe damaged/0 --join
expect 3 'sluice stripe was interrupted' -- \
    "$sluice" eval logits -m damaged/0 --tokens tokens.i32 --out x.f32
expect 0 'sluice stripe was interrupted' -- "$sluice" inspect damaged/0
flip $part 5000
expect 0 'files are whole' -- "$sluice" stripe damaged/0 --join
same damaged/0 'joined after damage was mended'
finish
