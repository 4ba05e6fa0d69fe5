#!/usr/bin/env bash
# Runs the scenarios that take NICs, in QEMU: drivers that can do zero-copy and RSS, on kernels of Debian's archive. How, and how to
# add one, says machine/machine.sh. A line for each kernel, kind of NIC and scenario.
# Usage: zero-copy.sh [SERIES ...] [KIND ...] [SCENARIO ...]     zero-copy.sh 6.18 igb-2 zero-copy
#
# KEEP=1 leaves the consoles, and says where. Kernels stay below target/kernels, QEMU below target/qemu where this machine's is too old.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
. tests/scripts/machine/machine.sh
work="$(mktemp -d)"
[[ -n "${KEEP:-}" ]] || trap 'rm -rf "$work"' EXIT

[[ "$(uname -m)" == x86_64 ]] || machine_die "only x86_64 kernels are known here, this machine is $(uname -m)"

all=() series=() kinds=() scenarios=()
for file in tests/scripts/machine/*.sh; do
    ! grep -q '^#: beds ' "$file" || all+=("$(basename "$file" .sh)")
done
for argument in "$@"; do
    case "$argument" in
    [0-9]*) series+=("$argument") ;;
    virtio-* | igb-*) kinds+=("$argument") ;;
    *)
        [[ " ${all[*]} " == *" $argument "* ]] || machine_die "no scenario $argument; there are: ${all[*]}"
        scenarios+=("$argument")
        ;;
    esac
done
((${#scenarios[@]})) || scenarios=("${all[@]}")
((${#series[@]})) || series=(6.18 7)
((${#kinds[@]})) || mapfile -t kinds < <(machine_needs beds "${scenarios[@]}" | sort -u)

failed=()
for one in "${series[@]}"; do
    for kind in "${kinds[@]}"; do
        wanted=() nics=0
        for scenario in "${scenarios[@]}"; do
            machine_needs beds "$scenario" | grep -qx -- "$kind" || continue
            wanted+=("$scenario")
            need="$(machine_needs nics "$scenario")"
            ((need <= nics)) || nics="$need"
        done
        ((${#wanted[@]})) || continue
        machine_bed "$kind" "$nics"
        machine_fetch "$one" "$machine_flavour" || machine_die "the archive has no $one kernel with what $kind takes"
        folder="$work/$one-$kind"
        mkdir "$folder"
        machine_image "$folder" "${wanted[@]}"
        machine_say "booting $machine_version with $kind: ${wanted[*]}${KEEP:+ (console: $folder/console.text)}"
        machine_boot "$folder"
        results="$(machine_results "$folder" "${wanted[@]}")" || failed+=("$machine_version $kind")
        sed "s/^/$machine_version $kind /" <<<"$results"
    done
done
((${#failed[@]} == 0)) || machine_die "failed on: ${failed[*]}"
