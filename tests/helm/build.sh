#!/usr/bin/env bash
# Builds Helm at the version of go.mod, and fetches the Prometheus operator's CRD that the chart's ServiceMonitor must fit.
# Usage: build.sh [FOLDER]   (default: target/helm/bin)
#
# Needs Go and, the first time, the network: a few minutes after the control plane, whose modules it shares. Without Go it says
# so and ends well, since the tests then skip themselves; under CI=true that is a failure.
set -euo pipefail
export PATH="$PATH:/usr/local/go/bin"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-${CARGO_TARGET_DIR:-$here/../../target}/helm/bin}"
bin=$(cd "${1:-${CARGO_TARGET_DIR:-$here/../../target}/helm/bin}" && pwd)
cd "$here"
operator=github.com/prometheus-operator/prometheus-operator@v0.85.0
crd=example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml

give_up() {
    printf 'helm: %s\n' "$@" >&2
    rm -f "$bin/stamp"
    if [[ ${CI-} == true ]]; then exit 1; fi
    printf 'helm: TESTS OF THE CHART WILL BE SKIPPED\n' >&2
    exit 0
}

wanted=$(sed -n 's/^go //p' go.mod)
command -v go >/dev/null || give_up "go is missing: install Go $wanted or newer (https://go.dev/dl), then run again"
go list -m >/dev/null || give_up "$(go version | cut -d' ' -f3) is too old: install Go $wanted or newer (https://go.dev/dl)"

stamp=$({ cat go.mod go.sum build.sh && go version; } | sha256sum)
if [[ -e "$bin/stamp" && $(<"$bin/stamp") == "$stamp" ]]; then exit 0; fi

echo "helm: building it with $(go version | cut -d' ' -f3) (the first time takes some minutes)" >&2
rm -f "$bin/stamp"
go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$bin/" helm.sh/helm/v3/cmd/helm ||
    give_up "the build failed; is the network reachable?"
fetched=$(go mod download -json "$operator" | sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p')
cp --no-preserve=mode "$fetched/$crd" "$bin/servicemonitors.yaml" || give_up "$operator could not be fetched; is the network reachable?"
echo "$stamp" >"$bin/stamp"
