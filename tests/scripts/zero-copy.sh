#!/usr/bin/env bash
# Runs the scenarios that take NICs, in QEMU: drivers that can do zero-copy and RSS, on kernels of Debian's archive. How, and how to
# add one, says machine/machine.sh. A line for each kernel, kind of NIC and scenario.
# Usage: zero-copy.sh [SERIES ...] [KIND ...] [SCENARIO ...]     zero-copy.sh 6.18 igb-2 zero-copy
#
# Without series, on those that the scenarios name for each kind of NIC; with them, every kind on each.
# KEEP=1 leaves the consoles, and says where. Kernels stay below target/kernels, QEMU below target/qemu where this machine's is too old.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
. tests/scripts/machine/machine.sh
work="$(mktemp -d)"
trap 'machine_end "$work"' EXIT

[[ "$(uname -m)" == x86_64 ]] || machine_die "only x86_64 kernels are known here, this machine is $(uname -m)"

all=() series=() kinds=() scenarios=()
for file in tests/scripts/machine/*.sh; do
    ! grep -q '^#: beds ' "$file" || all+=("$(basename "$file" .sh)")
done
for argument in "$@"; do
    case "$argument" in
    [0-9]*) series+=("$argument") ;;
    virtio-* | igb-* | veth-*) kinds+=("$argument") ;;
    *)
        [[ " ${all[*]} " == *" $argument "* ]] || machine_die "no scenario $argument; there are: ${all[*]}"
        scenarios+=("$argument")
        ;;
    esac
done
((${#scenarios[@]})) || scenarios=("${all[@]}")

# Every machine, as SERIES KIND; of a scenario's bed, KIND or KIND@SERIES.
machines() {
    local bed kind
    machine_needs beds "${scenarios[@]}" | while read -r bed; do
        kind="${bed%@*}"
        ((${#kinds[@]} == 0)) || [[ " ${kinds[*]} " == *" $kind "* ]] || continue
        if ((${#series[@]})); then printf "%s $kind\n" "${series[@]}"; else printf '%s %s\n' "$(series_of "$bed")" "$kind"; fi
    done | sort -u
}
series_of() { if [[ "$1" == *@* ]]; then echo "${1#*@}"; else echo 6.18; fi; }
# runs_on SERIES KIND SCENARIO: whether the scenario runs there.
runs_on() {
    local bed
    for bed in $(machine_needs beds "$3"); do
        [[ "${bed%@*}" == "$2" ]] && { ((${#series[@]})) || [[ "$(series_of "$bed")" == "$1" ]]; } && return
    done
    return 1
}

failed=() ran=0
# By another descriptor, since what fetches may read the usual one.
while read -r one kind <&3; do
    wanted=() nics=0
    for scenario in "${scenarios[@]}"; do
        runs_on "$one" "$kind" "$scenario" || continue
        wanted+=("$scenario")
        need="$(machine_needs nics "$scenario")"
        ((need <= nics)) || nics="$need"
    done
    machine_bed "$kind" "$nics"
    machine_fetch "$one" "$machine_flavour" || {
        machine_say "the archive has no $one kernel with what $kind takes: left out"
        continue
    }
    folder="$work/$one-$kind"
    mkdir "$folder"
    machine_image "$folder" "${wanted[@]}"
    machine_say "booting $machine_version with $kind: ${wanted[*]}${KEEP:+ (console: $folder/console.text)}"
    machine_boot "$folder"
    ran=$((ran + 1))
    results="$(machine_results "$folder" "${wanted[@]}")" || failed+=("$machine_version $kind")
    sed "s/^/$machine_version $kind /" <<<"$results"
done 3< <(machines)
((ran)) || machine_die "no machine ran: ${scenarios[*]} on ${kinds[*]:-any NICs}, Linux ${series[*]:-as the scenarios name it}"
((${#failed[@]} == 0)) || machine_die "failed on: ${failed[*]}"
