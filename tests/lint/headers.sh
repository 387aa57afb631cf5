#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks that every header compiles on its own, and the installed one also in strict C11 and in C++.
# The environment may give CC and CPPFLAGS (where jansson.h is, say).
set -eu
: "${CC:=cc}" "${CPPFLAGS:=}"
top_builddir=$(cd "${top_builddir:-.}" && pwd)
cd "${top_srcdir:-.}"
status=0

compile() { # HEADER FLAGS… : includes it twice, which its guard must bear
    header=$1
    shift
    # shellcheck disable=SC2086 # CC and CPPFLAGS may be several words
    printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
        $CC "$@" -Wall -Wextra -Werror -fsyntax-only -I. -I"$top_builddir" $CPPFLAGS - ||
        { echo "$header: does not compile on its own ($*)" >&2; status=1; }
}

instructions() { # HEADER : the flags that headers of kernels need
    case $1:$(uname -m) in
    simd/x86/*avx512*) echo -march=x86-64-v4 -mavx512vnni ;;
    simd/x86/* | simd/wide/*:x86_64) echo -march=x86-64-v3 -DSL_RUNG=lint ;;
    simd/arm/* | simd/wide/*:aarch64) echo -march=armv8.2-a+dotprod+i8mm -DSL_RUNG=lint ;;
    esac
}

for folder in simd runtime quant tools; do
    [ ! -d $folder ] || find $folder -name '*.h'
done | sort | {
    while IFS= read -r header; do
        # Headers of another machine's kernels are for its own builds.
        case $header:$(uname -m) in
        simd/x86/*:x86_64 | simd/arm/*:aarch64) ;;
        simd/x86/* | simd/arm/*) continue ;;
        esac
        # shellcheck disable=SC2046 # no word or two
        compile "$header" -x c -std=gnu11 -D_GNU_SOURCE -fopenmp $(instructions "$header")
    done
    compile runtime/sluice.h -x c -std=c11 -pedantic
    compile runtime/sluice.h -x c++ -std=c++11 -pedantic
    exit $status
}
