# `make run` shows a pod, `make test` tests it. Nothing but a Rust toolchain,
# make and a C linker is needed, and no root.

PREFIX ?= /usr/local
CARGO ?= cargo

.PHONY: all build run test bench lint doc clean install

all: build

build:
	$(CARGO) build --release --workspace

# A pod of two containers, shown from all sides; leaves nothing behind.
run:
	$(CARGO) build --release --package podlet
	$(CARGO) run --release --package pod --example demo

test:
	$(CARGO) test --workspace

# podlet beside the kernel's floor, crun and runc; as root. ARGS="--rounds 10"
# makes it shorter, ARGS=--help shows more.
bench:
	$(CARGO) build --release --package podlet --package podlet-bench
	target/release/podlet-bench $(ARGS)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@# The README shows the example that the build compiles.
	sed -n '/^```rust$$/,/^```$$/p' README.md | sed '1d;$$d' | diff - crates/pod/examples/embed.rs

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

install: build
	install -D -m 755 target/release/podlet $(DESTDIR)$(PREFIX)/bin/podlet

clean:
	$(CARGO) clean
