#: modules veth tun sctp
#: programs iperf3
# Real SCTP associations through Ringway: both families, both ways, with kept and with rewritten sources.
. /scenarios/bed.sh
link front client 192.168.0.2 192.168.0.1 fd00:1::2 fd00:1::1
link back endpoint 10.180.0.1 10.180.0.11 fd00:2::1 fd00:2::11
{ service rewritten Cluster 10; service kept Local 11; } >/tmp/objects.yaml
cat >/tmp/ringway.yaml <<'YAML'
nodeName: gw-1
source: {files: /tmp/objects.yaml}
node: {addresses: [192.168.0.2, "fd00:1::2"], podCIDRs: []}
interfaces: [{name: front}, {name: back}]
YAML
ip netns exec endpoint iperf3 --server --port 5301 >/dev/null 2>&1 &
start

for address in 198.51.100.10 198.51.100.11 2001:db8::10 2001:db8::11 172.30.0.10 fd00:30::11; do
    transfer "$address" 5201 --sctp -n 2M
    transfer "$address" 5201 --sctp -n 2M -R
done
transfer 192.168.0.2 30010 --sctp -n 2M
transfer 192.168.0.2 30011 --sctp -n 2M -R

# A port that no Service has: the client is told at once.
timeout 20 ip netns exec client iperf3 --client 198.51.100.10 --port 5999 --sctp >/tmp/out 2>&1
grep -q 'Connection refused' /tmp/out || { cat /tmp/out; fail "a port that no Service has"; }

ringway drops >/tmp/out 2>&1
grep -q 'No packet was dropped' /tmp/out || { cat /tmp/out; fail "packets were dropped"; }
for namespace in client endpoint; do
    errors=$(ip netns exec $namespace grep ChecksumErrors /proc/net/sctp/snmp | sed 's/[^0-9]//g')
    [ "$errors" = 0 ] || fail "$errors wrong checksums at the $namespace"
done
finish
