#: modules veth tun bonding
#: programs iperf3 ethtool socat tcpdump
#: network machine
#: nics 6
#: beds virtio-1-paced
#: seconds 900
# How long a bond's failover takes from the line in the kernel's log until Ringway's packets take the other member, four times, and
# with a thousand other links there four times more. Where the machine's clock goes by its instructions (paced), each within 100 ms.
. /scenarios/nics.sh
nic 1 e1
nic 3 e2
nic 2 c1 client
nic 4 c2 client
nic 5 g1
nic 6 b0 endpoint
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
configure '{name: bond0}, {name: g1}'
# tcpdump asks who that is.
mkdir -p /etc
echo 'root:x:0:0:root:/:/bin/sh' >/etc/passwd

carried() {
    ringway status --output json | tr -d ' \n' | grep -o '"lowers":\[[^]]*\]' | head -n 1 | tr '}' '\n' |
        sed -n 's/.*"name":"\([^"]*\)".*"receives":true.*"sends":true.*/\1/p' | tr '\n' ' '
}
carries() { [ "$(carried)" = "$1 " ]; }
active() { [ "$(cat /sys/class/net/bond0/bonding/active_slave)" = "$1" ]; }
plugged() { [ "$(grep -c 'MII Status: up' /proc/net/bonding/bond0)" = 3 ]; }
lines() { grep -c "bond0 is carried by $1" /tmp/log; }
told() { [ "$(lines "$1")" -gt "$2" ]; }
# second: the second of the day of a line that begins with its time.
second() { sed 's/^[^ ]*\([0-9][0-9]\):\([0-9][0-9]\):\([0-9.]*[0-9]\).*/\1 \2 \3/' | awk '{ printf "%.6f", $1 * 3600 + $2 * 60 + $3 }'; }

# failover WHEN FROM TO: pulls the cable of FROM, and says when what happened.
failover() {
    within 20 plugged || fail "$1: not both members have a link"
    within 20 carries "e$2" || fail "$1: not carried by e$2, but by $(carried)"
    before=$(lines "e$3")
    ip -ts monitor link dev bond0 >/tmp/monitor &
    monitor=$!
    ip netns exec client tcpdump -Z root -i "c$3" -n -c 1 'udp and src host 198.51.100.10' >/tmp/first 2>/tmp/tcpdump &
    dump=$!
    within 20 grep -q listening /tmp/tcpdump
    sleep 1
    cable $((2 * $2 - 1)) off
    within 20 active "e$3" || fail "$1: the bond did not go on to e$3"
    within 20 told "e$3" "$before" || fail "$1: Ringway did not go on to e$3"
    sleep 1
    kill $monitor $dump 2>/dev/null
    # The clock of the kernel's log is another, and may go at another pace; what differs most was written to it at once.
    for n in 1 2 3 4 5 6; do
        adjtimex | awk '/tv_sec/ { s = $2 } /tv_usec/ { printf "clock %s.%06d\n", s, $2 }' >/dev/kmsg
    done
    known=$(dmesg | sed 's/^\[ *//; s/\]//' | awk '/ clock [0-9.]+$/ && $NF - $1 > ahead { ahead = $NF - $1 }
        /slave e'"$3"'.*new active/ { known = $1 } END { printf "%.6f", (known + ahead) % 86400 }')
    dmesg -c >/dev/null
    # Before the time of a message stand those of others, which are not shown.
    echo "$known $(grep FAILOVER /tmp/monitor | head -n 1 | sed 's/\] [0-9]*: .*//; s/.*\[//' | second) $(grep "bond0 is carried by e$3" /tmp/log | tail -n 1 | second) $(second </tmp/first)" |
        awk -v when="$1" -v paced="${kind##*-}" '{
            printf "%s, after the line in the kernel'"'"'s log: told by netlink %.1f ms, carried by the other %.1f ms, the first packet there %.1f ms\n",
                when, ($2 - $1) * 1000, ($3 - $1) * 1000, ($4 - $1) * 1000
            exit paced == "paced" && $3 - $1 > 0.1 }' || fail "$1: that takes longer than 100 ms"
    cable $((2 * $2 - 1)) on
}

start
within 30 http 198.51.100.10 || fail 'HTTP'
ip netns exec endpoint iperf3 --server --one-off --port 5302 >/dev/null 2>&1 &
ip netns exec client sh -c 'until iperf3 --client 198.51.100.10 --port 5202 --udp --reverse --bitrate 800K --length 200 --time 800
    do sleep 0.2; done' >/tmp/datagrams 2>&1 &
within 30 flows_on $(($(received) + 500)) || fail 'there is no traffic'
one=1 two=2
if ! active e1; then one=2 two=1; fi
for n in 1 2; do
    failover 'failover' $one $two
    failover 'failover' $two $one
done
for n in $(seq 500); do echo "link add n$n type veth peer name m$n"; done | ip -batch - || fail 'no more links'
for n in 1 2; do
    failover 'failover among 1,000 links' $one $two
    failover 'failover among 1,000 links' $two $one
done
[ "$failures" -eq 0 ] || cat /tmp/log
exit "$failures"
