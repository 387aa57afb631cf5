#!/bin/sh
# SPDX-License-Identifier: MIT
# A control group's limit is lowered under a program that reads experts on demand: it gives memory
# back, says so, goes on, and says the same words.  Skipped where this user may not make groups.
case ${SANITIZE:-} in
*address* | *thread*)
    echo 'SKIPPED: sanitizers take more memory than the model'
    exit 77
    ;;
esac
. "${top_srcdir:-.}/tests/cli/common.sh"

if [ -d /sys/fs/cgroup/memory ]; then
    group=/sys/fs/cgroup/memory/sluice-shrink-$$
    limit=memory.limit_in_bytes usage=memory.usage_in_bytes
else
    group=/sys/fs/cgroup/sluice-shrink-$$
    limit=memory.max usage=memory.current
fi
mkdir "$group" 2> err && [ -w "$group/$limit" ] || exit 77
trap 'rmdir "$group"; rm -rf "$work"' EXIT

story() { # OUT COMMAND…
    out=$1
    shift
    "$@" "$sluice" run -m demo --reader pread -p 'Once upon a time' -n 800 --temp 1 --seed 5 \
        > "$out" 2> "$out.err"
}

# As the child of a shell that has joined the group.
confined() {
    sh -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$group" "$@"
}

"$sluice" quantize "$top/demo" demo > out 2> err || bad "no container: $(cat err)"
echo 200M > "$group/$limit"
story free confined || bad "run: $(cat free.err)"
grep -q 'memory was short' free.err && bad "short without a reason: $(cat free.err)"

story tight confined &
child=$!
waited=0
while [ ! -s tight ] && [ $waited -lt 600 ]; do
    sleep 0.05
    waited=$((waited + 1))
done
# Too little to spare, but more than is in use: nothing has to die.
echo $(($(cat "$group/$usage") + 6000000)) > "$group/$limit" || bad "the limit stays"
wait $child || bad "run in the smaller group: $(cat tight.err)"
grep -q 'memory was short: [0-9]* experts per layer kept, of [0-9]*' tight.err ||
    bad "nothing given back: $(cat tight.err)"
cmp free tight || bad "other words"
finish
