#: modules veth tun
#: programs socat
# ICMP errors on this kernel: its verifier takes what the steering program reads of quoted packets, and a client hears of a closed port
# of an endpoint, whether its source is kept or rewritten, over both families; the gateway hears of its own.
. /scenarios/bed.sh
link front client 192.168.0.2 192.168.0.1 fd00:1::2 fd00:1::1
link back endpoint 10.180.0.1 10.180.0.11 fd00:2::1 fd00:2::11
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding

{ service rewritten Cluster 10; service kept Local 11; } >/tmp/objects.yaml
cat >/tmp/ringway.yaml <<'YAML'
nodeName: gw-1
source: {files: /tmp/objects.yaml}
node: {addresses: [192.168.0.2, "fd00:1::2"], podCIDRs: []}
interfaces: [{name: front}, {name: back}]
YAML
start

# refused PEER COMMAND ...: a datagram that the command's namespace sends there is refused.
refused() {
    peer=$1
    shift
    echo '?' | timeout 20 "$@" socat -t 5 - "$peer" >/tmp/out 2>&1
    if grep -q 'Connection refused' /tmp/out; then
        echo "$peer is refused"
    else
        cat /tmp/out
        fail "nobody says that $peer is closed"
    fi
}

for peer in 198.51.100.10:5201 198.51.100.11:5201 172.30.0.10:5201 192.168.0.2:30010 192.168.0.2:30011; do
    refused "UDP4:$peer" ip netns exec client
done
for peer in '[2001:db8::10]:5201' '[2001:db8::11]:5201' '[fd00:30::11]:5201' '[fd00:1::2]:30010'; do
    refused "UDP6:$peer" ip netns exec client
done
refused UDP4:10.180.0.11:5301
refused 'UDP6:[fd00:2::11]:5301'
finish
