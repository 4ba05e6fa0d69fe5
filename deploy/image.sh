#!/usr/bin/env bash
# Makes the container image localhost/ringway:VERSION of a binary, and saves it as FOLDER/ringway.tar, which docker, podman,
# ctr and kind load. Usage: image.sh BINARY [FOLDER]   (default: target/image)
#
# Needs buildah and root, for file capabilities; no network. The same binary on the same commit makes the same image.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
here=$(cd "$(dirname "$0")" && pwd)
die() { printf 'image: %s\n' "$*" >&2; exit 1; }

binary=${1-}
[[ -f "$binary" ]] || die "'$binary' is no binary; usage: image.sh BINARY [FOLDER]; cargo build --release --bin ringway makes one"
[[ $(id -u) == 0 ]] || die "file capabilities take root; run it with sudo, or make image"
for tool in buildah setcap strip ldd; do
    command -v $tool >/dev/null || die "$tool is missing; tests/scripts/prerequisites.sh image installs it"
done
folder=${2:-$here/../target/image}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
context=$(mktemp -d "$folder/context.XXXXXX")
trap 'rm -rf "$context"' EXIT

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$here/../Cargo.toml")
git=(git -c safe.directory='*' -C "$here")
revision=$("${git[@]}" rev-parse HEAD 2>/dev/null || echo unknown)
# The commit's time, so that the same commit makes the same image.
epoch=${SOURCE_DATE_EPOCH:-$("${git[@]}" log -1 --format=%ct 2>/dev/null || echo 0)}

umask 022
root=$context/root
mkdir -p "$root/usr/bin" "$root/etc/ringway" "$context/run/ringway"
strip -o "$root/usr/bin/ringway" "$binary"
while read -r library; do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
done < <(ldd "$binary" | grep -oE '/[^ ]+')
printf 'root:x:0:0:root:/:/\nringway:x:65532:65532:Ringway:/:/\n' >"$root/etc/passwd"
printf 'root:x:0:\nringway:x:65532:\n' >"$root/etc/group"
# Permitted only: Ringway takes them itself, and says which are missing where the container does not grant all.
setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock=p "$root/usr/bin/ringway"

image=localhost/ringway:$version
# Where overlays cannot be mounted, as in most containers, plain copies do.
buildah images >/dev/null 2>&1 || export STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}
# chroot: nothing is run on the way.
buildah bud --quiet --isolation chroot --timestamp "$epoch" --tag "$image" --file "$here/Containerfile" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    --build-arg CREATED="$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)" "$context" >/dev/null
rm -f "$folder/ringway.tar"
buildah push --quiet "$image" "docker-archive:$folder/ringway.tar:$image"
[[ -z ${SUDO_UID-} ]] || chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$folder"
bytes=$(stat -c %s "$folder/ringway.tar")
((bytes < 45000000)) || die "the image has $bytes bytes, and 45000000 are the most; is $binary a release build?"
printf 'image: %s, also %s (%d.%d MB)\n' "$image" "$folder/ringway.tar" $((bytes / 1000000)) $((bytes / 100000 % 10))
