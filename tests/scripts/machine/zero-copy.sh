#: modules veth tun
#: programs iperf3 ethtool socat
#: network machine
#: nics 4
#: beds virtio-1 virtio-2 igb-1 igb-2
#: seconds 400
# Zero-copy with everything that happens to it: sizes, links, ends, restarts, a stalled process, a NIC that is pulled.
. /scenarios/nics.sh
gateway
web
configure '{name: g0}, {name: g1}'

step() { echo "$(cut -d. -f1 /proc/uptime) s: $*"; }

# works WHERE [SECONDS]: traffic of all sizes by the Service, and the kernel's own by the same NICs. A link may take its time.
works() {
    for address in 198.51.100.10 '[2001:db8::10]'; do
        within "${2:-15}" http "$address" || fail "$1: HTTP by $address"
        for size in 64 960 990 1400 1452; do
            within 6 echo_of "$address" $size || fail "$1: a datagram of $size bytes by $address"
        done
    done
    within 6 echo_of 198.51.100.10 1472 || fail "$1: a datagram of 1472 bytes"
    kernel_works "$1" 6
}
kernel_works() {
    for host in 192.168.0.1 10.180.0.11 fd00:1::1 fd00:2::11; do
        for size in 64 1400; do within "$2" from_kernel $host $size || fail "$1: the kernel's ping of $size bytes to $host"; done
    done
}
closed() {
    within 5 ledger && return
    ringway status
    fail "$1: the ledger is not closed"
}

step start
start
[ "$(frames zero-copy)" = $((2 * queues)) ] || fail "not all ports are zero-copy"
step traffic
works 'after the start' 20
large 198.51.100.10 || fail 'ten megabytes'
large '[2001:db8::10]' || fail 'ten megabytes by IPv6'
closed 'after traffic'
[ $failures = 0 ] || { ringway status; ringway drops; ip -s link show g0; ip -s link show g1; }
finish
