#!/bin/sh
# SPDX-License-Identifier: MIT
# sluice doctor and sluice bench --io: what they print, what they keep, and that they leave the rest
# as it was.
case ${SANITIZE:-} in
*thread*)
    echo 'SKIPPED: measuring memory takes five minutes under ThreadSanitizer'
    exit 77
    ;;
esac
. "${top_srcdir:-.}/tests/cli/common.sh"
unset SLUICE_MACHINE SLUICE_CPU XDG_CACHE_HOME HOME || true

# files DIR: names, sizes, times of its files
files() {
    find "$1" -type f -exec stat -c '%n %s %Y %Z' {} + | sort
}

# value FILE KEY: of a member of a JSON object with a line per member
value() {
    sed -n "s/.*\"$2\": \([^,]*\).*/\1/p" "$1"
}

# positive FILE KEY…: numbers above zero
positive() {
    json=$1
    shift
    for key in "$@"; do
        value "$json" "$key" | awk '{ good = $1 > 0 } END { exit !good }' ||
            bad "$key is not above zero: $(value "$json" "$key")"
    done
}

expect 0 -- "$sluice" quantize "$top/tests/golden/tiny-v32/checkpoint" model
head -c 6000000 /dev/urandom > model/large # files of 4 MiB and more are read
chmod -R a-w model
files model > before

expect 0 SLUICE_ Exit -- "$sluice" doctor --help
# ---- a container: a line per check, measurements kept in a new folder ----------------------------
SLUICE_MACHINE="$work/new/folder/machine.json" expect 0 'OK    model  ' 'kernels  ' 'computing  ' \
    'drive, pread' 'drive, uring' 'drive, mmap' 'O_DIRECT' 'io_uring' 'file system' 'locked memory' \
    '0 FAIL' "kept in $work/new/folder/machine.json" -- "$sluice" doctor model
[ ! -s err ] || bad "doctor wrote to stderr without a terminal: $(head -c 300 err)"
grep -vE '^(OK  |WARN)  [^ ]|^ +fix: [^ ]|^0 FAIL, [0-9]+ WARN$' out > other || true
[ ! -s other ] || bad "doctor prints other lines: $(cat other)"
warnings=$(grep -c '^WARN' out || true)
grep -q "^0 FAIL, $warnings WARN" out || bad "doctor counts warnings wrong: $(cat out)"
[ "$(grep -c '^ *fix: ' out || true)" -eq "$warnings" ] || bad "a warning has no fix: $(cat out)"
cp new/folder/machine.json first
positive first threads memory_one memory_all lut4_vector int8_vector lut4_block int8_block \
    index_score topk attend
grep -q 'file system *tmpfs' out || positive first drive_pread # memory is no drive

# ---- without a file to read: the drive's rates stay, others are new; JSON -----------------------
cp first again
SLUICE_MACHINE=again expect 0 '"ok": true' '"name": "drive"' '"status": "WARN"' \
    '"found": "not measured"' '"fix": "sluice doctor DIR' '"machine": {' -- \
    "$sluice" doctor --json -t 1
[ ! -s err ] || bad "doctor --json wrote to stderr: $(head -c 300 err)"
positive out memory_one memory_all lut4_vector int8_block
[ "$(value out threads)" = 1 ] || bad "doctor -t 1 measured $(value out threads) threads"
for key in drive_pread drive_uring; do
    [ "$(value again $key)" = "$(value first $key)" ] || bad "$key was not kept"
done
[ "$(value again date)" = "$(value out date)" ] || bad "other measurements than printed are kept"

# ---- no place for measurements is a warning ------------------------------------------------------
expect 0 'WARN  measurements' 'set SLUICE_MACHINE' 'WARN  files' -- \
    "$sluice" doctor "$top/tests/golden/tiny-v32/checkpoint"
files model > after
cmp before after || bad "doctor changed the container: $(cat after)"

# ---- what fails ----------------------------------------------------------------------------------
expect 1 'FAIL  files' 'nowhere: No such file' '1 FAIL' -- "$sluice" doctor nowhere
expect 1 '"ok": false' '"status": "FAIL"' 'nowhere: No such file' -- "$sluice" doctor nowhere --json
SLUICE_CPU=abacus expect 1 'FAIL  kernels' 'SLUICE_CPU=abacus' 'fix: unset' -- "$sluice" doctor
expect 2 'from 0 to 4096' -- "$sluice" doctor -t x

# ---- bench --io ----------------------------------------------------------------------------------
expect 0 '{"reader": "pread", "bytes": 4096, "depth": 1, "direct": ' '"bytes": 4194304, "depth": 32' \
    '{"reader": "uring", ' '{"reader": "mmap", "bytes": 1048576, "depth": 16, "direct": false' \
    '"gbps": ' '"latency_ms": ' '"latency_max_ms": ' -- "$sluice" bench --io model -o json
rows=$(grep -c '"latency_max_ms"' out)
[ "$rows" -eq 48 ] || { [ "$rows" -eq 32 ] && grep -q '"uring", "error": "' out; } ||
    bad "bench --io: $rows rows: $(cat out)"
sed -n 's/.*"gbps": \([^,]*\).*"latency_ms": \([^,]*\).*"latency_max_ms": \([^}]*\)}.*/\1 \2 \3/p' \
    out | awk '{ wrong += !($1 > 0 && $2 > 0 && $3 >= $2) } END { exit wrong || NR == 0 }' ||
    bad "bench --io: numbers that cannot be: $(cat out)"
"$sluice" bench --io model/large > part 2> err &
sleep 2
kill -INT $!
found=0
wait $! || found=$?
[ $found -eq 130 ] || bad "bench --io, interrupted: exit code $found"
grep -q '^| pread | 4.0 KiB | 1 |' part || bad "bench --io, interrupted: no rows: $(cat part)"
grep -q interrupted err || bad "bench --io does not say that it was interrupted: $(cat err)"
expect 2 'no file of 4 MiB' -- "$sluice" bench --io "$top/tests/golden/tiny-v32/checkpoint"
expect 1 nowhere -- "$sluice" bench --io nowhere
files model > after
cmp before after || bad "bench --io changed the files: $(cat after)"
chmod -R u+w model
finish
