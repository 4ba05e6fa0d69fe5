#!/bin/sh
# Real SCTP associations through Ringway: both families, both ways, with kept and with rewritten sources. For the virtual
# machines of ../kernels.sh, whose kernels have SCTP; busybox runs it. Exit status 0 if all of it held.
ip=/opt/ip # busybox has an own one that knows no namespaces
failures=0
fail() { echo "sctp: FAILED: $*"; failures=$((failures + 1)); }

# link NAME NAMESPACE GATEWAY4 HOST4 GATEWAY6 HOST6
link() {
    $ip netns add "$2"
    $ip -n "$2" link set lo up
    $ip link add "$1" type veth peer name eth0 netns "$2"
    $ip link set "$1" up
    $ip -n "$2" link set eth0 up
    $ip addr add "$3/24" dev "$1"
    $ip addr add "$5/64" dev "$1" nodad
    $ip -n "$2" addr add "$4/24" dev eth0
    $ip -n "$2" addr add "$6/64" dev eth0 nodad
    $ip -n "$2" route add default via "$3"
    $ip -n "$2" route add default via "$5"
}
link front client 192.168.0.2 192.168.0.1 fd00:1::2 fd00:1::1
link back endpoint 10.180.0.1 10.180.0.11 fd00:2::1 fd00:2::11

# service NAME POLICY LAST: a Service of both families, for SCTP and for the TCP connection that iperf3 controls itself by.
service() {
    cat <<YAML
apiVersion: v1
kind: Service
metadata: {name: $1, namespace: default}
spec:
  type: LoadBalancer
  externalTrafficPolicy: $2
  clusterIP: 172.30.0.$3
  clusterIPs: [172.30.0.$3, "fd00:30::$3"]
  ports:
  - {name: data, port: 5201, protocol: SCTP, nodePort: 300$3}
  - {name: control, port: 5201, protocol: TCP, nodePort: 300$3}
status: {loadBalancer: {ingress: [{ip: 198.51.100.$3}, {ip: "2001:db8::$3"}]}}
---
YAML
    slice "$1" 4 10.180.0.11
    slice "$1" 6 fd00:2::11
}
slice() {
    cat <<YAML
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv$2
metadata: {name: $1-$2, namespace: default, labels: {kubernetes.io/service-name: $1}}
ports: [{name: data, port: 5301, protocol: SCTP}, {name: control, port: 5301, protocol: TCP}]
endpoints: [{addresses: ["$3"], nodeName: gw-1, conditions: {ready: true}}]
---
YAML
}
{ service rewritten Cluster 10; service kept Local 11; } >/tmp/objects.yaml
cat >/tmp/ringway.yaml <<'YAML'
nodeName: gw-1
source: {files: /tmp/objects.yaml}
node: {addresses: [192.168.0.2, "fd00:1::2"], podCIDRs: []}
interfaces: [{name: front}, {name: back}]
YAML

$ip netns exec endpoint iperf3 --server --port 5301 >/dev/null 2>&1 &
ringway run --config /tmp/ringway.yaml >/tmp/log 2>&1 &
ringway=$!
waited=0
until grep -q 'ready: ' /tmp/log; do
    sleep 1
    waited=$((waited + 1))
    if [ $waited -gt 30 ] || ! kill -0 $ringway; then
        cat /tmp/log
        echo "sctp: FAILED: ringway run is not ready"
        exit 1
    fi
done

# associate ADDRESS PORT [-R]: 8 MB there, or back.
associate() {
    address=$1 port=$2
    shift 2
    tries=0
    # The server may still be busy with the end of the one before.
    until timeout 60 $ip netns exec client iperf3 -c "$address" -p "$port" --sctp -n 8M "$@" >/tmp/out 2>&1; do
        tries=$((tries + 1))
        if [ $tries -ge 5 ] || ! grep -q 'busy' /tmp/out; then
            cat /tmp/out
            fail "$address port $port $*"
            return
        fi
        sleep 1
    done
    echo "sctp: $address port $port $*: $(grep receiver /tmp/out | sed 's/^.* sec  *//; s/ *receiver//')"
}
for address in 198.51.100.10 198.51.100.11 2001:db8::10 2001:db8::11 172.30.0.10 fd00:30::11; do
    associate $address 5201
    associate $address 5201 -R
done
associate 192.168.0.2 30010
associate 192.168.0.2 30011 -R

# A port that no Service has: the client is told at once.
timeout 20 $ip netns exec client iperf3 --client 198.51.100.10 --port 5999 --sctp >/tmp/out 2>&1
grep -q 'Connection refused' /tmp/out || { cat /tmp/out; fail "a port that no Service has"; }

ringway drops >/tmp/out 2>&1
grep -q 'No packet was dropped' /tmp/out || { cat /tmp/out; fail "packets were dropped"; }
for namespace in client endpoint; do
    errors=$($ip netns exec $namespace grep ChecksumErrors /proc/net/sctp/snmp | sed 's/[^0-9]//g')
    [ "$errors" = 0 ] || fail "$errors wrong checksums at the $namespace"
done
kill $ringway
wait $ringway || fail "ringway run ended with exit status $?"
[ $failures -eq 0 ] && echo "sctp: all of it held"
exit $failures
