#!/usr/bin/env bash
# Measures Ringway and writes RESULTS.md beside this file; `make bench` calls it after building. Takes some minutes.
#
# PACKETS (2000000) and SECONDS_EACH (3) make it shorter or longer; CRITERION=no leaves that part out, and RESULTS.md says so.
# RESULTS writes elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
perf="$target/release/ringway-perf"
as_root="$PWD/tests/scripts/as-root.sh"
packets="${PACKETS:-2000000}"
seconds="${SECONDS_EACH:-3}"
results="${RESULTS:-perf/RESULTS.md}"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

say() { printf '== %s\n' "$*" >&2; }
# field KEY: the number of that key in the JSON on stdin.
field() { grep -o "\"$1\":-\{0,1\}[0-9.e+-]*" | sed -n 1p | cut -d: -f2; }
round() { awk -v v="$1" -v d="${2:-1}" 'BEGIN { printf "%.*f", d, v }'; }
# verdict VALUE LIMIT: lower is better.
verdict() { awk -v v="$1" -v l="$2" 'BEGIN { print (v <= l) ? "met" : "**missed**" }'; }
# The bare forwarder does strictly less, so a ratio well above 1 says that the machine was too busy to tell.
at_least() { awk -v v="$1" -v l="$2" 'BEGIN { print (v > 1.05) ? "**inconclusive**: above 1 is noise" : (v >= l) ? "met" : "**missed**" }'; }

[[ -x "$perf" && -x "$target/release/ringway" && -x "$target/release/ringway-cluster-cost" ]] ||
    cargo build --release --workspace --bins
# shellcheck source=perf/control.sh
source perf/control.sh
load_before="$(cut -d' ' -f1-3 /proc/loadavg)"

say 'instructions (callgrind)'
# What is above its limit is a missed target, and the rest is measured all the same.
perf/instructions.sh >"$work/instructions" || true
instruction_targets() {
    local what count limit
    [[ -s "$work/instructions" ]] || echo '| instructions | not measured | | **missed** |'
    while read -r what count limit; do
        echo "| instructions: ${what//-/ } | $count | ≤ $limit | $(verdict "$count" "$limit") |"
    done <"$work/instructions"
}

say 'packet cost in memory (the best of five runs, and all of them)'
best() { sort -g | sed -n 1p; }
for flows in 1000 65536 1000000; do
    for _ in 1 2 3 4 5; do "$perf" cost --flows "$flows" --packets "$packets"; done >"$work/cost.$flows"
done
for kind in tcp4 udp6 tcp6; do
    for _ in 1 2 3 4 5; do "$perf" cost --kind "$kind" --flows 1000 --packets "$packets"; done >"$work/cost.$kind"
done
for what in fragments handover; do
    for _ in 1 2 3 4 5; do "$perf" "$what"; done >"$work/cost.$what"
done
each() { while read -r line; do field "$1" <<<"$line"; done <"$work/cost.$2"; }
established_1k="$(each establishedNanos 1000 | best)"
established_64k="$(each establishedNanos 65536 | best)"
established_1m="$(each establishedNanos 1000000 | best)"
new_1k="$(each newFlowNanos 1000 | best)"
new_1m="$(each newFlowNanos 1000000 | best)"
fragment="$(each fragmentNanos fragments | best)"
handover="$(each handoverNanos handover | best)"
bytes_1m="$(each flowTableBytes 1000000 | sed -n 1p)"
# What a new flow costs more when its port is chosen by the queue of its replies, among 2, 4 and 8 workers.
for workers in 2 4 8; do
    for by in '' --by-queue; do
        for _ in 1 2 3 4 5; do "$perf" cost --workers "$workers" $by --flows 8192 --backends 50 --packets 64; done >"$work/cost.workers$workers$by"
    done
done
port_targets() {
    local workers any chosen more
    for workers in 2 4 8; do
        any="$(each newFlowNanos "workers$workers" | best)"
        chosen="$(each newFlowNanos "workers$workers--by-queue" | best)"
        more="$(awk -v a="$any" -v c="$chosen" 'BEGIN { print c - a }')"
        echo "| new flow, its port by queue among $workers workers, more than any port ($(round "$any") ns) | $(round "$more") ns | ≤ 100 ns | $(verdict "$more" 100) |"
    done
}
all() { each "$1" "$2" | awk '{ printf "%s%.1f", sep, $1; sep = ", " }'; }

say 'criterion'
: >"$work/criterion"
[[ "${CRITERION:-yes}" == no ]] ||
    cargo bench -p ringway-perf -- --warm-up-time 0.5 --measurement-time 1 --sample-size 15 --noplot >"$work/criterion" 2>"$work/criterion.log" ||
    { cat "$work/criterion.log" >&2; exit 1; }
# Lines after `change:` compare with an earlier run.
awk '/time: / && $1 != "change:" && last != "change:" { if ($1 == "time:") name = last; else name = $1; match($0, /\[.*\]/); split(substr($0, RSTART + 1, RLENGTH - 2), t, " "); printf "| %s | %s %s | %s %s – %s %s |\n", name, t[3], t[4], t[1], t[2], t[5], t[6] } { last = $1 }' \
    "$work/criterion" >"$work/table"
maglev="$(awk -F'|' '/maglev_build\/1000x65537/ { print $3 }' "$work/table" | awk '{ print ($2 == "ms") ? $1 : ($2 == "s") ? $1 * 1000 : $1 / 1000 }')"

say 'forwarding on veth: the bare forwarder and ringway run take turns'
bed() { "$as_root" "$perf" bed --seconds "$seconds" --rounds "$1" --by "$2" 2>"$work/bed.log" || sed -n 1p "$work/bed.log"; }
bed="$(bed 5 auto)"
# By the other generator too, where there are both.
other=''
[[ "$bed" != *'"by":"live-frames"'* ]] || other="$(bed 3 af-xdp)"
section() { grep -o "\"$1\":{.*" <<<"$bed" | sed -n 1p; }
list() { section "$1" | grep -o "\"$2\":\[[^]]*\]" | sed -n 1p | sed 's/.*\[//; s/\]//' | tr ',' '\n' | awk -v s="$3" '{ printf "%s%.2f", sep, $1 / s; sep = ", " }'; }
# What $bed says, as a table.
forwarding() {
    local system latency ratios
    echo '| | offered, Mpps | arrived, Mpps | loss, % | latency p50 / p99 / p99.9, µs |'
    echo '|---|---|---|---|---|'
    for system in bare ringway; do
        latency="$(section "$system")"
        echo "| $system | $(list "$system" offeredPerSecond 1000000) | $(list "$system" arrivedPerSecond 1000000) | $(list "$system" lossPercent 1) | $(round "$(field p50 <<<"$latency")") / $(round "$(field p99 <<<"$latency")") / $(round "$(field p999 <<<"$latency")") |"
    done
    ratios="$(paste <(list ringway arrivedPerSecond 1 | tr ',' '\n') <(list bare arrivedPerSecond 1 | tr ',' '\n') |
        awk '{ printf "%s%.2f", sep, $1 / $2; sep = ", " }')"
    printf '\nRingway ÷ bare, round by round: %s.\n' "$ratios"
}

measure_control

# How the load was made, and why not by live frames.
generator() {
    local by because
    by="$(section bare | grep -o '"by":"[^"]*"' | sed -n 1p | cut -d'"' -f4)"
    because="$(section bare | grep -o '"because":"[^"]*"' | sed -n 1p | cut -d'"' -f4)"
    case "$by" in
        live-frames) echo 'BPF_PROG_RUN with live frames' ;;
        af-xdp) echo "AF_XDP transmit${because:+, since $because}" ;;
        *) echo 'none' ;;
    esac
}

{
    cat <<EOF
# Results

Written by \`perf/run.sh\` (\`make bench\`). Nothing here is edited by hand: bad numbers stay.

- Commit: \`$(git rev-parse --short HEAD 2>/dev/null || echo unknown)\`$(git diff --quiet HEAD -- dataplane shared control perf/src 2>/dev/null || echo ' with changes')
- Binaries: \`ringway-perf\` of $(date -u -r "$perf" +%H:%M), \`ringway\` of $(date -u -r "$target/release/ringway" +%H:%M) (UTC); one that is older than the commit
  (of $(TZ=UTC git log -1 --date=format-local:%H:%M --format=%cd)) was built from what came before it
- Date: $(date -u +%Y-%m-%dT%H:%MZ)
- Machine: $(lscpu | sed -n 's/^Model name: *//p' | sed -n 1p), $(nproc) CPUs, $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), virtualization: $(systemd-detect-virt 2>/dev/null || echo unknown)
- Kernel: $(uname -r); transparent huge pages: $(cat /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null || echo unknown)
- $(rustc --version)
- Load average before: $load_before (on a machine with nothing else to do it is near 0; with more than that, times below
  are too high, and instruction counts and ratios are what to go by)

## Against the targets

| what | measured | target | |
|---|---|---|---|
| established flow, 1,000 flows | $(round "$established_1k") ns | ≤ 40 ns | $(verdict "$established_1k" 40) |
| established flow, 1,000,000 flows | $(round "$established_1m") ns | ≤ 100 ns | $(verdict "$established_1m" 100) |
| new flow, table of 1,024 | $(round "$new_1k") ns | ≤ 200 ns | $(verdict "$new_1k" 200) |
| fragment of a datagram in two, 1,000 flows | $(round "$fragment") ns | ≤ 400 ns | $(verdict "$fragment" 400) |
| handover to another worker, both on one CPU, 60 bytes | $(round "$handover") ns | ≤ 300 ns | $(verdict "$handover" 300) |
| Maglev 65,537 × 1,000 build | $([[ -n "$maglev" ]] && echo "$(round "$maglev" 2) ms" || echo 'not measured') | < 1.8 ms | $([[ -n "$maglev" ]] && verdict "$maglev" 1.8) |
| flow table of 1,048,576 flows | $(awk -v b="$bytes_1m" 'BEGIN { printf "%.1f", b / 1048576 }') MiB | ≤ 192 MiB | $(verdict "$bytes_1m" 201326592) |
EOF
    ratio="$(field ratio <<<"$bed" || true)"
    if [[ -n "$ratio" ]]; then
        echo "| \`ringway run\` ÷ bare AF_XDP forwarder, veth, 64-byte frames | $(round "$ratio" 2) | ≥ 0.9 | $(at_least "$ratio" 0.9) |"
    else
        echo "| \`ringway run\` ÷ bare AF_XDP forwarder, veth, 64-byte frames | not measured | ≥ 0.9 | **missed** |"
    fi
    instruction_targets
    port_targets
    control_targets
    cat <<EOF

Instructions (\`perf/instructions.sh\`): those of \`process()\` and \`dispatch()\` by callgrind, with masquerade; a packet of one of
1,000 established flows, and three openings of a flow, the third of TCP with its whole handshake.

## Packet cost in memory

\`ringway-perf cost --packets $packets\`: parse, lookup, state, rewrite, checksums, counters and dispatch, in batches of 64
packets of random flows; no I/O. A new flow also takes a Maglev lookup and a SNAT port. Five runs each; the table above has
the best, which is the one that others disturbed least.

| flows | established, ns | new flow, ns |
|---|---|---|
| 1,000 | $(all establishedNanos 1000) | $(all newFlowNanos 1000) |
| 65,536 | $(all establishedNanos 65536) | $(all newFlowNanos 65536) |
| 1,000,000 | $(all establishedNanos 1000000) | $(all newFlowNanos 1000000) |

Other protocols and families, 1,000 flows. TCP flows have had their handshake; UDP over IPv4 has no checksum, the others do.

| kind | established, ns | new flow, ns |
|---|---|---|
| udp4 | $(all establishedNanos 1000) | $(all newFlowNanos 1000) |
| tcp4 | $(all establishedNanos tcp4) | $(all newFlowNanos tcp4) |
| udp6 | $(all establishedNanos udp6) | $(all newFlowNanos udp6) |
| tcp6 | $(all establishedNanos tcp6) | $(all newFlowNanos tcp6) |

New flows at a million touch memory that no cache holds: every one of them waits for the index, the record and the port
pools.

## Forwarding over AF_XDP on veth

\`ringway-perf bed\`: client, gateway and backend in namespaces, one queue, native XDP, copy mode, 1,000 UDP flows to a
NodePort (masqueraded), 60 bytes without check sequence. The generator is pinned to CPU 0 ($(generator)),
where the kernel also carries what it sends into the gateway, and sends as fast as it can; the forwarder is pinned to CPU 1;
both forwarders take turns within one run. The generator shares its CPU with everything else on the machine, so the offered
rate varies; loss is what the forwarder, or the kernel before it, did not carry. With two CPUs the kernel's part (copy, one system call per 32 frames) outweighs either forwarder's.
Where next to nothing is lost, the generator is the bound: then the ratio says that both forwarders carry all that was
offered, and not how much more either could.

EOF
    if [[ -n "$ratio" ]]; then
        forwarding
        if [[ -n "$other" ]]; then
            printf '\nBy AF_XDP transmit, which bounds the load more:\n\n'
            (bed="$other" && forwarding)
        fi
        echo
        echo 'The table of targets has the median of the first ratios. Rounds that differ much, or a ratio above 1, mean that something else'
        echo 'used the CPUs: then this says nothing about either forwarder.'
        echo
        echo 'Latency is measured on its own, at 20,000 frames a second, from writing a frame to reading it in the backend.'
    else
        printf 'It did not run: %s\n' "$bed"
    fi
    control_section
    cat <<EOF

## Criterion

\`cargo bench -p ringway-perf\`, short runs. Estimate, and the interval of 95 % confidence.

| bench | time | interval |
|---|---|---|
EOF
    if [[ -s "$work/table" ]]; then cat "$work/table"; else echo '| left out of this run | | |'; fi
} >"$work/results"
cp "$work/results" "$results"
say "$results is written"
