# What scenarios with NICs begin with (`#: nics 4`, see machine.sh): a gateway that is the machine itself, and hosts around it at
# the other ends of the cables. To be sourced by a scenario that runs in the machine's own network (`#: network machine`).
#
# kind is the bed's, as in virtio-2: driver and queues are its parts.
. /scenarios/bed.sh
kind=$(sed 's/.* nics=\([^ ]*\).*/\1/' /proc/cmdline)
driver=${kind%%-*}
queues=$(echo "$kind" | cut -d- -f2)

is_nic() { [ -e "/sys/class/net/$1/device" ] || ip -d link show "$1" | grep -q '^ *veth '; }

# nic_named NUMBER: the name that NIC number N has now; nothing when it is not here.
nic_named() {
    for file in /sys/class/net/*/address; do
        name=$(basename "$(dirname "$file")")
        # What stands on a NIC has its address, too.
        is_nic "$name" || continue
        # A member of a bond has the bond's address.
        permanent=$(ip link show "$name" | sed -n 's/.* permaddr \([^ ]*\).*/\1/p')
        [ "${permanent:-$(cat "$file")}" = "52:54:00:00:00:0$1" ] || continue
        echo "$name"
        return
    done
    return 1
}

# Nothing stays of the scenario before.
for name in $(ip -o link | sed 's/^[0-9]*: \([^:@]*\).*/\1/'); do
    [ "$name" = lo ] || [ -e "/sys/class/net/$name/device" ] || ip link del "$name" 2>/dev/null
done
for number in 1 3 5 7; do
    [ "$driver" != veth ] || ip link add "nic$number" address "52:54:00:00:00:0$number" \
        type veth peer name "nic$((number + 1))" address "52:54:00:00:00:0$((number + 1))"
done
for number in 1 2 3 4 5 6 7 8; do
    name=$(nic_named $number) || continue
    ip link set "$name" down
    ip addr flush dev "$name"
    [ "$name" = "nic$number" ] || ip link set "$name" name "nic$number"
done

# monitor COMMAND: tells QEMU's monitor; on a line of its own, since its first greeting may have come back to it.
monitor() { printf '\r%s\r' "$1" >/dev/ttyS1; }

# cable N off|on: pulls and plugs in again the cable of NIC number N: its carrier goes, and that of the other end. Of a veth
# the end with the even number is set down for it.
cable() {
    if [ "$driver" = veth ]; then
        eval "ip \$veth$((($1 + 1) / 2 * 2)) $(echo "$2" | sed 's/off/down/; s/on/up/')"
        return
    fi
    monitor "set_link h$1 $2"
    monitor "set_link h$((($1 - 1) / 2 * 2 + 1 + $1 % 2)) $2"
}

# nic NUMBER NAME [NAMESPACE]: names NIC number N, with the queues of this bed, and gives it to the namespace, which is made.
nic() {
    within 20 nic_named "$1" || fail "there is no NIC number $1"
    name=$(nic_named "$1")
    ip link set "$name" down
    [ "$driver" != igb ] || ethtool -L "$name" combined "$queues"
    ip link set "$name" name "$2"
    at=''
    if [ -n "${3:-}" ]; then
        [ -e "/run/netns/$3" ] || ip netns add "$3"
        ip -n "$3" link set lo up
        ip link set "$2" netns "$3"
        at="-n $3"
    fi
    ip $at link set "$2" up
    eval "veth$1='$at link set $2'"
}

# address DEVICE ADDRESS4 ADDRESS6 [NAMESPACE]: with prefixes of 24 and 64 bits.
address() {
    at=''
    [ -z "${4:-}" ] || at="-n $4"
    ip $at addr replace "$2/24" dev "$1"
    ip $at addr replace "$3/64" dev "$1" nodad
}

# gateway: what most scenarios have: a client at g0, an endpoint at g1, by four NICs and no more.
gateway() {
    nic 1 g0
    nic 2 c0 client
    nic 3 g1
    nic 4 b0 endpoint
    address g0 192.168.0.2 fd00:1::2
    address c0 192.168.0.1 fd00:1::1 client
    address g1 10.180.0.1 fd00:2::1
    address b0 10.180.0.11 fd00:2::11 endpoint
    ways
}

# ways: the routes of the client and the endpoint, and forwarding by the gateway.
ways() {
    ip -n client route replace default via 192.168.0.2
    ip -n client route replace default via fd00:1::2
    ip -n endpoint route replace default via 10.180.0.1
    ip -n endpoint route replace default via fd00:2::1
    echo 1 >/proc/sys/net/ipv4/ip_forward
    echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
    # Addresses outlive a link that goes down, as IPv4's do.
    echo 1 >/proc/sys/net/ipv6/conf/all/keep_addr_on_down
    ip netns exec client sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/keep_addr_on_down'
}

# web: a Service of both families at 198.51.100.10 and 2001:db8::10 with HTTP at 80, an echo of UDP at 7007, and iperf3 at 5201; the
# endpoint, which serves them, in /tmp/objects.yaml. 5202 is for traffic, below.
web() {
    cat >/tmp/objects.yaml <<'YAML'
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  clusterIP: 172.30.0.10
  clusterIPs: [172.30.0.10, "fd00:30::10"]
  ports:
  - {name: http, port: 80, protocol: TCP}
  - {name: echo, port: 7007, protocol: UDP}
  - {name: tcp, port: 5201, protocol: TCP}
  - {name: udp, port: 5201, protocol: UDP}
  - {name: load-tcp, port: 5202, protocol: TCP}
  - {name: load-udp, port: 5202, protocol: UDP}
status: {loadBalancer: {ingress: [{ip: 198.51.100.10}, {ip: "2001:db8::10"}]}}
YAML
    for family in 4 6; do
        if [ $family = 4 ]; then endpoint=10.180.0.11; else endpoint=fd00:2::11; fi
        cat >>/tmp/objects.yaml <<YAML
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv$family
metadata: {name: web-$family, namespace: default, labels: {kubernetes.io/service-name: web}}
ports:
- {name: http, port: 8080, protocol: TCP}
- {name: echo, port: 7007, protocol: UDP}
- {name: tcp, port: 5301, protocol: TCP}
- {name: udp, port: 5301, protocol: UDP}
- {name: load-tcp, port: 5302, protocol: TCP}
- {name: load-udp, port: 5302, protocol: UDP}
endpoints: [{addresses: ["$endpoint"], nodeName: gw-1, conditions: {ready: true}}]
YAML
    done
    mkdir -p /tmp/www
    echo hello >/tmp/www/small
    head -c 10485760 /dev/urandom >/tmp/www/large
    sum=$(md5sum </tmp/www/large)
    ip netns exec endpoint httpd -p '[::]:8080' -h /tmp/www
    ip netns exec endpoint socat -T5 UDP6-LISTEN:7007,fork,ipv6only=0 EXEC:cat &
    ip netns exec endpoint iperf3 --server --port 5301 >/dev/null 2>&1 &
}

# configure INTERFACES [LINE ...]: /tmp/ringway.yaml with these interfaces, and with more lines.
configure() {
    cat >/tmp/ringway.yaml <<YAML
nodeName: gw-1
source: {files: /tmp/objects.yaml}
node: {addresses: [192.168.0.2, "fd00:1::2"], podCIDRs: []}
interfaces: [$1]
YAML
    shift
    for line in "$@"; do echo "$line" >>/tmp/ringway.yaml; done
}

# request HOST PATH SECONDS: what the client gets; it begins with the header.
request() {
    printf 'GET /%s HTTP/1.0\r\n\r\n' "$2" | ip netns exec client timeout "$3" socat -t "$3" -T "$3" - "TCP:$1:80,connect-timeout=3" 2>/dev/null
}

# http HOST: a small answer, by a connection of its own.
http() { [ "$(request "$1" small 5 | tail -n 1)" = hello ]; }

# large HOST: ten megabytes, unharmed.
large() { [ "$(request "$1" large 90 | tail -c 10485760 | md5sum)" = "$sum" ]; }

# echo_of HOST BYTES: a datagram there and back.
echo_of() {
    head -c "$2" /tmp/www/large >/tmp/datagram
    ip netns exec client socat -T2 -t2 - "UDP:$1:7007,readbytes=$2" </tmp/datagram 2>/dev/null | cmp -s - /tmp/datagram
}

# from_kernel HOST BYTES: a ping of the gateway's kernel.
from_kernel() { /bin/ping -c 1 -W 2 -s "$2" "$1" >/dev/null; }

# frames COPY: how many ports have it, zero-copy or copy.
frames() { ringway status --output json 2>/dev/null | grep -o "\"copy\": *\"$1\"" | wc -l; }

# ledger: what was received is what was sent, passed, held and dropped. One reading comes from several workers that go on, so that
# it is read until it agrees.
ledger() {
    ringway status | awk '$1 == "packets" { for (n = 2; n <= NF; n++) count[$(n + 1)] = $n
        exit !(count["received"] == count["forwarded"] + count["replied"] + count["passed"] + count["held"] + count["dropped"]) }'
}

# memory: the frames of the workers' packet memory that are free, those that ports have, and all. Where interfaces share a
# device, its ports would count for each.
memory() {
    ringway status --output json | tr -d ' \n' | grep -oE '"free":[0-9]+,"total":[0-9]+|"in(Receive|Transmit)":[0-9]+' |
        awk -F'[:,]' '/^"free/ { free += $2; all += $4 } /^"in/ { held += $2 } END { print free, held, all }'
}

# conserved: no frame is lost. Those of a port that was closed come back a moment later.
conserved() { memory | awk '{ exit !($3 > 0 && $1 + $2 == $3) }'; }

# received: how many packets Ringway has had.
received() { ringway status | awk '$1 == "packets" { print $2 }'; }

# all_works WHEN: the usual bed carries everything, and the kernel's own packets besides.
all_works() {
    within 30 http 198.51.100.10 || fail "$1: HTTP"
    within 10 http '[2001:db8::10]' || fail "$1: HTTP by IPv6"
    for size in 64 1472; do
        within 6 echo_of 198.51.100.10 $size || fail "$1: a datagram of $size bytes"
    done
    within 6 large 198.51.100.10 || fail "$1: ten megabytes"
    for host in 192.168.0.1 fd00:1::1 10.180.0.11; do
        within 6 from_kernel $host 1400 || fail "$1: the kernel's ping to $host"
    done
    within 5 ledger || fail "$1: the ledger is not closed"
}

# traffic HOST: some thousand datagrams a second, both ways, until calm.
traffic() {
    ip netns exec endpoint iperf3 --server --one-off --port 5302 >/dev/null 2>&1 &
    load_server=$!
    before=$(received)
    ip netns exec client sh -c 'until iperf3 --client '"$1"' --port 5202 --udp --bidir --parallel 4 --bitrate 1M --length 200 --time 600
        do sleep 0.2; done' >/tmp/load 2>&1 &
    load_client=$!
    within 20 flows_on "$((before + 1000))" || { cat /tmp/load; fail 'there is no traffic'; }
}
flows_on() { [ "$(received)" -gt "$1" ]; }
calm() {
    kill -9 "$load_client" "$load_server" $(pidof iperf3 | tr ' ' '\n' | while read -r pid; do
        grep -qs -- '--port.5[23]02' "/proc/$pid/cmdline" && echo "$pid"
    done) 2>/dev/null
}
