#!/bin/sh
# SPDX-License-Identifier: MIT
# sluice replay: caches of experts simulated over a trace that `run` wrote.
. "${top_srcdir:-.}/tests/cli/common.sh"

# number KEY [N]: the N-th number that the JSON in ./out has under KEY.
number() {
    sed -n "s/.*\"$1\": \([-+.e0-9]*\).*/\1/p" out | sed -n "${2:-1}p"
}

# holds EXPRESSION: arithmetic of awk, about numbers found.
holds() {
    awk "BEGIN { exit !($1) }" || bad "does not hold: $1"
}

SLUICE_MACHINE=$PWD/machine.json
export SLUICE_MACHINE

expect 0 -- "$sluice" quantize "$top/demo" model --profile small
expect 0 -- "$sluice" run -m model -p 'Alice was beginning to get very tired' -n 40 --trace t.gz

# ---- usage --------------------------------------------------------------------------------------
expect 0 SLUICE_ Exit -- "$sluice" replay --help
expect 2 TRACE -- "$sluice" replay
expect 2 'exclude each other' -- "$sluice" replay t.gz -m model --like v3
expect 2 'go with -m or --like' -- "$sluice" replay t.gz --memory 1G
expect 2 'go with -m or --like' -- "$sluice" replay t.gz --drive 5
expect 2 'exclude each other' -- "$sluice" replay t.gz -m model --memory 1G --slots 8
for slots in 0 8, 8,x x 1000000 '' ,8; do
    expect 2 "'$slots'" commas -- "$sluice" replay t.gz "--slots=$slots"
done
expect 1 none.gz -- "$sluice" replay none.gz
echo nonsense > bad
expect 3 bad 'no trace' -- "$sluice" replay bad
expect 2 'the trace is of a model' -- "$sluice" replay t.gz --like v3.2
expect 3 sluice.json -- "$sluice" replay t.gz -m .
head -c 500 t.gz > cut.gz
expect 3 cut.gz 'cut off' -- "$sluice" replay cut.gz

# ---- choices alone ------------------------------------------------------------------------------
expect 0 'layers with' 'lru' 'lfu' 'sluice' 'bound' -- "$sluice" replay t.gz
[ "$(grep -c ' bound ' out)" -eq 5 ] || bad "five budgets wanted: $(cat out)"
grep -q 'GB/s' out && bad "a drive is told of that nobody asked about"
expect 0 '"expert_bytes": null' '"as_it_ran"' -- "$sluice" replay t.gz --json
python3 -c 'import json; json.load(open("out"))' 2> /dev/null ||
    ! command -v python3 > /dev/null || bad "no JSON: $(head -c 400 out)"
holds "$(number answer_tokens) == 39"
experts=$(number experts)
# nothing has to go: all find the same
expect 0 -- "$sluice" replay t.gz --json "--slots=$experts"
holds "$(number hits 2) > 0 && $(number hits 2) == $(number hits 4)"
holds "$(number hits 2) == $(number hits 6) && $(number hits 2) == $(number hits 8)"
expect 0 -- "$sluice" replay t.gz --json "--slots=$((experts / 2))"
holds "$(number hits 2) <= $(number hits 8) && $(number hits 6) <= $(number hits 8)"

# ---- with the model: bytes and seconds ----------------------------------------------------------
expect 0 'typical one' 'sluice doctor' GB/s -- "$sluice" replay t.gz -m model
expect 0 '2.00 GB/s, as told' ' ms' -- "$sluice" replay t.gz -m model --drive 2
used=$(sed -n 's/.* experts, \([0-9]*\) per token.*/\1/p' out)
expect 0 -- "$sluice" replay t.gz -m model --drive 2 --json "--slots=$used"
read=$(number experts_read 2)
bytes=$(number bytes_read 2)
expert=$(number expert_bytes)
holds "$(number drive) == 2e9 && $read > 0"
holds "($bytes / $expert / $read - 1) ^ 2 < 1e-9 && ($(number seconds 2) * 2e9 / $bytes - 1) ^ 2 < 1e-9"
expect 0 -- "$sluice" plan -m model --memory 1G --json
holds "$(number stride) == $expert"
need=$(($(number need) + 3 * expert))
expect 0 -- "$sluice" plan -m model --memory "$need" --json
slots=$(number slots)
expect 0 "\"slots\": $slots," -- "$sluice" replay t.gz -m model --memory "$need" --json
expect 4 'at least' 'sluice plan' -- "$sluice" replay t.gz -m model --memory 1M
expect 0 -- "$sluice" replay t.gz -m model --profile max --json
holds "$(number expert_bytes) > $expert"

# ---- times --------------------------------------------------------------------------------------
head='sluice-trace 1 layers 2 dense 1 experts 9 used 2'
printf '%s\n' "$head" 'd 0 1 1 2' 'e d 0 1 1 1 1 0 4096 10 20 50 5 100' > times
expect 0 '0.11 ms per token' '50.00 % in memory' '1.692 ×' '2.200 ×' -- "$sluice" replay times
expect 0 '"to_layers": 1.69231' '"to_floor": 2.2' -- "$sluice" replay times --json
finish
