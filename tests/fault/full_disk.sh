#!/bin/sh
# SPDX-License-Identifier: MIT
# A drive that is too small, or fills up while a conversion writes to it: an error that says which
# file, how much is needed and how much is free; with room made, the same command goes on, and the
# container is the same.  SLUICE_TEST_LONG=1: every place; SLUICE_TEST_SEED: which random ones.
. "${top_srcdir:-.}/tests/fault/private_mounts.sh"
. "${top_srcdir:-.}/tests/cli/common.sh"

seed=${SLUICE_TEST_SEED:-1}
fresh tiny-v32
cp "$top/LICENSE" src/LICENSE
printf '{}\n' > src/tokenizer.json
convert() {
    "$sluice" quantize src "$1" --fast --threads 2
}
expect 0 -- convert want
mkdir disk
trap 'umount disk; rm -rf "$work"' EXIT
mount -t tmpfs -o size=1m sluice disk
block=$(stat -f -c %S disk)
round() {
    echo $((($1 + block - 1) / block * block))
}

# In the order of writing.
layers=$(cd want && echo resident-*.safetensors mtp-*.safetensors | tr ' ' '\n' | sort -t - -k 2)
tensor_files=$(
    echo head.safetensors
    for file in $layers; do
        echo "$file"
        number=${file#*-}
        [ ! -e "want/experts-$number" ] || echo "experts-$number"
    done
)
files="$tensor_files LICENSE config.json generation_config.json tokenizer.json sluice.json"
total=0
for file in $files; do
    total=$((total + $(round "$(size_of "want/$file")")))
done

drive() { # an empty one of SIZE, with other OPTIONS
    umount disk
    mount -t tmpfs -o "size=$1${2:+,$2}" sluice disk
}
free_bytes() {
    echo $(($(stat -f -c %f disk) * block))
}
fill() { # all but BYTES
    dd if=/dev/zero of=disk/ballast bs="$block" count=$((($(free_bytes) - $1) / block)) status=none
}
no_partial() {
    [ ! -e disk/c/sluice.json ] || bad "$1: there is a sluice.json"
    [ -z "$(find disk -name '*.part')" ] || bad "$1: left $(find disk -name '*.part')"
}
needed() { # what the message says is needed
    sed -n 's/.*needs \([0-9]*\) bytes.*/\1/p' err
}
plausible() { # WHERE BYTES: the need is BYTES, or a little more
    need=$(needed)
    { [ "${need:-0}" -ge "$2" ] && [ "$need" -le $(($2 + 100000)) ]; } ||
        bad "$1: says it needs '$need' bytes, not about $2"
}

# ---- known before the first byte ------------------------------------------------------------------
drive 1m
expect 4 disk/c 'what is left to write needs' "the drive has $(free_bytes) free" \
    'run the same command again' -- convert disk/c
plausible "an empty directory" $total
[ -z "$(ls disk/c)" ] || bad "refused, but wrote $(ls disk/c)"
synth() {
    "$sluice" synth "$1" --checkpoint --like src/config.json --layers 1+2
}
expect 0 -- synth noise
expect 4 disk/s 'what is left to write needs' 'run the same command again' -- synth disk/s
plausible "a synthetic checkpoint" "$(cat noise/* | wc -c)"
[ -z "$(ls disk/s)" ] || bad "refused, but wrote $(ls disk/s)"
rmdir disk/s
mount -o remount,size=$((2 * total)) sluice disk
expect 0 -- convert disk/c
same disk/c "refused and converted"

drive $((2 * total)) # finished files count
mkdir disk/c
left=$total
for file in $tensor_files; do
    [ $((2 * left)) -gt $total ] || break
    cp "want/$file" disk/c
    left=$((left - $(round "$(size_of "want/$file")")))
done
fill $((left - block))
expect 4 "the drive has $((left - block)) free" -- convert disk/c
plausible "half a container" $left
rm disk/ballast
fill $((left + 100000))
expect 0 'found complete' -- convert disk/c
same disk/c "half of it, and just room for the rest"

drive $((2 * total)) nr_inodes=6 # bytes enough, but no more files
expect 4 '.part: No space left' inodes 'run the same command again' -- convert disk/c
no_partial inodes
mount -o remount,nr_inodes=100 sluice disk
expect 0 'found complete' -- convert disk/c
same disk/c inodes

# ---- filled by somebody else while it writes -----------------------------------------------------
# Stops a conversion when it has just begun and leaves it room for BYTES in all.  False when the
# conversion was further than that already.
start_and_fill() {
    drive $((2 * total))
    "$sluice" quantize src disk/c --fast --threads 2 > out 2> err &
    pid=$!
    until [ -e disk/c/head.safetensors.part ] || ! kill -0 $pid 2> /dev/null; do :; done
    kill -STOP $pid 2> /dev/null || true
    while grep -q '^State:[[:space:]]*[RSD]' /proc/$pid/status 2> /dev/null; do :; done
    used=$((2 * total / block * block - $(free_bytes)))
    [ "$1" -le $used ] || fill $(($1 - used))
    kill -CONT $pid 2> /dev/null || true
    found=0
    wait $pid || found=$?
    [ "$1" -gt $used ]
}

# runs_out BYTES FILE: with room for BYTES the conversion stops in FILE, and can go on.
runs_out() {
    tries=0
    until start_and_fill "$1"; do
        tries=$((tries + 1))
        [ $tries -lt 30 ] || { bad "$1 bytes: no conversion was stopped early enough"; return; }
    done
    where="room for $1 bytes"
    [ $found -eq 4 ] || bad "$where: exit code $found: $(cat err)"
    grep -qF "disk/c/$2.part" err || bad "$where: stopped elsewhere than in $2: $(cat err)"
    for word in 'No space left on device' 'needs' "$(free_bytes) free" 'same command'; do
        grep -qF "$word" err || bad "$where: no '$word' in: $(cat err)"
    done
    no_partial "$where"
    expect 4 "the drive has $(free_bytes) free" -- convert disk/c # nothing freed yet
    rm disk/ballast
    expect 0 'files written' -- convert disk/c
    same disk/c "$where"
}

# The file that the byte AT of a container falls into.
file_at() {
    end=0
    for file in $files; do
        end=$((end + $(round "$(size_of "want/$file")")))
        [ "$1" -ge $end ] || break
    done
    echo "$file"
}

# The header of a tensor file is written last: it is what the last block of room is missing for.
end=0
for file in $files; do
    end=$((end + $(round "$(size_of "want/$file")")))
    case ${SLUICE_TEST_LONG:-0}$file in
        0resident-01*|0config.json|0sluice.json|1*) runs_out $((end - block)) "$file" ;;
    esac
    case ${SLUICE_TEST_LONG:-0}$file in
        0experts-02*|1experts*) runs_out $((end - $(size_of "want/$file") / 2)) "$file" ;;
    esac
done
echo "seed $seed"
places=$(awk -v seed="$seed" -v n=$((${SLUICE_TEST_LONG:-0} * 20 + 1)) -v blocks=$((total / block)) \
    'BEGIN { srand(seed); while (n-- > 0) print 4 + int(rand() * (blocks - 4)) }')
for place in $places; do
    runs_out $((place * block)) "$(file_at $((place * block)))"
done

# ---- several drives -------------------------------------------------------------------------------
mkdir second
trap 'umount disk second; rm -rf "$work"' EXIT
mount -t tmpfs -o size=1m sluice second
large_experts large
expect 0 -- "$sluice" quantize large whole --profile max
mkdir parts
expect 0 -- "$sluice" quantize large parts/0 --profile max --stripe parts/2
drive $((2 * $(cat whole/* | wc -c)))
expect 4 'second/c: what is left to write needs' "the drive has $((1 << 20)) free" -- \
    "$sluice" quantize large disk/c --profile max --stripe second/c
plausible 'the second drive' $((2 * $(round "$(size_of parts/2/experts-01.1.safetensors)")))
[ -z "$(find disk/c second/c -type f)" ] || bad "refused, but wrote $(ls disk/c second/c)"
rmdir disk/c
cp -R whole disk/c
expect 4 'second/c: dividing layer by layer needs' "the drive has $((1 << 20)) free" -- \
    "$sluice" stripe disk/c second/c
mount -o remount,size=64m sluice second

# A layer at a time: room for one of the new files, not for all of them.
layer=$(round "$(size_of parts/0/experts-01.0.safetensors)")
fill $((layer + (1 << 20) - block))
expect 4 'disk/c: dividing layer by layer needs' "the drive has $(free_bytes) free" -- \
    "$sluice" stripe disk/c second/c
diff -r whole disk/c || bad "a refused command changed the container"
rm disk/ballast
fill $((layer + (1 << 20)))
expect 0 '2 layers changed' -- "$sluice" stripe disk/c second/c
diff -r parts/0 disk/c || bad "dividing in little room"
diff -r parts/2 second/c || bad "dividing in little room"
rm disk/ballast
fill $(($(size_of whole/experts-01.safetensors) / 2))
expect 4 'disk/c: dividing layer by layer needs' -- "$sluice" stripe disk/c --join
diff -r parts/0 disk/c || bad "a refused command changed the container"
finish
