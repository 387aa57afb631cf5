#!/bin/sh
# SPDX-License-Identifier: MIT
# `sluice eval ppl` and `kld`: two ways to the same number, and what they refuse.
. "${top_srcdir:-.}/tests/cli/common.sh"

# field NAME FILE: a number of a JSON report.
field() {
    sed -n "s/.*\"$1\": \([^,}]*\).*/\1/p" "$2" | head -n 1
}

expect 0 -- "$sluice" quantize "$top/demo" model
cat > text <<'END'
The miller counted his sacks twice before he let the boy drive off with them. It had rained for
nine days, the river stood high against the wheel, and nobody in the village remembered a spring
like this one. "Take the upper road," he said, "and be back before it is dark."
END

# ---- perplexity ---------------------------------------------------------------------------------
expect 0 'sequences of 24' 'Final estimate: PPL = ' '+/- ' -- \
    "$sluice" eval ppl text -m model -c 24
"$sluice" eval ppl text -m model -c 24 --json > ppl || bad "ppl --json"
"$sluice" eval kld text -m model --ref "$top/demo" -c 24 --chunk 10 --json > kld 2> memory ||
    bad "kld --json"
for pair in nll:nll_candidate nll_error:nll_candidate_error ppl:ppl_candidate scored:scored \
    tokens:tokens; do
    a=$(field "${pair%:*}" ppl) b=$(field "${pair#*:}" kld)
    [ -n "$a" ] && [ "$a" = "$b" ] || bad "$pair: '$a' from sessions, '$b' layer by layer"
done
grep -q 'memory: .* hidden states ' memory || bad "no word on memory: $(cat memory)"

# All but the first of each sequence of 24 are scored.
tokens=$(field tokens ppl) scored=$(field scored ppl)
[ "$scored" -eq $((tokens - (tokens + 23) / 24)) ] || bad "$scored of $tokens tokens scored"
"$sluice" eval ppl text -m model -c 24 -n 50 --json > ppl || bad "ppl -n"
[ "$(field tokens ppl)" = 50 ] && [ "$(field scored ppl)" = 47 ] || bad "-n 50: $(cat ppl)"

expect 2 'at least 2' -- "$sluice" eval ppl text -m model -c 1
expect 2 'no such file' -- "$sluice" eval ppl nothing -m model
expect 2 'max_position_embeddings' -- "$sluice" eval ppl text -m model -c 1000000
: > empty
expect 2 '0 tokens' -- "$sluice" eval ppl empty -m model

# ---- divergence ---------------------------------------------------------------------------------
expect 0 'KL(source, container)' 'PPL source' 'router overlap' -- \
    "$sluice" eval kld text -m model --ref "$top/demo"
expect 0 -- "$sluice" quantize "$top/demo" exact --profile reference
"$sluice" eval kld text -m exact --ref "$top/demo" -n 40 --exact --json > kld 2> err || bad "kld of exact"
[ "$(field kl kld) $(field kl_max kld) $(field top1 kld)" = "0 0 1" ] ||
    bad "a container without loss: $(cat kld)"

# Caches are those of a session; selection begins within the sequence.
cat text text text > long
for types in '--kv-type bf16 --index-type int8' '--kv-type int8 --index-type f32'; do
    "$sluice" eval ppl long -m exact -c 160 -n 160 $types --json > ppl || bad "ppl $types"
    "$sluice" eval kld long -m exact --ref "$top/demo" -c 160 -n 160 --exact $types --json > kld \
        2> err || bad "kld $types"
    [ "$(field nll ppl)" = "$(field nll_candidate kld)" ] || bad "$types: $(cat ppl kld)"
    [ "$(field kl kld)" != 0 ] || bad "$types cost nothing"
done

expect 2 'neither a text nor token ids' -- "$sluice" eval kld -m model --ref "$top/demo"
expect 2 'found both' -- "$sluice" eval kld text --tokens text -m model --ref "$top/demo"
expect 2 'was not made from' 'give the checkpoint it was made from' -- \
    "$sluice" eval kld text -m model --ref "$top/tests/golden/tiny-v3/checkpoint"
printf 'abc' > odd
expect 2 'whole number' -- "$sluice" eval kld --tokens odd -m model --ref "$top/demo"

# A layer is checked when its turn comes.
head -c 400 /dev/zero > ids
cp -R model damaged
flip damaged/resident-01.safetensors $(($(size_of damaged/resident-01.safetensors) - 9))
expect 3 'resident-01' -- "$sluice" eval kld --tokens ids -m damaged --ref "$top/demo"

# ---- Ctrl-C -------------------------------------------------------------------------------------
head -c 400000 /dev/zero > ids
setsid "$sluice" eval kld --tokens ids -m model --ref "$top/demo" -t 1 > out 2> err &
sleep 1
kill -INT $! 2> /dev/null || true
code=0
wait $! || code=$?
[ "$code" -eq 130 ] || bad "exit code $code after SIGINT: $(cat err)"
grep -q 'cancelled' err || bad "not cancelled: $(cat err)"
[ ! -s out ] || bad "a cancelled evaluation reported something"

finish
