#!/usr/bin/env bash
# Builds steer.bpf.o from steer.bpf.c, the same bytes from any directory. With --check: builds it elsewhere and compares
# it with the committed object. Needs clang-14, llvm-14 and libbpf-dev.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

for tool in clang-14 llvm-strip-14; do
	if ! command -v "$tool" >/dev/null; then
		echo "error: $tool is missing; on Debian or Ubuntu: apt-get install clang-14 llvm-14 libbpf-dev" >&2
		exit 1
	fi
done

build() { # into
	clang-14 -O2 -g -Wall -Wextra -Werror -target bpf -mcpu=v3 -ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. \
		-I"/usr/include/$(uname -m)-linux-gnu" -c steer.bpf.c -o "$1"
	llvm-strip-14 -g "$1"
}

if [[ "${1:-}" == --check ]]; then
	committed=$PWD/steer.bpf.o
	elsewhere=$(mktemp -d)
	trap 'rm -rf "$elsewhere"' EXIT
	cp steer.bpf.c "$elsewhere"
	cd "$elsewhere"
	build steer.bpf.o
	if ! cmp steer.bpf.o "$committed"; then
		echo "error: steer.bpf.o is not what steer.bpf.c builds to; run dataplane/bpf/build.sh and commit the object" >&2
		exit 1
	fi
	echo "steer.bpf.o is what steer.bpf.c builds to"
else
	build steer.bpf.o
fi
