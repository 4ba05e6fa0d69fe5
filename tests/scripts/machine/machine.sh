# Virtual machines for tests: another kernel than this machine's, with modules and devices that a namespace cannot have.
# To be sourced by bash; ../kernels.sh and ../zero-copy.sh use it. No hardware virtualization and no root are needed, only QEMU.
#
# A machine is a kernel of Debian's packages and one initramfs. In it init (see there) runs scenarios one after the other. A
# scenario is a script in this folder, NAME.sh; it passes when its exit status is 0, and says itself what failed. What it needs
# stands in its first comment, one line each:
#
#     #: modules veth vrf ipip     kernel modules; those that they need come by themselves
#     #: programs iperf3 ethtool   programs of this machine, with their libraries; built ones of target/ by their name
#     #: network machine           runs among the machine's own devices, and not in a network namespace of its own
#     #: seconds 120               how long it may take; 300 otherwise
#     #: nics 4                    NICs that the machine has: the first two are the ends of one cable, the next two of another
#     #: beds virtio-1 igb-2@7     of which kind they are, a machine for each (machine_bed says the kinds); on Linux 6.18, or on
#                                  the series that is named
#
# Every machine has busybox, dash as sh, ip, and ringway. A scenario has /run, /tmp and its processes to itself, so it need
# not clean up. bed.sh has what most of them begin with: `. /scenarios/bed.sh`; nics.sh has it for NICs.

machine_folder="$(dirname "${BASH_SOURCE[0]}")"
machine_target="${CARGO_TARGET_DIR:-$machine_folder/../../../target}"
mkdir -p "$machine_target"
machine_target="$(cd "$machine_target" && pwd)"
machine_ringway="${RINGWAY_BIN:-$machine_target/release/ringway}"

machine_say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
machine_die() { machine_say "$*"; exit 1; }

# machine_archive: apt's options for Debian's archive with the newest kernels, apart from what this machine installs from.
machine_archive() {
    local folder="$machine_target/kernels/archive" mirror keys=/usr/share/keyrings/debian-archive-keyring.gpg suite
    mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -m1 '/debian/$' || true)"
    mkdir -p "$folder/lists/partial"
    for suite in bookworm bookworm-backports trixie trixie-backports; do
        printf 'deb [signed-by=%s] %s %s main\n' "$keys" "${mirror:-http://deb.debian.org/debian/}" "$suite"
    done >"$folder/sources.list"
    machine_apt=(-o "Dir::Etc::sourcelist=$folder/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$folder/lists"
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User= -o Acquire::Languages=none)
    # A day old is new enough; where the archive cannot be reached, what it had the last time is.
    [[ -n "$(find "$folder/updated" -mmin -1440 2>/dev/null)" ]] && return
    if apt-get "${machine_apt[@]}" -qq -o APT::Update::Error-Mode=any update >&2; then
        touch "$folder/updated"
    elif [[ -e "$folder/updated" ]]; then
        machine_say "cannot read Debian's archive at ${mirror:-deb.debian.org}: going on with what it had on $(date -r "$folder/updated" +%F)"
    else
        machine_die "cannot read Debian's archive at ${mirror:-deb.debian.org}"
    fi
}

# machine_fetch SERIES [FLAVOUR]: the newest kernel of a series (6.12, or 7 for any 7.x), fetched and unpacked below target/
# unless it is there. FLAVOUR is cloud- (the default) or empty for that with all drivers. Sets machine_kernel to its folder, with
# vmlinuz and modules/, and machine_version; returns 1 if the archive has none.
machine_fetch() {
    local series="$1" flavour="${2-cloud-}" name package parts=()
    machine_archive
    name="$(apt-cache "${machine_apt[@]}" search --names-only "^linux-image-${series//./\\.}\.[0-9.]*[-+][^ ]*amd64\$" |
        cut -d' ' -f1 | grep -E "linux-image-[0-9.]+[-+][a-z0-9.]+-${flavour}amd64\$" | sort -V | tail -n 1)"
    [[ -n "$name" ]] || return 1
    machine_version="${name#linux-image-}"
    machine_kernel="$machine_target/kernels/$machine_version"
    [[ ! -e "$machine_kernel/vmlinuz" ]] || return 0
    machine_say "fetching $name"
    # Newer packages have the kernel itself and its modules in two others.
    for package in "$name" "linux-binary-$machine_version" "linux-modules-$machine_version"; do
        apt-cache "${machine_apt[@]}" show "$package" >/dev/null 2>&1 && parts+=("$package")
    done
    machine_unpacking="$(mktemp -d "$machine_target/kernels/unpacking-XXXXXX")"
    # Nothing in it ends by set -e, since what follows asks for its status.
    (
        cd "$machine_unpacking" &&
            apt-get "${machine_apt[@]}" -qq download "${parts[@]}" &&
            for package in ./*.deb; do dpkg-deb -x "$package" root || exit; done &&
            mv "$(find root -name 'vmlinuz*' -type f | head -n 1)" vmlinuz &&
            mkdir -p tree/lib/modules &&
            mv "$(find root -type d -path "*lib/modules/$machine_version")" tree/lib/modules/ &&
            depmod -b "$PWD/tree" "$machine_version" 2>/dev/null &&
            rm -rf root ./*.deb
    ) >&2 || machine_die "cannot fetch ${parts[*]}"
    mv "$machine_unpacking" "$machine_kernel"
}

# machine_qemu: sets machine_emulator to the command of a QEMU that is 10 or newer: this machine's, else that of Debian 13,
# which is fetched with its libraries and unpacked below target/. Older ones have no igb (before 8.0), and stop virtio queues
# that AF_XDP has bound. QEMU=COMMAND takes another.
machine_qemu() {
    local qemu="${QEMU:-qemu-system-x86_64}" folder="$machine_target/qemu" libraries version packages
    machine_emulator=("$qemu")
    version="$("$qemu" --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9]*\).*/\1/p')"
    [[ -z "${QEMU:-}" ]] && ((${version:-0} < 10)) || return 0
    libraries="$folder/root/usr/lib/x86_64-linux-gnu"
    if [[ ! -e "$folder/complete" ]]; then
        machine_archive
        machine_say "this machine's QEMU is ${version:-missing}: fetching a newer one"
        rm -rf "$folder"
        mkdir -p "$folder"
        # As if nothing were installed, so that every library comes along.
        : >"$folder/status"
        packages="$(apt-get "${machine_apt[@]}" -o Dir::State::status="$folder/status" --no-install-recommends --simulate \
            install qemu-system-x86 | sed -En 's/^Inst ((lib|zlib|qemu|seabios)[^ ]*) \(([^ ]*).*/\1=\3/p')"
        [[ -n "$packages" ]] || machine_die "the archive has no qemu-system-x86"
        # shellcheck disable=SC2086 # one word each
        (
            cd "$folder" &&
                apt-get "${machine_apt[@]}" -qq download $packages &&
                for package in ./*.deb; do dpkg-deb -x "$package" root || exit; done &&
                rm ./*.deb
        ) >&2 || machine_die "cannot fetch QEMU from Debian's archive"
        touch "$folder/complete"
    fi
    # Its own linker and libraries; and where it looks for firmware, which otherwise depends on where it lies.
    machine_emulator=("$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$folder/root/usr/bin/qemu-system-x86_64"
        -L "$folder/root/usr/share/qemu" -L "$folder/root/usr/share/seabios")
}

# machine_bed KIND COUNT: COUNT NICs for the machines that are made from now on. KIND is DRIVER-QUEUES: virtio-1, virtio-2,
# igb-1, igb-2; or virtio-1 without what its zero-copy takes, as older QEMUs and many hosts have it: virtio-1-no-iommu,
# virtio-1-no-reset; or veth-1, which nics.sh makes in the machine. With -paced after it, the machine's clock goes by what it executes,
# a nanosecond an instruction, so that times are those of a slow real CPU, whatever else this machine does; PACED=1 does it for
# any. NIC number N has the MAC address 52:54:00:00:00:0N. Sets machine_flavour, of the kernel that has the driver.
machine_bed() {
    local kind="$1" count="$2" options='' number
    machine_kind="$kind" machine_taps=0 machine_devices=() machine_nic_modules=() machine_flavour=cloud-
    machine_clock=(-accel "tcg,thread=multi")
    [[ "$kind" != *-paced && -z "${PACED:-}" ]] || machine_clock=(-accel "tcg,thread=single" -icount shift=0)
    kind="${kind%-paced}"
    case "$kind" in
    virtio-1) options=iommu_platform=on ;;
    virtio-1-no-iommu) options=iommu_platform=off ;;
    virtio-1-no-reset) options=iommu_platform=on,queue_reset=off ;;
    virtio-2)
        options=iommu_platform=on,mq=on,vectors=6,rss=on
        machine_taps="$count"
        ;;
    # A queue for each CPU; the scenario takes fewer.
    igb-[12]) machine_flavour='' ;;
    veth-1)
        machine_nic_modules=(veth)
        return
        ;;
    *) machine_die "no NICs of the kind $kind are known" ;;
    esac
    for ((number = 1; number <= count; number++)); do
        if ((machine_taps)); then
            machine_devices+=(-netdev "tap,id=h$number,ifname=t$number,script=no,downscript=no,queues=2,vhost=off")
        else
            machine_devices+=(-netdev "hubport,id=h$number,hubid=$(((number + 1) / 2))")
        fi
        if [[ "$kind" == igb-* ]]; then
            machine_devices+=(-device "pcie-root-port,id=port$number,chassis=$number,slot=$number"
                -device "igb,netdev=h$number,mac=52:54:00:00:00:0$number,romfile=,bus=port$number")
        else
            machine_devices+=(-device "virtio-net-pci,netdev=h$number,mac=52:54:00:00:00:0$number,romfile=,disable-legacy=on,$options")
        fi
    done
    if [[ "$kind" == igb-* ]]; then machine_nic_modules=(igb); else machine_nic_modules=(virtio_net); fi
}

# machine_cables COUNT: sets machine_within to what runs a command where the TAP devices t1 to tCOUNT are, each pair of them the ends
# of one cable: in a network namespace of its own, which takes root or user namespaces.
machine_cables() {
    machine_within=(unshare --net)
    [[ "$(id -u)" == 0 ]] || machine_within=(unshare --map-root-user --net)
    "${machine_within[@]}" test -w /dev/net/tun 2>/dev/null || machine_die "NICs with two queues take ${machine_within[*]} and \
/dev/net/tun, of which user $(id -u) may not use one: run as root, or leave them out"
    # shellcheck disable=SC2016 # for the inner bash
    machine_within+=(bash -euc '
        for ((number = 1; number <= $1; number++)); do
            cable=cable$(((number + 1) / 2))
            ip tuntap add "t$number" mode tap multi_queue
            ip link show "$cable" >/dev/null 2>&1 || ip link add "$cable" up type bridge mcast_snooping 0
            ip link set "t$number" up master "$cable"
            # A cable carries LACP, too.
            ip link set "t$number" type bridge_slave group_fwd_mask 4 || true
            echo 1 >"/proc/sys/net/ipv6/conf/t$number/disable_ipv6"
            echo 1 >"/proc/sys/net/ipv6/conf/$cable/disable_ipv6"
        done
        shift
        exec "$@"' cables "$1")
}

# machine_needs WHAT SCENARIO ...: the words that the scenarios have after `#: WHAT`.
machine_needs() {
    local what="$1" scenario
    shift
    for scenario in "$@"; do
        sed -n "s/^#: $what //p" "$machine_folder/$scenario.sh" | tr ' ' '\n'
    done
}

# machine_modules MODULE ...: the files of these modules and of those that they need, in the order in which they are loaded.
machine_modules() {
    local name line
    for name in "$@"; do
        line="$(grep -E "(^|/)${name//[-_]/[-_]}\.ko[.a-z]*:" "$machine_kernel/tree/lib/modules/$machine_version/modules.dep")" || {
            # Built in.
            grep -qs "/${name//[-_]/[-_]}\.ko" "$machine_kernel/tree/lib/modules/$machine_version/modules.builtin" && continue
            machine_die "the kernel $machine_version has no module $name"
        }
        # The line says them in the order in which they are unloaded.
        tr -d ':' <<<"$line" | tr ' ' '\n' | tac
    done | awk 'NF && !seen[$0]++'
}

# machine_image FOLDER SCENARIO ...: makes FOLDER/initrd for these scenarios. Sets machine_seconds, after which they have all ended.
machine_image() {
    local root="$1/root" image="$1/initrd" name file number=0
    shift
    [[ -x "$machine_ringway" ]] || machine_die "no $machine_ringway: run make build"
    mkdir -p "$root"/{bin,opt,dev,proc,sys,tmp,run,scenarios,modules}
    cp "$(command -v busybox)" "$root/bin/"
    # What has more than busybox's: it is found first.
    for name in dash ip unshare timeout $(machine_needs programs "$@"); do
        file="$(command -v "$name" || true)"
        [[ -n "$file" ]] || file="$(dirname "$machine_ringway")/$name"
        [[ -x "$file" ]] || machine_die "a machine needs the program $name"
        cp -L "$file" "$root/opt/$name"
    done
    ln -s dash "$root/opt/sh"
    cp "$machine_ringway" "$root/opt/ringway"
    strip "$root/opt/ringway"
    for file in "$root"/opt/*; do
        ldd "$file" 2>/dev/null || true
    done | grep -o '/[^ :]*' | grep -v "^$root" | sort -u | while read -r file; do
        mkdir -p "$root$(dirname "$file")"
        cp -L "$file" "$root$file"
    done
    local modules
    # The first three a host's kernel loads by itself, when a TAP device is made.
    # shellcheck disable=SC2046 # one word each
    modules="$(machine_modules sch_ingress act_mirred cls_matchall $(machine_needs modules "$@") "${machine_nic_modules[@]+"${machine_nic_modules[@]}"}")" || exit 1
    for file in $modules; do
        number=$((number + 1))
        name="$(printf '%s/modules/%03d-%s' "$root" "$number" "$(basename "$file")")"
        cp "$machine_kernel/tree/lib/modules/$machine_version/$file" "$name"
        [[ "$name" != *.xz ]] || xz -d "$name"
    done
    cp "$machine_folder/bed.sh" "$machine_folder/nics.sh" "$machine_folder/stuck.sh" "$root/scenarios/"
    for name in "$@"; do
        cp "$machine_folder/$name.sh" "$root/scenarios/"
        printf '%s %s %s\n' "$name" "$(machine_needs seconds "$name" | grep . || echo 300)" \
            "$(machine_needs network "$name" | grep . || echo own)"
    done >"$root/scenarios/list"
    # Each scenario has its own end; this is for a machine that hangs.
    machine_seconds="$(awk '{ sum += $2 } END { print sum + 300 }' "$root/scenarios/list")"
    install -m 755 "$machine_folder/init" "$root/init"
    # Not compressed: emulated CPUs take longer to expand it than QEMU to load it.
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$image"
    rm -rf "$root"
}

# machine_boot FOLDER [ARGUMENT ...]: runs what machine_image made, with more arguments for QEMU; FOLDER/console is what it says.
# The machine's second serial line is QEMU's monitor, by which a scenario pulls a cable.
machine_boot() {
    local folder="$1"
    shift
    machine_qemu
    machine_within=()
    ((${machine_taps:-0} == 0)) || machine_cables "$machine_taps"
    # On a busy machine the emulated timer comes too late for the kernel's check of it. Not waited for as a command is: a signal
    # would wait as well.
    "${machine_within[@]+"${machine_within[@]}"}" timeout "${MACHINE_SECONDS:-$machine_seconds}" "${machine_emulator[@]}" \
        -M q35 "${machine_clock[@]}" -cpu max -smp 2 -m 2048 -nographic -no-reboot -nodefaults \
        -serial stdio -monitor "unix:$folder/monitor,server=on,wait=off" -serial "unix:$folder/monitor" \
        -kernel "$machine_kernel/vmlinuz" -initrd "$folder/initrd" \
        -append "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check net.ifnames=0 nics=${machine_kind:-none}" \
        "${machine_devices[@]+"${machine_devices[@]}"}" "$@" </dev/null >"$folder/console" 2>&1 &
    echo $! >"$folder/pid"
    wait $! || true
    rm "$folder/pid" "$folder/initrd"
    tr -d '\r' <"$folder/console" >"$folder/console.text"
}

# machine_end FOLDER: for the end, also one that comes early: ends the machines of FOLDER and of the folders in it, and removes what
# was not fetched wholly. With KEEP the folder stays.
machine_end() {
    local pid
    for pid in "$1"/pid "$1"/*/pid; do
        [[ ! -e "$pid" ]] || kill "$(<"$pid")" 2>/dev/null || true
    done
    rm -rf "${machine_unpacking:-}"
    [[ -n "${KEEP:-}" ]] || rm -rf "$1"
}
trap 'exit 130' INT
trap 'exit 143' HUP TERM

# machine_results FOLDER SCENARIO ...: a line for each, NAME: ok or NAME: FAILED with all that it said; 1 if any failed.
machine_results() {
    local folder="$1" name failed=0 text
    text="$folder/console.text"
    shift
    for name in "$@"; do
        if grep -qx "$name: ok" "$text"; then
            grep "^$name: " "$text"
            continue
        fi
        failed=1
        if grep -q "^=== $name\$" "$text"; then
            sed -n "/^=== $name\$/,/^=== end of $name\$/p" "$text" | tail -n 80 >&2
            printf '%s: FAILED\n' "$name"
        else
            tail -n 40 "$text" >&2
            printf '%s: FAILED: the machine did not come so far\n' "$name"
        fi
    done
    if grep -q '^machine: the kernel complains' "$text"; then
        grep -B 30 '^machine: the kernel complains' "$text" >&2
        failed=1
    fi
    # QEMU itself, of a device that it stopped.
    if grep -E '^[^ ]*qemu-system[^ ]*: ' "$text" | grep -v -e 'terminating on signal' -e ': warning: hub ' >&2; then failed=1; fi
    return "$failed"
}
