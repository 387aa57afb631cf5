#!/bin/sh
# SPDX-License-Identifier: MIT
# Conversions that are interrupted, doubled or pointed at the wrong place: what comes out is
# the same container, or nothing and a reason.
. "${top_srcdir:-.}/tests/cli/common.sh"

expect 0 -- "$sluice" quantize "$top/demo" want

# ---- Ctrl-C -------------------------------------------------------------------------------------
for pause in 0.4 0.2 0.1 0.05 0.02; do # the longest that is not too long for this machine
    rm -rf stopped
    setsid "$sluice" quantize "$top/demo" stopped --threads 1 > out 2> err &
    sleep $pause
    kill -INT $! 2> /dev/null || true
    code=0
    wait $! || code=$?
    [ "$code" -eq 0 ] || break
done
[ "$code" -eq 130 ] || bad "exit code $code after SIGINT"
grep -q 'same command continues' err || bad "no hint after SIGINT: $(cat err)"
[ ! -e stopped/sluice.json ] || bad "an interrupted conversion left sluice.json"
[ -z "$(find stopped -name '*.part')" ] || bad "an interrupted conversion left a partial file"
expect 0 'files written' -- "$sluice" quantize "$top/demo" stopped
same stopped "interrupted and resumed"

# ---- two at once --------------------------------------------------------------------------------
mkdir two
exec 9< two
flock 9 # what a running conversion holds
expect 2 'another conversion' -- "$sluice" quantize "$top/demo" two
exec 9<&-
[ -z "$(ls two)" ] || bad "a conversion that was refused wrote something"

# ---- the wrong place ----------------------------------------------------------------------------
cp -R "$top/tests/golden/tiny-v3/checkpoint" other
chmod -R u+w other
expect 2 'not a container' -- "$sluice" quantize "$top/demo" other
: > other/model-1.safetensors.part
expect 2 'not a container' -- "$sluice" quantize "$top/demo" other
rm other/model-1.safetensors.part
diff -r "$top/tests/golden/tiny-v3/checkpoint" other || bad "a checkpoint was touched"
: > victim
mkdir linked && ln -s ../victim linked/head.safetensors.part
expect 0 -- "$sluice" quantize "$top/demo" linked
[ ! -s victim ] || bad "a partial file was written through a link"
same linked "a link in the way"

# ---- another source with the same headers --------------------------------------------------------
cp -R "$top/demo" changed
chmod -R u+w changed
last=changed/model-00003-of-00003.safetensors
size=$(size_of $last)
head -c $((size / 2)) /dev/zero | tr '\000' '\101' |
    dd of=$last bs=4096 seek=$((size / 8192)) count=$((size / 8192 - 1)) conv=notrunc status=none
expect 2 'another source' -- "$sluice" quantize changed want

# ---- links in their own name ----------------------------------------------------------------------
ln -s want link
expect 0 good -- "$sluice" verify link
finish
