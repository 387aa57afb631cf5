#!/bin/bash
# SPDX-License-Identifier: MIT
# A cross build for aarch64, run under qemu-user: kernels, unit tests, and whole models that must be
# converted and computed to the same bytes as on this machine.  Libraries for aarch64 are unpacked
# below the build folder; the system stays as it is.
# aarch64.sh BUILD-FOLDER, of the native build; exits with 77 when it cannot run here.
set -euo pipefail
native=$(cd "${1:?usage: tests/qemu/aarch64.sh BUILD-FOLDER}" && pwd)
top=$(cd "$(dirname "$0")/../.." && pwd)
build=$native/aarch64
sysroot=$build/sysroot
libraries=$sysroot/usr/lib/aarch64-linux-gnu
packages="libjansson4 libjansson-dev libpcre2-8-0 libpcre2-dev libxxhash0 libxxhash-dev
    zlib1g zlib1g-dev libcmocka0 libcmocka-dev"
run="qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=$libraries"

for tool in aarch64-linux-gnu-gcc qemu-aarch64 apt-get dpkg; do
    command -v $tool >/dev/null && continue
    echo "aarch64.sh: SKIPPED: no $tool (Debian: gcc-aarch64-linux-gnu qemu-user)"
    exit 77
done

say() {
    echo "aarch64.sh: $*"
}

# quietly COMMAND…: its output only when it fails.
quietly() {
    "$@" >"$build/step.log" 2>&1 </dev/null || { tail -n 40 "$build/step.log" >&2; exit 1; }
}

# A package database of its own, so that no foreign architecture is added to the system.
fetch_libraries() {
    [ ! -e "$sysroot/complete" ] || return 0
    mkdir -p "$build/apt/lists/partial" "$build/apt/archives/partial" "$sysroot"
    cat >"$build/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "root";
Dir::State "$build/apt";
Dir::State::status "/dev/null";
Dir::Cache "$build/apt";
CONF
    export APT_CONFIG=$build/apt.conf
    quietly apt-get update
    # shellcheck disable=SC2086 # a list of words
    (cd "$build/apt/archives" && quietly apt-get download $packages)
    unset APT_CONFIG
    for package in "$build"/apt/archives/*.deb; do
        dpkg -x "$package" "$sysroot"
    done
    touch "$sysroot/complete"
}

configure_build() {
    [ ! -e Makefile ] || return 0
    export PKG_CONFIG=pkg-config PKG_CONFIG_LIBDIR="$libraries/pkgconfig"
    export PKG_CONFIG_SYSROOT_DIR="$sysroot"
    quietly "$top/configure" --host=aarch64-linux-gnu --disable-shared --enable-static \
        --without-onednn --without-hwloc --enable-werror CFLAGS='-O2 -g' \
        LDFLAGS="-L$libraries -Wl,-rpath-link,$libraries"
}

# tokens N FILE: N token ids below 256.
tokens() {
    local i
    for ((i = 0; i < $1; i++)); do
        printf '%b' "\\x$(printf %02x $((i * 37 % 251)))\\0\\0\\0"
    done >"$2"
}

# same_bytes CHECKPOINT PROFILE TOKENS RUNGS…: converted and computed here and there.
same_bytes() {
    local checkpoint=$1 profile=$2 rung
    rm -rf here there
    tokens "$3" ids
    quietly "$native/sluice" quantize "$checkpoint" here --profile "$profile"
    quietly $run ./sluice quantize "$checkpoint" there --profile "$profile"
    diff -r here there
    quietly "$native/sluice" eval logits -m here --tokens ids -o here.f32
    for rung in "${@:4}"; do
        SLUICE_CPU=$rung quietly $run ./sluice eval logits -m here --tokens ids -o there.f32
        cmp here.f32 there.f32
        say "${checkpoint#"$top"/}, $profile: $rung gives the same bytes"
    done
}

mkdir -p "$build"
cd "$build"
say "libraries"
fetch_libraries
say "configure and make"
configure_build
quietly make -j"$(nproc)" check TESTS=
$run ./sluice --version -v | grep -q '^kernel gemm  *i8mm$' || { say "no i8mm kernels"; exit 1; }
say "kernels"
quietly $run tests/check/check_rungs --quick
quietly $run tests/check/check_peaks
say "unit tests"
export top_srcdir=$top OMP_WAIT_POLICY=passive
for test in container stream model moe sample tokenizer options team; do
    quietly $run "tests/unit/test_$test"
done
same_bytes "$top/tests/golden/tiny-v32/checkpoint" quality 200 ref neon i8mm
same_bytes "$top/tests/golden/tiny-v3/checkpoint" reference 40 i8mm
same_bytes "$top/demo" quality 40 neon i8mm
say "passed"
