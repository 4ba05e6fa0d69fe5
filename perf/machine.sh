#!/usr/bin/env bash
# Counts the instructions that a packet costs in user space where frames are not copied: Ringway and the bare forwarder, in one
# machine with virtio_net. Emulated CPUs say nothing about time, but each instruction can be counted: by a plugin of QEMU.
# Usage: perf/machine.sh     after: cargo build --release -p ringway-control -p ringway-perf --bins
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
. tests/scripts/machine/machine.sh
work="$(mktemp -d)"
trap 'machine_end "$work"' EXIT

cc -O2 -shared -fPIC -Wall -Werror -o "$work/count.so" perf/machine/count.c
machine_bed virtio-1 4
machine_fetch "${SERIES:-6.18}" "$machine_flavour" || machine_die "the archive has no ${SERIES:-6.18} kernel"
machine_image "$work" instructions
machine_say "booting $machine_version"
machine_boot "$work" -plugin "$work/count.so,out=$work/counts" &
machine=$!

# The guest is quiet for two seconds after each mark.
sum() { od -A n -v -t u8 "$work/counts" | awk '{ for (n = 1; n <= NF; n++) sum += $n } END { printf "%.0f", sum }'; }
seen=0
while kill -0 "$machine" 2>/dev/null; do
    sleep 0.1
    marks="$(grep -c '^mark ' "$work/console" 2>/dev/null || true)"
    ((${marks:-0} > seen)) || continue
    seen="$marks"
    printf '%s %s\n' "$(grep '^mark ' "$work/console" | tr -d '\r' | tail -n 1)" "$(sum)" >>"$work/marks"
done
machine_results "$work" instructions || { cat "$work/console.text" >&2; exit 1; }
awk '$4 == "begin" { begin = $5 } $4 == "end" { turn[$2, $3] = ($5 - begin) / 10; all[$2] }
    END { for (name in all) printf "%s: %.0f instructions a packet\n", name, (turn[name, 1600] - turn[name, 400]) / 1200 }' "$work/marks" | sort
