#!/usr/bin/env bash
# Builds the real control plane that tests run against: etcd, kube-apiserver, kube-controller-manager, kube-proxy and
# kubectl, at the versions of go.mod. Usage: build.sh [FOLDER]   (default: target/control-plane/bin)
#
# Needs Go and, the first time, the network: about 10 minutes and 4 GB of Go caches, seconds afterwards, and nothing when
# the binaries are there already. Without Go it says so and ends well, since the tests then skip themselves; under CI=true
# that is a failure.
set -euo pipefail
what=control-plane without='TESTS AGAINST THE REAL CONTROL PLANE'
. "$(dirname "$0")/../scripts/go-build.sh"
go_is_built 'etcd, kube-apiserver and others' 'about 10 minutes'

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v*.}
stamped=k8s.io/component-base/version
# Without a version kubectl does not believe the server's.
go build -trimpath -buildvcs=false -o "$bin/" \
    -ldflags "-s -w -X $stamped.gitVersion=$version -X $stamped.gitMajor=1 -X $stamped.gitMinor=${minor%%.*}" \
    go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-proxy,kubectl} ||
    give_up "the build failed; is the network reachable?"
mv "$bin/server" "$bin/etcd"
go_built
