# Ringway's tasks. Each installs what it needs and the machine lacks (Debian, Ubuntu), and may be run as root or as a
# user with sudo: cargo runs as that user, only what makes network namespaces and AF_XDP sockets runs as root.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin

scripts := $(CURDIR)/tests/scripts
target  := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER  := $(scripts)/as-root.sh
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := $(scripts)/as-root.sh

.PHONY: help build image deb demo test test-kernels test-zerocopy fuzz bench lint clean-namespaces

help:
	@echo 'make build              build target/release/ringway'
	@echo 'make image              build the container image, target/image/ringway.tar and localhost/ringway:VERSION'
	@echo 'make deb                build the Debian package in target/debian'
	@echo 'make demo [KEEP=1]      see it work: client, gateway and backends in namespaces (40 s after the build)'
	@echo 'make test               every test, with real traffic in namespaces'
	@echo 'make test-kernels       the demo and what takes modules on other kernels, in virtual machines (some minutes each)'
	@echo 'make test-zerocopy      NICs with zero-copy and several queues, in virtual machines (some minutes)'
	@echo 'make fuzz               varied packets through the packet path for 10 minutes (SECONDS=N: as long as that)'
	@echo 'make bench              benchmarks and load; writes perf/RESULTS.md'
	@echo 'make lint               formatting, clippy, licences and the other checks of .ci/run that need no root'
	@echo 'make clean-namespaces   remove what a crashed run left behind'

build:
	@$(scripts)/prerequisites.sh build
	cargo build --release --bin ringway

image:
	@$(scripts)/prerequisites.sh build image
	cargo build --release --bin ringway
	@$(scripts)/as-root.sh $(CURDIR)/deploy/image.sh $(target)/release/ringway $(target)/image

deb: build
	@$(scripts)/prerequisites.sh deb
	@$(CURDIR)/deploy/debian/build.sh

demo:
	@$(scripts)/prerequisites.sh build demo
	@echo 'Building Ringway (the first time takes some minutes) ...'
	cargo build --release --bin ringway
	@$(scripts)/as-root.sh $(scripts)/clean-namespaces.sh
	@$(scripts)/as-root.sh $(target)/release/ringway demo $(if $(KEEP),--keep)

# All crates in one cargo call and one profile, so that nothing is built twice. Two tests at a time: each starts workers
# that are pinned to CPUs. TEST narrows: make test TEST=node_port
test:
	@$(scripts)/prerequisites.sh build test image
	@$(CURDIR)/tests/control-plane/build.sh
	@$(CURDIR)/tests/helm/build.sh
	@$(scripts)/as-root.sh $(scripts)/clean-namespaces.sh
	cargo test --workspace --no-run
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-2} RINGWAY_BIN=$(target)/debug/ringway cargo test --workspace --no-fail-fast $(if $(TEST),-- $(TEST))
	@$(scripts)/as-root.sh $(scripts)/clean-namespaces.sh

# KERNELS narrows: make test-kernels KERNELS='6.12 vrf'
test-kernels:
	@$(scripts)/prerequisites.sh build kernels
	cargo build --release --bin ringway --bin ringway-send-frame --bin ringway-sctp
	@$(scripts)/kernels.sh $(KERNELS)

# NICS narrows: make test-zerocopy NICS='6.18 igb-2 zero-copy'
test-zerocopy:
	@$(scripts)/prerequisites.sh build kernels
	cargo build --release --bin ringway
	@$(scripts)/zero-copy.sh $(NICS)

# docs/fuzzing.md. SEED makes it another hunt, THEME narrows it, KEEP=1 adds what it reached to the corpus. A build of its own: the
# packet path counts what is executed, and overflows and assertions are checked.
SECONDS ?= 600
fuzz: export RUSTC_WORKSPACE_WRAPPER := $(scripts)/rustc-covered.sh
fuzz: export CARGO_TARGET_DIR := $(target)/fuzz
fuzz: export CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS := true
fuzz: export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS := true
fuzz: export CARGO_PROFILE_RELEASE_LTO := false
fuzz: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS := 16
fuzz:
	@$(scripts)/prerequisites.sh build
	LLVM_PROFILE_FILE=/dev/null FUZZ_SECONDS=$(SECONDS) $(if $(SEED),FUZZ_SEED=$(SEED)) $(if $(THEME),FUZZ_THEME=$(THEME)) \
		$(if $(KEEP),FUZZ_KEEP=1) cargo test --release -p ringway-dataplane --test fuzz -- --nocapture

bench:
	@$(scripts)/prerequisites.sh build bench
	@$(scripts)/as-root.sh $(scripts)/clean-namespaces.sh
	cargo build --release --workspace --bins
	$(CURDIR)/perf/run.sh

lint:
	@$(scripts)/prerequisites.sh build ci
	@$(CURDIR)/.ci/run lint

clean-namespaces:
	@$(scripts)/as-root.sh $(scripts)/clean-namespaces.sh --all
