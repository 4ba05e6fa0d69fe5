#!/usr/bin/env bash
# Makes the Debian package from a binary that is built: deploy/debian/build.sh [--profile dev] [--revision N]
# [--output FOLDER] [--fast yes]
#
# What is in it is listed in control/Cargo.toml. The last line that it prints is the package's path.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$HOME/.cargo/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"

profile=release revision=1 output=target/debian fast=()
while (($#)); do
    case "$1" in
    --profile) profile=$2 ;;
    --revision) revision=$2 ;;
    --output) output=$2 ;;
    --fast) fast=(--fast) ;; # larger: for tests
    *) echo "build.sh: unknown argument $1: use --profile, --revision, --output or --fast yes" >&2; exit 2 ;;
    esac
    shift 2
done

target=${CARGO_TARGET_DIR:-target}
folder=$profile
[[ $profile != dev ]] || folder=debug
binary=$target/$folder/ringway
[[ -x $binary ]] || { echo "build.sh: there is no $binary: run 'make build' first" >&2; exit 1; }

made=target/debian/made
rm -rf "$made"
mkdir -p "$made" "$output"
"$binary" man "$made/man"
"$binary" completion bash >"$made/ringway.bash"
"$binary" completion zsh >"$made/_ringway"
"$binary" completion fish >"$made/ringway.fish"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
seconds=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH=$seconds
gzip -9n <CHANGELOG.md >"$made/changelog.gz"
cat >"$made/changelog" <<END
ringway ($version-$revision) unstable; urgency=medium

  * What changed for users is in /usr/share/doc/ringway/changelog.gz.

 -- Ringway maintainers <maintainers@ringway.invalid>  $(date -R -u -d "@$seconds")
END

# The binary keeps no symbols: what a panic says has its place in the source all the same.
cargo deb --quiet --manifest-path control/Cargo.toml --no-build --strip --no-dbgsym "${fast[@]+"${fast[@]}"}" --profile "$profile" \
    --deb-version "$version-$revision" --output "$output/" >/dev/null
# Tests run as root; what they make here must not stand in the way of who builds.
[[ $(id -u) != 0 ]] || chown -R --reference=Cargo.toml target/debian
ls "$(realpath "$output")/ringway_${version}-${revision}_$(dpkg --print-architecture).deb"
