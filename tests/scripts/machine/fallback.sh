#: modules veth tun
#: programs iperf3 ethtool socat
#: network machine
#: nics 4
#: beds virtio-1-no-iommu virtio-1-no-reset
# Where zero-copy cannot be, frames are copied, and status says what would have to change.
. /scenarios/nics.sh
gateway
web
configure '{name: g0}, {name: g1}'
start
[ "$(frames copy)" = 2 ] || fail "$(frames copy) ports are in copy mode"
within 20 http 198.51.100.10 || fail HTTP
within 6 http '[2001:db8::10]' || fail 'HTTP by IPv6'
for size in 64 1400 1472; do within 6 echo_of 198.51.100.10 $size || fail "a datagram of $size bytes"; done
from_kernel 192.168.0.1 1400 || fail "the kernel's ping"
large 198.51.100.10 || fail 'ten megabytes'
case $kind in
*-no-iommu) remedy=iommu_platform=on ;;
*-no-reset) remedy=queue_reset=on ;;
esac
ringway status >/tmp/status
grep 'g0/0: ' /tmp/status | grep -q "$remedy" || fail "status does not say $remedy"
[ $failures = 0 ] || cat /tmp/status
within 5 ledger || fail 'the ledger is not closed'
kill "$ringway"
wait "$ringway" || fail "ringway run ended with exit status $?"

# Who insists is told the same. Alone it ends the start; another interface is served all the same.
configure '{name: g0, zeroCopy: "on"}'
ringway run --config /tmp/ringway.yaml >/tmp/log 2>&1 && fail 'zeroCopy: on was taken'
cat /tmp/log
grep -q "$remedy" /tmp/log || fail "the error does not say $remedy"
configure '{name: g0, zeroCopy: "on"}, {name: g1}'
start
[ "$(frames copy)" = 1 ] || fail "$(frames copy) ports are in copy mode beside the one that is refused"
ringway status >/tmp/status
grep -q "$remedy" /tmp/status || { cat /tmp/status; fail "status does not say $remedy of what is refused"; }
kill "$ringway"
wait "$ringway" || fail "ringway run ended with exit status $?"
exit $failures
