#!/bin/sh
# SPDX-License-Identifier: MIT
# kill -9 at random moments while expert files are divided among drives, joined, or made in parts:
# nothing is lost, going on gives the same bytes, and so does going back.  SLUICE_TEST_LONG=1: 40
# kills, not 8; SLUICE_TEST_SEED selects the moments.
. "${top_srcdir:-.}/tests/cli/common.sh"

seed=${SLUICE_TEST_SEED:-1}
kills=8
[ -z "${SLUICE_TEST_LONG-}" ] || kills=40
large_experts src
expect 0 -- "$sluice" quantize src want --profile reference
mkdir parts
expect 0 -- "$sluice" quantize src parts/0 --profile reference --stripe parts/2,parts/3

now() { # milliseconds
    echo $(($(date +%s%N) / 1000000))
}
whole() { # a container that is not divided, in ./box/0
    rm -rf box
    mkdir box
    cp -R want box/0
}
divide() {
    "$sluice" stripe box/0 box/2,box/3
}
join() {
    "$sluice" stripe box/0 --join
}
make_parts() {
    "$sluice" quantize src box/0 --profile reference --stripe box/2,box/3 --threads 1
}
divided() { # WHAT: ./box is as if nothing had happened; links name their own directories
    for dir in 0 2 3; do
        diff -r parts/$dir box/$dir || bad "$1: $dir differs"
        [ "$(find parts/$dir | wc -l)" -eq "$(find box/$dir | wc -l)" ] ||
            bad "$1: other files: $(ls box/$dir)"
    done
}
killed=0
kill_within() { # MILLISECONDS COMMAND…: exit code 137 or 0
    limit=$1
    shift
    seed=$(((seed * 1103515245 + 12345) % 2147483648))
    "$@" > out 2> err &
    pid=$!
    sleep "$(awk -v r=$((seed / 65536 % 1000)) -v ms="$limit" 'BEGIN {printf "%.4f", r * ms / 1e6}')"
    kill -9 $pid 2> /dev/null || true
    code=0
    wait $pid 2> /dev/null || code=$?
    [ $code -ne 137 ] || killed=$((killed + 1))
    [ $code -eq 137 ] || [ $code -eq 0 ] || bad "killed $*: exit code $code: $(cat err)"
}

begin=$(now)
whole
divide > /dev/null
one_way=$(($(now) - begin))
divided 'not killed'
echo "seed $seed, $kills kills, dividing takes $one_way ms with a copy"

rounds=0
while [ $killed -lt $kills ] && [ $rounds -lt $((8 * kills)) ]; do
    rounds=$((rounds + 1))
    whole
    kill_within $one_way "$sluice" stripe box/0 box/2,box/3
    expect 0 good -- "$sluice" verify box/0
    [ $((rounds % 3)) -ne 0 ] || kill_within $one_way "$sluice" stripe box/0 --join
    [ $((rounds % 3)) -ne 1 ] || kill_within $one_way "$sluice" stripe box/0 box/2,box/3
    expect 0 good -- "$sluice" verify box/0
    if [ $((rounds % 2)) -eq 0 ]; then
        expect 0 -- divide
        divided "dividing, round $rounds"
        kill_within $one_way "$sluice" stripe box/0 --join
        expect 0 good -- "$sluice" verify box/0
    fi
    expect 0 -- join
    same box/0 "joining, round $rounds"
    expect 0 -- divide
    divided "dividing again, round $rounds"
done
echo "$killed killed while they ran, in $rounds rounds"
[ $killed -ge $kills ] || bad "only $killed kills came in time"

# ---- conversions into parts, and repairs ----------------------------------------------------------
rm -rf box
mkdir box
begin=$(now)
expect 0 -- make_parts
length=$(($(now) - begin))
divided 'one thread'
for round in 1 2 3 4 5 6; do
    if [ $((round % 2)) -eq 0 ]; then
        rm -rf box
        mkdir box
    else
        rm -f box/3/experts-01.2.safetensors box/0/experts-02.0.safetensors
    fi
    kill_within "$length" "$sluice" quantize src box/0 --profile reference \
        --stripe box/2,box/3 --threads 1
    expect 0 -- make_parts
    divided "a conversion, round $round"
done
finish
