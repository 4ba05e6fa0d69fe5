#!/usr/bin/env bash
# Floods of forged packets beside established traffic, and prints a part of RESULTS.md: a TCP transfer of iperf3 and a paced UDP
# stream through a VIP, in turns without a flood, with a flood to the VIP or the node, and with the same flood to an address
# that is nobody's, which the steering program leaves to the kernel: sender and kernel cost the same there, on a machine
# whose CPUs all of them share.
#
# Usage (root): perf/floods.sh     after: cargo build --release -p ringway-perf -p ringway-control --bins
# RATES ("100000"), ROUNDS (3), SECONDS_EACH (4) and KINDS make it shorter or longer. RINGWAY_BIN and PERF_BIN name other binaries.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}/release"
perf="${PERF_BIN:-$target/ringway-perf}"
ringway="${RINGWAY_BIN:-$target/ringway}"
rates="${RATES:-100000}"
rounds="${ROUNDS:-3}"
seconds="${SECONDS_EACH:-4}"
# KIND:TO, where TO is vip, vip6, node or node6.
kinds="${KINDS:-later-fragment:vip later-fragment:node first-fragment:vip error:vip error:node error-outside-window:vip syn:vip long-chain:vip6 later-fragment:vip6 error:node6 ping:vip}"
for tool in iperf3 ip chrt "$perf" "$ringway"; do
    command -v "$tool" >/dev/null || { echo "there is no $tool" >&2; exit 2; }
done
[[ "$(id -u)" == 0 ]] || { echo 'root is needed, for network namespaces' >&2; exit 2; }

id="floods$$"
client="$id-client" gateway="$id-gateway" backend="$id-backend"
work="$(mktemp -d)"
# What is ended in the end: started without a function, whose shell would be what has the number.
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for namespace in "$client" "$gateway" "$backend"; do ip netns del "$namespace" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
in_client() { ip netns exec "$client" "$@"; }
in_gateway() { ip netns exec "$gateway" "$@"; }
in_backend() { ip netns exec "$backend" "$@"; }
median() { sort -g | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
number() { grep -o "\"$1\":[[:space:]]*-\{0,1\}[0-9.e+-]*" | sed -n "${2:-1}p" | sed 's/.*:[[:space:]]*//'; }

front_mac=02:00:00:00:01:02
vip=192.0.2.10 vip6=2001:db8:a::10 node=192.168.0.2 node6=fd00:168::2
nobody=192.168.0.3 nobody6=fd00:168::3
for namespace in "$client" "$gateway" "$backend"; do
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
done
ip link add front netns "$gateway" address "$front_mac" type veth peer name eth0 netns "$client" address 02:00:00:00:01:01
ip link add back netns "$gateway" address 02:00:00:00:02:01 type veth peer name eth0 netns "$backend" address 02:00:00:00:02:02
for link in "$client eth0 192.168.0.1/24 fd00:168::1/64" "$gateway front $node/24 $node6/64" \
    "$gateway back 10.180.0.1/24 fd00:180::1/64" "$backend eth0 10.180.0.11/24 fd00:180::11/64"; do
    read -r namespace name v4 v6 <<<"$link"
    ip -n "$namespace" address add "$v4" dev "$name"
    ip -n "$namespace" address add "$v6" dev "$name" nodad
    ip -n "$namespace" link set "$name" up
done
# Who is nobody has a MAC address that is the gateway's, and the gateway forwards nothing: its kernel drops what it gets.
in_gateway sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.front.rp_filter=0
ip -n "$client" route add default via "$node"
ip -n "$client" -6 route add default via "$node6"
# Where forged sources are.
ip -n "$gateway" route add 100.64.0.0/10 via 192.168.0.1
ip -n "$gateway" -6 route add fd00:64::/32 via fd00:168::1
# What is answered to them ends at the client, in silence.
in_client sysctl -qw net.ipv4.ip_forward=0
mkdir "$work/objects"
cat >"$work/ringway.yaml" <<YAML
nodeName: gw-1
source: {files: $work/objects}
node: {addresses: ["$node", "$node6"]}
interfaces: [{name: front, xdp: native}, {name: back, xdp: native}]
workers: {cpus: [1]}
state: $work/state
admin: {socket: $work/admin.sock}
YAML
service() { # FAMILY CLUSTER-IP VIP
    cat <<JSON
{"apiVersion":"v1","kind":"Service","metadata":{"name":"iperf-$1","namespace":"perf"},"spec":{"type":"LoadBalancer",
 "clusterIP":"$2","clusterIPs":["$2"],"ipFamilies":["$1"],"ports":[
 {"name":"tcp","protocol":"TCP","port":5201,"targetPort":5201,"nodePort":30001},
 {"name":"control","protocol":"TCP","port":5202,"targetPort":5202,"nodePort":30002},
 {"name":"spare","protocol":"UDP","port":5201,"targetPort":5201,"nodePort":30001},
 {"name":"udp","protocol":"UDP","port":5202,"targetPort":5202,"nodePort":30002}]},
 "status":{"loadBalancer":{"ingress":[{"ip":"$3"}]}}}
JSON
}
slice() { # FAMILY ADDRESS
    cat <<JSON
{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"$1","metadata":{"name":"iperf-$1-1","namespace":"perf",
 "labels":{"kubernetes.io/service-name":"iperf-$1"}},"endpoints":[{"addresses":["$2"],"conditions":{"ready":true,"serving":true,"terminating":false}}],
 "ports":[{"name":"tcp","protocol":"TCP","port":5201},{"name":"control","protocol":"TCP","port":5202},
 {"name":"spare","protocol":"UDP","port":5201},{"name":"udp","protocol":"UDP","port":5202}]}
JSON
}
{
    echo '{"apiVersion":"v1","kind":"List","items":['
    service IPv4 172.30.0.10 "$vip"; echo ,; service IPv6 fd00:172:30::10 "$vip6"; echo ,
    slice IPv4 10.180.0.11; echo ,; slice IPv6 fd00:180::11
    echo ']}'
} >"$work/objects/iperf.json"
for port in 5201 5202; do
    ip netns exec "$backend" iperf3 -s -p "$port" >"$work/server$port" 2>&1 &
    pids+=($!)
done
# As docs/tuning.md has it where something else wants the CPUs.
ip netns exec "$gateway" chrt -f 10 "$ringway" run --config "$work/ringway.yaml" >"$work/log" 2>&1 &
pids+=($!)
in_gateway "$ringway" status --socket "$work/admin.sock" --wait=30 >"$work/status" 2>&1 || { cat "$work/log" "$work/status" >&2; exit 1; }
# What was dropped or answered by name, one a line.
drops() { in_gateway "$ringway" drops --socket "$work/admin.sock" | awk '$1 ~ /^[0-9]+$/ && $2 ~ /_/ { print $2, $1 }' | sort; }

# aim KIND TO CLIENT-PORT: the options of `ringway-perf flood`.
aim() {
    local kind="$1" from=100.64.0.0 address port=5201
    [[ "$2" != *6 ]] || from=fd00:64::
    case "$2" in
        vip) address="$vip" ;;
        node) address="$node" port=30001 ;;
        nobody) address="$nobody" ;;
        vip6) address="[$vip6]" ;;
        node6) address="[$node6]" port=30001 ;;
        nobody6) address="[$nobody6]" ;;
        *) echo "to $2: allowed are vip, node, vip6, node6" >&2; exit 2 ;;
    esac
    echo "--kind $kind --from $from --to $address:$port"
    # About the transfer's own connection, so that the flow is known.
    [[ "$kind" != error-outside-window ]] || echo "--about 192.168.0.1:$3"
}
runs=0
# run KIND TO RATE: what of TCP arrived beside that flood, in Mbit/s, and what of UDP was lost, in percent.
run() {
    local flood='' udp client_port
    runs=$((runs + 1))
    client_port=$((20000 + runs % 20000))
    if [[ "$1" != none ]]; then
        # shellcheck disable=SC2046 # options
        ip netns exec "$client" "$perf" flood --interface eth0 --next-hop "$front_mac" $(aim "$1" "$2" "$client_port") --rate "$3" \
            --seconds $((seconds + 2)) >"$work/flood" 2>&1 &
        flood=$!
        sleep 0.7
    fi
    in_client iperf3 -c "$vip" -u -b 10M -l 1200 -t "$seconds" -p 5202 --json >"$work/udp" 2>&1 &
    udp=$!
    in_client iperf3 -c "$vip" -t "$seconds" -p 5201 --cport "$client_port" --json >"$work/tcp" 2>&1 || true
    wait "$udp" || true
    [[ -z "$flood" ]] || wait "$flood" || { cat "$work/flood" >&2; exit 1; }
    local arrived lost
    arrived="$(sed -n '/"sum_received"/,/}/p' "$work/tcp" | number bits_per_second)"
    lost="$(sed -n '/"sum"/,/}/p' "$work/udp" | number lost_percent)"
    [[ -n "$arrived" && -n "$lost" ]] || { cat "$work/tcp" "$work/udp" >&2; exit 1; }
    awk -v a="$arrived" -v l="$lost" 'BEGIN { printf "%.0f %.2f\n", a / 1000000, l }'
}
column() { awk -v n="$1" '{ print $n }' "$2" | median; }

run none - 0 >/dev/null
cat <<TEXT
## Floods beside established traffic

\`perf/floods.sh\`, commit \`$(git rev-parse --short HEAD)\`, $(date -u +%Y-%m-%dT%H:%MZ), $(nproc) CPUs, load average before:
$(cut -d' ' -f1-3 /proc/loadavg). Client, gateway and backend in namespaces on veth, native XDP, one worker on CPU 1 at real-time priority; sender, iperf3 and
kernel are wherever the scheduler has them. Medians of $rounds rounds of $seconds s, each without a flood, with the flood to an address that is nobody's,
and with the flood. TCP by iperf3 in Mbit/s; in brackets what was lost, in percent, of a UDP stream of 10 Mbit/s at the same time.

| forged | to | packets a second, wanted / sent | without | to nobody | flood | flood ÷ nobody | what became of it |
|---|---|---|---|---|---|---|---|
TEXT
for what in $kinds; do
    kind="${what%%:*}" to="${what##*:}"
    nobody_of=nobody
    [[ "$to" != *6 ]] || nobody_of=nobody6
    for rate in $rates; do
        for which in without nobody flood; do : >"$work/$which"; done
        : >"$work/sent"
        drops >"$work/before"
        for _ in $(seq "$rounds"); do
            run none - 0 >>"$work/without"
            # The same packets, but of no flow of ours and to nobody.
            run "${kind/error-outside-window/error}" "$nobody_of" "$rate" >>"$work/nobody"
            run "$kind" "$to" "$rate" >>"$work/flood-runs"
            number perSecond <"$work/flood" >>"$work/sent"
        done
        mv "$work/flood-runs" "$work/floods"
        drops >"$work/after"
        became="$(join -a 2 -e 0 -o 0,1.2,2.2 "$work/before" "$work/after" |
            awk '$3 > $2 { printf "%s`%s` %d", sep, $1, $3 - $2; sep = ", " }')"
        without="$(column 1 "$work/without")" nobody_s="$(column 1 "$work/nobody")" flood_s="$(column 1 "$work/floods")"
        awk -v kind="$kind" -v to="$to" -v rate="$rate" -v sent="$(median <"$work/sent")" -v w="$without" -v n="$nobody_s" -v f="$flood_s" \
            -v lw="$(column 2 "$work/without")" -v ln="$(column 2 "$work/nobody")" -v lf="$(column 2 "$work/floods")" -v became="${became:-passed or forwarded}" \
            'BEGIN { printf "| %s | %s | %d / %d | %d (%.2f) | %d (%.2f) | %d (%.2f) | %.2f | %s |\n", kind, to, rate, sent, w, lw, n, ln, f, lf, f / n, became }'
    done
done
