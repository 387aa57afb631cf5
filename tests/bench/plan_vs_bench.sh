#!/bin/sh
# SPDX-License-Identifier: MIT
# Compares `sluice plan` with `sluice bench`, by hand: plan_vs_bench.sh SLUICE ROUNDS DIR…
# Each round measures the machine and then times every container; of each number the best round
# counts, so that other work on the machine does less harm.  What is not best is not compared: both
# sides need quiet moments, give it rounds.  With LOCK=FILE the rounds wait for that lock.
set -eu
LC_ALL=C
export LC_ALL
[ $# -ge 3 ] || { echo "usage: $0 SLUICE ROUNDS CONTAINER..." >&2; exit 2; }
sluice=$1 rounds=$2
shift 2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

locked() {
    if [ -n "${LOCK-}" ]; then flock "$LOCK" "$@"; else "$@"; fi
}

# The best of every number of some machine files: the first file's lines with larger values.
best_machine() {
    awk -F'[:,]' 'NR == FNR { line[FNR] = $0; n = FNR }
        /": [0-9.e+]+,?$/ && $2 + 0 > best[FNR] { best[FNR] = $2 + 0; line[FNR] = $0 }
        END { for (i = 1; i <= n; i++) print line[i] }' "$@"
}

# "TEST DEPTH TPS PART=MS …" of bench's JSON
bench_rows() {
    sed -n 's/.*"test": "\([a-z]*\)[0-9]*", "depth": \([0-9]*\), .*"tps": \([^,]*\), .*"ms": {\(.*\)}}.*/\1 \2 \3 \4/p' "$1" |
        tr -d '",' | sed 's/: /=/g'
}

# The same of plan's.
plan_rows() {
    awk -F'[:,]' '/"speed"/ { on = 1 } /"changes"/ { on = 0 } !on { next }
        /"depth"/ { depth = $2 + 0 }
        /"decode"/ { test = "tg" } /"prefill"/ { test = "pp" }
        /"ms"/ { ms = 1; parts = ""; next }
        ms && /}/ { ms = 0 }
        ms { gsub(/[ "]/, "", $1); parts = parts " " $1 "=" $2 + 0 }
        /"tps":/ { print test, depth, $2 + 0 parts }' "$1"
}

round=1
while [ "$round" -le "$rounds" ]; do
    SLUICE_MACHINE=$scratch/machine.$round locked "$sluice" doctor > "$scratch/doctor" 2>&1 || true
    i=0
    for dir; do
        i=$((i + 1))
        locked "$sluice" bench -m "$dir" -p 512 -n 16 -d 0,4096 -r 1 -o json > "$scratch/bench.$i.$round"
    done
    round=$((round + 1))
done
best_machine "$scratch"/machine.* > "$scratch/machine"
[ -z "${KEEP-}" ] || cp -R "$scratch"/* "$KEEP"

i=0 worst=0
echo "| container | test | bench | plan | plan / bench |"
echo "| --- | --- | ---: | ---: | ---: |"
for dir; do
    i=$((i + 1))
    SLUICE_MACHINE=$scratch/machine "$sluice" plan -m "$dir" --json > "$scratch/plan.$i"
    plan_rows "$scratch/plan.$i" > "$scratch/planned"
    for file in "$scratch"/bench."$i".*; do bench_rows "$file"; done > "$scratch/timed"
    awk -v name="$(basename "$dir")" 'NR == FNR { plan[$1 " @ d" $2] = $3; next }
        { key = $1 " @ d" $2; if (!(key in best)) order[++n] = key; if ($3 > best[key]) best[key] = $3 }
        END { for (j = 1; j <= n; j++) { k = order[j]
            printf "| %s | %s | %.2f | %.2f | %.2f |\n", name, k, best[k], plan[k], plan[k] / best[k] } }' \
        "$scratch/planned" "$scratch/timed" | tee -a "$scratch/table"
done
awk -F'|' '{ if ($6 > 1.25 || $6 < 0.75) bad++ } END { exit bad > 0 }' "$scratch/table" ||
    { echo "plan and bench differ by more than 25 %" >&2; exit 1; }
