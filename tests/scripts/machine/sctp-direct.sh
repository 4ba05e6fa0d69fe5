#: modules veth tun sctp
#: programs ringway-sctp
# SCTP between real stacks: a client's port used through a VIP and straight to the same endpoint at once, in both orders and both
# families, with kept and rewritten sources; and associations that go on whatever a forger sends in their client's name.
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
for address in 10.180.0.11:5301 '[fd00:2::11]:5301'; do
    ip netns exec endpoint ringway-sctp echo "$address" &
done
within 10 ip netns exec endpoint grep -q 5301 /proc/net/sctp/eps || fail "no echo"
start

port=40000
sctp() { ip netns exec client ringway-sctp "$@"; }
for pair in '10.180.0.11:5301 198.51.100.10:5201' '10.180.0.11:5301 198.51.100.11:5201' \
    '[fd00:2::11]:5301 [2001:db8::10]:5201' '[fd00:2::11]:5301 [2001:db8::11]:5201'; do
    straight=${pair% *} through=${pair#* }
    for order in "$through $straight" "$straight $through"; do
        port=$((port + 1))
        # shellcheck disable=SC2086 # two words
        if sctp together "$port" $order; then echo "port $port: $order: both"; else fail "from port $port: $order"; fi
        # And again, long before the first are forgotten.
        # shellcheck disable=SC2086
        sctp together "$port" $order || fail "again from port $port: $order"
    done
done

for through in 198.51.100.10:5201 198.51.100.11:5201 '[2001:db8::10]:5201' '[2001:db8::11]:5201'; do
    port=$((port + 1))
    sctp steady "$port" "$through" /tmp/steady &
    steady=$!
    within 30 test -s /tmp/steady || { fail "no association with $through"; continue; }
    for forged in abort init abort init init abort; do
        sctp forge "$forged" "$port" "$through" || fail "cannot forge"
        sleep 1
    done
    ringway flows 2>/dev/null | grep ":$port " | head -n 2
    # Longer than what is left of an association that has ended.
    sleep 12
    rm /tmp/steady
    if wait "$steady"; then echo "port $port: $through goes on"; else fail "$through from port $port ended"; fi
done
finish
