#!/bin/sh
# SPDX-License-Identifier: MIT
# Saving a session on a drive that is full, and kill -9 while it is saved: the old file stays, whole,
# and nothing else is left.  SLUICE_TEST_LONG=1: 50 kills, not 6; SLUICE_TEST_SEED: when.
. "${top_srcdir:-.}/tests/fault/private_mounts.sh"
. "${top_srcdir:-.}/tests/cli/common.sh"

seed=${SLUICE_TEST_SEED:-1}
kills=6
[ -z "${SLUICE_TEST_LONG-}" ] || kills=50
expect 0 -- "$sluice" quantize "$top/demo" demo --fast
answer() { # FILE PROMPT
    "$sluice" run -m demo --temp 0 -n 2 --session "$1" -p "$2"
}
mkdir disk
trap 'umount disk; rm -rf "$work"' EXIT
mount -t tmpfs -o size=16m sluice disk

# ---- a full drive ---------------------------------------------------------------------------------
expect 0 -- answer disk/s "Once upon a time"
cp disk/s before
size=$(size_of before)
free=$(($(stat -f -c %f disk) * $(stat -f -c %S disk)))
dd if=/dev/zero of=disk/ballast bs=4096 count=$(((free - size) / 4096)) status=none
expect 4 disk/s 'which needs' 'No space left on device' -- \
    answer disk/s "Once upon a time there was a boy who had a dog. The dog ran, and the boy ran."
cmp disk/s before || bad "a full drive: the old file was changed"
[ "$(ls disk)" = "ballast
s" ] || bad "a full drive: left $(ls disk)"
rm disk/ballast
expect 0 -- answer disk/s "Once upon a time there was a boy who had a dog."
cp disk/s before

# ---- kills ----------------------------------------------------------------------------------------
# Two prompts take turns; what a kill leaves is the session of one of them.
awk -v seed="$seed" -v n="$kills" 'BEGIN { srand(seed); while (n-- > 0) print rand() }' > moments
begin=$(date +%s%N)
expect 0 -- answer disk/s "A cat sat"
length=$(($(date +%s%N) - begin))
expect 0 -- answer want "A cat sat"
while read -r moment; do
    # not by answer(), which would be a shell around it
    "$sluice" run -m demo --temp 0 -n 2 --session disk/s -p "A cat sat on a mat and looked at $moment" \
        > out 2> err &
    pid=$!
    sleep "$(awk -v m="$moment" -v l="$length" 'BEGIN { printf "%.3f", m * l / 1e9 }')"
    kill -9 $pid 2> /dev/null || true
    wait $pid 2> /dev/null || true
    [ -z "$(find disk -name '*.part')" ] || bad "killed after $moment: left $(ls disk)"
    expect 0 reused -- answer disk/s "A cat sat"
done < moments
finish
