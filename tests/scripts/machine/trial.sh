#: modules veth tun
#: programs iperf3 ethtool socat
#: network machine
#: nics 4
#: beds virtio-1 virtio-1@7
#: seconds 400
# A driver that takes zero-copy and then does not carry it: virtio_net without a poll of its own for what is sent (ethtool -C
# tx-frames 0) lets sockets bind and never looks at their rings. Ringway finds out by itself, and copies frames there.
. /scenarios/nics.sh
gateway
web
# polls N: whether g0's driver polls for sent frames; it lets itself be told only while the link is down.
polls() {
    ip link set g0 down
    ethtool -C g0 tx-frames "$1" || fail "virtio_net cannot be told tx-frames $1"
    ip link set g0 up
}
is() { ringway status | grep "$1: " | grep -q "$2"; }
end() { kill "$ringway"; wait "$ringway" || fail "ringway run ended with exit status $?"; }

polls 0
configure '{name: g0}, {name: g1}'
start
[ "$(frames zero-copy)" = 2 ] || fail "the driver refuses zero-copy: $(frames zero-copy) ports have it"
within 30 is g0/0 'zero-copy did not transmit: ' || fail 'status does not say that g0 did not transmit'
[ "$(frames zero-copy) $(frames copy)" = '1 1' ] || fail "$(frames zero-copy) ports are zero-copy and $(frames copy) in copy mode"
all_works 'in copy mode'
large 198.51.100.10 || fail 'ten megabytes'
ringway status >/tmp/status || fail "ringway status: exit status $?"
cat /tmp/status
grep 'WARN' /tmp/log
grep -q 'WARN.*g0.* zero-copy did not transmit.*goes on in copy mode' /tmp/log || fail 'the log does not say why'
# The link goes and comes back: it is still not trusted.
ip link set g0 down
ip link set g0 up
all_works 'after the link was down'
[ "$(frames zero-copy) $(frames copy)" = '1 1' ] || fail "afterwards $(frames zero-copy) ports are zero-copy"
end

# Who insists is told that nothing leaves.
configure '{name: g0, zeroCopy: "on"}, {name: g1}'
start
http 198.51.100.10 && fail 'g0 sends without a poll'
stalled() { ringway status 2>&1 | grep 'g0 queue 0 is stalled: '; }
within 20 stalled || fail 'status does not say that g0 is stalled'
stalled
ringway status >/tmp/status
[ $? = 3 ] || fail 'status does not end with exit status 3'
grep -q 'WARN.*g0 queue 0 is stalled' /tmp/log || fail 'the log does not say that g0 is stalled'
end

# Without the fault zero-copy is tried again.
polls 1
configure '{name: g0}, {name: g1}'
start
all_works 'with the poll'
large 198.51.100.10 || fail 'ten megabytes with the poll'
[ "$(frames zero-copy)" = 2 ] || fail "with the poll $(frames zero-copy) ports are zero-copy"
[ $failures = 0 ] || { ringway status; ringway drops; }
finish
