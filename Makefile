# The front door. `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:

ARCH := $(shell uname -m)
MUSL := $(ARCH)-unknown-linux-musl
GNU := $(shell echo $(ARCH)-unknown-linux-gnu | tr 'a-z-' 'A-Z_')
TARGET := $(or $(CARGO_TARGET_DIR),target)
AGENT := $(abspath $(TARGET))/$(MUSL)/agent/bootstrap-agent
ROOT := $(shell [ "$$(id -u)" = 0 ] && echo yes)
# Containers, control groups and networks need root; everything else is done as whoever calls.
SUDO := $(if $(ROOT),,sudo --preserve-env=PATH,CARGO_TARGET_DIR,HOME)

# Program and the Debian package that brings it.
PACKAGES := mmdebstrap git gpg gpg-agent slirp4netns systemd-container zstd iproute2 util-linux tar openssh-client openssl musl-tools gcc python3-venv xfsprogs btrfs-progs

# What builds for Arm and runs there.
ARM := aarch64-unknown-linux-musl
ARM_PACKAGES := gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static

# What runs a virtual machine of Vagrant without KVM.
VAGRANT_PACKAGES := vagrant vagrant-libvirt libvirt-daemon libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients dnsmasq-base qemu-system-x86 qemu-utils

# What runs a virtual machine from an image that is baked.
MACHINE_PACKAGES := qemu-system-x86

# Installs the Debian packages that are not there.
define install
missing=""
for package in $(1); do
  dpkg-query --show --showformat='$${db:Status-Abbrev}' $$package 2>/dev/null | grep -q '^ii' || missing="$$missing $$package"
done
if [ -n "$$missing" ]; then
  $(SUDO) apt-get update
  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $$missing
fi
endef

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

.PHONY: setup
setup: .venv/ready ## Install what building, testing and the demo need (Debian packages, Rust target, AWS stand-in)
	@$(call install,$(PACKAGES))
	rustup target list --installed | grep -qx $(MUSL) || rustup target add $(MUSL)

.venv/ready: tests/requirements.txt
	@dpkg-query --show --showformat='$${db:Status-Abbrev}' python3-venv 2>/dev/null | grep -q '^ii' || { $(SUDO) apt-get update && $(SUDO) apt-get install --yes --no-install-recommends python3-venv; }
	python3 -m venv --clear .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt
	touch $@

.PHONY: build
build: ## Build both programs as they are shipped: baker, and the static agent
	@cargo build --release --package baker
	cargo rustc --profile agent --target $(MUSL) --package bootstrap-agent --bin bootstrap-agent -- -C link-arg=-Wl,-Map=$(AGENT).map

.PHONY: demo
demo: setup build ## Bake images/web.yaml, boot it as a new host, and fetch its page
	@cargo build --package testbed --bin demo
	$(SUDO) $(TARGET)/debug/demo

.PHONY: test
test: setup lint coverage test-unit agent-size test-end-to-end ## All tests, as CI runs them
# `coverage` has run the engine's.
test: COVERED := --exclude recipes

.PHONY: coverage
coverage: ## The engine's unit tests, how many of its lines they run, and an error below 90 %
	@.ci/coverage

.PHONY: fuzz
fuzz: ## Give every parser of the engine bytes of anybody, a minute each (FUZZ_SECONDS=60)
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	# libFuzzer wants flags that a stable compiler has to be told to accept.
	export RUSTC_BOOTSTRAP=1
	for target in $$(cargo fuzz list); do
	  cargo fuzz run --sanitizer none $$target -- -max_total_time=$(or $(FUZZ_SECONDS),60) -timeout=20 -rss_limit_mb=2048
	done

.PHONY: test-unit
test-unit: ## Unit tests, and the engine on machines in memory; needs no root
	@cargo nextest run --workspace --exclude testbed $(COVERED)
	cargo test --quiet --doc --package recipes

.PHONY: agent-size
agent-size: build ## How many bytes the agent has, the crates with most of them, and an error from 12 MB on
	@.ci/agent-size $(AGENT) $(AGENT).map

.PHONY: test-aarch64
test-aarch64: ## Build the agent for Arm, and run its unit tests under QEMU
	@$(call install,$(ARM_PACKAGES))
	rustup target list --installed | grep -qx $(ARM) || rustup target add $(ARM)
	export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc
	# Of glibc are only the headers; what it puts in place of the functions of C, musl does not have.
	export CFLAGS_aarch64_unknown_linux_musl=-U_FORTIFY_SOURCE
	cargo build --profile agent --target $(ARM) --package bootstrap-agent
	qemu-aarch64-static $(TARGET)/$(ARM)/agent/bootstrap-agent --version
	stat --format='the agent for Arm has %s bytes' $(TARGET)/$(ARM)/agent/bootstrap-agent
	# A thousand hosts take long enough where nothing is emulated; and QEMU has no openat2, which another root needs.
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=qemu-aarch64-static \
	  cargo nextest run --target $(ARM) --package bootstrap-agent -E 'not (test(herd) | test(each_service_gets_its_own))'

.PHONY: test-end-to-end
test-end-to-end: build ## Bakes and boots in containers; needs root
	@if [ -z "$(ROOT)" ] && ! sudo --validate; then
	  echo "error: the end-to-end tests make containers, control groups and networks, which needs root" >&2
	  echo "help: run \`make test-end-to-end\` as root, or \`make test-unit\`, which needs none" >&2
	  exit 1
	fi
	CARGO_TARGET_$(GNU)_RUNNER="$(or $(SUDO),env)" cargo nextest run --package testbed

.PHONY: test-vagrant
test-vagrant: setup build ## Plan and apply on a virtual machine of Vagrant, emulated; needs root
	@$(call install,$(VAGRANT_PACKAGES))
	CARGO_TARGET_$(GNU)_RUNNER="$(or $(SUDO),env)" cargo nextest run --package testbed --profile vagrant

.PHONY: test-machine
test-machine: setup build ## Boot images on virtual machines, emulated: scanners judge one, containers run; needs root
	@$(call install,$(MACHINE_PACKAGES))
	CARGO_TARGET_$(GNU)_RUNNER="$(or $(SUDO),env)" cargo nextest run --package testbed --profile machine

.PHONY: bench
bench: setup build ## Measure a run in which nothing is to be changed, against Ansible
	@.venv/bin/pip install --quiet --disable-pip-version-check 'ansible-core<2.20'
	cargo run --release --package testbed --bin bench

.PHONY: judge
judge: setup build ## Bake an image and have scanners of others judge it, in a container or on a virtual machine (IMAGE=hardened VM=1)
	@$(if $(VM),$(call install,$(MACHINE_PACKAGES)))
	cargo build --package testbed --bin judge
	CARGO_TARGET_$(GNU)_RUNNER="$(or $(SUDO),env)" cargo run --quiet --package testbed --bin judge -- $(or $(IMAGE),hardened) $(if $(VM),--vm)

.PHONY: lint
lint: ## Formatting, clippy, and the rules for dependencies
	@cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	if command -v cargo-deny >/dev/null; then
	  cargo deny --log-level error check bans licenses sources
	else
	  echo "skipped: the rules for dependencies (cargo install --locked cargo-deny)"
	fi

.PHONY: dist
dist: build ## Put both programs and their checksums into dist/
	@mkdir -p dist
	cp $(TARGET)/release/baker dist/baker
	cp $(AGENT) dist/bootstrap-agent-$(ARCH)
	cd dist && sha256sum baker bootstrap-agent-$(ARCH) | tee SHA256SUMS

.PHONY: clean
clean: ## Remove what was built, baked and cached in this checkout
	@cargo clean
	rm -rf output dist .venv
