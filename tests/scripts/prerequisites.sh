#!/usr/bin/env bash
# Installs what a task needs and the machine lacks, on Debian and Ubuntu. Usage: prerequisites.sh build|deb|demo|test|image|bench|kernels|ci ...
#
# A thing is looked for by its command, so on a machine that has everything this asks no package manager and no network.
set -euo pipefail
export PATH="$HOME/.cargo/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf 'prerequisites: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

missing_packages=()
missing_commands=()
tools=() # of cargo, as NAME@VERSION

# need COMMAND PACKAGE [WHY]
need() {
    command -v "$1" >/dev/null 2>&1 && return 0
    missing_commands+=("$1")
    [[ " ${missing_packages[*]-} " == *" $2 "* ]] || missing_packages+=("$2")
}

# need_file FILE PACKAGE
need_file() {
    [[ -e "$1" ]] && return 0
    missing_commands+=("$1")
    [[ " ${missing_packages[*]-} " == *" $2 "* ]] || missing_packages+=("$2")
}

# want COMMAND PACKAGE: need it where the distribution has it. The test that uses it says when it is missing.
want() {
    command -v "$1" >/dev/null 2>&1 && return 0
    apt-cache show "$2" >/dev/null 2>&1 || { say "$1 is missing, and apt knows no package $2: its test will be skipped"; return 0; }
    need "$1" "$2"
}

for group in "$@"; do
    case "$group" in
    build)
        need cc gcc # the linker driver that rustc calls
        need_file /usr/include/stdlib.h libc6-dev
        if ! command -v cargo >/dev/null; then # to fetch rustup, below
            need curl curl
            need_file /etc/ssl/certs/ca-certificates.crt ca-certificates
        fi
        ;;
    deb)
        need dpkg-shlibdeps dpkg-dev
        need git git
        tools+=(cargo-deb@3.8.0)
        ;;
    demo)
        need ip iproute2
        ;;
    test)
        need ip iproute2
        need nginx nginx-light
        need curl curl
        need iperf3 iperf3
        need ping iputils-ping
        need tracepath iputils-tracepath
        need traceroute traceroute
        need dnsmasq dnsmasq-base
        need dig bind9-dnsutils
        need nping nmap
        want gtlsserver ngtcp2-server # QUIC
        want gtlsclient ngtcp2-client
        need ethtool ethtool
        want bpftool bpftool # takes a program off a device; no package of its own on some Ubuntu
        need tcpdump tcpdump
        need nft nftables
        need socat socat # takes the outer header off where the kernel has no such device
        need sysctl procps
        need openssl openssl
        need zsh zsh # the three judge what is made for shells and for man
        need fish fish
        need mandoc mandoc
        need dpkg-shlibdeps dpkg-dev # the package is made, and installed in a machine of its own
        need systemd-nspawn systemd-container
        need systemd-analyze systemd
        need dbus-daemon dbus
        tools+=(cargo-deb@3.8.0)
        # And Go, which distributions have too old: tests/control-plane/build.sh says so if it is missing.
        ;;
    image)
        need buildah buildah
        need crun crun # tests run the image with it
        need_file /usr/share/containers/seccomp.json golang-github-containers-common
        need setcap libcap2-bin
        need strip binutils
        ;;
    bench)
        need ip iproute2
        need ethtool ethtool
        need nft nftables
        need valgrind valgrind
        ;;
    kernels)
        need ip iproute2
        need iperf3 iperf3
        need ethtool ethtool
        need tcpdump tcpdump
        need qemu-system-x86_64 qemu-system-x86 # where it is older than 10, machine.sh fetches one for NICs, beside it
        need socat socat
        need busybox busybox-static
        need cpio cpio
        need xz xz-utils
        need strip binutils
        need depmod kmod
        need dash dash
        need_file /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
        ;;
    ci) # only to prove that the committed BPF object comes from its source
        need clang-14 clang-14
        need llvm-strip-14 llvm-14
        need_file /usr/include/bpf/bpf_helpers.h libbpf-dev
        ;;
    *) die "unknown group '$group': use build, deb, demo, test, image, bench, kernels or ci" ;;
    esac
done

as_root() {
    if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi
}

if ((${#missing_packages[@]})); then
    say "missing: ${missing_commands[*]}"
    command -v apt-get >/dev/null || die "this is not Debian or Ubuntu: please install what offers these commands, then run again"
    if [[ $(id -u) != 0 ]] && ! command -v sudo >/dev/null; then
        die "neither root nor sudo: as root, run: apt-get install ${missing_packages[*]}"
    fi
    say "installing with apt-get: ${missing_packages[*]}"
    # Packages bring services that start at once (nginx on port 80). Only the programs are wanted.
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e "$policy" ]]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod +x "$policy"
        trap 'as_root rm -f "$policy"' EXIT
    fi
    install() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }
    install "${missing_packages[@]}" || {
        say "trying again after apt-get update"
        as_root apt-get update && install "${missing_packages[@]}"
    } || die "apt-get could not install: ${missing_packages[*]}. Is the network reachable? Install them by hand, then run again"
fi

# Rust comes from rustup, as the user who builds, never as root for somebody else.
if ! command -v cargo >/dev/null; then
    say "cargo is missing: installing Rust with rustup (https://rustup.rs) for $(id -un)"
    installer=$(mktemp)
    fetch() { curl --proto '=https' --tlsv1.2 -sSfL "$1" -o "$installer"; }
    # The second address is where the first leads, for networks that know only the one that serves the toolchain.
    { fetch https://sh.rustup.rs || fetch https://static.rust-lang.org/rustup/rustup-init.sh; } &&
        sh "$installer" -y --profile default --no-modify-path ||
        die "rustup failed: install Rust 1.95 or newer by hand (https://rustup.rs), then run again"
    rm -f "$installer"
fi
version=$(cargo --version | cut -d' ' -f2)
if [[ $(printf '%s\n' 1.95.0 "${version%%-*}" | sort -V | head -1) != 1.95.0 ]]; then
    die "cargo is $version, Ringway needs 1.95 or newer: run 'rustup update stable', then again"
fi

for tool in "${tools[@]+"${tools[@]}"}"; do
    if ! command -v "${tool%@*}" >/dev/null; then
        say "installing ${tool%@*} with cargo (the first time takes some minutes)"
        cargo install --locked "$tool" || die "cargo could not install $tool: is the network reachable? Install it by hand, then run again"
    fi
done
