#!/bin/sh
# SPDX-License-Identifier: MIT
# `bench --kernels` at its shortest: the keys of its JSON, numbers above 0, every kernel.
. "${top_srcdir:-.}/tests/cli/common.sh"

expect 2 --model -- "$sluice" bench -r 1
SLUICE_CPU=abacus expect 2 SLUICE_CPU=abacus -- "$sluice" bench --kernels

# With a sanitizer the true shapes take half a minute; the unit test has smaller ones.
if [ -n "${SANITIZE:-}" ]; then
    finish
    exit
fi
expect 0 -- "$sluice" bench --kernels -r 1 -o json
number='[0-9.eE+-]*'
row='  {"kernel": "[^"]*", "rung": "[a-z0-9]*", "shape": "[^"]*"'
row="$row, \"ms\": $number, \"rate\": $number, \"unit\": \"G[A-Za-z]*/s\""
known="\"limit\": $number, \"fraction\": $number, \"limit_by\": \"[^\"]*\""
unknown='"limit": null, "fraction": null, "limit_by": null'
row="$row, \($known\|$unknown\)},*"
echo "^\\[\$
^$row\$
^\\]\$" > shapes
! grep -v -f shapes out > strange || bad "not a table of kernels: $(head -n 3 strange)"
grep -q '"limit": [0-9]' out || bad "no kernel has a limit"
! grep ': -\|: 0\.*0*[,}]' out > strange || bad "a number that is not above 0: $(cat strange)"
"$sluice" --version -v | sed -n 's/^kernel \([a-z0-9_]*\)  *\([a-z0-9]*\)$/"\1[" ].*"rung": "\2"/p' \
    > kernels
[ "$(grep -c . kernels)" -ge 20 ] || bad "--version -v names few kernels: $(cat kernels)"
while IFS= read -r kernel; do
    grep -q "\"kernel\": $kernel" out || bad "no row with $kernel"
done < kernels
grep -q '"kernel": "quantize ' out || bad "no row with the quantiser as a whole"
finish
