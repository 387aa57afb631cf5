#!/bin/sh
# SPDX-License-Identifier: MIT
# `sluice bench` on containers of noise; traces of router choices, from `sluice run` and back.
case ${SANITIZE:-} in
*thread*)
    echo 'SKIPPED: each run measures memory, nine minutes in all under ThreadSanitizer'
    exit 77
    ;;
esac
. "${top_srcdir:-.}/tests/cli/common.sh"

like=$top/tests/golden/tiny-v32/checkpoint/config.json
expect 0 -- "$sluice" synth noise --like "$like" --layers 1+1

# value KEY: of the first row of the JSON in ./out.
value() {
    sed -n 's/.*"'"$1"'": \([^,}]*\)[,}].*/\1/p' out | head -1
}

# least MODEL: what the refusal of too little memory asks for.
least() {
    "$sluice" bench -m "$1" -p 0 -n 4 --memory 1M 2>&1 | sed -n 's/.*use --memory \([0-9.]*[KMG]\).*/\1/p'
}

# ---- rows ----------------------------------------------------------------------------------------
expect 0 '"test": "tg4", "depth": 70, "n": 4, "tps": ' '"mem_fraction": ' '"io_fraction": 0, ' \
    '"expert_hit": 1, ' '"indexer": ' -- \
    "$sluice" bench -m noise -p 8,16 -n 4 -d 0,70 -r 2 --reader memory -o json
[ "$(grep -c '"test": "' out)" -eq 6 ] || bad "not six rows: $(cat out)"
grep -q 'nan\|inf' out && bad "numbers that are none: $(cat out)"
grep -q '"layers"\|"cold"' out && bad "keys nobody asked for: $(cat out)"
expect 0 'test,depth,n,tps' 'io_fraction,read_gbps,read_fraction,expert_hit' 'pp8,70,8,' -- \
    "$sluice" bench -m noise -p 8 -n 0 -d 70 -r 1 -o csv
[ "$(grep -c . out)" -eq 2 ] || bad "not a head and one row: $(cat out)"
[ "$(awk -F, '{print NF}' out | sort -u | wc -l)" -eq 1 ] || bad "head and row differ: $(cat out)"
expect 0 '| tg4 x8 @ d70 | ' '| pp8 | ' -- "$sluice" bench -m noise -p 8 -n 4 -d 0,70 -r 1 --sessions 8
expect 0 '"test": "tg4"' '"sessions": 3' -- "$sluice" bench -m noise -p 0 -n 4 -r 1 --sessions 3 -o json
expect 0 ',sessions' -- "$sluice" bench -m noise -p 8 -n 4 -r 1 --sessions 2 -o csv
[ "$(awk -F, '{print NF}' out | sort -u | wc -l)" -eq 1 ] || bad "head and rows differ: $(cat out)"
expect 2 sessions -- "$sluice" bench -m noise --sessions 9
expect 2 'of one session' -- "$sluice" bench -m noise --sessions 2 --trace t.gz
expect 0 '| pp8 @ d9 | ' -- "$sluice" bench -m noise -p 8 -n 0 -d 9 -r 1
expect 2 commas -- "$sluice" bench -m noise -p 8,x
expect 2 'max_position_embeddings' -- "$sluice" bench -m noise -d 100000
expect 2 SLUICE_MODEL -- "$sluice" bench

# a reader that reads: of the drive's speed nothing is known, since the files are small
expect 0 '"io_fraction": null' '"read_fraction": null' '"major_faults": ' -- \
    "$sluice" bench -m noise -p 0 -n 4 -r 2 --reader pread \
    --memory "$(least noise)" --trace t.gz -o json
awk "BEGIN { exit !($(value expert_hit) + $(value expert_ahead) < 1) }" ||
    bad "pread misses nothing: $(cat out)"
[ "$(value io_gbps)" != 0 ] || bad "pread reads nothing: $(cat out)"
awk "BEGIN { exit !($(value read_gbps) >= $(value io_gbps)) }" ||
    bad "reading takes longer than all: $(cat out)"
# only what is timed is traced, choices and events: 2 repetitions of 4 tokens in one layer
gzip -dc < t.gz > t
[ "$(grep -c '^d ' t)" -eq 8 ] || bad "choices of bench: $(cat t)"
[ "$(grep -c '^e d ' t)" -eq 8 ] || bad "events of bench: $(cat t)"

# ---- computed depth --------------------------------------------------------------------------
expect 0 '"test": "tg2", "depth": 70' -- \
    "$sluice" bench -m noise -p 0 -n 2 -d 70 -r 1 --real-fill -o json

expect 2 'exclude each other' -- "$sluice" bench -m noise --real-fill --cold

# ---- extrapolated: what is per layer grows, bytes exactly ----------------------------------------
expect 0 '"layers"' -- "$sluice" bench -m noise -p 0 -n 4 -r 1 --layers 1+1 -o json
same=$(value bytes_per_token)
expect 0 -- "$sluice" bench -m noise -p 0 -n 4 -r 1 -o json
[ "$(value bytes_per_token)" = "$same" ] || bad "1+1 layers extrapolated to 1+1 differ"
for layers in 1+4 3+2; do
    expect 0 -- "$sluice" synth "noise$layers" --like "$like" --layers $layers
    expect 0 -- "$sluice" bench -m "noise$layers" -p 0 -n 4 -r 1 -o json
    real=$(value bytes_per_token)
    expect 0 '"layers": 5' -- "$sluice" bench -m noise -p 0 -n 4 -r 1 --layers $layers -o json
    [ "$(value bytes_per_token)" = "$real" ] ||
        bad "$layers layers touch $real bytes, extrapolated $(value bytes_per_token)"
done
expect 0 '61 layers (3+58), extrapolated from 2 (1+1)' '| tg4, 61 layers |' -- \
    "$sluice" bench -m noise -p 0 -n 4 -r 1 --layers 61
expect 0 -- "$sluice" bench -m noise -p 0 -n 4 -r 1 --layers 61 -o csv
[ "$(awk -F, '{print $NF}' out | tr '\n' ' ')" = 'layers 61 ' ] || bad "csv: $(cat out)"
expect 2 DENSE+MOE -- "$sluice" bench -m noise --layers 3
expect 0 -- "$sluice" synth dense --like "$like" --layers 2+0
expect 2 'none of a kind' -- "$sluice" bench -m dense -p 1 -n 1 --layers 61
expect 2 'no experts' -- "$sluice" bench -m dense -p 1 -n 1 --trace none.gz
expect 0 '"expert_hit": 1, ' '"io_fraction": 0, ' -- "$sluice" bench -m dense -p 4 -n 2 -r 1 -o json

# ---- cold and warm; a file system in memory cannot be made cold ----------------------------------
if "$sluice" bench -m noise -p 4 -n 0 -r 1 --cold > out 2> err; then
    expect 0 -- "$sluice" bench -m noise -p 4 -n 2 -r 2 --cold --warm -o json
    [ "$(grep -c '"test": "' out)" -eq 4 ] || bad "not four rows: $(cat out)"
    [ "$(grep -c '"cold": true' out)" -eq 2 ] || bad "not two cold rows: $(cat out)"
    expect 0 '| tg2 cold |' -- "$sluice" bench -m noise -p 0 -n 2 -r 1 --cold
    [ "$(grep -c '| tg2' out)" -eq 1 ] || bad "--cold alone gives other rows: $(cat out)"
else
    grep -q -- '--cold' err || bad "--cold: $(cat err)"
fi

# ---- traces --------------------------------------------------------------------------------------
expect 0 -- "$sluice" quantize "$top/demo" model
prompt='The mill stood where'
expect 0 -- "$sluice" run -m model -p "$prompt" -n 6 --temp 0
cp out answer
expect 0 -- "$sluice" run -m model -p "$prompt" -n 6 --temp 0 --trace t.gz --chunk 2
cmp out answer || bad "tracing changes the answer"
gzip -dc < t.gz > t
head -1 t | grep -q '^sluice-trace 1 layers [0-9]* dense [0-9]* experts [0-9]* used [0-9]*$' ||
    bad "the trace begins with: $(head -1 t)"
moe=$(head -1 t | awk '{print $4 - $6}')
used=$(head -1 t | awk '{print $10}')
"$sluice" run -m model -p "$prompt" -n 6 --temp 0 --json > out
[ "$(grep -c '^d ' t)" -eq $(($(value decode_tokens) * moe)) ] || bad "choices of decoding: $(cat t)"
[ "$(grep -c '^p ' t)" -eq $(($(value prefill_tokens) * moe)) ] || bad "choices of prompts: $(cat t)"
[ "$(grep -c '^e d ' t)" -eq $(($(value decode_tokens) * moe)) ] || bad "events: $(cat t)"
[ "$(awk 'NR > 1 && $1 != "e" {print NF - 3}' t | sort -u)" = "$used" ] || bad "not $used choices: $(cat t)"

# ---- drafts --------------------------------------------------------------------------------------
expect 0 '"drafts": {"state": "on", "made": ' '"tps_without": null' -- \
    "$sluice" bench -m model -p 4 -n 12 -d 0,20 -r 2 --mtp on -o json
[ "$(grep -c '"drafts": null' out)" -eq 2 ] || bad "prompts have drafts: $(cat out)"
[ "$(value right)" -le "$(value made)" ] || bad "more right than made: $(cat out)"
expect 0 '"drafts": {"state": "o' -- \
    "$sluice" bench -m model -p 0 -n 100 -r 1 --mtp auto -o json
grep -q '"tps_without": [0-9][^{}]*"tps_with": [0-9]' out || bad "no speeds of a trial: $(cat out)"
expect 0 '"drafts": null' -- "$sluice" bench -m model -p 0 -n 12 -r 1 --mtp off -o json
expect 0 ' drafts |' ' | o' 't/s |' -- "$sluice" bench -m model -p 4 -n 100 -r 1 --mtp auto
[ "$(grep '^|' out | awk -F'|' '{print NF}' | sort -u | wc -l)" -eq 1 ] || bad "rows differ: $(cat out)"
expect 0 ' right |' -- "$sluice" bench -m model -p 0 -n 12 -r 1 --mtp on
expect 0 ',drafts,drafts_made' -- "$sluice" bench -m model -p 4 -n 12 -r 1 --mtp on -o csv
[ "$(awk -F, '{print NF}' out | sort -u | wc -l)" -eq 1 ] || bad "head and rows differ: $(cat out)"
expect 0 -- "$sluice" bench -m model -p 0 -n 12 -r 1 -o json
grep -q drafts out && bad "drafts that nobody asked for: $(cat out)"
expect 0 '"drafts": null' -- "$sluice" bench -m noise -p 0 -n 8 -r 1 --mtp auto -o json
expect 2 'no MTP layer' -- "$sluice" bench -m noise -p 0 -n 8 --mtp on
expect 2 'nothing of drafts' -- "$sluice" bench -m model --mtp auto --sessions 2

# fewer experts are fewer bytes
expect 0 'positions of choices' -- \
    "$sluice" bench -m model -p 8 -n 0 -r 1 --routes t.gz -o json
expect 0 -- "$sluice" bench -m model -p 8 -n 0 -r 1 -o json
own=$(value bytes_per_token)
{
    head -1 t
    layer=$(head -1 t | awk '{print $6}')
    while [ "$layer" -lt "$(head -1 t | awk '{print $4}')" ]; do
        echo "p 0 $layer $(seq -s ' ' 0 $((used - 1)))"
        layer=$((layer + 1))
    done
} > always
expect 0 '1 positions' -- "$sluice" bench -m model -p 8 -n 0 -r 1 --routes always -o json
[ "$(value bytes_per_token)" -lt "$own" ] ||
    bad "always the same experts, but $(value bytes_per_token) bytes per token, else $own"
expect 2 'the model has' -- "$sluice" bench -m noise -p 1 -n 1 --routes t.gz
head -c 60 t.gz > cut.gz
expect 3 'cut off' -- "$sluice" bench -m model -p 1 -n 1 --routes cut.gz
expect 3 'no trace' -- "$sluice" bench -m model -p 1 -n 1 --routes answer
expect 1 'nowhere' -- "$sluice" bench -m model -p 1 -n 1 --routes nowhere

# a trace that cannot be written costs neither the answer nor its statistics
expect 4 /dev/full 'not complete' 'tok/s' -- \
    "$sluice" run -m model -p "$prompt" -n 6 --temp 0 --trace /dev/full
cmp out answer || bad "the answer is lost with its trace"
expect 1 no/where -- "$sluice" run -m model -p x -n 3 --trace no/where
finish
