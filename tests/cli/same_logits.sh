#!/bin/sh
# SPDX-License-Identifier: MIT
# The same logits, to the bit, at every budget, by every reader, in any chunks, from one part or
# several: of a small model of noise, or by hand of the container SLUICE_TEST_MODEL, which is divided
# only if SLUICE_TEST_PARTS (DIR2,DIR3…) is set: minutes, and gigabytes read.
. "${top_srcdir:-.}/tests/cli/common.sh"

tokens=${SLUICE_TEST_TOKENS:-40}
model=${SLUICE_TEST_MODEL:-}
if [ -z "$model" ]; then
    model=$work/noise
    like=$top/tests/golden/tiny-v32/checkpoint/config.json
    expect 0 -- "$sluice" synth "$model" --like "$like" --layers 1+3
fi

# Ids below 256, as bytes of little-endian int32.
awk -v n="$tokens" 'BEGIN {
    for (i = 0; i < n; i++) printf "\\%03o\\000\\000\\000", (i * 89 + 7) % 256
}' > escapes
# shellcheck disable=SC2059 # the file is a format
printf "$(cat escapes)" > tokens.i32

logits() { # NAME OPTION…
    name=$1
    shift
    expect 0 -- "$sluice" eval logits --tokens tokens.i32 --out "$name.f32" "$@"
}

# like_first WHAT OPTION…: the same as ./first.f32.
like_first() {
    what=$1
    shift
    rm -f other.f32
    logits other "$@"
    cmp first.f32 other.f32 || bad "other logits: $what"
}

# memory SHARE: enough for the least, and for SHARE percent of what all experts take beside it.
memory() {
    awk -v least="$least" -v all="$all" -v share="$1" \
        'BEGIN { printf "%.0f\n", least + (all - least) * share / 100 }'
}

# kept KEY: a number of the plan with room for everything.
kept() {
    sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" out | head -n 1
}

logits first -m "$model" --reader memory
[ "$(size_of first.f32)" -gt 0 ] || bad "no logits"
expect 0 -- "$sluice" plan -m "$model" -c "$tokens" --memory 1000G --json
all=$(($(kept need) + $(kept expert_files))) # and more
"$sluice" plan -m "$model" -c "$tokens" --memory 1M --json > out || true
least=$(($(kept need) * 103 / 100)) # the plan's threads need not be ours

readers=pread
if "$sluice" eval logits -m "$model" --tokens tokens.i32 --out try.f32 --reader uring \
    > out 2> err; then
    readers="pread uring"
else
    grep -q io_uring err || bad "uring: $(cat err)"
fi

for reader in $readers; do
    for share in 0 10 50 100; do
        like_first "$reader, $share %" -m "$model" --reader "$reader" --memory "$(memory $share)"
    done
    # tokens one by one, as an answer goes; and in chunks that do not divide them
    for chunk in 1 7; do
        like_first "$reader, chunks of $chunk" -m "$model" --reader "$reader" \
            --memory "$(memory 10)" --chunk "$chunk"
    done
done

if [ -z "${SLUICE_TEST_MODEL:-}" ] || [ -n "${SLUICE_TEST_PARTS:-}" ]; then
    expect 0 -- "$sluice" stripe "$model" "${SLUICE_TEST_PARTS:-$work/b,$work/c}"
    for reader in $readers; do
        like_first "parts by $reader" -m "$model" --reader "$reader" --memory "$(memory 10)"
    done
fi
finish
