# SPDX-License-Identifier: MIT
# Sourced first by tests that mount a small drive: begins the test again in a mount namespace of its
# own, so that nothing is left mounted, however it ends; or skips it.
if [ -z "${private_mounts-}" ]; then
    probe=${TMPDIR:-/tmp}
    for how in -m -rm; do
        if unshare $how mount -t tmpfs -o size=64k sluice "$probe" 2> /dev/null; then
            export private_mounts=1
            exec unshare $how sh "$0"
        fi
    done
    echo "SKIP: no tmpfs of a chosen size: neither root nor unshare -rm may mount one" >&2
    exit 77
fi
