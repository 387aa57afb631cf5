#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks that every #include "…" goes in an allowed direction, so that the house keeps its one-way
# stairs: what a room may use is written here and nowhere else.
set -eu
LC_ALL=C
export LC_ALL

# room NAME FILES… : which files a room owns; "x/" is a folder with its subfolders, "x." files x.*
# door NAME HEADERS… : what strangers may include of it; * does not cross a slash
# law NAME ROOMS… : whose doors a room may use besides its own files; a path is one header only
law='
room simd       simd/
room base       runtime/base/
room container  runtime/container/
room stream     runtime/stream/
room model      runtime/model/
room attention  runtime/attention/
room moe        runtime/moe/
room text       runtime/text/
room sample     runtime/sample/
room layer      runtime/layer.
room top        runtime/engine. runtime/allotment. runtime/budget. runtime/sizing. runtime/session/
room api        runtime/sluice.h
room quant      quant/
room tools      tools/

door simd       simd/simd.h
door base       runtime/base/*
door container  runtime/container/container.h runtime/container/checkpoint.h
door container  runtime/container/safetensors.h
door stream     runtime/stream/stream.h runtime/stream/slots.h
door model      runtime/model/*
door attention  runtime/attention/attention.h
door moe        runtime/moe/moe.h
door text       runtime/text/text.h
door sample     runtime/sample/sample.h
door layer      runtime/layer.h
door top        runtime/sizing.h runtime/budget.h
door quant      quant/quant.h

law simd
law base
law container   base simd
law stream      base container
law model       base container simd
law attention   base model simd
law moe         base model stream simd
law text        base
law sample      base
law layer       base container stream model attention moe text sample simd
law top         layer base container stream model attention moe text sample simd
law quant       base container stream model layer simd
law tools       quant base simd runtime/container/container.h runtime/model/config.h
law tools       runtime/model/rung.h runtime/sizing.h runtime/budget.h runtime/stream/slots.h
law api
'
# Besides: every room but api may include runtime/sluice.h and config.h.

cd "${top_srcdir:-.}"
for folder in simd runtime quant tools; do
    [ ! -d $folder ] || find $folder -type f -name '*.[chS]' -o -type f -name '*.inc'
done | sort | LAW="$law" awk '
function fail(text) {
    print file ":" line ": " text > "/dev/stderr"
    failed = 1
}
function room_of(path,    p) {
    for (p in owner)
        if (index(path, p) == 1)
            return owner[p]
    return ""
}
function is_door(path,    p) {
    for (p in door)
        if (path ~ p)
            return 1
    return 0
}
function exists(path,    unused, found) {
    found = (getline unused < path) >= 0
    close(path)
    return found
}
function check(path,    to) {
    if (path == "config.h") {
        if (room == "api")
            fail("an installed header cannot include \"config.h\"")
        neighbour = file
        sub("[^/]*$", "config.h", neighbour)
        if (exists(neighbour))
            fail("\"config.h\" would be " neighbour ", not what configure wrote: use <config.h>")
        return
    }
    if (!exists(path)) {
        fail("\"" path "\" is no file of ours: use a path from the top folder, or <…>")
        return
    }
    to = room_of(path)
    if (to == room || (to == "api" && path == "runtime/sluice.h"))
        return
    if (to == "")
        fail("\"" path "\" belongs to no room")
    else if (!((room, to) in allowed) && !((room, path) in allowed))
        fail(room " may not include " to " (\"" path "\")")
    else if (!is_door(path))
        fail("\"" path "\" is private to " to)
}
BEGIN {
    n = split(ENVIRON["LAW"], rule, "\n")
    for (i = 1; i <= n; i++) {
        words = split(rule[i], word, " ")
        for (j = 3; j <= words; j++)
            if (word[1] == "room") {
                owner[word[j]] = word[2]
            } else if (word[1] == "door") {
                gsub("[.]", "[.]", word[j])
                gsub("[*]", "[^/]*", word[j])
                door["^" word[j] "$"] = 1
            } else if (word[1] == "law") {
                allowed[word[2], word[j]] = 1
            }
    }
}
{
    file = $0
    line = 0
    room = room_of(file)
    if (room == "")
        fail("belongs to no room: add it to the law in tests/lint/includes.sh")
    while ((getline text < file) > 0) {
        line++
        if (text !~ /^[ \t]*#[ \t]*include/)
            continue
        if (match(text, /include[ \t]*"[^"]*"/)) {
            path = substr(text, RSTART, RLENGTH)
            gsub(/^[^"]*"|"$/, "", path)
            if (room != "")
                check(path)
        } else if (text !~ /include[ \t]*<[^>]*>/) {
            fail("an #include that is neither \"…\" nor <…>")
        } else if (text ~ /<(simd|runtime|quant|tools|tests)\//) {
            fail("our own headers are included with quotes")
        }
    }
    close(file)
}
END { exit failed }
'
