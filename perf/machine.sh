#!/usr/bin/env bash
# Counts the instructions that a packet costs where frames are not copied: Ringway and the bare forwarder, in one machine with
# virtio_net. Emulated CPUs say nothing about time, but each instruction can be counted: by a plugin of QEMU. All count that CPU 1
# executes, which has the forwarder and the interrupts of its NICs, and nothing else: in user space; and in the kernel, by part.
# Usage: perf/machine.sh     after: cargo build --release -p ringway-control -p ringway-perf --bins
# SERIES=7 takes another kernel; FUNCTIONS=1 shows those that take most.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" LC_ALL=C
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
seen=0
while kill -0 "$machine" 2>/dev/null; do
    sleep 0.1
    marks="$(grep '^mark ' "$work/console" 2>/dev/null | tr -d '\r' | awk 'NF == 4 { print $2 "-" $3 "-" $4 }' || true)"
    mark="$(sed -n "$((seen + 1))p" <<<"$marks")"
    [[ -n "$mark" ]] || continue
    seen=$((seen + 1))
    cp "$work/counts" "$work/at-$mark"
done
machine_results "$work" instructions || { cat "$work/console.text" >&2; exit 1; }

# symbols NAME: ADDRESS FUNCTION. The second time only those of modules and programs were told, which may be others.
symbols() { grep "^symbols $1 " "$work/console.text" | cut -d' ' -f 3 | base64 -d | gzip -d; }
# of_user MARK: what CPU 1 had executed in user space.
of_user() { od -A n -t u8 -j 64 -N 8 "$work/at-$1"; }
# blocks MARK SIGN: a line for each block of the kernel, ADDRESS 1 INSTRUCTIONS, a packet's share of them.
blocks() {
    od -A n -t x8 -t u8 -w16 -j 4096 "$work/at-$1" | awk -v sign="$2" '
        function number(digits, n, sum) { for (n = 1; n <= length(digits); n++) sum = sum * 16 + index("0123456789abcdef", substr(digits, n, 1)) - 1; return sum }
        $1 == "*" { next }
        !what { what = $1; next }
        { if ($2 > 0) printf "%s 1 %.6f\n", substr(what, 5), sign * $2 * number(substr(what, 1, 4)) / 12000; what = "" }'
}
for name in ringway bare; do
    echo "$name"
    echo "user space $(((($(of_user $name-1600-end) - $(of_user $name-1600-begin)) - ($(of_user $name-400-end) - $(of_user $name-400-begin)) + 6000) / 12000))"
    {
        { symbols ringway | grep -v '\[' && symbols "$name" | grep '\['; } | sed 's/ / 0 /'
        blocks $name-1600-end 1
        blocks $name-1600-begin -1
        blocks $name-400-end -1
        blocks $name-400-begin 1
    } | sort -k 1,2 | awk -f perf/machine/parts.awk | { if [[ -n "${FUNCTIONS:-}" ]]; then cat; else grep -v '^ '; fi; }
done >"$work/parts"
cat "$work/parts"
# What CPU 1 does while there are no packets differs from turn to turn.
awk 'NF == 1 { name = $1; next } !/^ / && !/idling/ { all[name] += $NF }
    END { printf "in all, without the scheduler, timers and idling: ringway %d, bare %d, bare / ringway %.2f\n", all["ringway"], all["bare"], all["bare"] / all["ringway"] }' "$work/parts"
