#!/usr/bin/env bash
# Cargo's RUSTC_WORKSPACE_WRAPPER for `make fuzz`: the packet path is compiled with counters of what was executed, tests and
# other crates are not, so that what a packet reaches is not lost among what its judge reaches.
set -euo pipefail
case " $* " in
*" --crate-name ringway_dataplane "*" --crate-type lib "*) exec "$@" -C instrument-coverage ;;
*) exec "$@" ;;
esac
