#!/bin/sh
# SPDX-License-Identifier: MIT
# `make install`: a program built with nothing but the installed header, library and pkg-config
# file says what `sluice run` says.
. "${top_srcdir:-.}/tests/cli/common.sh"

build=$(dirname "$sluice")
make -C "$build" install prefix="$work/usr" > install.log 2>&1 || bad "make install: $(tail -5 install.log)"
PKG_CONFIG_PATH=$work/usr/lib/pkgconfig
export PKG_CONFIG_PATH
# shellcheck disable=SC2046 # flags are words
${CC:-cc} $SANITIZE -o example "$top/tests/cli/example.c" -Wall -Wextra -Werror \
    $(pkg-config --define-variable=prefix="$work/usr" --cflags --libs sluice) \
    -Wl,-rpath,"$work/usr/lib" || bad "the example does not build"
[ "$(find usr/include -type f)" = usr/include/sluice.h ] || bad "more than sluice.h is installed"
expect 0 -- usr/bin/sluice quantize "$top/demo" model --profile max
expect 0 -- usr/bin/sluice run -m model -p 'Once upon a time' -n 12 --temp 0
cp out wanted
expect 0 -- ./example model 'Once upon a time'
cmp -s out wanted || bad "the example says '$(cat out)', sluice run '$(cat wanted)'"
expect 1 sluice.json -- ./example "$top/demo" x
finish
