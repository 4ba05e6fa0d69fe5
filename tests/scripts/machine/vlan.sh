#: modules veth tun 8021q
#: programs iperf3 ethtool socat
#: network machine
#: nics 4
#: beds virtio-1 igb-2
#: seconds 600
# VLANs as servers have them: the client's VLAN and its untagged network on one NIC, the endpoints' VLAN on another; what Ringway
# is not told of passes to the kernel, tagged once or twice. A NIC that takes tags off (igb) leaves them in the frames meanwhile.
. /scenarios/nics.sh

# parsed off|on: whether g0 and g1 take tags off; true where they cannot.
parsed() {
    [ $driver = igb ] || return 0
    for name in g0 g1; do ethtool -k $name | grep -q "^rx-vlan-offload: $1\$" || return 1; done
}

nic 1 g0
nic 2 c0 client
nic 3 g1
nic 4 b0 endpoint
# vlan BELOW ID ADDRESS4 ADDRESS6 [NAMESPACE]: a VLAN device with these addresses.
vlan() {
    at=''
    [ -z "${5:-}" ] || at="-n $5"
    ip $at link add link "$1" name "$1.$2" type vlan id "$2"
    ip $at link set "$1.$2" up
    address "$1.$2" "$3" "$4" "${5:-}"
}
# The client has its default routes in VLAN 100; 192.168.1.0/24 is untagged, VLAN 200 is the kernel's alone.
address g0 192.168.1.2 fd00:11::2
address c0 192.168.1.1 fd00:11::1 client
vlan g0 100 192.168.0.2 fd00:1::2
vlan c0 100 192.168.0.1 fd00:1::1 client
vlan g0 200 192.168.2.2 fd00:12::2
vlan c0 200 192.168.2.1 fd00:12::1 client
# Two tags.
ip link add link g0.200 name g0.200.7 type vlan id 7
ip -n client link add link c0.200 name c0.200.7 type vlan id 7
ip link set g0.200.7 up
ip -n client link set c0.200.7 up
address g0.200.7 192.168.7.2 fd00:17::2
address c0.200.7 192.168.7.1 fd00:17::1 client
vlan g1 300 10.180.0.1 fd00:2::1
vlan b0 300 10.180.0.11 fd00:2::11 endpoint
ways
web

# Refused by name: two tags, service tags, and a priority that is no VLAN.
ip link add link g0 name service type vlan protocol 802.1ad id 9
ip link add link g0 name priority type vlan id 0
for refused in 'g0.200.7:QinQ' 'service:802.1ad' 'priority:number 0'; do
    configure "{name: ${refused%:*}}"
    timeout 20 ringway run --config /tmp/ringway.yaml >/tmp/out 2>&1
    status=$?
    [ $status = 2 ] && grep -q "${refused#*:}" /tmp/out || { cat /tmp/out; fail "$refused: exit status $status"; }
    ringway check --config /tmp/ringway.yaml >/tmp/out 2>&1 && fail "check takes $refused"
    grep -q "${refused#*:}" /tmp/out || { cat /tmp/out; fail "check says nothing of $refused"; }
done
ip link del service
ip link del priority

# A glob means the NIC, and not what stands on it.
configure '{name: "g*"}'
ringway check --config /tmp/ringway.yaml >/tmp/out 2>&1
grep -q 'here: g0, g1;' /tmp/out || { cat /tmp/out; fail 'what the glob means'; }

works() {
    within 20 http 198.51.100.10 || fail "$1: HTTP"
    within 10 http '[2001:db8::10]' || fail "$1: HTTP by IPv6"
    for size in 64 1400 1472; do
        within 6 echo_of 198.51.100.10 $size || fail "$1: a datagram of $size bytes"
    done
    within 6 echo_of '[2001:db8::10]' 1452 || fail "$1: a datagram of 1452 bytes by IPv6"
    within 6 large 198.51.100.10 || fail "$1: ten megabytes"
    # The kernel's own, in every network.
    for host in 192.168.0.1 192.168.1.1 192.168.2.1 192.168.7.1 10.180.0.11 fd00:1::1 fd00:12::1 fd00:17::1 fd00:2::11; do
        within 6 from_kernel $host 1400 || fail "$1: the kernel's ping to $host"
    done
    within 5 ledger || fail "$1: the ledger is not closed"
}
parsed on || fail 'the NICs do not take tags off before the start'
configure '{name: g0.100}, {name: g0}, {name: g1.300}'
start
parsed off || { ethtool -k g0 | grep vlan; fail 'the NICs take tags off, which XDP does not see'; }
works 'VLAN 100 and untagged'
ringway status
# By the NICs' own queues, one for the VLAN and the untagged network together.
ringway status | grep -q ' g0/0,g1/0[, ]' || fail 'the NICs do not carry their VLANs'
# From the untagged network of the same NIC.
ip -n client route replace 198.51.100.10/32 via 192.168.1.2
within 10 http 198.51.100.10 || fail 'HTTP from the untagged network'
# And from a VLAN that is not listed: the kernel's, which has no such address.
ip -n client route replace 198.51.100.10/32 via 192.168.2.2
before=$(received)
http 198.51.100.10 && fail 'a VLAN that is not listed is served'
[ "$(received)" = "$before" ] || fail "packets of a VLAN that is not listed came up: $before, then $(received)"
ip -n client route del 198.51.100.10/32
within 10 http 198.51.100.10 || fail 'HTTP from VLAN 100 again'
transfer 198.51.100.10 5201 -n 20M
transfer 198.51.100.10 5201 -n 20M -R
transfer 2001:db8::10 5201 --udp -b 5M -n 1M

# Larger than the VLAN device's MTU: the client is told.
ip link set g1.300 mtu 1400
ip -n endpoint link set b0.300 mtu 1400
within 10 large 198.51.100.10 || fail 'ten megabytes with the smaller MTU'
ip link set g1.300 mtu 1500
ip -n endpoint link set b0.300 mtu 1500

# The device goes and comes back, as another one.
ip link del g0.100
within 10 sh -c 'ringway status | grep -q "g0.100.*gone"' || { ringway status; fail 'the VLAN device is gone and nobody says so'; }
within 6 from_kernel 192.168.1.1 64 || fail 'the untagged network without the VLAN device'
vlan g0 100 192.168.0.2 fd00:1::2
works 'the VLAN device made anew'

# Somebody switches it on, which is undone.
if [ $driver = igb ]; then
    ethtool -K g0 rxvlan on
    within 15 parsed off || fail 'somebody had tags taken off, and nothing is done'
    works 'tags in the frames again'
fi
# What Ringway switched off is on again after its end; also when it was killed, and another instance ends.
end() { kill "$ringway"; wait "$ringway" || fail "ringway run ended with exit status $?"; }
end
parsed on || fail 'the NICs leave tags in the frames after the end'
start
parsed off || fail 'the NICs take tags off after another start'
kill -9 "$ringway"
wait "$ringway"
start
works 'after a kill'
parsed off || fail 'the NICs take tags off after a kill and another start'
end
parsed on || fail 'the NICs leave tags in the frames after a kill, another start and its end'
# At once where the next instance has no use for a NIC.
if [ $driver = igb ]; then
    start
    kill -9 "$ringway"
    wait "$ringway"
    configure '{name: g1.300}'
    start
    within 30 sh -c 'ethtool -k g0 | grep -q "^rx-vlan-offload: on\$"' || fail 'g0 leaves tags in the frames though nobody needs that'
    ethtool -k g1 | grep -q '^rx-vlan-offload: off$' || fail 'g1 takes tags off'
    end
fi
within 20 from_kernel 192.168.0.1 1400 || fail "the kernel's ping in VLAN 100 after the end"

# With the NIC alone listed, its VLANs are the kernel's: a SYN for a VIP in one is not taken for an untagged one.
configure '{name: g0}, {name: g1.300}'
start
within 20 from_kernel 192.168.0.1 1400 || fail "the kernel's ping in VLAN 100, which is not listed"
within 20 from_kernel 10.180.0.11 64 || fail "the kernel's ping in VLAN 300"
before=$(received)
http 198.51.100.10 && fail 'VLAN 100 is served, and not listed'
within 6 from_kernel 192.168.2.1 64 || fail "the kernel's ping in VLAN 200"
[ "$(received)" = "$before" ] || fail "packets of VLAN 100, which is not listed, came up: $before, then $(received)"
[ $failures = 0 ] || { ringway status; ringway drops; }
finish
