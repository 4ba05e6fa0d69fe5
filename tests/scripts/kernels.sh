#!/usr/bin/env bash
# Runs `ringway demo` on other kernels: those of Debian's packages, in QEMU without hardware virtualization. They have SCTP,
# too, so machine/sctp.sh runs there as well. Three minutes.
# Usage: kernels.sh [SERIES ...]   (6.1 6.12)
#
# The machine is one initramfs: busybox, ip, iperf3, ringway with their libraries, and the modules that their links take.
# Packages of kernels are fetched, not installed; they and the machine are thrown away at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
binary="${CARGO_TARGET_DIR:-$PWD/target}/release/ringway"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

say() { printf 'kernels: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

[[ "$(uname -m)" == x86_64 ]] || die "only x86_64 kernels are known here, this machine is $(uname -m)"
[[ -x "$binary" ]] || die "no $binary: run make build"

# fetch SERIES: the newest kernel of that series, unpacked; prints its folder and version.
fetch() {
    local package folder="$work/$1"
    package="$(apt-cache search --names-only "^linux-image-$1\.[0-9.]*[-+].*cloud-amd64-unsigned\$" |
        cut -d' ' -f1 | sort -V | tail -n 1)"
    [[ -n "$package" ]] || die "no package of a $1 kernel for virtual machines; see apt-cache search linux-image"
    mkdir "$folder"
    (cd "$folder" && apt-get download -qq "$package" 2>/dev/null && dpkg-deb -x ./*.deb .) ||
        die "cannot fetch $package: run apt-get update, then again"
    printf '%s %s\n' "$folder" "$(ls "$folder/lib/modules")"
}

# machine FOLDER: an initramfs with the modules of that kernel.
machine() {
    local root="$1/root" name file
    mkdir -p "$root"/{bin,opt,dev,proc,sys,tmp,run/netns,lib/ordered}
    cp "$(command -v busybox)" "$root/bin/"
    for name in sh mount mkdir mknod insmod poweroff uname cat grep kill sed sleep timeout; do
        ln -s busybox "$root/bin/$name"
    done
    cp "$binary" "$(command -v ip)" "$(command -v iperf3)" "$root/bin/"
    ln -s ../bin/ip "$root/opt/ip"
    cp tests/scripts/machine/sctp.sh "$root/opt/"
    strip "$root/bin/ringway"
    ldd "$root/bin/ringway" "$root/bin/ip" "$root/bin/iperf3" | grep -o '/[^ :]*' | grep -v "^$root" | sort -u | while read -r file; do
        mkdir -p "$root$(dirname "$file")"
        cp -L "$file" "$root$file"
    done
    # In the order in which they need each other.
    for name in veth tun llc stp bridge libcrc32c udp_tunnel ip6_udp_tunnel sctp; do
        file="$(find "$1/lib/modules" -name "$name.ko*" | head -n 1)"
        [[ -z "$file" ]] || cp "$file" "$root/lib/ordered/"
    done
    find "$root/lib/ordered" -name '*.xz' -exec xz -d {} +
    cat >"$root/init" <<'INIT'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
for module in veth tun llc stp bridge libcrc32c udp_tunnel ip6_udp_tunnel sctp; do
    [ ! -e /lib/ordered/$module.ko ] || insmod /lib/ordered/$module.ko
done
mkdir -p /dev/net; [ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
ip link set lo up
echo "kernel $(uname -r)"
ringway demo </dev/null 2>&1
echo "demo ended with exit status $?"
sh /opt/sctp.sh </dev/null 2>&1
echo "sctp ended with exit status $?"
poweroff -f
INIT
    chmod +x "$root/init"
    (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$1/initrd"
}

(($#)) || set -- 6.1 6.12
failed=()
for series in "$@"; do
    say "fetching a $series kernel"
    read -r folder version < <(fetch "$series") || exit 1
    machine "$folder"
    say "booting $version"
    # The demo takes a minute at most; emulation makes it little longer, since most of it is waiting.
    timeout 400 qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m 2048 -nographic -no-reboot -net none \
        -kernel "$folder/boot/vmlinuz-$version" -initrd "$folder/initrd" -append 'console=ttyS0 panic=-1 quiet' \
        </dev/null >"$folder/console" 2>&1 || true
    if [[ "$(grep -c ' ended with exit status 0' "$folder/console")" == 2 ]]; then
        say "$version: all that the demo claims held, and SCTP went through"
    else
        tail -n 60 "$folder/console" >&2
        say "$version: FAILED"
        failed+=("$version")
    fi
done
((${#failed[@]} == 0)) || die "failed on: ${failed[*]}"
