#!/usr/bin/env bash
# Removes what a crashed run of the demo, the tests or the benches left: their network namespaces are named
# rw<what>-<pid>-<role>, and are removed when that process is gone. With --all also those of living processes.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
command -v ip >/dev/null || exit 0
shopt -s nullglob
for path in /run/netns/rw*-*-*; do
    name=${path##*/}
    [[ "$name" =~ ^rw[a-z]+-([0-9]+)-[a-z0-9]+$ ]] || continue
    owner=${BASH_REMATCH[1]}
    # A process that has ended but is not waited for yet has no executable any more.
    if [[ "${1-}" != --all ]] && readlink -q "/proc/$owner/exe" >/dev/null; then
        continue
    fi
    # What still runs in the namespace (a server that the crashed owner had started) keeps it alive otherwise.
    for pid in $(ip netns pids "$name" 2>/dev/null); do
        echo "clean-namespaces: ending process $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null || true)) left in $name"
        kill -KILL "$pid" 2>/dev/null || true
    done
    echo "clean-namespaces: removing $name"
    ip netns delete "$name"
done
for folder in /run/ringway-demo-*; do
    readlink -q "/proc/${folder##*-}/exe" >/dev/null || rm -rf "$folder"
done
