#!/usr/bin/env bash
# Runs a command as root. Cargo's runner for tests (see Makefile): cargo itself stays with the user, so that no file in
# target/ belongs to root, while tests may make network namespaces and AF_XDP sockets.
set -euo pipefail
if [[ $(id -u) == 0 ]]; then
    exec "$@"
fi
command -v sudo >/dev/null || {
    echo "as-root: tests and demo make network namespaces and AF_XDP sockets: run as root or install sudo" >&2
    exit 1
}
# sudo -E keeps the environment but for PATH.
exec sudo -E env "PATH=$PATH" "$@"
