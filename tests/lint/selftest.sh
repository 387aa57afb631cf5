#!/bin/bash
# SPDX-License-Identifier: MIT
# A lint that cannot fail checks nothing: breaks each rule once in a throw-away tree and looks for
# the complaint.
set -euo pipefail
: "${CC:=cc}" "${top_srcdir:=.}"
export CC
lints=$(cd "$top_srcdir/tests/lint" && pwd)
tree=$(mktemp -d "${TMPDIR:-/tmp}/sluice-lint.XXXXXX")
trap 'rm -rf "$tree"' EXIT
cd "$tree"
export top_srcdir=. top_builddir=.
status=0

put() { # FILE LINES… : a source with its licence line; LINES begin on line 2
    mkdir -p "$(dirname "$1")"
    { echo '/* SPDX-License-Identifier: MIT */'; printf '%s\n' "${@:2}"; } >"$1"
}

passes() { # LINT
    "$lints/$1.sh" >out 2>&1 || { echo "$1 flags a clean tree:"; cat out; status=1; }
}

flags() { # LINT TEXT : the lint fails and says TEXT
    local code=0
    "$lints/$1.sh" >out 2>&1 || code=$?
    if [ $code -ne 1 ] || ! grep -qF -- "$2" out; then
        echo "$1 did not say '$2' (exit $code):"
        cat out
        status=1
    fi
}

# breaks LINT TEXT FILE LINES… : FILE with these LINES is what is wrong; removed or restored afterwards
breaks() {
    local saved=
    [ ! -e "$3" ] || { saved=yes; mv "$3" saved; }
    put "${@:3}"
    flags "$1" "$2"
    rm "$3"
    [ -z "$saved" ] || mv saved "$3"
}

# ---- a tree without faults -----------------------------------------------------------------------
for door in simd/simd.h runtime/base/err.h runtime/container/{container,checkpoint}.h quant/quant.h \
    runtime/stream/stream.h runtime/model/config.h runtime/attention/attention.h tools/verbs.h \
    runtime/moe/moe.h runtime/text/text.h runtime/sample/sample.h runtime/{layer,engine,session/session}.h \
    simd/ref/ref.h runtime/container/private.h quant/eval/eval.h; do
    put "$door" 'typedef int sl_int;'
done
put runtime/sluice.h '#ifdef __cplusplus' 'extern "C" {' '#endif' \
    '#define SLUICE_API __attribute__((visibility("default")))' \
    '/* sluice_never(): a comment; SLUICE_API int not_me(void); */' \
    'SLUICE_API const char *sluice_a(int x,' '    int y);' 'SLUICE_API void sluice_b(void);' \
    '#ifdef __cplusplus' '}' '#endif'
put simd/ref/ref.c '#include <stdint.h>' '#include "simd/ref/ref.h"' '#include "simd/simd.h"'
put runtime/moe/moe.c '#include "config.h"' '#include "runtime/moe/moe.h"' \
    '#include "runtime/stream/stream.h"' '#include "runtime/sluice.h"' '  # include "simd/simd.h"'
put runtime/session/session.c '#include "runtime/engine.h"' '#include "runtime/text/text.h"'
put quant/eval/eval.c '#include "quant/eval/eval.h"' '#include "runtime/layer.h"' \
    '/* exit(1), abort() and printf("stdout") may be spoken of' 'on two lines: exit(1) */' \
    'const char *sl_word(void);' 'const char *sl_word(void) { return "exit(1) \" abort()"; }'
put tools/inspect.c '#include "runtime/container/container.h"' '#include "quant/quant.h"' \
    '#include <stdio.h>' '#include <stdlib.h>' 'void sl_p(void);' 'void sl_p(void) { puts("x"); exit(1); }' \
    "/* $(printf 'é%.0s' {1..94}) */"
printf '#!/bin/sh\n# SPDX-License-Identifier: MIT\n' >tools/x.sh
passes includes
passes text
passes headers

# ---- includes ------------------------------------------------------------------------------------
bad() { # FILE HEADER TEXT
    breaks includes "$1:2: $3" "$1" "#include \"$2\""
}
bad simd/x.c runtime/base/err.h 'simd may not include base'
bad runtime/base/x.c simd/simd.h 'base may not include simd'
bad runtime/container/x.c runtime/model/config.h 'container may not include model'
bad runtime/stream/x.c simd/simd.h 'stream may not include simd'
bad runtime/model/x.c runtime/stream/stream.h 'model may not include stream'
bad runtime/attention/x.c runtime/container/container.h 'attention may not include container'
bad runtime/moe/x.c runtime/container/container.h 'moe may not include container'
bad runtime/moe/x.c runtime/attention/attention.h 'moe may not include attention'
bad runtime/text/x.c runtime/model/config.h 'text may not include model'
bad runtime/sample/x.c runtime/text/text.h 'sample may not include text'
bad runtime/layer.c runtime/session/session.h 'layer may not include top'
bad runtime/layer.c runtime/engine.h 'layer may not include top'
bad runtime/engine.c quant/quant.h 'top may not include quant'
bad quant/x.c runtime/engine.h 'quant may not include top'
bad quant/x.c tools/verbs.h 'quant may not include tools'
bad quant/x.c runtime/moe/moe.h 'quant may not include moe'
bad tools/x.c runtime/layer.h 'tools may not include layer'
bad tools/x.c runtime/container/checkpoint.h 'tools may not include container'
bad runtime/sluice.h runtime/base/err.h 'api may not include base'
bad runtime/sluice.h config.h 'an installed header cannot'
bad runtime/model/x.c config.h '"config.h" would be runtime/model/config.h'
bad runtime/moe/x.c simd/ref/ref.h '"simd/ref/ref.h" is private to simd'
bad runtime/stream/x.c runtime/container/private.h '"runtime/container/private.h" is private to'
bad tools/x.c quant/eval/eval.h '"quant/eval/eval.h" is private to quant'
bad simd/ref/x.c ref.h '"ref.h" is no file of ours'
bad simd/ref/x.c ../simd.h '"../simd.h" is no file of ours'
bad runtime/moe/x.inc quant/quant.h 'moe may not include quant'
breaks includes 'belongs to no room' runtime/stray.c ''
breaks includes 'simd/x.c:2: our own headers' simd/x.c '#include <runtime/base/err.h>'
breaks includes 'simd/x.c:2: an #include that is neither' simd/x.c '#include HEADER'

# ---- text ----------------------------------------------------------------------------------------
breaks text 'simd/x.c:2: tab' simd/x.c $'\tint x;'
breaks text 'simd/x.c:3: trailing blank' simd/x.c 'int x;' 'int y; '
breaks text 'tests/x.py:2: trailing blank' tests/x.py '# x '
breaks text 'simd/x.c:2: 101 columns' simd/x.c "/* $(printf 'é%.0s' {1..95}) */"
breaks text "simd/x.c:2: a note to self" simd/x.c "/* FIX""ME */"
breaks text "docs/x.md:2: a note to self" docs/x.md "TO""DO: write"
put runtime/base/ref.c ''
breaks text 'there is also runtime/base/ref.c: names' simd/ref/ref.c ''
rm runtime/base/ref.c
for call in 'exit(1)' 'abort()' '_exit (1)' 'printf("x")' 'puts("x")' 'fputs("x", stdout)'; do
    breaks text 'runtime/base/x.c:3: the library does not' runtime/base/x.c '/* c */' "x = 1; $call;"
done
printf 'int x;\n' >simd/x.c
flags text 'simd/x.c:1: the first line is not SPDX'
printf '/* SPDX-License-Identifier: MIT */\nint x;' >simd/x.c
flags text 'simd/x.c: no newline at the end'
: >simd/x.c
flags text 'simd/x.c:0: empty file'
rm simd/x.c
printf '#!/bin/sh\ntrue\n' >tools/y.sh
flags text 'tools/y.sh:2: the first line is not SPDX'
rm tools/y.sh
echo '# no licence' >simd/local.mk
flags text 'simd/local.mk:1: the first line is not SPDX'
rm simd/local.mk

# ---- headers -------------------------------------------------------------------------------------
breaks headers 'quant/x.h: does not compile' quant/x.h 'uint32_t sl_x(void);'
breaks headers 'quant/x.h: does not compile' quant/x.h 'struct sl_without_guard { int x; };'
breaks headers 'runtime/sluice.h: does not compile on its own (-x c++' runtime/sluice.h 'int class;'
breaks headers 'runtime/sluice.h: does not compile on its own (-x c -std=c11 -pedantic' \
    runtime/sluice.h '#include <unistd.h>' 'typedef int sluice_int;' 'extern useconds_t sluice_x;'

# ---- symbols -------------------------------------------------------------------------------------
build() { # LINES… : a library with these lines in it
    rm -rf .libs
    mkdir .libs
    printf '%s\n' "$@" >lib.c
    $CC -fPIC -fvisibility=hidden -I. -c lib.c -o .libs/lib.o
    ar rc .libs/libx.a .libs/lib.o
    cp .libs/libx.a .libs/liby.a
    $CC -shared -o .libs/libsluice.so .libs/lib.o
}
a='const char *sluice_a(int x, int y) { return x + y ? "x" : "y"; }'
b='void sluice_b(void) {}'
h='#include "runtime/sluice.h"'
flags symbols 'build first'
build "$h" "$a" "$b" 'int sl_x; static int y;'
passes symbols
build "$h" "$a" "$b" 'int global;'
flags symbols 'global in '
build "$h" "$a" "$b" 'void helper(void) {}'
flags symbols 'helper in '
build "$h" "$a"
flags symbols '< sluice_b'
build "$h" "$a" "$b" 'SLUICE_API void sluice_c(void) {}'
flags symbols '> sluice_c'
build "$h" "$a" "$b"
printf '%s\n' 'void sl_avx2_x(void) {}' >kernel.c
$CC -c kernel.c -o kernel.o
ar rc .libs/libsimd_avx2.a kernel.o
passes symbols
ar rc .libs/libsimd_avxvnni.a kernel.o
flags symbols 'defines more than kernels of avxvnni'

# ---- format --------------------------------------------------------------------------------------
if command -v clang-format-14 >/dev/null; then
    rm -rf simd runtime quant tools
    put simd/x.c '' 'int sl_x;'
    passes format
    put simd/x.c '' 'int   sl_x;'
    flags format '1 simd/x.c'
fi
exit $status
