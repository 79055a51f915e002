# make demo and make test are all that a newcomer needs; make check is what a contributor runs first.
.PHONY: demo test kernels check bench soak build bpf docs clean

SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# A real primary and replica, a slow disk, a lag with a known cause, and the blame. ARGS='--engine mariadb --scenario lock'
demo:
	scripts/setup demo$(if $(findstring mariadb,$(ARGS)),-mariadb)
	cargo build --release --locked
	$(SUDO) target/release/blameio demo $(ARGS)

# Everything: unit tests, real kernels, real servers. Does its own set-up.
test:
	scripts/setup test
	scripts/test

# The probes on Debian's other kernels, in qemu. ARGS='6.1 6.12'
kernels:
	scripts/setup kernels
	scripts/kernels $(ARGS)

# What it costs; writes docs/benchmarks.md. ARGS='pgbench --pairs 20', ARGS=--quick
bench:
	scripts/setup test
	scripts/bench $(ARGS)

# Two hours of work and faults. ARGS='2h --slow-disk --record'
soak:
	scripts/setup test
	scripts/soak $(ARGS)

# Quick: format, lints, licences, docs, structure.
check:
	scripts/check

build:
	cargo build --release --locked

# Compile the eBPF object anew, after a change in receiver-ebpf/bpf.
bpf:
	receiver-ebpf/bpf/build.sh

# Write docs/metrics.md and docs/configuration.md anew, after a change of a metric or a setting.
docs:
	BLAMEIO_UPDATE_DOCS=1 cargo test -p blameio-integration-tests --test reference

clean:
	cargo clean
