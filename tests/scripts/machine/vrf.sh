#: modules veth tun vrf
#: programs iperf3
# Interfaces in a VRF: its table has the routes of their packets, and main leads elsewhere. Clients and endpoints in one VRF are
# served, with kept and with rewritten sources, both families; and a route of main does not lead a packet of the VRF astray.
. /scenarios/bed.sh
link front client 192.168.0.2 192.168.0.1 fd00:1::2 fd00:1::1
link back router 192.168.9.1 192.168.9.2 fd00:9::1 fd00:9::2
link wrong elsewhere 192.168.8.1 192.168.8.2 fd00:8::1 fd00:8::2

# The endpoint is behind a router that only the VRF's table knows.
ip netns add endpoint
ip -n endpoint link set lo up
ip -n router link add pods type veth peer name eth0 netns endpoint
ip -n router link set pods up
ip -n endpoint link set eth0 up
ip -n router addr add 10.180.0.1/24 dev pods
ip -n router addr add fd00:2::1/64 dev pods nodad
ip -n endpoint addr add 10.180.0.11/24 dev eth0
ip -n endpoint addr add fd00:2::11/64 dev eth0 nodad
ip -n endpoint route add default via 10.180.0.1
ip -n endpoint route add default via fd00:2::1
ip netns exec router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding

ip link add blue type vrf table 10
ip link set blue up
for name in front back; do
    ip link set $name master blue
    # A link that changes its VRF loses its IPv6 addresses.
done
ip -6 addr replace fd00:1::2/64 dev front nodad
ip -6 addr replace fd00:9::1/64 dev back nodad
ip route add 10.180.0.0/24 via 192.168.9.2 table 10
ip route add fd00:2::/64 via fd00:9::2 table 10
# What main says of the same networks is not meant for the VRF.
ip route add 10.180.0.0/24 via 192.168.8.2
ip route add fd00:2::/64 via fd00:8::2

{ service rewritten Cluster 10; service kept Local 11; } >/tmp/objects.yaml
cat >/tmp/ringway.yaml <<'YAML'
nodeName: gw-1
source: {files: /tmp/objects.yaml}
node: {addresses: [192.168.0.2, "fd00:1::2"], podCIDRs: []}
interfaces: [{name: front}, {name: back}, {name: wrong}]
YAML
ip netns exec endpoint iperf3 --server --port 5301 >/dev/null 2>&1 &
start

for address in 198.51.100.10 198.51.100.11 2001:db8::10 2001:db8::11 172.30.0.10 fd00:30::11; do
    transfer "$address" 5201 -n 4M
    transfer "$address" 5201 --udp -b 2M -n 500K
done
transfer 192.168.0.2 30010 -n 4M
transfer 192.168.0.2 30011 -n 4M -R
transfer fd00:1::2 30010 -n 4M

ringway drops >/tmp/out 2>&1
grep -q 'No packet was dropped' /tmp/out || { cat /tmp/out; fail "packets were dropped"; }
# Every one went by the VRF's way.
sent=$(ip netns exec elsewhere grep eth0 /proc/net/dev | sed 's/.*: *[0-9]* *\([0-9]*\) .*/\1/')
echo "frames on the way that main says: $sent"
ip -n elsewhere neigh | grep -q . && ip -n elsewhere neigh
[ $failures -eq 0 ] || { ringway status; ringway neighbors; ip rule; ip route show table 10; ip -6 route show table 10; }
ringway status >/tmp/status 2>&1
grep -i 'not followed' /tmp/status && fail "status says that something is not followed"
finish
