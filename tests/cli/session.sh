#!/bin/sh
# SPDX-License-Identifier: MIT
# `sluice run --session FILE`: the next run computes only what is new and says the same; files that
# are no session of this model are refused and stay as they are; two runs may share one file.
. "${top_srcdir:-.}/tests/cli/common.sh"

expect 0 -- "$sluice" quantize "$top/demo" demo --fast
expect 0 -- "$sluice" quantize "$top/demo" other --fast --profile max
prompt="Once upon a time there was a little girl who lived near the sea."
answer() { # OPTIONS…
    "$sluice" run -m demo --temp 0 -n 12 --json "$@"
}
field() { # NAME: of the last answer
    sed -n "s/.*\"$1\": \([^,}]*\).*/\1/p" out
}
text() {
    sed -n 's/^{"text": \(".*"\), "stats".*/\1/p' out
}

# ---- the same answer ------------------------------------------------------------------------------
expect 0 -- answer -p "$prompt"
wanted=$(text)
[ -n "$wanted" ] || bad "no text"
[ "$(field reused_tokens)" -eq 0 ] || bad "reused tokens without a session"
expect 0 -- answer -p "$prompt" --session s
[ "$(text)" = "$wanted" ] || bad "another answer with a new session: $(text)"
n=$(field prefill_tokens)
expect 0 -- answer -p "$prompt" --session s
[ "$(text)" = "$wanted" ] || bad "another answer after restoring: $(text)"
[ "$(field prefill_tokens)" -le 2 ] || bad "computed $(field prefill_tokens) tokens again"
[ $(($(field prefill_tokens) + $(field reused_tokens))) -eq "$n" ] || bad "tokens do not add up"
expect 0 -- answer -p "$prompt And then" --session s # less in common, and a longer prompt
expect 0 -- answer -p "$prompt And then"
wanted=$(text)
expect 0 -- answer -p "$prompt And then" --session s
[ "$(text)" = "$wanted" ] || bad "another answer of the longer prompt"
expect 0 ' reused' -- "$sluice" run -m demo --temp 0 -n 2 -p "$prompt" --session s

# ---- refusals, after which the file is as it was --------------------------------------------------
refused() { # CODE WORDS… -- COMMAND…
    cp s before
    expect "$@"
    cmp s before || bad "a refused file was changed: $*"
}
refused 2 'another model or another profile' -- \
    "$sluice" run -m other --temp 0 -n 2 -p "$prompt" --session s
refused 2 --kv-type -- answer -p "$prompt" --session s --kv-type f32
refused 2 --dense -- answer -p "$prompt" --session s --dense
cp s good
flip s 50
refused 3 'damaged' -- answer -p "$prompt" --session s
cp good s
flip s $(($(size_of s) - 5000))
refused 3 'damaged between' -- answer -p "$prompt" --session s
head -c 10000 good > s
refused 3 'truncated' -- answer -p "$prompt" --session s
: > s
refused 3 '0 bytes' -- answer -p "$prompt" --session s
cp "$top/LICENSE" s
refused 3 'not a saved session' -- answer -p "$prompt" --session s
expect 3 'not a regular file' -- answer -p "$prompt" --session .
expect 2 'cannot create' -- answer -p "$prompt" --session none/s

# ---- a context that is too small ------------------------------------------------------------------
cp good s
refused 1 '--ctx' -- answer -p x --session s -c 5

# ---- two runs, one file ---------------------------------------------------------------------------
for _ in 1 2 3 4; do
    answer -p "$prompt" --session s > one 2>&1 &
    first=$!
    answer -p "A dog" --session s > two 2>&1 || bad "one of two runs: $(cat two)"
    wait $first || bad "one of two runs: $(cat one)"
    expect 0 -- answer -p "$prompt" --session s
done
[ ! -e s.part ] || bad "left s.part"
finish
