#!/bin/bash
# SPDX-License-Identifier: MIT
# Checks the names the linker sees: everything global is ours by its prefix, and libsluice.so exports
# the functions declared in runtime/sluice.h, no more and no less.
# symbols.sh [ARCHIVE-OR-OBJECT…]; without arguments all that is in the build folder.
set -euo pipefail
LC_ALL=C
export LC_ALL
: "${CC:=cc}" "${NM:=nm}" "${top_srcdir:=.}" "${top_builddir:=.}"
status=0

# Names that a sanitizer or a profiler puts into our objects.
instrumentation='^(__asan_|__odr_asan|__ubsan_|__tsan_|__gcov_|__llvm_|_sanitizer)'

if [ $# -eq 0 ]; then
    shopt -s nullglob
    set -- "$top_builddir"/.libs/lib*.a "$top_builddir"/tools/*.o "$top_builddir"/tools/*/*.o
    if [ $# -eq 0 ]; then
        echo "$top_builddir: no libraries to look into: build first" >&2
        exit 1
    fi
fi
# shellcheck disable=SC2086 # libtool's NM is "nm -B"
alien=$($NM -A -g --defined-only "$@" | sed 's/:[0-9a-f]* / /' | awk -v skip="$instrumentation" '
    / [A-Za-z] [^ ]+$/ && $NF !~ /^(sl|sluice)_/ && $NF !~ skip && !($NF == "main" && $1 ~ /sluice[.]o$/) {
        print "  " $NF " in " $1
    }')
if [ -n "$alien" ]; then
    echo "global symbols that begin with neither sl_ nor sluice_:" >&2
    echo "$alien" >&2
    status=1
fi

# Objects built with the flags of an instruction set define its kernels and nothing else: what a
# linker could pick for other callers would run where the instructions are missing.
for archive in "$top_builddir"/.libs/libsimd_*.a; do
    [ -e "$archive" ] || continue
    rung=${archive##*libsimd_}
    # shellcheck disable=SC2086
    stray=$($NM -g --defined-only "$archive" | awk -v prefix="sl_${rung%.a}_" -v skip="$instrumentation" '
        / [A-Za-z] [^ ]+$/ && index($NF, prefix) != 1 && $NF !~ skip { print "  " $NF }')
    if [ -n "$stray" ]; then
        echo "$archive defines more than kernels of ${rung%.a}:" >&2
        echo "$stray" >&2
        status=1
    fi
done

library=$top_builddir/.libs/libsluice.so
if [ ! -e "$library" ]; then
    echo "$library: not built (--disable-shared?), its exports are not checked"
    exit $status
fi
# The preprocessor removes the comments and turns SLUICE_API into the attribute.
# shellcheck disable=SC2086 # CC may be several words
declared=$($CC -E -P "$top_srcdir/runtime/sluice.h" | tr '\n;' ' \n' |
    sed -n 's/.*visibility("default"))) *[^(]*[ *]\([A-Za-z0-9_]*\) *(.*/\1/p' | sort)
# shellcheck disable=SC2086
exported=$($NM -D --defined-only "$library" | awk -v skip="$instrumentation" '
    $NF !~ skip { sub(/@.*/, "", $NF); print $NF }' | sort)
if ! diff <(echo "$declared") <(echo "$exported") >/dev/null; then
    echo "$library does not export what runtime/sluice.h declares (< declared, > exported):" >&2
    diff <(echo "$declared") <(echo "$exported") | grep '^[<>]' >&2
    status=1
fi
exit $status
