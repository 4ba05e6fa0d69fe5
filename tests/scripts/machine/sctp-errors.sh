#: modules veth tun sctp
#: programs iperf3
#: seconds 900
# What routers on both sides and the endpoint say of real SCTP associations: a port that is closed, packets that are too large for
# the way (which their senders then send again in fragments), a host that cannot be found. Both families, with rewritten and with
# kept sources.
. /scenarios/bed.sh
link front middle 192.168.0.2 192.168.0.1 fd00:1::2 fd00:1::1
link back router 10.180.0.1 10.180.0.2 fd00:2::1 fd00:2::2

# behind HOST ROUTER NET4 NET6 MTU: a host behind a router that sends it packets of MTU bytes at most.
behind() {
    ip netns add "$1"
    ip -n "$1" link set lo up
    ip -n "$2" link add far type veth peer name eth0 netns "$1"
    ip -n "$2" link set far up
    ip -n "$1" link set eth0 up
    ip -n "$2" addr add "$3.1/24" dev far
    ip -n "$2" addr add "$4::1/64" dev far nodad
    ip -n "$1" addr add "$3.11/24" dev eth0
    ip -n "$1" addr add "$4::11/64" dev eth0 nodad
    ip -n "$1" route add default via "$3.1"
    ip -n "$1" route add default via "$4::1"
    ip -n "$2" route replace "$3.0/24" dev far proto kernel scope link src "$3.1" mtu "$5"
    ip -n "$2" -6 route replace "$4::/64" dev far proto kernel metric 256 mtu "$5"
    ip netns exec "$2" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
    ip netns exec "$2" sh -c 'echo 0 >/proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit'
}
behind client middle 192.168.1 fd00:5 1400
behind endpoint router 10.181.0 fd00:3 1300
ip route add 192.168.1.0/24 via 192.168.0.1
ip route add fd00:5::/64 via fd00:1::1
ip route add 10.181.0.0/24 via 10.180.0.2
ip route add fd00:3::/64 via fd00:2::2

endpoint4=10.181.0.11 endpoint6=fd00:3::11
{ service rewritten Cluster 10; service kept Local 11; } >/tmp/objects.yaml
cat >/tmp/ringway.yaml <<'YAML'
nodeName: gw-1
source: {files: /tmp/objects.yaml}
node: {addresses: [192.168.0.2, "fd00:1::2"], podCIDRs: []}
interfaces: [{name: front}, {name: back}]
YAML
start
vips='198.51.100.10 198.51.100.11 2001:db8::10 2001:db8::11'

# Nobody listens there.
for address in $vips; do
    timeout 20 ip netns exec client iperf3 --client "$address" --port 5201 --sctp >/tmp/out 2>&1
    grep -q 'Connection refused' /tmp/out || { cat /tmp/out; fail "$address: a port that is closed at the endpoint"; }
done

# mtu NAMESPACE ADDRESS: the path MTU that is known there; nothing when it is that of the link.
mtu() { ip -n "$1" route get "$2" | sed -n 's/.* mtu \([0-9]*\).*/\1/p'; }
forget() {
    for namespace in client endpoint; do
        ip -n $namespace route flush cache
        ip -n $namespace -6 route flush cache
    done
}
ip netns exec endpoint iperf3 --server --port 5301 >/dev/null 2>&1 &
for address in $vips; do
    forget
    transfer "$address" 5201 --sctp -n 500K
    [ "$(mtu client "$address")" = 1300 ] || fail "$address: the client's path MTU is $(mtu client "$address"), not 1300"
    forget
    transfer "$address" 5201 --sctp -n 500K -R
    case $address in
    198.51.100.10) peer=10.180.0.1 ;;
    2001:db8::10) peer=fd00:2::1 ;;
    198.51.100.11) peer=192.168.1.11 ;;
    *) peer=fd00:5::11 ;;
    esac
    [ "$(mtu endpoint $peer)" = 1400 ] || fail "$address: the endpoint's path MTU is $(mtu endpoint $peer), not 1400"
done

# counted NAME: what the client's kernel has counted of ICMP, of both families.
counted() {
    ip netns exec client cat /proc/net/snmp /proc/net/snmp6 | awk -v name="$1" '
        $1 == "Icmp:" { if (at) sum += $at; else for (i = 2; i <= NF; i++) if ($i == name) at = i }
        $1 == "Icmp6" name { sum += $2 }
        END { print sum }'
}
ip -n endpoint link set eth0 down
ip -n router neigh flush all
for address in $vips; do
    # The kernel counts as errors those that are about no association of its own.
    believed=$(($(counted InDestUnreachs) - $(counted InErrors)))
    timeout 20 ip netns exec client iperf3 --client "$address" --port 5201 --sctp >/tmp/out 2>&1 &
    heard() { [ $(($(counted InDestUnreachs) - $(counted InErrors))) -gt "$believed" ]; }
    within 15 heard || fail "$address: nobody says that the endpoint cannot be found"
done
for namespace in client endpoint; do
    errors=$(ip netns exec $namespace grep ChecksumErrors /proc/net/sctp/snmp | sed 's/[^0-9]//g')
    [ "$errors" = 0 ] || fail "$errors wrong checksums at the $namespace"
done
ringway drops
finish
