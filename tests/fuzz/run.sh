#!/bin/bash
# SPDX-License-Identifier: MIT
# `make fuzz`: run.sh SECONDS TARGETS… in the build folder.  What is new goes to fuzz-corpus/TARGET;
# an input that fails goes to fuzz-found/ and ends the run.
set -euo pipefail
: "${top_srcdir:=.}"
seconds=$1
shift
scratch=/dev/shm
[ -w $scratch ] || scratch=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d "$scratch/sluice-fuzz.XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
mkdir -p fuzz-found
for target in "$@"; do
    mkdir -p "fuzz-corpus/$target"
    echo "fuzz: $target for $seconds s"
    tests/fuzz/fuzz_"$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=4096 -print_final_stats=1 -artifact_prefix=fuzz-found/"$target"- \
        -dict="$top_srcdir/tests/fuzz/dictionary/$target" \
        "fuzz-corpus/$target" "$top_srcdir/tests/fuzz/corpus/$target"
done
