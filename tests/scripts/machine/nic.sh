#: modules veth tun
#: programs ethtool
#: network machine
#: nics 4
#: beds virtio-1 virtio-1-no-iommu virtio-1-no-reset virtio-2 igb-2
#: seconds 400
# What ringway nic says of NICs that have hardware, or what passes for it; and that what it says to do helps.
. /scenarios/nics.sh
gateway

# findings SEVERITY: the commands of those findings at g0.
findings() {
    ringway nic g0 --output json | grep -o "\"severity\":\"$1\",\"text\":\"[^\"]*\",\"command\":\"[^\"]*\"" |
        sed 's/.*"command":"\(.*\)"$/\1/'
}

up() { [ "$(cat /sys/class/net/g0/carrier)" = 1 ]; }
within 10 up || fail "g0 has no carrier"
ringway nic g0 >/tmp/nic || fail "ringway nic: exit status $?"
cat /tmp/nic
told() { grep -q "$1" /tmp/nic || fail "it does not say: $1"; }
told "^queues      $queues of "
told '^rings       [0-9]* of '
told '^XDP         basic redirect'
told '^interrupts  .*on CPU'
told '^CPUs        workers.cpus: \['
case "$kind" in
virtio-1 | virtio-2) told '^zero-copy   yes: virtio_net announces it$' ;;
virtio-1-no-iommu) told '^zero-copy   no: .*iommu_platform' ;;
virtio-1-no-reset) told '^zero-copy   no: .*queue_reset' ;;
igb-2)
    told '^zero-copy   yes: igb announces it$'
    told '^g0          igb .*0000:'
    told '^hashed      tcp4 addresses and ports; udp4 addresses; '
    told '^NOTE   igb restarts its link'
    [ "$(findings slow)" = 'ethtool -G g0 rx 2048' ] || fail "to be changed: $(findings slow)"
    ;;
esac
[ "$queues" = 1 ] || told "^RSS         toeplitz, .*table of [0-9]*: [0-9]* [0-9]* by queue"

findings slow >/tmp/commands
while read -r command; do
    echo "+ $command"
    eval "$command" || fail "$command: exit status $?"
done </tmp/commands
[ -z "$(findings slow)" ] || fail "still to be changed: $(findings slow)"
ringway nic || fail "ringway nic for all: exit status $?"
[ $failures = 0 ]
