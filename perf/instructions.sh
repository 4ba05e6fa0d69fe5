#!/usr/bin/env bash
# Counts the instructions that packets cost in memory, by callgrind: `process()` and `dispatch()`, without I/O; and all that a
# packet costs from ring to ring, without kernel, as the bare forwarder's too. Unlike times, the
# counts hardly depend on what else the machine does. One line each: what, count, limit. Ends with 1 when a count is above its
# limit: what the packet path cost when the limit was set, and 2 % more.
# Usage: perf/instructions.sh     after: cargo build --release -p ringway-perf --bins
# STAGES=1 counts the stages of a packet, too.
set -euo pipefail
cd "$(dirname "$0")/.."
perf="${CARGO_TARGET_DIR:-$PWD/target}/release/ringway-perf"
[[ -x "$perf" ]] || { echo "there is no $perf: run cargo build --release -p ringway-perf --bins" >&2; exit 2; }
command -v valgrind >/dev/null || { echo 'valgrind is not there: apt-get install valgrind' >&2; exit 2; }
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# of FUNCTION ARGUMENT ...: what one function takes that calls the others, and is never inlined. The build decides whether they are,
# and one that is a part of another function is not found by its name.
of() {
    valgrind --tool=callgrind --callgrind-out-file="$work/out" --collect-atstart=no --toggle-collect="*$1" \
        "$perf" "${@:2}" >/dev/null 2>"$work/log" || { cat "$work/log" >&2; exit 2; }
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$work/log"
}
# count KIND FLOWS PACKETS
count() { of 'MemoryBed*carry*' cost --kind "$1" --flows "$2" --packets "$3"; }
status=0
# row WHAT LESS MORE UNITS LIMIT: the difference of two runs, so that all else they do does not count.
row() {
    local each
    each="$(awk -v a="$2" -v b="$3" -v n="$4" 'BEGIN { printf "%.0f", (b - a) / n }')"
    # Nothing at all means that the function was not found.
    [[ "$each" -gt 0 ]] || { echo "$1: nothing was counted" >&2; exit 2; }
    echo "$1 $each $5"
    [[ "$each" -le "$5" ]] || { echo "$1 takes $each instructions, and $5 are allowed" >&2; status=1; }
}
# `cost` sends a tenth more first, to warm up.
row udp4-packet "$(count udp4 1000 20000)" "$(count udp4 1000 60000)" 44000 529
row tcp4-packet "$(count tcp4 1000 20000)" "$(count tcp4 1000 60000)" 44000 566
row udp6-packet "$(count udp6 1000 20000)" "$(count udp6 1000 60000)" 44000 643
row tcp6-packet "$(count tcp6 1000 20000)" "$(count tcp6 1000 60000)" 44000 649
# The stages of one, as `Pipeline::process` has them; what is left is `dispatch()`, and has no number here.
if [[ -n "${STAGES-}" ]]; then
    for kind in udp4 tcp4 udp6 tcp6; do
        for stage in stage::read stage::preload Core::handle_all; do
            less="$(of "$stage" cost --kind $kind --flows 1000 --packets 20000)"
            more="$(of "$stage" cost --kind $kind --flows 1000 --packets 60000)"
            row "$kind-${stage##*:}" "$less" "$more" 44000 400
        done
    done
fi
# It opens each flow three times; TCP the third time with its whole handshake.
row udp4-three-openings "$(count udp4 10000 1000)" "$(count udp4 30000 1000)" 20000 7244
row tcp4-three-openings "$(count tcp4 10000 1000)" "$(count tcp4 30000 1000)" 20000 11281
row udp4-from-ring-to-ring "$(of 'turn_by_rings*' rings --packets 6400)" "$(of 'turn_by_rings*' rings --packets 25600)" 19200 739
row udp4-bare-from-ring-to-ring "$(of 'turn_of_bare*' rings --bare --packets 6400)" "$(of 'turn_of_bare*' rings --bare --packets 25600)" 19200 218
# UDP over IPv4 in two fragments each, in order.
row udp4-fragment "$(of 'MemoryBed*carry*' fragments --packets 20480)" "$(of 'MemoryBed*carry*' fragments --packets 61440)" 40960 2094
# From one worker's memory to another's, both on one CPU.
row handover "$(of '*handed_over*' handover --packets 6400)" "$(of '*handed_over*' handover --packets 25600)" 19200 329
# What comes before that: a UDP reply to a port of another worker, up to the mesh.
row udp4-reply-of-another "$(of 'MemoryBed*carry*' handover --replies --packets 6400)" "$(of 'MemoryBed*carry*' handover --replies --packets 25600)" 19200 877
# Forged packets, beside a thousand flows.
# forged WHAT LIMIT OPTION ...
forged() {
    row "forged-$1" "$(of 'carry_forged*' forged --packets 12800 "${@:3}")" "$(of 'carry_forged*' forged --packets 38400 "${@:3}")" 25600 "$2"
}
forged error-to-vip 1258 --kind error
forged error-to-node 1472 --kind error --to-node
forged error-outside-window 1245 --kind error-outside-window
forged later-fragment 2280 --kind later-fragment
forged ping 1050 --kind ping
exit $status
