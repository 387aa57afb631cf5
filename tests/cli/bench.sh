#!/bin/sh
# SPDX-License-Identifier: MIT
# `sluice bench` on a container of noise.
. "${top_srcdir:-.}/tests/cli/common.sh"

like=$top/tests/golden/tiny-v32/checkpoint/config.json
expect 0 -- "$sluice" synth noise --like "$like" --layers 1+1

# ---- rows ----------------------------------------------------------------------------------------
expect 0 '"test": "tg4", "depth": 70, "n": 4, "tps": ' '"mem_fraction": ' '"indexer": ' -- \
    "$sluice" bench -m noise -p 8,16 -n 4 -d 0,70 -r 2 -o json
[ "$(grep -c '"test": "' out)" -eq 6 ] || bad "not six rows: $(cat out)"
grep -q 'nan\|inf' out && bad "numbers that are none: $(cat out)"
expect 0 'test,depth,n,tps' 'pp8,70,8,' -- "$sluice" bench -m noise -p 8 -n 0 -d 70 -r 1 -o csv
[ "$(grep -c . out)" -eq 2 ] || bad "not a head and one row: $(cat out)"
expect 0 '| pp8 @ d9 | ' -- "$sluice" bench -m noise -p 8 -n 0 -d 9 -r 1
expect 2 commas -- "$sluice" bench -m noise -p 8,x
expect 2 'max_position_embeddings' -- "$sluice" bench -m noise -d 100000
expect 2 SLUICE_MODEL -- "$sluice" bench
finish
