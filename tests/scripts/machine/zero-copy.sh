#: modules veth tun
#: programs iperf3 ethtool socat
#: network machine
#: nics 4
#: beds virtio-1 virtio-2@7 igb-1@7 igb-2
#: seconds 600
# Zero-copy with everything that happens to it: sizes, links, ends, restarts, a stopped process, a NIC that is pulled. What is
# asked after each is the same: traffic by the Service and of the kernel by the same NICs, and a closed ledger.
. /scenarios/nics.sh
gateway
web

step() { echo "$(cut -d' ' -f1 /proc/uptime) s: $*"; }

# ended: says what there is to know of a failure, and is the end.
ended() {
    ringway status
    ringway drops
    for name in g0 g1; do ip -s link show $name; done
    cat /tmp/log
    exit 1
}

# works AFTER SECONDS: traffic of all sizes by the Service, and the kernel's own by the same NICs. Only the first has to wait for
# links, and for neighbours.
works() {
    within "$2" http 198.51.100.10 || fail "$1: HTTP"
    within 6 http '[2001:db8::10]' || fail "$1: HTTP by IPv6"
    for size in 64 960 990 1400 1472; do
        [ $failures = 0 ] || ended
        within 6 echo_of 198.51.100.10 $size || fail "$1: a datagram of $size bytes"
    done
    within 6 echo_of '[2001:db8::10]' 1452 || fail "$1: a datagram of 1452 bytes by IPv6"
    kernel_works "$1" 6
    within 5 ledger || fail "$1: the ledger is not closed"
    within 20 conserved || fail "$1: frames are lost: free, in ports, and all are $(memory)"
    [ "$(frames zero-copy)" = "$expected" ] || fail "$1: $(frames zero-copy) ports are zero-copy, not $expected"
    [ $failures = 0 ] || ended
}

kernel_works() {
    for host in 192.168.0.1 10.180.0.11 fd00:2::11; do
        for size in 64 1400; do
            [ $failures = 0 ] || ended
            within "$2" from_kernel $host $size || fail "$1: the kernel's ping of $size bytes to $host"
        done
    done
}

# begin: starts Ringway, again when the kernel has not yet let go of what a killed one had.
begin() {
    for attempt in 1 2 3 4 5; do
        start
        [ "$(frames zero-copy)" != "$expected" ] || return
        step "$(frames zero-copy) ports of $expected are zero-copy: once more"
        end
        sleep 1
    done
    fail "$(frames zero-copy) ports are zero-copy, not $expected"
    ended
}
end() {
    kill "$ringway"
    wait "$ringway" || {
        status=$?
        # Without hardware virtualization igb needs seconds for each queue and program that it lets go of, more than a run may
        # take over its end: the kernel does the rest.
        if [ "$driver" = igb ] && grep -q 'the end took too long' /tmp/log; then
            step 'the driver is slow to let go'
        else
            fail "ringway run ended with exit status $status"
            cat /tmp/log
        fi
    }
}

all=$((2 * queues))
expected=$all
configure '{name: g0}, {name: g1}'
step 'start'
begin
works 'after the start' 20
step 'ten megabytes'
large 198.51.100.10 || fail 'ten megabytes'
large '[2001:db8::10]' || fail 'ten megabytes by IPv6'

step 'links, idle'
ip link set g0 down
ip link set g0 up
works "after the client's side was down" 20
ip -n client link set c0 down
ip -n client link set c0 up
ways
works "after the client's own link was down" 20
cable 3 off
within 10 grep -q 0 /sys/class/net/g1/carrier || fail 'the cable is not pulled'
cable 3 on
works "after the endpoint's cable was pulled" 20

step 'links, under traffic'
traffic 198.51.100.10
ip link set g1 down
ip link set g1 up
within 20 http 198.51.100.10 || fail "no HTTP beside traffic after the endpoint's side was down"
cable 1 off
within 10 grep -q 0 /sys/class/net/g0/carrier || fail 'the cable is not pulled'
cable 1 on
within 20 http 198.51.100.10 || fail "no HTTP beside traffic after the client's cable was pulled"

step 'stopped for 4 s, under traffic'
kill -STOP "$ringway"
sleep 4
kill -CONT "$ringway"
within 20 http 198.51.100.10 || fail 'no HTTP beside traffic after a stop'
calm
works 'after a stop under traffic' 20

step 'unplugged, under traffic'
traffic 198.51.100.10
device=$(readlink -f /sys/class/net/g1/device)
case $device in */virtio*) device=$(dirname "$device") ;; esac
echo 1 >"$device/remove"
within 10 ledger || fail 'the ledger is not closed without the NIC'
alone() { [ "$(frames zero-copy)" = "$queues" ]; }
within 10 alone || fail "$(frames zero-copy) ports are zero-copy without the NIC"
from_kernel 192.168.0.1 1400 || fail "the kernel's ping by the NIC that stays"
calm
echo 1 >/sys/bus/pci/rescan
nic 3 g1
address g1 10.180.0.1 fd00:2::1
works 'after the NIC was plugged in again' 30

step 'ended, under traffic'
traffic 198.51.100.10
end
calm
kernel_works 'after the end' 15
step 'started again'
begin
works 'after another start' 20

step 'killed, under traffic'
traffic 198.51.100.10
kill -9 "$ringway"
wait "$ringway"
calm
kernel_works 'after a kill' 15
step 'started again'
begin
works 'after a start that follows a kill' 20
end

step 'poll: busy'
# One worker, so that a CPU is left for all else.
configure '{name: g0}, {name: g1}' 'workers: {poll: busy, cpus: [1]}'
begin
works 'while workers never sleep' 20
end

step 'one NIC of the two'
expected=$queues
configure '{name: g0}, {name: g1, zeroCopy: "off"}'
begin
works 'with one NIC in copy mode' 20
large 198.51.100.10 || fail 'ten megabytes from one to the other'
step 'end'
finish
