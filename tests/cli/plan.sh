#!/bin/sh
# SPDX-License-Identifier: MIT
# sluice plan: what fits, what does not and what would help, on a machine of known speed.
. "${top_srcdir:-.}/tests/cli/common.sh"

# number KEY: the first number that the JSON in ./out has under KEY.
number() {
    sed -n "s/.*\"$1\": \([-+.e0-9]*\).*/\1/p" out | head -n 1
}

# holds EXPRESSION: arithmetic of awk, about numbers found.
holds() {
    awk "BEGIN { exit !($1) }" || bad "does not hold: $1"
}

# one EXPRESSION: is 1, as far as six digits tell.
one() {
    holds "$1 > 0.99999 && $1 < 1.00001"
}

machine() {
    cat > machine.json << EOF
{"sluice_machine": 1, "date": "2026-11-25", "cpu": "an abacus", "rung": "avx2", "threads": 4,
 "memory_one": 10e9, "memory_all": 40e9, "drive_pread": 2e9, "drive_uring": $1,
 "lut4_vector": 30e9, "int8_vector": 35e9, "lut4_block": 200e9, "int8_block": 300e9,
 "f32_block": 50e9, "index_score": 300e9, "topk": 2e9, "attend": 100e9, "attend_block": 110e9,
 "lut4_2": 90e9, "lut4_3": 110e9, "lut4_4": 130e9, "lut4_5": 150e9, "lut4_6": 160e9,
 "lut4_7": 170e9, "lut4_8": 180e9, "int8_2": 70e9, "int8_3": 105e9, "int8_4": 140e9,
 "int8_5": 175e9, "int8_6": 200e9, "int8_7": 220e9, "int8_8": 240e9}
EOF
}

SLUICE_MACHINE=$PWD/machine.json
export SLUICE_MACHINE

# ---- usage --------------------------------------------------------------------------------------
expect 0 SLUICE_ Exit -- "$sluice" plan --help
expect 2 '-m DIR or --like' -- "$sluice" plan
expect 2 '-m DIR or --like' -- "$sluice" plan -m x --like v3
expect 2 '--layers goes with --like' -- "$sluice" plan -m x --layers 1+2
expect 2 DENSE+MOE -- "$sluice" plan --like v3 --layers 61
expect 2 max_position_embeddings -- "$sluice" plan --like v3 --memory 96G -c 1024k
expect 3 sluice.json -- "$sluice" plan -m .
expect 3 v4 -- "$sluice" plan --like v4

# ---- a machine that nobody measured, and one with a bad file ------------------------------------
expect 0 'typical figures' 'sluice doctor' -- "$sluice" plan --like v3.2 --memory 96G
echo '{}' > machine.json
expect 3 machine.json 'sluice doctor' -- "$sluice" plan --like v3.2 --memory 96G

# ---- experts that must be read ------------------------------------------------------------------
machine 4e9
expect 0 'an abacus' 'measured 2026-11-25' 'an estimate' '59 of 256' '32 GiB more memory' \
    'a second drive' '--chunk 2048' 'profile small' -- \
    "$sluice" plan --like v3.2 --memory 96G
grep -q 'a million tokens' out && bad "costs that nobody asked for"
expect 0 'kWh' 'for energy' '3 years' -- "$sluice" plan --like v3.2 --memory 96G --watts 200 \
    --price-kwh 0.3 --machine-price 2000
expect 0 '"profile": "quality"' -- "$sluice" plan --like v3.2 --memory 96G --json --watts 180 \
    --price-kwh 0.5
python3 -c 'import json, sys; json.load(open("out"))' 2> /dev/null ||
    ! command -v python3 > /dev/null || bad "no JSON: $(head -c 400 out)"
holds "$(number slots) == 59"
one "$(number central) / exp(0.32 * log(59 / 256))"
holds "$(number budget) == 96 * 2^30"
# 8 experts in 58 layers, those that miss, over the drive's 4 GB/s
one "$(number drive_bytes) / (464 * $(number stride) * (1 - $(number central)))"
holds "$(number drive_bytes) / 4e9 * $(number tps) < 1" # reading waits for routers
read=$(number drive_bytes)
grep -q '"bound": "drive"' out || bad "not limited by the drive"
seconds=$(number io_wait)
machine 0 # io_uring is not allowed here: half the speed
expect 0 -- "$sluice" plan --like v3.2 --memory 96G --json
holds "$(number io_wait) - $seconds > $read / 4e9 * 900" # ms; what hid before hides again
holds "$(number io_wait) - $seconds < $read / 4e9 * 1000.1"
expect 0 '75 % of expert uses, as given' -- "$sluice" plan --like v3.2 --memory 96G --hits 75
expect 0 -- "$sluice" plan --like v3.2 --memory 96G --hits 75 --json
one "$(number central) / 0.75"
one "$(number drive_bytes) / (116 * $(number stride))"

# ---- what does not fit --------------------------------------------------------------------------
machine 4e9
expect 4 'does not fit' 'too much' '--memory ' -- "$sluice" plan --like v3 --memory 27G -c 128k
context=$(sed -n 's/^ *-c \([0-9]*\)$/\1/p' out)
expect 0 'answer tok/s' -- "$sluice" plan --like v3 --memory 27G -c "$context"
expect 4 'does not fit' -- "$sluice" plan --like v3 --memory 27G -c $((context + 1024))
memory=$(sed -n 's/^ *--memory \([0-9.]*G\),.*/\1/p' out)
expect 0 'answer tok/s' -- "$sluice" plan --like v3 --memory "$memory" -c $((context + 1024))
expect 4 '"fits": false' -- "$sluice" plan --like v3 --memory 1G --json
expect 0 'quality ' 'reference ' 'does not fit: needs' -- \
    "$sluice" plan --like v3.2 --memory 64G --profile all
[ "$(grep -c 'GiB .* GiB' out)" -ge 6 ] || bad "not a row per profile: $(cat out)"
expect 4 -- "$sluice" plan --like v3.2 --memory 1G --profile all

# ---- a container that is there ------------------------------------------------------------------
expect 0 -- "$sluice" quantize "$top/tests/golden/tiny-v32/checkpoint" tiny --profile small
expect 0 'tiny: deepseek_v32' 'profile small' '(100 %)' 'profile max' -- \
    "$sluice" plan -m tiny --memory 1G
expect 0 '"profile": "small"' '"fits": true' -- "$sluice" plan -m tiny --memory 1G --json
[ "$(number head_file)" -eq "$(size_of tiny/head.safetensors)" ] ||
    bad "head.safetensors: $(number head_file) bytes planned"
expect 0 'profile max' -- "$sluice" plan -m tiny --memory 1G --profile max
expect 0 'profile reference' -- "$sluice" plan -m tiny --memory 1G --profile reference

# ---- what is loaded, and for how many -----------------------------------------------------------
# bytes KEY ARGUMENTS…: of the plan for V3.2
planned() {
    key=$1
    shift
    "$sluice" plan --like v3.2 --json "$@" > out && number "$key"
}
expect 0 "and the MTP layer's" 'KV caches of 3 sessions of 2048 tokens' '256 in each of 59 layers' -- \
    "$sluice" plan --like v3.2 --memory 2T -c 2048 --sessions 3
expect 0 '"mtp": false' -- "$sluice" plan --like v3.2 --memory 2T --mtp off --json
expect 0 '"mtp": false' -- "$sluice" plan --like v3.2 --memory 96G --json
expect 0 '"mtp": true' -- "$sluice" plan --like v3.2 --memory 96G --mtp on --json
expect 0 '"mtp": false' -- "$sluice" plan --like v3.2 --layers 1+2 --memory 96G --json
expect 2 'no MTP layer' -- "$sluice" plan --like v3.2 --layers 1+2 --memory 96G --mtp on
one "($(planned resident --memory 2T) - $(planned resident --memory 2T --mtp off)) / $(number mtp_resident_file)"
one "$(planned kv --memory 2T) / $(planned kv --memory 2T --mtp off) / 62 * 61"
one "$(planned kv --memory 96G -c 8k --sessions 4) / $(planned kv --memory 96G -c 8k) / 4"
# what it says is what `run` takes, which rounds files up to pages
expect 0 -- "$sluice" quantize "$top/demo" demo --profile max
for mtp in auto on off; do
    expect 0 -- "$sluice" plan -m demo -c 300 --memory 1G --mtp $mtp --json
    planned=$(number kv) scratch=$(number scratch) resident=$(number resident)
    expect 0 -- "$sluice" run -m demo -c 300 --memory 1G --mtp $mtp --json -p once -n 2 -t 4
    [ "$planned $scratch" = "$(number kv) $(number scratch)" ] ||
        bad "--mtp $mtp: KV cache $planned and scratch $scratch planned, $(cat out)"
    holds "$(number resident) - $resident >= 0 && $(number resident) - $resident < 6 * 4096"
done

# ---- run is quiet about it when stderr is no terminal --------------------------------------------
expect 0 'tok/s' -- "$sluice" run -m demo -p once -n 2
grep -q expected err && bad "run prints a plan into a file"
finish
