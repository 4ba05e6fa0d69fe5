#: modules veth tun ipip ip6_tunnel
#: programs iperf3 socat
#: seconds 600
# Direct server return to an endpoint with the kernel's own tunnel devices, behind a router whose link carries less than the
# gateway's: uploads find the path MTU through the outer header, downloads never pass the gateway, datagrams in fragments are put
# together twice, and an endpoint without a tunnel is told of. Both families.
. /scenarios/bed.sh
link front client 192.168.0.2 192.168.0.1 fd00:1::2 fd00:1::1
link back router 10.180.0.1 10.180.0.2 fd00:2::1 fd00:2::2
# The endpoint's link behind the router carries 1,400 bytes; another one, past the gateway, leads to the client.
ip netns add endpoint
ip -n endpoint link set lo up
ip -n router link add far type veth peer name eth0 netns endpoint
ip -n router link set far mtu 1400 up
ip -n endpoint link set eth0 mtu 1400 up
ip -n router addr add 10.181.0.1/24 dev far
ip -n router addr add fd00:3::1/64 dev far nodad
ip -n endpoint addr add 10.181.0.11/24 dev eth0
ip -n endpoint addr add fd00:3::11/64 dev eth0 nodad
ip -n endpoint route add default via 10.181.0.1
ip -n endpoint route add default via fd00:3::1
ip -n client link add side type veth peer name side netns endpoint
ip -n client link set side up
ip -n endpoint link set side up
ip -n client addr add 10.182.0.1/24 dev side
ip -n endpoint addr add 10.182.0.2/24 dev side
ip -n client addr add fd00:4::1/64 dev side nodad
ip -n endpoint addr add fd00:4::2/64 dev side nodad
ip -n endpoint route add 192.168.0.1 via 10.182.0.1
ip -n endpoint route add fd00:1::1 via fd00:4::1
ip netns exec router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
ip netns exec client sh -c 'echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/side/rp_filter'
ip route add 10.181.0.0/24 via 10.180.0.2
ip route add fd00:3::/64 via fd00:2::2
# What docs/dsr.md says that an endpoint needs.
ip netns exec endpoint sh -c 'echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore; echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce'
for address in 198.51.100.10/32 2001:db8::10/128; do
    ip -n endpoint addr add "$address" dev lo
done
ip -n endpoint link set tunl0 up || fail 'the module brings no tunl0'
ip -n endpoint link set ip6tnl0 up || fail 'the module brings no ip6tnl0'
ip netns exec endpoint sh -c 'for f in all tunl0 eth0; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done'

objects() {
    cat <<YAML
apiVersion: v1
kind: Service
metadata: {name: tunnelled, namespace: default, annotations: {ringway.io/forwarding: dsr-ipip}}
spec:
  type: LoadBalancer
  clusterIP: 172.30.0.10
  clusterIPs: [172.30.0.10, "fd00:30::10"]
  ports: [{name: tcp, port: 5201, protocol: TCP}, {name: udp, port: 7007, protocol: UDP}]
status: {loadBalancer: {ingress: [{ip: 198.51.100.10}, {ip: "2001:db8::10"}]}}
---
YAML
    for family in 4:10.181.0.11 6:fd00:3::11; do
        cat <<YAML
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv${family%%:*}
metadata: {name: tunnelled-${family%%:*}, namespace: default, labels: {kubernetes.io/service-name: tunnelled}}
ports: [{name: tcp, port: 5201, protocol: TCP}, {name: udp, port: 7007, protocol: UDP}]
endpoints: [{addresses: ["${family#*:}"], nodeName: gw-1, conditions: {ready: true}}]
---
YAML
    done
}
objects >/tmp/objects.yaml
cat >/tmp/ringway.yaml <<'YAML'
nodeName: gw-1
source: {files: /tmp/objects.yaml}
node: {addresses: [192.168.0.2, "fd00:1::2"], podCIDRs: []}
interfaces: [{name: front}, {name: back}]
YAML
ip netns exec endpoint iperf3 --server --port 5201 >/dev/null 2>&1 &
ip netns exec endpoint socat -b 65536 -T5 UDP4-LISTEN:7007,bind=198.51.100.10,fork EXEC:cat &
ip netns exec endpoint socat -b 65536 -T5 'UDP6-LISTEN:7007,bind=[2001:db8::10],fork' EXEC:cat &
start

# mtu ADDRESS: the path MTU to it that the client knows; nothing when it is that of the link.
mtu() { ip -n client route get "$1" | sed -n 's/.* mtu \([0-9]*\).*/\1/p'; }

# gets HOST BYTES: a datagram comes back unharmed, from the VIP.
head -c 8000 /dev/urandom >/tmp/random
gets() {
    head -c "$2" /tmp/random >/tmp/datagram
    ip netns exec client socat -b 65536 -T2 -t2 - "UDP:$1:7007,readbytes=$2" </tmp/datagram 2>/dev/null | cmp -s - /tmp/datagram
}

# The first large one is what finds the path MTU: the gateway's own link leaves 1,480 and 1,460 bytes, the router's 1,380 and 1,360.
for host in 198.51.100.10 '[2001:db8::10]'; do
    gets "$host" 100 || fail "$host: a small datagram"
    within 20 gets "$host" 1440 || fail "$host: a datagram larger than its way"
done
[ "$(mtu 198.51.100.10) $(mtu 2001:db8::10)" = '1380 1360' ] ||
    fail "after datagrams the path MTUs are $(mtu 198.51.100.10) and $(mtu 2001:db8::10), not 1380 and 1360"
# In fragments, some of which have to be cut once more for their outer header.
ip -n client route flush cache
ip -n client -6 route flush cache
for host in 198.51.100.10 '[2001:db8::10]'; do
    for size in 2000 4000 8000; do
        within 20 gets "$host" $size || fail "$host: a datagram of $size bytes"
    done
done
ip -n client route flush cache
ip -n client -6 route flush cache
for address in 198.51.100.10 2001:db8::10; do
    transfer "$address" 5201 -n 5M
    transfer "$address" 5201 -n 5M -R
done
[ "$(mtu 198.51.100.10) $(mtu 2001:db8::10)" = '1380 1360' ] ||
    fail "after uploads the path MTUs are $(mtu 198.51.100.10) and $(mtu 2001:db8::10), not 1380 and 1360"

# A router that quotes 8 bytes behind the outer header, as some do, tells nobody whose packet it was: the client hears nothing, and
# the kernel gets the error.
heard() { awk '$1 == "Icmp:" { if (n++) print $n3; else for (i = 1; i <= NF; i++) if ($i == "InDestUnreachs") n3 = i }' /proc/net/snmp; }
before=$(heard)
printf '\003\004\160\077\000\000\002\130\105\000\005\170\000\000\100\000\077\004\041\016\012\264\000\001\012\265\000\013\105\000\005\144\000\000\100\000' |
    ip netns exec router socat -u - IP4-SENDTO:10.180.0.1:1
within 5 test "$(heard)" -gt "$before" || fail "the kernel has not heard of an error that quotes too little: $before, $(heard)"
[ "$(mtu 198.51.100.10)" = 1380 ] || fail "the path MTU is $(mtu 198.51.100.10) after an error that quotes too little"

# An endpoint without such a device: the client hears that the host is unreachable, and does not wait.
ip -n endpoint link set tunl0 down
ip -n endpoint link set ip6tnl0 down
for peer in TCP4:198.51.100.10:5201 'TCP6:[2001:db8::10]:5201'; do
    echo '?' | timeout 20 ip netns exec client socat -t 5 - "$peer" >/tmp/out 2>&1
    grep -q 'No route to host' /tmp/out || { cat /tmp/out; fail "nobody says that $peer is out of reach"; }
done
ip -n endpoint link set tunl0 up
ip -n endpoint link set ip6tnl0 up
# Nor one whose router does not find it.
ip -n endpoint link set eth0 down
ip -n router neigh flush all
for peer in TCP4:198.51.100.10:5201 'TCP6:[2001:db8::10]:5201'; do
    echo '?' | timeout 30 ip netns exec client socat -t 5 - "$peer" >/tmp/out 2>&1
    grep -q 'No route to host' /tmp/out || { cat /tmp/out; fail "nobody says that $peer cannot be found"; }
done
ringway drops
finish
