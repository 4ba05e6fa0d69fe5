#!/usr/bin/env bash
# Runs scenarios that need other kernels or modules than this machine has, in QEMU, on kernels of Debian's archive: how, and how
# to add one, says machine/machine.sh. A line for each kernel and scenario.
# Usage: kernels.sh [SERIES ...] [SCENARIO ...]     kernels.sh 6.12 7 vrf
#
# Kernels stay below target/kernels.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
. tests/scripts/machine/machine.sh
work="$(mktemp -d)"
trap 'machine_end "$work"' EXIT

[[ "$(uname -m)" == x86_64 ]] || machine_die "only x86_64 kernels are known here, this machine is $(uname -m)"

# The oldest that is supported, those of Debian 12 and 13, and the newest.
required=(6.1 6.12 7)
# As long as the archive has it.
wanted=(6.18)
all=(demo errors passed dsr sctp sctp-direct sctp-errors vrf overlays bond)

series=() scenarios=()
for argument in "$@"; do
    case "$argument" in
    [0-9]*) series+=("$argument") ;;
    *)
        [[ " ${all[*]} " == *" $argument "* ]] || machine_die "no scenario $argument; there are: ${all[*]}"
        scenarios+=("$argument")
        ;;
    esac
done
((${#scenarios[@]})) || scenarios=("${all[@]}")
if ((${#series[@]} == 0)); then
    series=("${required[@]}")
    for one in "${wanted[@]}"; do
        if machine_fetch "$one"; then series+=("$one"); else machine_say "the archive has no $one kernel any more"; fi
    done
fi

failed=()
machine_bed veth-1 0
for one in "${series[@]}"; do
    machine_fetch "$one" || machine_die "the archive has no $one kernel for virtual machines"
    folder="$work/$one"
    mkdir "$folder"
    machine_image "$folder" "${scenarios[@]}"
    machine_say "booting $machine_version: ${scenarios[*]}"
    machine_boot "$folder"
    results="$(machine_results "$folder" "${scenarios[@]}")" || failed+=("$machine_version")
    sed "s/^/$machine_version /" <<<"$results"
done
((${#failed[@]} == 0)) || machine_die "failed on: ${failed[*]}"
