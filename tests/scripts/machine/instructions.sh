#: modules veth tun pktgen
#: programs ethtool socat ringway-perf
#: network machine
#: nics 4
#: seconds 600
# What perf/machine.sh counts: packets of established flows through Ringway, then through the bare forwarder. Each is stopped while
# packets arrive, so that it finds them all at once and no idle round is counted between them; and each has short and long
# turns, whose difference is the packets' alone. `mark` lines tell the counting end where a turn ends, `symbols` lines where the
# kernel's functions are.
. /scenarios/nics.sh
gateway
web
configure '{name: g0}, {name: g1}' 'workers: {cpus: [1]}' 'flows: {perWorker: 4096}'

mac=$(cat /sys/class/net/g0/address)
export mac
# offer PACKETS: from the client, whose namespace has a generator of its own, in 16 flows.
offer() {
    # shellcheck disable=SC2016
    ip netns exec client sh -c '
        generator() { echo "$2" >"/proc/net/pktgen/$1"; }
        [ -e /proc/net/pktgen/c0 ] || generator kpktgend_0 "add_device c0"
        for line in "count $0" "pkt_size 60" "dst 198.51.100.10" "dst_mac $mac" "udp_dst_min 5202" "udp_dst_max 5202" \
            "udp_src_min 10000" "udp_src_max 10015" "delay 0" "burst 1" "clone_skb 0"; do
            generator c0 "$line" || exit 1
        done
        generator pgctrl start
        grep -q "Result: OK" /proc/net/pktgen/c0' "$1" || fail "pktgen does not send"
}

# alone: CPU 1 has the interrupts of g0 and g1 and no other NIC's.
alone() {
    ours=
    for device in g0 g1; do ours="$ours $(basename "$(readlink -f "/sys/class/net/$device/device")")"; done
    grep virtio /proc/interrupts | while IFS=: read -r number rest; do
        name=${rest##* }
        case "$ours " in *" ${name%%-*} "*) cpu=1 ;; *) cpu=0 ;; esac
        echo $cpu >"/proc/irq/$(echo "$number" | tr -d ' ')/smp_affinity_list"
    done
}

# symbols NAME PATTERN: the addresses of those of the kernel's functions, and of the programs that it has now, that match.
symbols() {
    awk '$2 ~ /^[tTwW]$/ && $3 !~ /^__(pfx|cfi)_/ { print substr($1, 5), $3 $4 }' /proc/kallsyms | grep "$2" | gzip -9 | base64 -w 200 | sed "s/^/symbols $1 /"
}

# turns NAME PID SYMBOLS: ten short turns and ten long ones.
turns() {
    alone
    within 20 from_kernel 192.168.0.1 64
    offer 64
    sleep 2
    symbols "$1" "$3"
    for packets in 400 1600; do
        sleep 2
        echo "mark $1 $packets begin"
        sleep 2
        turn=0
        while [ $turn -lt 10 ]; do
            turn=$((turn + 1))
            kill -STOP "$2"
            offer $packets
            kill -CONT "$2"
            sleep 1
        done
        echo "mark $1 $packets end"
        sleep 2
    done
}
# Programs have symbols, too.
echo 1 >/proc/sys/net/core/bpf_jit_kallsyms
# A socket that nobody reads takes them, without an answer.
ip netns exec endpoint taskset 1 socat -u UDP6-RECV:5302,ipv6only=0 EXEC:'sleep 10000' &

start
# All but the worker is CPU 0's.
taskset -p 1 $$ >/dev/null
for task in "/proc/$ringway/task"/*; do
    grep -q '^worker' "$task/comm" || taskset -p 1 "${task##*/}" >/dev/null
done
[ "$(frames zero-copy)" = 2 ] || fail 'not zero-copy'
within 20 from_kernel 10.180.0.11 64
turns ringway "$ringway" .
echo "ringway: $(ringway status | grep '^packets')"
end=0
kill "$ringway"
wait "$ringway" || end=$?
[ $end = 0 ] || fail "ringway run ended with exit status $end"

b0=$(ip -n endpoint link show b0 | sed -n 's/.*ether \([^ ]*\).*/\1/p')
taskset 2 ringway-perf forward --from g0 --to g1 --address 198.51.100.10 --next-hop "$b0" --seconds 3600 >/tmp/bare 2>&1 &
bare=$!
attached() { ip link show "$1" | grep -q prog/xdp; }
within 20 attached g0 || {
    cat /tmp/bare
    echo 'the bare forwarder is not attached'
    exit 1
}
turns bare "$bare" '\['
[ -e "/proc/$bare" ] || cat /tmp/bare
kill "$bare"
exit $failures
