#: modules veth tun bonding
#: programs ethtool socat
#: network machine
#: nics 8
#: beds igb-1
#: seconds 600
# A bond fails over while other NICs are being opened: igb restarts its link for each, which takes it seconds. Workers know of the
# bond's other member before all of them are open.
. /scenarios/nics.sh
nic 1 e1
nic 3 e2
nic 2 c1 client
nic 4 c2 client
nic 5 g1
nic 6 b0 endpoint
nic 7 x1
nic 8 x2
address g1 10.180.0.1 fd00:2::1
address b0 10.180.0.11 fd00:2::11 endpoint
for at in '' '-n client'; do
    ip $at link add bond0 type bond mode active-backup miimon 50
    if [ -z "$at" ]; then members='e1 e2'; else members='c1 c2'; fi
    for name in $members; do
        ip $at link set "$name" down
        ip $at link set "$name" master bond0
        ip $at link set "$name" up
    done
    ip $at link set bond0 up
done
address bond0 192.168.0.2 fd00:1::2
address bond0 192.168.0.1 fd00:1::1 client
ways
web
# Packet memory is set aside at the start, for all of them.
configure '{name: bond0}, {name: g1}, {name: x1}, {name: x2}'
start
configure '{name: bond0}, {name: g1}'
ringway reload || fail 'ringway reload without x1 and x2'
for end in '' 'ip netns exec client'; do
    if [ -z "$end" ]; then member=e1; else member=c1; fi
    use_first() { $end ip link set bond0 type bond active_slave $member; }
    within 20 use_first || fail "$member cannot be made active"
done
# said WHAT: in the log, after what stood there when the last reload began.
seen=0
said() { tail -n +$((seen + 1)) /tmp/log | grep -n "$1"; }
within 10 said 'attached to bond0 by' || fail 'bond0 is not attached'
all_works 'by the first member'

ip -ts monitor link dev bond0 >/tmp/monitor &
monitor=$!
configure '{name: bond0}, {name: g1}, {name: x1}, {name: x2}'
seen=$(wc -l </tmp/log)
ringway reload >/tmp/reload 2>&1 &
reload=$!
# The driver is done with the offload, and not with XDP.
within 60 said 'x1: switched receive VLAN offload off' || fail 'nothing is done to x1'
ip link set bond0 type bond active_slave e2
ip -n client link set bond0 type bond active_slave c2
within 60 said 'attached to x2' || fail 'x2 is not attached'
wait $reload || { cat /tmp/reload; fail 'ringway reload'; }
kill $monitor
followed=$(said 'bond0 is carried by e2' | tail -n 1 | cut -d: -f1)
opened=$(said 'attached to x2' | head -n 1 | cut -d: -f1)
[ "${followed:-9999}" -lt "${opened:-0}" ] || fail 'bond0 was followed only when the other NICs were open'
echo 'what the kernel told, and the log:'
grep FAILOVER /tmp/monitor | head -n 2
grep -E 'bond0 is carried|attached to x|switched' /tmp/log
all_works 'by the second member'
kill "$ringway"
wait "$ringway" || fail "ringway run ended with exit status $?"
[ "$failures" -eq 0 ] || cat /tmp/log
exit "$failures"
