#: modules veth tun
#: programs socat
# What a worker passes goes on as the interface's own: a socket that is bound to the interface hears it, in native and in generic mode,
# over both families. In generic mode it meets the steering program again, which has to leave it alone.
. /scenarios/bed.sh
link front client 192.168.0.2 192.168.0.1 fd00:1::2 fd00:1::1
link native one 10.180.0.1 10.180.0.11 fd00:2::1 fd00:2::11
link generic two 10.181.0.1 10.181.0.11 fd00:3::1 fd00:3::11

{
    service one Cluster 10
    endpoint4=10.181.0.11 endpoint6=fd00:3::11
    service two Cluster 11
} >/tmp/objects.yaml
cat >/tmp/ringway.yaml <<'YAML'
nodeName: gw-1
source: {files: /tmp/objects.yaml}
node: {addresses: [192.168.0.2, "fd00:1::2"], podCIDRs: []}
interfaces: [{name: front}, {name: native, xdp: native}, {name: generic, xdp: generic}]
YAML
start

# count KEY: a number of the ledger that status begins with.
count() { ringway status --output json | grep -o "\"ledger\":{[^}]*" | head -n 1 | grep -o "\"$1\":[0-9]*" | sed 's/.*://'; }

# asks NAMESPACE INTERFACE FAMILY FROM TO: what an endpoint sends from the port that it serves on looks like an answer, so that it
# comes up, and is the kernel's.
asked=0
asks() {
    socat -u "UDP$3-RECVFROM:9999,so-bindtodevice=$2" "OPEN:/tmp/heard,creat,append" &
    listener=$!
    # It listens before it is asked.
    within 20 grep -q ':270F ' "/proc/net/udp${3%4}" || fail "nobody listens at $2"
    echo "$5" | ip netns exec "$1" socat -u - "UDP$3-SENDTO:$5:9999,bind=$4:5301"
    asked=$((asked + 1))
    within 20 grep -qF "$5" /tmp/heard || fail "a socket at $2 did not hear what came to $5"
    kill $listener 2>/dev/null
    wait $listener
}

rx=$(count rx) passed=$(count passed)
asks one native 4 10.180.0.11 10.180.0.1
asks one native 6 '[fd00:2::11]' '[fd00:2::1]'
asks two generic 4 10.181.0.11 10.181.0.1
asks two generic 6 '[fd00:3::11]' '[fd00:3::1]'
cat /tmp/heard

# Each by a worker, once.
settled() { [ "$(count rx)" = $((rx + asked)) ] && [ "$(count passed)" = $((passed + asked)) ]; }
within 10 settled || fail "received $rx and then $(count rx), passed $passed and then $(count passed), by $asked datagrams"
ringway status >/tmp/status
grep 'go on as' /tmp/status && fail "status says that they do not go on as the interface's own"
[ $failures -eq 0 ] || cat /tmp/status
finish
