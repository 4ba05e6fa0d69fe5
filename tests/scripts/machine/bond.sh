#: modules veth tun 8021q bonding
#: programs iperf3 ethtool socat tcpdump
#: network machine
#: nics 6
#: beds virtio-1 veth-1 igb-1
#: seconds 900
# Bonds as servers have them. NICs 1 and 3 are the gateway's bond0, their other ends those of the client; NIC 5 leads to the
# endpoint. First active-backup, with cables that are pulled under traffic, then the modes that send by all members, 802.3ad
# with LACP at both ends; a VLAN device above, members that go and come back, and the modes that are refused.
. /scenarios/nics.sh
nic 1 e1
nic 3 e2
nic 2 c1 client
nic 4 c2 client
nic 5 g1
nic 6 b0 endpoint
address g1 10.180.0.1 fd00:2::1
address b0 10.180.0.11 fd00:2::11 endpoint

# bonded MODE [OPTION ...]: bond0 at both ends, with the usual addresses.
bonded() {
    for at in '' '-n client'; do
        ip $at link del bond0 2>/dev/null
        ip $at link add bond0 type bond mode "$@" miimon 50
        if [ -z "$at" ]; then members='e1 e2'; else members='c1 c2'; fi
        for name in $members; do
            ip $at link set "$name" down
            case $driver in
            # LACP takes only links whose speed it knows.
            virtio) ${at:+ip netns exec client} ethtool -s "$name" speed 1000 duplex full ;;
            # XDP does not see tags that a veth's other end keeps apart from frames.
            veth) ${at:+ip netns exec client} ethtool -K "$name" tx-vlan-hw-insert off >/dev/null ;;
            esac
            ip $at link set "$name" master bond0
            ip $at link set "$name" up
        done
        ip $at link set bond0 up
        ip $at link add link bond0 name bond0.100 type vlan id 100
        ip $at link set bond0.100 up
    done
    address bond0 192.168.0.2 fd00:1::2
    address bond0 192.168.0.1 fd00:1::1 client
    address bond0.100 192.168.9.2 fd00:9::2
    address bond0.100 192.168.9.1 fd00:9::1 client
    ways
}

# in_vlan WHEN: the same Service, by the VLAN above the bond.
in_vlan() {
    ip -n client route replace 198.51.100.10/32 via 192.168.9.2
    within 10 http 198.51.100.10 || fail "$1: HTTP in the VLAN above the bond"
    within 6 large 198.51.100.10 || fail "$1: ten megabytes in the VLAN above the bond"
    ip -n client route del 198.51.100.10/32
}

# carried: the devices of the first interface in use, as status tells: e1 receives and sends.
carried() {
    ringway status --output json | tr -d ' \n' | grep -o '"lowers":\[[^]]*\]' | head -n 1 | tr '}' '\n' |
        sed -n 's/.*"name":"\([^"]*\)".*"receives":true.*"sends":true.*/\1/p' | tr '\n' ' '
}
carries() { [ "$(carried)" = "$1 " ]; }
# arrived N: what came by the client's member N. Drivers do not count what AF_XDP sockets send without a copy.
arrived() { ip -n client -s link show "c$1" | awk 'rx { print $2; exit } /RX:/ { rx = 1 }'; }
# use N: both ends go on to their member N.
use() {
    ip link set bond0 type bond active_slave "e$1" &&
        ip -n client link set bond0 type bond active_slave "c$1"
}
# goes_on N: so, and it stays so. igb's link goes for seconds when Ringway is attached to it, and the bond leaves it for that.
goes_on() { use "$1" && sleep 1 && carries "e$1"; }

bonded active-backup
web
configure '{name: bond0}, {name: g1}, {name: bond0.100}'
ringway check --config /tmp/ringway.yaml || fail 'check'
start
# Each end chose its member by itself, and what one sends by its own, nobody takes from the other's backup.
within 40 goes_on 1 || fail "member 1 was made active, and $(carried) carries"
all_works 'active-backup'
ringway status
ip netns exec endpoint iperf3 --server --one-off --port 5302 >/dev/null 2>&1 &

# The active member's cable is pulled while a connection runs, and datagrams come back without a pause.
timeout 90 ip netns exec client iperf3 --client 198.51.100.10 --port 5201 --time 15 --interval 1 >/tmp/transfer 2>&1 &
transfer=$!
timeout 90 ip netns exec client iperf3 --client 198.51.100.10 --port 5202 --udp --reverse --bitrate 800K --length 200 --time 12 >/tmp/datagrams 2>&1 &
datagrams=$!
within 20 flows_on $(($(received) + 1000)) || fail 'the connection does not run'
before=$(arrived 2)
ip -ts monitor link dev bond0 >/tmp/monitor &
monitor=$!
# It asks who that is.
mkdir -p /etc
echo 'root:x:0:0:root:/:/bin/sh' >/etc/passwd
ip netns exec client tcpdump -Z root -i c2 -n -c 1 'udp and src host 198.51.100.10' >/tmp/first 2>/tmp/tcpdump &
sleep 2
cable 1 off
within 10 carries e2 || fail "failover: $(carried) carries, the active member is $(cat /sys/class/net/bond0/bonding/active_slave)"
# The clock of the kernel's log is another, and goes at another pace; what differs most was written to it at once.
for n in 1 2 3 4 5 6; do
    adjtimex | awk '/tv_sec/ { s = $2 } /tv_usec/ { printf "clock %s.%06d\n", s, $2 }' >/dev/kmsg
done
for process in $transfer $datagrams; do
    wait $process || { cat /tmp/transfer /tmp/datagrams; fail 'a connection did not outlive the failover'; }
done
kill $monitor
grep -E 'sec|receiver' /tmp/transfer | tail -n 17
[ "$(arrived 2)" -gt $((before + 100)) ] || fail 'nothing was sent by e2'

# second: the second of the day of a line that begins with its time.
second() { sed 's/^[^ ]*\([0-9][0-9]\):\([0-9][0-9]\):\([0-9.]*[0-9]\).*/\1 \2 \3/' | awk '{ printf "%.6f", $1 * 3600 + $2 * 60 + $3 }'; }
known=$(dmesg | sed 's/^\[ *//; s/\]//' | awk '/ clock [0-9.]+$/ && $NF - $1 > ahead { ahead = $NF - $1 }
    /slave e2.*new active/ { known = $1 } END { printf "%.6f", (known + ahead) % 86400 }')
# Before the time of a message stand those of others, which are not shown.
echo "$known $(grep FAILOVER /tmp/monitor | head -n 1 | sed 's/\] [0-9]*: .*//; s/.*\[//' | second) $(grep 'bond0 is carried by e2' /tmp/log | tail -n 1 | second) $(second </tmp/first)" |
    awk '{ printf "failover, after the line in the kernel'"'"'s log: told by netlink %.1f ms, carried by e2 %.1f ms, the first packet there %.1f ms\n",
        ($2 - $1) * 1000, ($3 - $1) * 1000, ($4 - $1) * 1000 }'

[ -s /tmp/first ] || cat /tmp/tcpdump
all_works 'after the failover'
in_vlan 'after the failover'
cable 1 on
# And by command, back and forth.
for number in 1 2 1; do
    within 10 use $number || fail "member $number cannot be made active"
    within 5 carries e$number || fail "e$number was made active, and $(carried) carries"
    within 10 http 198.51.100.10 || fail "HTTP by e$number"
done
# A member leaves and comes back.
ip link set e1 nomaster
within 5 ip -n client link set bond0 type bond active_slave c2
within 5 carries e2 || fail "e1 left, and $(carried) carries"
all_works 'with one member'
ip link set e1 down
ip link set e1 master bond0
ip link set e1 up
within 40 goes_on 1 || fail "e1 came back, and $(carried) carries"
all_works 'with both again'
end() { kill "$ringway"; wait "$ringway" || fail "ringway run ended with exit status $?"; }
end

# The modes that send by all members.
agreed() { [ "$(grep -c 'port state: 6[13]' /proc/net/bonding/bond0)" -ge 4 ]; }
for mode in '802.3ad lacp_rate fast xmit_hash_policy layer3+4' 'balance-xor xmit_hash_policy layer3+4' balance-rr; do
    # shellcheck disable=SC2086 # one word each
    bonded $mode
    mode=${mode%% *}
    [ $mode != 802.3ad ] || within 30 agreed || { cat /proc/net/bonding/bond0; fail 'no LACP between the ends'; }
    configure '{name: bond0}, {name: g1}, {name: bond0.100}'
    start
    within 10 carries 'e1 e2' || { ringway status; fail "$mode: $(carried) carries"; }
    all_works $mode
    one=$(arrived 1) two=$(arrived 2)
    for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do http 198.51.100.10 || fail "$mode: HTTP number $n"; done
    one=$(($(arrived 1) - one)) two=$(($(arrived 2) - two))
    echo "$mode: 16 connections, $one packets by e1, $two by e2"
    [ $one -gt 10 ] && [ $two -gt 10 ] || fail "$mode: one member sent everything"
    in_vlan $mode
    # One member fails, and comes back.
    cable 1 off
    within 10 carries e2 || fail "$mode: e1 failed, and $(carried) carries"
    all_works "$mode with one member"
    cable 1 on
    within 40 carries 'e1 e2' || { cat /proc/net/bonding/bond0; fail "$mode: e1 is back, and $(carried) carries"; }
    all_works "$mode with both again"
    ringway status
    end
done

# A member beside its bond, and modes that choose ways by rules of their own.
configure '{name: bond0}, {name: e1}'
timeout 20 ringway run --config /tmp/ringway.yaml >/tmp/out 2>&1
[ $? = 2 ] && grep -q 'member of the bond bond0' /tmp/out || { cat /tmp/out; fail 'a member beside its bond'; }
for mode in balance-tlb balance-alb broadcast; do
    bonded $mode
    configure '{name: bond0}, {name: g1}'
    timeout 20 ringway run --config /tmp/ringway.yaml >/tmp/out 2>&1
    [ $? = 2 ] && grep -q "in mode $mode" /tmp/out || { cat /tmp/out; fail "mode $mode is not refused"; }
done
[ "$failures" -eq 0 ] || cat /tmp/log
exit "$failures"
