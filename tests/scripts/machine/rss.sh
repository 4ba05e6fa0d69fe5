#: modules veth tun
#: programs iperf3 ethtool socat
#: network machine
#: nics 4
#: beds virtio-2@7 igb-2@7 igb-2
#: seconds 400
# Replies come to the queue of the worker that owns their flow: the SNAT port is chosen by the NIC's key and table. What is left
# to hand over is counted, for several keys. Where the key is not told (igb before 7.0) replies are handed over, and none is lost.
. /scenarios/nics.sh
gateway
web
configure '{name: g0}, {name: g1}'
start
within 20 http 198.51.100.10 || fail HTTP
within 6 http '[2001:db8::10]' || fail 'HTTP by IPv6'
within 6 echo_of 198.51.100.10 100 || fail 'a datagram'
within 6 echo_of '[2001:db8::10]' 100 || fail 'a datagram by IPv6'

# What is read of the NIC is told; a NIC that spread UDP by addresses was told to use ports.
told() { ringway status --output json 2>/dev/null; }
computed() { [ "$(told | grep -o '"computed": *true' | wc -l)" = 2 ]; }
unread() { ringway status | grep 'replies that come to another worker.s queue are handed over: '; }
another_than() { [ "$(told | grep -o '"networkGeneration": *[0-9]*')" != "$1" ]; }
by_ports() { ethtool -n g1 rx-flow-hash "$1" | grep -q 'bytes 0 & 1'; }
if [ $driver = igb ]; then
    for kind in udp4 udp6; do within 10 by_ports $kind || fail "$kind is not spread by ports"; done
fi

# No packet was without room on its way to another worker.
room() { ringway drops | awk '$2 == "handover_queue_full" { count = $1 } END { exit count > 0 }'; }
handed_over() { ringway status --output json | grep -o '"handedOver": *[0-9]*' | awk -F: '{ sum += $2 } END { print sum }'; }

# answered WHAT HOST OPTION ...: 40 flows at once whose packets are replies, and how many of them another worker had to be given.
# Each time from ports of its own: an established flow that a client's port comes back to keeps its SNAT port, which was chosen by
# the key of that time.
ports=10000
answered() {
    ports=$((ports + 100))
    what=$1
    shift
    before=$(handed_over)
    host=$1
    shift
    transfer "$host" 5201 -P 40 -R --cport $ports "$@" >/dev/null
    within 5 ledger || fail 'the ledger is not closed'
    room || fail "$what: the queue to another worker was full"
    count=$(($(handed_over) - before))
    echo "$what: $count packets handed over in 40 flows"
    if [ $readable = no ]; then
        [ "$count" -gt 0 ] || fail "$what: no reply came to another worker, as half of them should"
    else
        [ "$count" = 0 ] || fail "$what: replies came to another worker"
    fi
}

# The kernel's igb tells its key from 7.0 on.
readable=yes
ethtool -x g1 | grep -A1 'hash key' | grep -q ':.*:' || readable=no
if [ $readable = yes ]; then
    within 15 computed || { ringway status; fail 'status does not say that queues are computed'; }
else
    within 15 unread || fail 'status does not say that the key is not told'
fi
# Read again since it was told something.
ports_told() { [ "$(told | grep -o '"udp4": *"addresses and ports"' | wc -l)" = 2 ]; }
[ $driver != igb ] || [ $readable = no ] || within 15 ports_told || fail 'the ports of UDP went unnoticed'
# Always the same, the last one being that of Microsoft's examples: one in some dozen keys brings replies of so many ports in a row to
# one queue that now and then a flow takes a port that does not fit.
for key in c3:9a:51:0e:7b:e6:24:d8:3f:95:6c:b1:0a:d7:48:f2:1d:8e:63:b9:57:a4:2c:f0:86:1b:dd:39:72:ce:05:ab:94:68:e1:3d:5a:b7:26:9f \
    6d:5a:56:da:25:5b:0e:c2:41:67:25:3d:43:a3:8f:b0:d0:ca:2b:cb:ae:7b:30:b4:77:cb:2d:a3:80:30:f2:0c:6a:42:b7:3b:be:ac:01:fa; do
    generation=$(told | grep -o '"networkGeneration": *[0-9]*')
    if ethtool -X g1 hkey $key 2>/tmp/refused; then
        within 15 another_than "$generation" || fail 'another key went unnoticed'
    else
        echo "another key: $(cat /tmp/refused)"
    fi
    echo "key: $(ethtool -x g1 | grep -A1 'hash key' | tail -n 1)"
    for host in 198.51.100.10 2001:db8::10; do
        answered "TCP by $host" $host -n 4M
        answered "UDP by $host" $host --udp -b 100K -l 1000 -t 2
    done
done
within 5 ledger || fail 'the ledger is not closed'
[ $failures = 0 ] || { ringway status; ethtool -x g1; ethtool -n g1 rx-flow-hash tcp4; ethtool -n g1 rx-flow-hash udp4; }
if [ $driver = igb ]; then
    kill "$ringway"
    wait "$ringway" || fail "ringway run ended with exit status $?"
    by_ports udp4 && fail 'UDP is still spread by ports after the end'
    start
fi
finish
