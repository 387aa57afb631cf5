#!/bin/sh
# SPDX-License-Identifier: MIT
# Compares the sources with .clang-format; only clang-format 14 (bookworm's) will do, without it the
# test is skipped.  Tables laid out by hand stand between clang-format off and on.
set -eu
cd "${top_srcdir:-.}"
if ! command -v clang-format-14 >/dev/null; then
    echo "skipped: clang-format-14 is not installed"
    exit 77
fi
set --
for folder in simd runtime quant tools tests; do
    [ ! -d $folder ] || set -- "$@" "$folder"
done
complaints=$(find "$@" -name '*.[ch]' -exec clang-format-14 --dry-run {} + 2>&1 |
    grep -E 'warning:|error:' || true)
[ -n "$complaints" ] || exit 0
printf '%s\n' "$complaints" | cut -d: -f1 | sort | uniq -c | sort -rn
echo "differences from .clang-format, per file; see them with: clang-format-14 FILE | diff FILE -"
exit 1
