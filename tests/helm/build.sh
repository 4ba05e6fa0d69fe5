#!/usr/bin/env bash
# Builds Helm at the version of go.mod, and fetches the Prometheus operator's CRD that the chart's ServiceMonitor must fit.
# Usage: build.sh [FOLDER]   (default: target/helm/bin)
#
# Needs Go and, the first time, the network: a few minutes after the control plane, whose modules it shares. Without Go it says
# so and ends well, since the tests then skip themselves; under CI=true that is a failure.
set -euo pipefail
what=helm without='TESTS OF THE CHART'
. "$(dirname "$0")/../scripts/go-build.sh"
operator=github.com/prometheus-operator/prometheus-operator@v0.85.0
crd=example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml
go_is_built it 'some minutes'

go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$bin/" helm.sh/helm/v3/cmd/helm ||
    give_up "the build failed; is the network reachable?"
fetched=$(go mod download -json "$operator" | sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p')
cp --no-preserve=mode "$fetched/$crd" "$bin/servicemonitors.yaml" || give_up "$operator could not be fetched; is the network reachable?"
go_built
