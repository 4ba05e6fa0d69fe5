#!/usr/bin/env bash
# Builds the real control plane that tests run against: etcd, kube-apiserver, kube-controller-manager, kube-proxy and
# kubectl, at the versions of go.mod. Usage: build.sh [FOLDER]   (default: target/control-plane/bin)
#
# Needs Go and, the first time, the network: about 10 minutes and 4 GB of Go caches, seconds afterwards, and nothing when
# the binaries are there already. Without Go it says so and ends well, since the tests then skip themselves; under CI=true
# that is a failure.
set -euo pipefail
export PATH="$PATH:/usr/local/go/bin"
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-${CARGO_TARGET_DIR:-$here/../../target}/control-plane/bin}"
bin=$(cd "${1:-${CARGO_TARGET_DIR:-$here/../../target}/control-plane/bin}" && pwd)
cd "$here"

give_up() {
    printf 'control-plane: %s\n' "$@" >&2
    rm -f "$bin/stamp"
    if [[ ${CI-} == true ]]; then exit 1; fi
    printf 'control-plane: TESTS AGAINST THE REAL CONTROL PLANE WILL BE SKIPPED\n' >&2
    exit 0
}

wanted=$(sed -n 's/^go //p' go.mod)
command -v go >/dev/null || give_up "go is missing: install Go $wanted or newer (https://go.dev/dl), then run again"
# Newer Go versions fetch the one that go.mod asks for, if they are allowed to.
go list -m >/dev/null || give_up "$(go version | cut -d' ' -f3) is too old: install Go $wanted or newer (https://go.dev/dl)"

# What the binaries were made from. The stamp is written last, so a build that was interrupted starts anew.
stamp=$({ cat go.mod go.sum build.sh && go version; } | sha256sum)
if [[ -e "$bin/stamp" && $(<"$bin/stamp") == "$stamp" ]]; then exit 0; fi

echo "control-plane: building etcd, kube-apiserver and others with $(go version | cut -d' ' -f3) (the first time takes about 10 minutes)" >&2
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v*.}
stamped=k8s.io/component-base/version
rm -f "$bin/stamp"
# Without a version kubectl does not believe the server's.
go build -trimpath -buildvcs=false -o "$bin/" \
    -ldflags "-s -w -X $stamped.gitVersion=$version -X $stamped.gitMajor=1 -X $stamped.gitMinor=${minor%%.*}" \
    go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-proxy,kubectl} ||
    give_up "the build failed; is the network reachable?"
mv "$bin/server" "$bin/etcd"
echo "$stamp" >"$bin/stamp"
