#: modules veth tun vxlan geneve ipip sit ip_gre wireguard
#: programs iperf3 ethtool bridge ringway-send-frame
#: seconds 400
# Pods behind a VXLAN device, as flannel makes it, on this kernel; and what the kernel does with frames of AF_XDP sockets for
# devices without Ethernet headers, which is why Ringway refuses them.
. /scenarios/bed.sh
endpoint4=10.244.1.11 endpoint6=fd00:244:1::11
link front client 192.168.0.2 192.168.0.1 fd00:1::2 fd00:1::1
link under node 172.16.0.2 172.16.0.11 fd00:16::2 fd00:16::11
ip -n node route del default via 172.16.0.2
ip -n node route del default via fd00:16::2
ip -n node addr add 10.244.1.11/32 dev lo
ip -n node addr add fd00:244:1::11/128 dev lo nodad
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding

# Both ends of the overlay, and what an agent tells each of the other.
for end in "0 172.16.0.2 172.16.0.11 fd00:16::2 fd00:16::11 under" "1 172.16.0.11 172.16.0.2 fd00:16::11 fd00:16::2 eth0"; do
    set -- $end
    own=$1 other=$((1 - $1)) local4=$2 remote4=$3 local6=$4 remote6=$5 nic=$6
    if [ "$own" = 0 ]; then at='' name=''; else at='-n node' name='ip netns exec node'; fi
    ip $at link add flannel.1 address "0a:00:00:00:00:0$own" mtu 1450 type vxlan id 1 local "$local4" dev "$nic" dstport 8472 nolearning
    ip $at link add flannel-v6.1 address "0a:01:00:00:00:0$own" mtu 1430 type vxlan id 1 local "$local6" dev "$nic" dstport 8472 nolearning
    ip $at addr add "10.244.$own.0/32" dev flannel.1
    ip $at addr add "fd00:244:$own::/128" dev flannel-v6.1 nodad
    ip $at link set flannel.1 up
    ip $at link set flannel-v6.1 up
    ip $at neigh replace "10.244.$other.0" lladdr "0a:00:00:00:00:0$other" dev flannel.1 nud permanent
    ip $at neigh replace "fd00:244:$other::" lladdr "0a:01:00:00:00:0$other" dev flannel-v6.1 nud permanent
    $name bridge fdb replace "0a:00:00:00:00:0$other" dev flannel.1 dst "$remote4"
    $name bridge fdb replace "0a:01:00:00:00:0$other" dev flannel-v6.1 dst "$remote6"
    ip $at route add "10.244.$other.0/24" via "10.244.$other.0" dev flannel.1 onlink
    ip $at route add "fd00:244:$other::/64" via "fd00:244:$other::" dev flannel-v6.1 onlink
done
# The pod is the node itself here, and speaks as the pod.
for to in 10.244.0.0/24 default; do ip -n node route replace "$to" via 10.244.0.0 dev flannel.1 onlink src 10.244.1.11; done
for to in fd00:244:0::/64 default; do
    ip -n node route replace "$to" via fd00:244:0:: dev flannel-v6.1 onlink src fd00:244:1::11
done

configure() {
    cat >/tmp/ringway.yaml <<YAML
nodeName: gw-1
source: {files: /tmp/objects.yaml}
node: {addresses: [192.168.0.2, "fd00:1::2"], podCIDRs: []}
interfaces: [$1]
YAML
}
{ service rewritten Cluster 10; service kept Local 11; } >/tmp/objects.yaml
configure '{name: front}, {name: under}, {name: flannel.1}, {name: flannel-v6.1}'
ip netns exec node iperf3 --server --port 5301 >/dev/null 2>&1 &
# Kernels before 6.6 lose what receive offloads have merged: what docs/overlays.md says about them. NICs have it on.
case $(uname -r) in
[1-5].* | 6.[0-5].*) ethtool -K under gro off ;;
*) ethtool -K under gro on ;;
esac
start
for address in 198.51.100.10 198.51.100.11 2001:db8::10 2001:db8::11; do
    transfer "$address" 5201 -n 8M
    transfer "$address" 5201 -n 8M -R
    transfer "$address" 5201 -u -b 4M -l 1200 -t 1
done
ringway drops >/tmp/out 2>&1
grep -q 'No packet was dropped' /tmp/out || { cat /tmp/out; fail "packets were dropped"; }
kill "$ringway"
wait "$ringway"

# Tunnels without Ethernet headers, as Calico makes them: one device for all nodes, and the route says which.
ip link show tunl0 >/dev/null 2>&1 || ip link add tunl0 type ipip
ip -n node link show tunl0 >/dev/null 2>&1 || ip -n node link add tunl0 type ipip
ip link set tunl0 up
ip -n node link set tunl0 up
ip addr add 10.245.0.1/32 dev tunl0
ip -n node addr add 10.245.1.11/32 dev tunl0
ip route add 10.245.1.0/26 via 172.16.0.11 dev tunl0 onlink
ip -n node route add 10.245.0.0/26 via 172.16.0.2 dev tunl0 onlink
ip link add wg0 type wireguard
ip link add sit7 type sit remote 172.16.0.11 local 172.16.0.2
ip link add gre7 type gre remote 172.16.0.11 local 172.16.0.2
ip link set wg0 up
ip link set sit7 up
ip link set gre7 up
# And one that BPF programs tell where packets go.
ip link add cilium_geneve type geneve external
ip link set cilium_geneve up
for refused in tunl0:ipip wg0:wireguard sit7:sit gre7:gre cilium_geneve:geneve; do
    configure "{name: front}, {name: ${refused%:*}}"
    ringway run --config /tmp/ringway.yaml >/tmp/out 2>&1
    status=$?
    case $refused in
    cilium*) told="is a tunnel of kind ${refused#*:} in external mode:" ;;
    *) told="is not an Ethernet interface but one of kind ${refused#*:}," ;;
    esac
    told="interfaces\[1\].name: ${refused%:*} $told"
    [ $status = 2 ] && grep -q "$told" /tmp/out || { cat /tmp/out; fail "$refused: exit status $status"; }
done

# The kernel's own packet gets through, and so does a frame by the VXLAN device.
ping -c 2 -W 2 10.245.1.11 >/dev/null || fail "the kernel's own ping through tunl0"
packet=4500002300010000400163e40af500010af5010b080026c50007000172696e67776179
# received DEVICE: how many packets the node got by it.
received() { ip netns exec node sed -n "s/^ *$1: *[0-9]* *\([0-9]*\) .*/\1/p" /proc/net/dev; }
before=$(received flannel.1)
ringway-send-frame flannel.1 "0a00000000010a00000000000800$packet" 10
enough() { [ "$(received flannel.1)" -ge $((before + 10)) ]; }
within 5 enough || fail "frames by flannel.1: $before, then $(received flannel.1)"
# Of ten frames by tunl0, with an Ethernet header or without, none.
for frame in "$packet" "0a00000000010a00000000000800$packet"; do
    before=$(received tunl0)
    errors=$(cat /sys/class/net/tunl0/statistics/tx_errors)
    ringway-send-frame tunl0 "$frame" 10 || fail "the socket on tunl0"
    ping -c 1 -W 2 10.245.1.11 >/dev/null || fail "the kernel's own ping afterwards"
    [ "$(received tunl0)" = $((before + 1)) ] || fail "tunl0 carried frames: $before, then $(received tunl0)"
    echo "tunl0: transmit errors $errors, then $(cat /sys/class/net/tunl0/statistics/tx_errors)"
done
exit "$failures"
