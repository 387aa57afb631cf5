#!/bin/sh
# SPDX-License-Identifier: MIT
# Model tests once more with cache rows in blocks of 16 and 64, so that all that reads and writes rows
# meets many borders: the same golden files, the same bits.
set -eu
case ${SANITIZE:-} in
*thread*)
    echo 'SKIPPED: blocks have no threads, and the tests themselves run under ThreadSanitizer'
    exit 77
    ;;
esac
run() { # SHIFT TESTS…
    SLUICE_TEST_BLOCK_SHIFT=$1
    export SLUICE_TEST_BLOCK_SHIFT
    shift
    for test; do
        "${top_builddir:-build}/tests/model/test_$test"
    done
}
run 4 golden prefix sizes batch
run 6 draft snapshot_damage
