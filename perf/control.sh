# The control plane's part of run.sh, which sources this: what changes of a large cluster cost.
#
# CONTROL_PLANE says where etcd and kube-apiserver are (default: where tests/control-plane/build.sh puts them).
cluster_cost="$target/release/ringway-cluster-cost"
control_plane="${CONTROL_PLANE:-$target/control-plane/bin}"

measure_control() {
    say 'changes of 10,000 Services in memory (about two minutes)'
    control="$("$as_root" "$perf" control 2>"$work/control.log")" || control="$(cat "$work/control.log")"
    say '44,000 Services in memory'
    control_large="$("$as_root" "$perf" control --services 44000 --endpoints 5 --cold 3 --changes 300 --storm-seconds 0 --forward-rounds 0 2>"$work/control.log")" ||
        control_large="$(cat "$work/control.log")"
    say 'the ways to 10,000 endpoints'
    ways="$("$as_root" "$perf" ways 2>"$work/ways.log")" || ways="$(cat "$work/ways.log")"
    cluster='' cluster_large=''
    if [[ -x "$control_plane/kube-apiserver" && -x "$control_plane/etcd" ]]; then
        say '10,000 and 44,000 Services of a real API server (about a minute)'
        cluster="$(real_cluster 10000 10)"
        cluster_large="$(real_cluster 44000 5)"
    else
        say "NOT MEASURED WITH A REAL API SERVER: $control_plane has no kube-apiserver; tests/control-plane/build.sh builds it"
    fi
}

# real_cluster SERVICES ENDPOINTS: what ringway-cluster-cost measures, or why it did not.
real_cluster() {
    "$as_root" env RINGWAY_CONTROL_PLANE="$control_plane" RINGWAY_BIN="$target/release/ringway" "$cluster_cost" "$@" 2>"$work/cluster.log" ||
        echo "it failed: $(tail -n 3 "$work/cluster.log" | tr '\n' ' ')"
}

# within OBJECT KEY: the JSON on stdin from KEY's own object on.
within() { grep -o "\"$1\":{.*" | sed -n 1p; }
# numbers KEY DIGITS: that list of the JSON on stdin.
numbers() { grep -o "\"$1\":\[[^]]*\]" | sed -n 1p | sed 's/.*\[//; s/\]//' | tr ',' '\n' | awk -v d="$2" '{ printf "%s%.*f", sep, d, $1; sep = ", " }'; }
middle() { tr -d ' ' | tr ',' '\n' | sort -g | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'; }
least() { tr -d ' ' | tr ',' '\n' | sort -g | sed -n 1p; }

# row WHAT VALUE DIGITS UNIT LIMIT: one row of the table of targets, where lower is better.
row() {
    if [[ -n "$2" ]]; then
        echo "| $1 | $(round "$2" "$3") $4 | ≤ $5 $4 | $(verdict "$2" "$5") |"
    else
        echo "| $1 | not measured | ≤ $5 $4 | **missed** |"
    fi
}

control_targets() {
    local change storm forwarding ratio
    change="$(within oneChange <<<"$control" || true)"
    storm="$(within storm <<<"$control" || true)"
    forwarding="$(within forwarding <<<"$control" || true)"
    row '10,000 × 10: compile, cold' "$(numbers compileColdMillis 3 <<<"$control" | least)" 0 ms 200
    row '10,000 × 10: objects in memory to all workers' "$(field firstInForceMillis <<<"$control")" 0 ms 1000
    row '44,000 × 5: objects in memory to all workers' "$(field firstInForceMillis <<<"$control_large")" 0 ms 4000
    row 'one change: to all workers, p99' "$(field p99 <<<"$change")" 2 ms 10
    row 'one change: CPU time' "$(field cpuMicrosEach <<<"$change")" 0 µs 1000
    row '1,000 changes a second: to all workers, p99' "$(field p99 <<<"$storm")" 1 ms 100
    row '1,000 changes a second: Services without their endpoints afterwards' "$(field lost <<<"$storm")" 0 '' 0
    row '1,000 changes a second: packets to a wrong endpoint' "$(field wrong <<<"$forwarding")" 0 '' 0
    ratio="$(field ratio <<<"$forwarding" || true)"
    echo "| 1,000 changes a second: forwarding rate ÷ undisturbed | ${ratio:+$(round "$ratio" 3)} | ≥ 0.95 | $([[ -n "$ratio" ]] && at_least "$ratio" 0.95 || echo '**missed**') |"
    row '10,000 endpoints behind 500 next hops: all ways known, from nothing' "$(numbers knownMillis 3 <<<"$ways" | middle)" 0 ms 1000
    row '10,000 endpoints behind 500 next hops: all ways known, after a policy rule' "$(numbers afterRuleMillis 3 <<<"$ways" | middle)" 0 ms 1000
    if [[ -n "$cluster" ]]; then
        row 'real API server, 10,000 × 10: lists to all workers' "$(field listedToInForceMillis <<<"$cluster")" 0 ms 1000
        row 'real API server, 44,000 × 5: lists to all workers' "$(field listedToInForceMillis <<<"$cluster_large")" 0 ms 4000
        row 'real API server: event to all workers, p99' "$(field p99 <<<"$cluster")" 2 ms 10
        row 'real API server: CPU time of one change' "$(field cpuMicrosEach <<<"$cluster")" 0 µs 1000
        row 'real API server: memory of `ringway run`' "$(field residentMiBAtTheEnd <<<"$cluster")" 0 MiB 300
        row 'real API server: CPU of `ringway run` without traffic' "$(field idleCpuShare <<<"$cluster" | awk '{ print $1 * 100 }')" 2 % 2
    else
        echo '| real API server | not measured | | |'
    fi
}

control_section() {
    local change storm forwarding json
    change="$(within oneChange <<<"$control" || true)"
    storm="$(within storm <<<"$control" || true)"
    forwarding="$(within forwarding <<<"$control" || true)"
    cat <<EOF

## Control plane

\`ringway-perf control\`: objects in memory, two workers without ports, the steering program: $(grep -o '"steering":"[^"]*"' <<<"$control" | cut -d'"' -f4).

EOF
    if [[ "$control" != {* ]]; then
        printf 'It did not run: %s\n' "$control"
        return
    fi
    cat <<EOF
| | 10,000 × 10 | 44,000 × 5 |
|---|---|---|
| compile, cold, ms | $(numbers compileColdMillis 0 <<<"$control") | $(numbers compileColdMillis 0 <<<"$control_large") |
| compile after one change, µs | $(round "$(field compileOneChangeMicros <<<"$control")" 0) | $(round "$(field compileOneChangeMicros <<<"$control_large")" 0) |
| first snapshot in use by all workers, ms | $(round "$(field firstInForceMillis <<<"$control")" 0) | $(round "$(field firstInForceMillis <<<"$control_large")" 0) |
| memory, objects and snapshots, MiB | $(round "$(field residentMiB <<<"$control")" 0) | $(round "$(field residentMiB <<<"$control_large")" 0) |
| one change to all workers, p50 / p99 / max, ms | $(delays <<<"$change") | $(within oneChange <<<"$control_large" | delays) |
| CPU time of one change, µs | $(round "$(field cpuMicrosEach <<<"$change")" 0) | $(round "$(within oneChange <<<"$control_large" | field cpuMicrosEach)" 0) |

The change after the first snapshot is the slowest: publishing pauses up to 50 ms after a round that took long. CPU time is that
of all threads but the workers', the one that makes the changes included.

A storm of $(field changes <<<"$storm") changes in $(round "$(field seconds <<<"$storm")" 0) s: $(field snapshots <<<"$storm") snapshots; a change is in use by all workers after $(delays <<<"$storm") ms
(p50 / p99 / max); $(round "$(field cpuShare <<<"$storm")" 2) of a CPU; memory after a sixth, at its peak and at the end: $(round "$(field residentMiBAfterASixth <<<"$storm")" 0), $(round "$(field residentMiBPeak <<<"$storm")" 0) and $(round "$(field residentMiBAtTheEnd <<<"$storm")" 0) MiB.

Forwarding $(field flows <<<"$forwarding") flows over these Services, in memory on a CPU of its own, without and with such a storm, in turns of half
a second: $(round "$(field quietMedianNanos <<<"$forwarding")" 1) ns a packet without, $(round "$(field stormMedianNanos <<<"$forwarding")" 1) ns with (medians); the table of targets has the median of the
ratios turn by turn, from lowest to highest $(numbers ratios 2 <<<"$forwarding" | tr -d ' ' | tr ',' '\n' | sort -g | paste -sd ' '). Of $(field packets <<<"$forwarding") packets $(field checked <<<"$forwarding") were compared with the
snapshot that they were processed with, and $(field wrong <<<"$forwarding") went to an endpoint that their Service did not have, or nowhere.

EOF
    if [[ "$ways" == {* ]]; then
        cat <<EOF
\`ringway-perf ways\`: 10,000 endpoints behind 500 next hops, in namespaces; from nothing until each has a route, a source address
and the MAC address of its next hop: $(numbers knownMillis 0 <<<"$ways") ms. The same after a policy rule that gives all of them other sources, so
that the kernel is asked: $(numbers afterRuleMillis 0 <<<"$ways") ms. \`ip -batch\` with as many \`route get\`, in turns: $(numbers ipRouteGetMillis 0 <<<"$ways") ms;
the slower of the two ÷ that: $(numbers ratios 2 <<<"$ways").

EOF
    else
        printf 'The ways to endpoints were not measured: %s\n\n' "$ways"
    fi
    if [[ -z "$cluster" ]]; then
        echo 'With a real API server: not measured, since its programs were not built (`tests/control-plane/build.sh`).'
        return
    fi
    cat <<EOF
With a real API server (etcd and kube-apiserver on the same two CPUs; the objects were written into etcd before kube-apiserver
started, changes were made through it), \`ringway run\` with $(field workers <<<"$cluster$cluster_large") workers, times by its own log:

| | 10,000 × 10 | 44,000 × 5 |
|---|---|---|
| from the start of etcd until kube-apiserver served all of it, s | $(both fillSeconds 0) |
| from the start of Ringway to the last list, ms | $(both startToListedMillis 0) |
| from the last list to all workers, ms | $(both listedToInForceMillis 0) |
| from the event of one change to all workers, p50 / p99 / max of $(field changes <<<"$cluster$cluster_large"), ms | $(delays <<<"$cluster") | $(delays <<<"$cluster_large") |
| CPU time of one change, JSON and log included, µs | $(both cpuMicrosEach 0) |
| memory after the first snapshot, MiB | $(both residentMiB 0) |
| memory after the changes, MiB | $(both residentMiBAtTheEnd 0) |
| CPU without traffic, adaptive polling, % | $(both idleCpuShare 2 100) |
EOF
    for json in "$cluster" "$cluster_large"; do
        [[ "$json" == {* ]] || printf '\nOne of them did not run: %s\n' "$json"
    done
}

# both KEY DIGITS [FACTOR]: that number of either cluster.
both() {
    local json value sep=''
    for json in "$cluster" "$cluster_large"; do
        value="$(field "$1" <<<"$json" || true)"
        printf '%s%s' "$sep" "$(if [[ -n "$value" ]]; then awk -v v="$value" -v f="${3:-1}" -v d="$2" 'BEGIN { printf "%.*f", d, v * f }'; else echo -; fi)"
        sep=' | '
    done
}

# p50 / p99 / max of the first delays on stdin.
delays() {
    local json
    json="$(within delayMillis || true)"
    [[ -n "$json" ]] || { echo -; return; }
    echo "$(round "$(field p50 <<<"$json")" 2) / $(round "$(field p99 <<<"$json")" 2) / $(round "$(field max <<<"$json")" 2)"
}
