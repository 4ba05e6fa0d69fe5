#!/usr/bin/env bash
# Builds the BPF objects beside their sources (NAME.bpf.o from NAME.bpf.c), the same bytes from any directory. With
# --check: builds them elsewhere and compares them with the committed objects. Needs clang-14, llvm-14 and libbpf-dev.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The steering program, and the load generator's.
sources=(dataplane/bpf/steer.bpf.c perf/bpf/offer.bpf.c)

for tool in clang-14 llvm-strip-14; do
	if ! command -v "$tool" >/dev/null; then
		echo "error: $tool is missing; on Debian or Ubuntu: apt-get install clang-14 llvm-14 libbpf-dev" >&2
		exit 1
	fi
done

# build SOURCE: in the folder of the source.
build() (
	cd "$(dirname "$1")"
	name=$(basename "$1" .c)
	clang-14 -O2 -g -Wall -Wextra -Werror -target bpf -mcpu=v3 -ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. \
		-I"/usr/include/$(uname -m)-linux-gnu" -c "$name.c" -o "$name.o"
	llvm-strip-14 -g "$name.o"
)

if [[ "${1:-}" == --check ]]; then
	elsewhere=$(mktemp -d)
	trap 'rm -rf "$elsewhere"' EXIT
	shopt -s nullglob
	for source in "${sources[@]}"; do
		object=${source%.c}.o
		cp "$source" "$(dirname "$source")"/*.h "$elsewhere"
		build "$elsewhere/$(basename "$source")"
		if ! cmp "$elsewhere/$(basename "$object")" "$object"; then
			echo "error: $object is not what $source builds to; run dataplane/bpf/build.sh and commit the object" >&2
			exit 1
		fi
		echo "$object is what $source builds to"
	done
else
	for source in "${sources[@]}"; do build "$source"; done
fi
