#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks what can be checked line by line: blanks, columns, licence lines, leftover notes, names of
# files, and that the library neither ends the process nor writes to stdout.
set -eu
LC_ALL=C
export LC_ALL
cd "${top_srcdir:-.}"

list() {
    for folder in simd runtime quant tools tests docs; do
        [ ! -d $folder ] || find $folder -type f
    done
    for file in *.md configure.ac Makefile.am autogen.sh quickstart .ci/run .clang-format; do
        [ ! -f "$file" ] || echo "$file"
    done
}

# Test data and what a build leaves behind are nobody's prose.
files=$(list | grep -E '(\.([chS]|inc|sh|py|md|mk|am|ac|in)|quickstart|\.ci/run|\.clang-format)$' |
    grep -Ev '^tests/(golden|vectors)/|^Makefile\.in$|^config\.h\.in$' | sort)

status=0
printf '%s\n' "$files" | awk '
function fail(text) {
    print file ":" line ": " text > "/dev/stderr"
    failed = 1
}
# The text without comments, strings and characters.
function code_of(s,    out, c, two) {
    out = ""
    while (s != "") {
        c = substr(s, 1, 1)
        two = substr(s, 1, 2)
        if (in_comment) {
            if (two == "*/") {
                in_comment = 0
                s = substr(s, 3)
            } else
                s = substr(s, 2)
        } else if (two == "//")
            s = ""
        else if (two == "/*") {
            in_comment = 1
            s = substr(s, 3)
        } else if (c == "\"" || c == "\047") {
            s = substr(s, 2)
            while (s != "" && substr(s, 1, 1) != c)
                s = substr(s, substr(s, 1, 1) == "\\" ? 3 : 2)
            s = substr(s, 2)
            out = out "@"
        } else {
            out = out c
            s = substr(s, 2)
        }
    }
    return out
}
{
    file = $0
    line = in_comment = shebang = last_empty = 0
    name = file
    sub(/.*\//, "", name)
    is_c = name ~ /\.([chS]|inc)$/
    is_library = is_c && file ~ /^(simd|runtime|quant)\//
    if (name ~ /\.[ch]$/) {
        if (name in seen)
            fail("there is also " seen[name] ": names of sources are unique")
        seen[name] = file
    }
    while ((getline text < file) > 0) {
        line++
        if (line == 1 && text ~ /^#!/)
            shebang = 1
        if (line == 1 + shebang && name !~ /\.(md|in)$/ && text !~ /SPDX-License-Identifier: MIT/)
            fail("the first line is not SPDX-License-Identifier: MIT")
        if (text ~ /[ \t\r]$/)
            fail("trailing blank")
        if (text ~ /(^|[^A-Za-z0-9_])(T[O]DO|F[I]XME|X[X]X)([^A-Za-z0-9_]|$)/)
            fail("a note to self: do it, or file it")
        if (is_c) {
            if (text ~ /\t/)
                fail("tab")
            width = text
            gsub(/[\200-\277]/, "", width) # continuation bytes of UTF-8
            if (length(width) > 100)
                fail(length(width) " columns, more than 100")
        }
        # Looking closely is slow, so only where it may matter.
        if (is_library && (in_comment || text ~ /\/\*|exit|Exit|abort|put|printf|stdout/)) {
            code = code_of(text)
            if (code ~ /(^|[^A-Za-z0-9_>.])(_?exit|_Exit|quick_exit|abort)[ \t]*\(/)
                fail("the library does not end the process")
            if (code ~ /(^|[^A-Za-z0-9_])(v?printf|puts|putchar)[ \t]*\(|(^|[^A-Za-z0-9_])stdout($|[^A-Za-z0-9_])/)
                fail("the library does not write to stdout")
        }
    }
    close(file)
    if (line == 0)
        fail("empty file")
}
END { exit failed }
' || status=1

# The last byte, which awk does not show.
while IFS= read -r file; do
    [ -z "$(tail -c 1 "$file")" ] || { echo "$file: no newline at the end" >&2; status=1; }
done <<EOF
$files
EOF
exit $status
