#: modules veth tun 8021q
#: programs ethtool socat
#: network machine
#: nics 4
#: beds igb-2@7
#: seconds 600
# What happens to devices while Ringway runs: queues that somebody adds, a NIC that is renamed, one that goes to another network
# namespace and comes back, a veth with a VLAN device above it; and an end that waits for drivers and puts everything back.
. /scenarios/nics.sh
gateway
web
for name in g0 g1; do ethtool -L $name combined 1; done
configure '{name: g0}, {name: g1}'
ringway run --config /tmp/ringway.yaml >/tmp/log 2>&1 &
ringway=$!
within 240 grep -q 'ready: ' /tmp/log || { cat /tmp/log; cat /proc/$ringway/task/*/stack; ip link; fail 'ringway run is not ready'; exit 1; }
all_works 'one queue each'
strips() { ethtool -k "$1" | grep -q '^rx-vlan-offload: on'; }
hides() { strips "$1" && return 1; return 0; }
said() { grep -q "$1" /tmp/log; }
hides g0 || fail 'g0 takes tags off'

# More queues than packet memory was laid out for.
for name in g0 g1; do ethtool -L $name combined 2; done
polled() { ringway status --output json | tr -d ' \n' | grep -o '"queue":' | wc -l; }
four() { [ "$(polled)" = 4 ]; }
within 30 four || { ringway status; fail "$(polled) of 4 queues are polled"; }
all_works 'two queues each'
ringway status
ringway status | grep -q 'each of its 2 queues has rings of' || fail 'status does not say that rings are smaller'
echo "fewer queues: $(ethtool -L g0 combined 1 2>&1)"

# A NIC that is renamed is put back, and taken again under its name.
ip link set g0 down
ip link set g0 name lan0
within 20 said 'let go of g0: it was renamed to lan0' || fail 'the log does not say that g0 was renamed'
within 20 strips lan0 || fail 'lan0 does not take tags off again'
ip link set lan0 name g0
ip link set g0 up
ways
all_works 'g0 has its name again'

# One that goes away is told of, and put back in the end.
ip netns add elsewhere
ip link set g0 netns elsewhere
within 20 said 'g0 left this network namespace with receive VLAN offload off: switch it on where it is now (ethtool -K g0 rxvlan on)' ||
    fail 'the log does not say what to do'
cat /run/ringway/nic-settings
ip -n elsewhere link set g0 netns 1
address g0 192.168.0.2 fd00:1::2
ip link set g0 up
ways
all_works 'g0 is back'
cat /run/ringway/nic-settings

# A veth hides the tags of frames.
ip link add v0 type veth peer name peer0
ip link set peer0 up
ip link set v0 up
configure '{name: g0}, {name: g1}, {name: v0}'
ringway reload || fail 'ringway reload'
within 20 said 'attached to v0' || fail 'a veth is not attached'
ip link add link v0 name v0.7 type vlan id 7
refused() { ringway status | grep -q 'keeps tags apart from the bytes that XDP sees.*v0.7'; }
within 30 refused || { ringway status; fail 'a veth with a VLAN device above it is not refused'; }
ip link del v0

start=$(date +%s)
kill "$ringway"
wait "$ringway" || fail "ringway run ended with exit status $?"
echo "the end took $(($(date +%s) - start)) s"
for name in g0 g1; do strips $name || fail "$name does not take tags off after the end"; done
[ -e /run/ringway/nic-settings ] && fail 'settings are noted after the end'
[ "$failures" -eq 0 ] || cat /tmp/log
exit "$failures"
