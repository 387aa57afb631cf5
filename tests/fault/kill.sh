#!/bin/sh
# SPDX-License-Identifier: MIT
# kill -9 at random moments of a conversion, once or several times: going on gives the same bytes
# and leaves nothing else.  So does any number of threads.  SLUICE_TEST_LONG=1: 50 kills, not 6;
# SLUICE_TEST_SEED selects the moments.
. "${top_srcdir:-.}/tests/cli/common.sh"

seed=${SLUICE_TEST_SEED:-1}
kills=6
[ -z "${SLUICE_TEST_LONG-}" ] || kills=50
fresh tiny-v32
cp "$top/LICENSE" src/LICENSE
printf '{}\n' > src/tokenizer.json
convert() {
    "$sluice" quantize src "$1" --threads "${2:-1}"
}

# ---- threads --------------------------------------------------------------------------------------
expect 0 -- convert want
for threads in 2 3 16; do
    rm -rf other
    expect 0 -- convert other $threads
    same other "$threads threads"
done

# ---- kills ----------------------------------------------------------------------------------------
now() { # milliseconds
    echo $(($(date +%s%N) / 1000000))
}
begin=$(now)
for _ in 1 2 3; do
    rm -rf other
    expect 0 -- convert other
done
length=$((($(now) - begin) / 3))
echo "seed $seed, $kills kills, one conversion takes $length ms"

# Seconds after the start, a line for each conversion; every third one is killed three times.  More
# than wanted: some come when the conversion has ended.
moments=$(awk -v seed="$seed" -v n=$((4 * kills)) -v took="$length" 'BEGIN {
    srand(seed)
    for (i = 0; i < n; i++) {
        times = i % 3 == 2 ? 3 : 1
        for (k = 0; k < times; k++)
            printf "%s%.3f", k ? "," : "", rand() * took / 1000 / (times == 1 ? 1 : 2)
        print ""
    }
}')

killed=0
unfinished=0
for moment in $moments; do
    [ $killed -lt $kills ] || break
    rm -rf dst
    for pause in $(echo "$moment" | tr , ' '); do
        "$sluice" quantize src dst --threads 1 > out 2> err &
        pid=$!
        sleep "$pause"
        kill -9 $pid 2> /dev/null || true
        code=0
        wait $pid 2> /dev/null || code=$?
        [ $code -ne 137 ] || killed=$((killed + 1))
        [ $code -eq 137 ] || [ $code -eq 0 ] || bad "after $moment s: exit code $code: $(cat err)"
    done
    # The manifest comes last: with it the container is whole, without it nobody takes it for one.
    if [ -e dst/sluice.json ]; then
        expect 0 good -- "$sluice" verify dst
    elif [ -n "$(find dst -type f 2> /dev/null)" ]; then
        unfinished=$((unfinished + 1))
        expect 3 'unfinished conversion' -- "$sluice" verify dst
    fi
    expect 0 -- convert dst
    same dst "killed after $moment s"
done
echo "$killed killed while they ran, $unfinished conversions left unfinished"
[ $killed -ge $kills ] || bad "only $killed kills came in time"

# ---- kills of a repair: a container that lacks files, but has its manifest -----------------------
pauses=$(awk -v seed="$seed" -v n=$((kills / 3)) -v took="$length" \
    'BEGIN { srand(seed); while (n-- > 0) printf "%.3f ", rand() * took / 1000 }')
for pause in $pauses; do
    rm -rf dst
    cp -R want dst
    rm dst/config.json dst/head.safetensors dst/experts-0[12].safetensors
    "$sluice" quantize src dst --threads 1 > out 2> err &
    pid=$!
    sleep "$pause"
    kill -9 $pid 2> /dev/null || true
    wait $pid 2> /dev/null || true
    expect 0 -- convert dst
    same dst "a repair killed after $pause s"
done
finish
