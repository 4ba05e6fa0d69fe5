# What builds of Go programs for tests have in common. To be sourced by a build.sh that has set `what` (the folder below target/
# and the word that messages begin with) and `without` (what is skipped without it). It changes to the script's folder and sets
# `bin` to where the programs go; `go_is_built` ends the script when they are there, `go_built` notes that they are.
#
# Without Go they say so and end well, since the tests then skip themselves; under CI=true that is a failure.
export PATH="$PATH:/usr/local/go/bin"
here=$(cd "$(dirname "$0")" && pwd)
bin="${1:-${CARGO_TARGET_DIR:-$here/../../target}/$what/bin}"
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)
cd "$here"

give_up() {
    printf "$what: %s\n" "$@" >&2
    rm -f "$bin/stamp"
    if [[ ${CI-} == true ]]; then exit 1; fi
    printf '%s: %s WILL BE SKIPPED\n' "$what" "$without" >&2
    exit 0
}

wanted=$(sed -n 's/^go //p' go.mod)
command -v go >/dev/null || give_up "go is missing: install Go $wanted or newer (https://go.dev/dl), then run again"
# Newer Go versions fetch the one that go.mod asks for, if they are allowed to.
go list -m >/dev/null || give_up "$(go version | cut -d' ' -f3) is too old: install Go $wanted or newer (https://go.dev/dl)"

# What the programs were made from. The stamp is written last, so a build that was interrupted starts anew.
stamp=$({ cat go.mod go.sum build.sh && go version; } | sha256sum)
go_is_built() {
    if [[ -e "$bin/stamp" && $(<"$bin/stamp") == "$stamp" ]]; then exit 0; fi
    echo "$what: building $1 with $(go version | cut -d' ' -f3) (the first time takes $2)" >&2
    rm -f "$bin/stamp"
}
go_built() { echo "$stamp" >"$bin/stamp"; }
