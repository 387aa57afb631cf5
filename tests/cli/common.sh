# SPDX-License-Identifier: MIT
# Sourced by the command-line tests: a scratch directory, the program, and what to expect of it.
set -eu
top=$(cd "${top_srcdir:-.}" && pwd)
sluice=$(cd "${top_builddir:-build}" && pwd)/sluice
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-cli-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

failures=0
bad() {
    echo "FAIL: $*" >&2
    failures=$((failures + 1))
}

# expect CODE WORDS… -- COMMAND…: the exit code, and words (fixed strings) that stderr or stdout has.
expect() {
    code=$1
    shift
    : > words
    while [ "$1" != -- ]; do
        printf '%s\n' "$1" >> words
        shift
    done
    shift
    found=0
    "$@" > out 2> err || found=$?
    [ "$found" -eq "$code" ] || bad "exit code $found, $code wanted: $*: $(head -c 400 err)"
    while IFS= read -r word; do
        cat out err | grep -qF -- "$word" || bad "'$word' not in the output of $*: $(head -c 400 err)"
    done < words
}

finish() {
    [ "$failures" -eq 0 ] || { echo "$failures failures" >&2; exit 1; }
}

# same DIR WHAT: the directory has the files of ./want, and no others.
same() {
    for file in want/*; do
        cmp "$file" "$1/${file#want/}" || bad "$2: ${file#want/} differs"
    done
    [ "$(find want | wc -l)" -eq "$(find "$1" | wc -l)" ] || bad "$2: other files: $(ls "$1")"
}

# fresh NAME: a copy of a small checkpoint to spoil, in ./src.
fresh() {
    rm -rf src dst
    cp -R "$top/tests/golden/$1/checkpoint" src
    chmod -R u+w src
}

# poke FILE OFFSET HEX: overwrites one byte.
poke() {
    printf "\\$(printf %03o "0x$3")" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# flip FILE OFFSET: flips the lowest bit of one byte.
flip() {
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    poke "$1" "$2" "$(printf %02x $((byte ^ 1)))"
}

size_of() {
    wc -c < "$1" | tr -d ' '
}
