# Virtual machines for tests: another kernel than this machine's, with modules and devices that a namespace cannot have.
# To be sourced by bash; ../kernels.sh uses it. No hardware virtualization and no root are needed, only QEMU.
#
# A machine is a kernel of Debian's packages and one initramfs. In it init (see there) runs scenarios one after the other. A
# scenario is a script in this folder, NAME.sh; it passes when its exit status is 0, and says itself what failed. What it needs
# stands in its first comment, one line each:
#
#     #: modules veth vrf ipip     kernel modules; those that they need come by themselves
#     #: programs iperf3 ethtool   programs of this machine, with their libraries; built ones of target/ by their name
#     #: network machine           runs among the machine's own devices, and not in a network namespace of its own
#     #: seconds 120               how long it may take; 300 otherwise
#
# Every machine has busybox, dash as sh, ip, and ringway. A scenario has /run, /tmp and its processes to itself, so it need
# not clean up. bed.sh has what most of them begin with: `. /scenarios/bed.sh`.

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
    # A day old is new enough.
    [[ -n "$(find "$folder/updated" -mmin -1440 2>/dev/null)" ]] && return
    apt-get "${machine_apt[@]}" -qq update >&2 || machine_die "cannot read Debian's archive at ${mirror:-deb.debian.org}"
    touch "$folder/updated"
}

# machine_fetch SERIES [FLAVOUR]: the newest kernel of a series (6.12, or 7 for any 7.x), fetched and unpacked below target/
# unless it is there. FLAVOUR is cloud- (the default) or empty for that with all drivers. Sets machine_kernel to its folder, with
# vmlinuz and modules/, and machine_version; returns 1 if the archive has none.
machine_fetch() {
    local series="$1" flavour="${2-cloud-}" name package parts=() unpacked
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
    unpacked="$(mktemp -d "$machine_target/kernels/unpacking-XXXXXX")"
    (
        cd "$unpacked"
        apt-get "${machine_apt[@]}" -qq download "${parts[@]}"
        for package in ./*.deb; do dpkg-deb -x "$package" root; done
        mv "$(find root -name 'vmlinuz*' -type f | head -n 1)" vmlinuz
        mkdir -p tree/lib/modules
        mv "$(find root -type d -path "*lib/modules/$machine_version")" tree/lib/modules/
        depmod -b "$PWD/tree" "$machine_version" 2>/dev/null
        rm -rf root ./*.deb
    ) >&2 || {
        rm -rf "$unpacked"
        machine_die "cannot fetch ${parts[*]}"
    }
    mv "$unpacked" "$machine_kernel"
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

# machine_image FOLDER SCENARIO ...: makes FOLDER/initrd for these scenarios.
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
    # shellcheck disable=SC2046 # one word each
    modules="$(machine_modules $(machine_needs modules "$@"))" || exit 1
    for file in $modules; do
        number=$((number + 1))
        name="$(printf '%s/modules/%03d-%s' "$root" "$number" "$(basename "$file")")"
        cp "$machine_kernel/tree/lib/modules/$machine_version/$file" "$name"
        [[ "$name" != *.xz ]] || xz -d "$name"
    done
    cp "$machine_folder/bed.sh" "$root/scenarios/"
    for name in "$@"; do
        cp "$machine_folder/$name.sh" "$root/scenarios/"
        printf '%s %s %s\n' "$name" "$(machine_needs seconds "$name" | grep . || echo 300)" \
            "$(machine_needs network "$name" | grep . || echo own)"
    done >"$root/scenarios/list"
    install -m 755 "$machine_folder/init" "$root/init"
    (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$image"
    rm -rf "$root"
}

# machine_boot FOLDER [ARGUMENT ...]: runs what machine_image made, with more arguments for QEMU; FOLDER/console is what it says.
machine_boot() {
    local folder="$1" qemu="${QEMU:-qemu-system-x86_64}"
    shift
    # On a busy machine the emulated timer comes too late for the kernel's check of it.
    timeout "${MACHINE_SECONDS:-1800}" "$qemu" -M q35 -accel tcg,thread=multi -cpu max -smp 2 -m 2048 \
        -nographic -no-reboot -nodefaults -serial stdio -kernel "$machine_kernel/vmlinuz" -initrd "$folder/initrd" \
        -append 'console=ttyS0 panic=-1 quiet mitigations=off no_timer_check' "$@" </dev/null >"$folder/console" 2>&1 || true
    tr -d '\r' <"$folder/console" >"$folder/console.text"
}

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
    return "$failed"
}
