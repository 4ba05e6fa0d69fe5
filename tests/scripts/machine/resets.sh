#: modules veth tun
#: programs ethtool socat iperf3
#: network machine
#: nics 4
#: beds igb-2 virtio-2
#: seconds 900
# A driver that resets its NIC under load, for whatever reason: a self-test, other descriptors, other queues. Ringway goes on by
# itself, the other interface all the while, and no frame is lost for good.
. /scenarios/nics.sh
gateway
web
configure '{name: g0}, {name: g1}'
start
all_works 'before'
fail_count() { grep -c panicked /tmp/log; }

# reset WHAT COMMAND ...: under load; what the driver refuses is said, and is no failure of ours.
reset() {
    what=$1
    shift
    traffic 198.51.100.10
    # A driver may never come back, and no signal reaches what waits in it.
    { "$@" >/tmp/told 2>&1; echo $? >/tmp/reset; } &
    within 120 test -s /tmp/reset || {
        fail "$what: the driver does not come back from: $*"
        sh /scenarios/stuck.sh
        cat /tmp/log
        exit 1
    }
    if [ "$(cat /tmp/reset)" = 0 ]; then echo "$what: done"; else echo "$what: refused: $(cat /tmp/told)"; fi
    rm /tmp/reset
    within 60 http 198.51.100.10 || { ringway status; fail "$what: HTTP"; }
    calm
    all_works "$what"
    within 30 conserved || fail "$what: frames are lost: $(memory)"
    ringway status | grep -iE 'stalled|problem|queue' | head -n 8
}
reset 'self-test' ethtool -t g0 online
# Not `ethtool -t g0 offline`: igb (6.18) never comes back from it while zero-copy sockets are bound. It cleans its test's ring in an
# endless loop (igb_diag_test, igb_free_tx_resources, igb_clean_tx_ring), with the lock that all of the node's networking waits for.
[ "$driver" != igb ] || reset 'descriptors' ethtool -G g0 rx 512 tx 512
reset 'one queue' ethtool -L g0 combined 1
reset 'two queues' ethtool -L g0 combined 2
reset 'down and up' sh -c 'ip link set g0 down; ip link set g0 up; ip addr add fd00:1::2/64 dev g0 nodad 2>/dev/null; true'
[ "$(fail_count)" = 0 ] || fail 'something panicked'
kill "$ringway"
wait "$ringway" || fail "ringway run ended with exit status $?"
grep -E 'WARN|ERROR' /tmp/log | sort | uniq -c | sort -rn | head -n 20
[ "$failures" -eq 0 ] || cat /tmp/log
exit "$failures"
