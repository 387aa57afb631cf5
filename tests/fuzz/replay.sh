#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs every fuzz target over its corpus: what was once found stays found, with any compiler.
set -euo pipefail
: "${top_srcdir:=.}" "${top_builddir:=.}"
status=0
for corpus in "$top_srcdir"/tests/fuzz/corpus/*/; do
    target=$(basename "$corpus")
    # libFuzzer would take a folder for a place to work in: the files are named.
    code=0
    timeout 300 "$top_builddir/tests/fuzz/fuzz_$target" "$corpus"* >replay.log 2>&1 || code=$?
    if [ $code -ne 0 ]; then
        tail -n 40 replay.log
        echo "$target: exit $code"
        status=1
    fi
    rm replay.log
done
exit $status
