#: modules veth tun bridge 8021q
#: programs iperf3 ethtool socat
#: network machine
#: nics 4
#: beds virtio-1 igb-1
#: seconds 400
# A bridge with a NIC in it, as hosts of virtual machines have it: carried by the NIC. A guest that is added makes it a bridge of
# two ports, which is carried by itself, with traffic going on; and the NIC carries it again once the guest is gone.
. /scenarios/nics.sh
nic 1 g0
nic 2 c0 client
nic 3 g1
nic 4 b0 endpoint
# Without an address of its own it takes the lowest of its ports', and another as they come and go.
ip link add br0 address 52:54:00:00:00:01 type bridge
ip link set br0 up
ip link set g0 master br0
address br0 192.168.0.2 fd00:1::2
address c0 192.168.0.1 fd00:1::1 client
address g1 10.180.0.1 fd00:2::1
address b0 10.180.0.11 fd00:2::11 endpoint
ways
web

# polled DEVICE: it has the queue that the worker polls for br0.
polled() { ringway status | grep -q "^0 .* $1/0[, ]"; }

configure '{name: br0}, {name: g1}'
ringway check --config /tmp/ringway.yaml || fail 'check'
start
polled g0 || { ringway status; fail 'the NIC does not carry its bridge'; }
all_works 'a bridge of one port'
ringway status

# A guest comes while a connection runs.
timeout 90 ip netns exec client iperf3 --client 198.51.100.10 --port 5201 --time 20 >/tmp/transfer 2>&1 &
transfer=$!
within 20 flows_on $(($(received) + 1000)) || fail 'the connection does not run'
ip netns add guest
ip link add tap0 type veth peer name eth0 netns guest
ip -n guest link set eth0 up
ip -n guest addr add 192.168.0.5/24 dev eth0
ip link set tap0 master br0 up
within 10 polled br0 || { ringway status; fail 'with two ports the bridge does not carry itself'; }
ringway status | grep -q 'bridge of 2 ports' || { ringway status; fail 'status does not say why'; }
wait $transfer || { cat /tmp/transfer; fail 'the connection did not outlive the second port'; }
tail -n 4 /tmp/transfer
all_works 'a bridge of two ports'
ringway status
within 6 from_kernel 192.168.0.5 1400 || fail 'the guest does not answer the gateway'
ip netns exec client /bin/ping -c 1 -W 2 192.168.0.5 >/dev/null || fail 'the guest does not answer the client'
# The guest is a client of the Service, too.
ip -n guest route add default via 192.168.0.2
printf 'GET /small HTTP/1.0\r\n\r\n' | ip netns exec guest timeout 5 socat -t 5 - TCP:198.51.100.10:80 >/tmp/out
grep -q hello /tmp/out || fail 'HTTP of the guest'
# And leaves.
ip netns del guest
within 10 polled g0 || { ringway status; fail 'the NIC alone does not carry its bridge again'; }
all_works 'a bridge of one port again'

# A bridge that filters VLANs is carried by itself.
ip link set br0 type bridge vlan_filtering 1
within 10 polled br0 || { ringway status; fail 'a bridge that filters VLANs'; }
ringway status | grep -q 'filters VLANs' || fail 'status does not say that the bridge filters VLANs'
all_works 'a bridge that filters VLANs'
ip link set br0 type bridge vlan_filtering 0
within 10 polled g0 || { ringway status; fail 'the bridge filters no more'; }
finish
