#!/bin/bash
# SPDX-License-Identifier: MIT
# Older x86-64 processors under qemu-user: one with AVX2 but nothing newer, one without AVX.  The
# kernels are right there, and nothing uses an instruction that is not there.
# x86.sh BUILD-FOLDER; exits with 77 when it cannot run here.
set -euo pipefail
build=$(cd "${1:?usage: tests/qemu/x86.sh BUILD-FOLDER}" && pwd)
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-qemu-XXXXXX")
trap 'rm -rf "$work"' EXIT

if [ "$(uname -m)" != x86_64 ] || ! command -v qemu-x86_64 >/dev/null; then
    echo "x86.sh: SKIPPED: needs an x86-64 machine and qemu-x86_64 (Debian: qemu-user)"
    exit 77
fi

# tokens N FILE: N token ids below 256.
tokens() {
    local i
    for ((i = 0; i < $1; i++)); do
        printf '%b' "\\x$(printf %02x $((i * 37 % 251)))\\0\\0\\0"
    done >"$2"
}

# computes_with CPU RUNG
computes_with() {
    qemu-x86_64 -cpu "$1" "$build/sluice" --version -v | grep -q "^kernel gemm  *$2\$" ||
        { echo "$1 does not compute with $2" >&2; exit 1; }
}

tokens 60 "$work/ids"
checkpoint=$top/tests/golden/tiny-v32/checkpoint
"$build/sluice" quantize "$checkpoint" "$work/model" >/dev/null
"$build/sluice" eval logits -m "$work/model" --tokens "$work/ids" -o "$work/native" >/dev/null
for cpu in Nehalem:ref Haswell:avx2; do
    name=${cpu%:*} rung=${cpu#*:}
    run="qemu-x86_64 -cpu $name"
    echo "x86.sh: $name"
    computes_with $name $rung
    $run "$build/sluice" eval logits -m "$work/model" --tokens "$work/ids" -o "$work/$name" \
        >/dev/null
    cmp "$work/native" "$work/$name"
done
# A rung needs all of its features, and registers that the system saves (without xsave it does not).
for missing in avx2 fma f16c xsave; do
    computes_with Haswell,-$missing ref
done
# qemu 7.2 reads 16 bytes for the 4-byte operand of a scalar fused multiply-add, which the guard pages
# of attend's check notice; its bits are in the logits above.
"$build/tests/check/check_rungs" --list | sed -n 's/^ *\([a-z0-9_]*\)  *[0-9]* cases$/\1/p' |
    grep -vx attend |
    while read -r kernel; do
        qemu-x86_64 -cpu Haswell "$build/tests/check/check_rungs" --quick --rung avx2 "$kernel" \
            >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
    done
qemu-x86_64 -cpu Haswell "$build/tests/check/check_peaks"
echo "x86.sh: passed"
