# What most scenarios begin with: a gateway that is the machine itself, hosts around it in namespaces, Services, ringway.
# To be sourced by a scenario, in a machine (see machine.sh).

failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# within SECONDS COMMAND ...: waits until the command succeeds.
within() {
    limit=$1
    shift
    began=$(date +%s)
    until "$@" >/dev/null 2>&1; do
        [ $(($(date +%s) - began)) -lt "$limit" ] || return 1
        sleep 0.2
    done
}

# link NAME NAMESPACE GATEWAY4 HOST4 GATEWAY6 HOST6: a host behind NAME, whose default routes lead to the gateway.
link() {
    ip netns add "$2"
    ip -n "$2" link set lo up
    ip link add "$1" type veth peer name eth0 netns "$2"
    ip link set "$1" up
    ip -n "$2" link set eth0 up
    ip addr add "$3/24" dev "$1"
    ip addr add "$5/64" dev "$1" nodad
    ip -n "$2" addr add "$4/24" dev eth0
    ip -n "$2" addr add "$6/64" dev eth0 nodad
    ip -n "$2" route add default via "$3"
    ip -n "$2" route add default via "$5"
}

# service NAME POLICY LAST: a Service of both families at 198.51.100.LAST and 2001:db8::LAST, NodePort 300LAST, for TCP and UDP
# and SCTP 5201 to 5301 of 10.180.0.11 and fd00:2::11.
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
  - {name: sctp, port: 5201, protocol: SCTP, nodePort: 300$3}
  - {name: tcp, port: 5201, protocol: TCP, nodePort: 300$3}
  - {name: udp, port: 5201, protocol: UDP, nodePort: 300$3}
status: {loadBalancer: {ingress: [{ip: 198.51.100.$3}, {ip: "2001:db8::$3"}]}}
---
YAML
    slice "$1" 4 "${endpoint4:-10.180.0.11}"
    slice "$1" 6 "${endpoint6:-fd00:2::11}"
}
slice() {
    cat <<YAML
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv$2
metadata: {name: $1-$2, namespace: default, labels: {kubernetes.io/service-name: $1}}
ports: [{name: sctp, port: 5301, protocol: SCTP}, {name: tcp, port: 5301, protocol: TCP}, {name: udp, port: 5301, protocol: UDP}]
endpoints: [{addresses: ["$3"], nodeName: gw-1, conditions: {ready: true}}]
---
YAML
}

# start: ringway with /tmp/ringway.yaml; comes back when it is ready.
start() {
    ringway run --config /tmp/ringway.yaml >/tmp/log 2>&1 &
    ringway=$!
    within 180 grep -q 'ready: ' /tmp/log && return
    cat /tmp/log
    fail "ringway run is not ready"
    exit 1
}

# finish: ends ringway, and the scenario.
finish() {
    kill "$ringway"
    wait "$ringway" || fail "ringway run ended with exit status $?"
    [ "$failures" -eq 0 ] || cat /tmp/log
    exit "$failures"
}

# transfer ADDRESS PORT [OPTION ...]: iperf3 of the client's namespace.
transfer() {
    address=$1 port=$2
    shift 2
    tries=0
    # The server may still be busy with the end of the one before.
    until timeout 60 ip netns exec client iperf3 -c "$address" -p "$port" "$@" >/tmp/out 2>&1; do
        tries=$((tries + 1))
        if [ $tries -ge 5 ] || ! grep -q 'busy' /tmp/out; then
            cat /tmp/out
            fail "iperf3 to $address port $port $*"
            return
        fi
        sleep 1
    done
    echo "$address port $port $*: $(grep receiver /tmp/out | sed 's/^.* sec  *//; s/ *receiver//')"
}
