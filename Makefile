# `make run` shows a pod, `make test` tests it. Nothing but a Rust toolchain,
# make and a C linker is needed, and no root.

# Where `make install` puts things, below DESTDIR if that is given.
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/podlet
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
UNITDIR ?= $(PREFIX)/lib/systemd/system
APPARMORDIR ?= /etc/apparmor.d
PLACES = DESTDIR PREFIX BINDIR MANDIR DOCDIR BASHDIR ZSHDIR FISHDIR UNITDIR APPARMORDIR
CARGO ?= cargo
RUSTC ?= rustc

# With musl as their C library, which is a target of rustup's, the commands
# start sooner: it asks the processor nothing, which a virtual machine has to
# answer by a detour. Where it is not installed they get the machine's own;
# TARGET= says so where it is.
MUSL = x86_64-unknown-linux-musl
TARGET ?= $(if $(wildcard $(shell $(RUSTC) --print sysroot)/lib/rustlib/$(MUSL)/lib),$(MUSL))
PROGRAMS = target/$(if $(TARGET),$(TARGET)/)release

PAGES = target/pages

.PHONY: all build pages run test test-user test-musl test-old-calls test-versions test-vm test-vm-undelegated test-systemd test-podman test-cni \
	test-kill test-soak bench lint notice doc clean install uninstall deb

all: build

# podlet and podlet-oci, as they are installed: in $(PROGRAMS).
build:
	$(CARGO) build --release $(if $(TARGET),--target $(TARGET)) --package podlet --package podlet-oci

# Man pages and shell completions, from the definitions of the commands.
# Built as `build` builds them, so that nothing is compiled twice.
pages:
	$(CARGO) run --release $(if $(TARGET),--target $(TARGET)) --package podlet-pages -- $(PAGES)

# A pod of two containers, shown from all sides; leaves nothing behind.
# One build for both, so that nothing is compiled twice.
run:
	$(CARGO) build --release --package podlet --package pod --bin podlet --example demo
	$${CARGO_TARGET_DIR:-target}/release/examples/demo

# Unit tests, golden plans, doc tests and the integration suite. As root the
# suite runs as root and as ordinary users.
test:
	$(CARGO) test --workspace

# PART=kernel leaves out of a suite what finds the same with every kernel and C library.
SUITE_PART = $(if $(PART),--part $(PART))
comma = ,

# As root: the suite as an ordinary user who has nothing but the programs. With another C
# library by TEST_TARGET=x86_64-unknown-linux-musl.
TEST_USER ?= 1000
test-user:
	rm -rf /tmp/podlet-bundle
	$(CARGO) test --quiet --package podlet-tests $(if $(TEST_TARGET),--target $(TEST_TARGET)) \
		-- --bundle /tmp/podlet-bundle
	env -i PATH="$$PATH" PODLET_TEST_BIN=/tmp/podlet-bundle \
		setpriv --reuid $(TEST_USER) --regid $(TEST_USER) --clear-groups /tmp/podlet-bundle/suite; \
		code=$$?; rm -rf /tmp/podlet-bundle; exit $$code

# Everything with musl as the C library; as root in the two modes that differ most, as
# the others ask the kernel the same.
test-musl:
	$(CARGO) test --workspace --exclude podlet-tests --target $(MUSL)
	if [ "$$(id -u)" = 0 ]; then modes="--mode root,user"; fi; \
		$(CARGO) test --package podlet-tests --target $(MUSL) --test suite -- $$modes $(SUITE_PART)

# The suite, and the tests that need a whole machine, on Debian's kernel in a
# virtual machine: cgroup v2 alone, with every controller. No root is needed,
# but QEMU; tests/vm/run says more. ARGS=FILTER runs some tests of it, PART=kernel a
# part. SYSTEMD=1 is test-systemd.
test-vm:
ifeq ($(SYSTEMD),1)
	tests/vm/systemd $(ARGS)
else
	$(if $(PART),PODLET_VM_SUITE="--mode root$(comma)vm $(SUITE_PART)") tests/vm/run $(ARGS)
endif

# What limits have to hold against where cgroup2 is mounted without nsdelegate.
test-vm-undelegated:
	tests/vm/run -- sh -c 'mount -o remount,rw cgroup2 /sys/fs/cgroup && \
		suite --mode root,vm still_hold doubled_limits memory_limit fork_bomb limits_change a_change_that_fails'

# The suite as in a sandbox that denies openat2 and the new mount calls.
test-old-calls:
	$(CARGO) test --package podlet-tests --test suite -- --deny new-calls --mode user $(SUITE_PART)
	if [ "$$(id -u)" = 0 ]; then $(CARGO) test --package podlet-tests --test suite -- --deny new-calls --mode root $(SUITE_PART); fi

# Pods and containers that the build before made, with the commands of this one.
# That build is the commit in tests/versions/former, built once.
test-versions:
	CARGO="$(CARGO)" tests/versions/build
	PODLET_TEST_FORMER=$(CURDIR)/target/former/bin $(CARGO) test --package podlet-tests --test suite -- build_before

# As root: cgroups made by systemd, in a virtual machine that Debian's systemd has
# booted: podlet's pods and networks, podlet-oci, and podman with it and no other option.
# ARGS=SCRIPT runs one of tests/systemd.
test-systemd:
	tests/vm/systemd $(ARGS)

# As root: podlet-oci as the runtime of podman, and of containerd where that is
# installed.
test-podman: build
	tests/engines/podman $(PROGRAMS)/podlet-oci
	if command -v containerd >/dev/null; then tests/engines/containerd $(PROGRAMS)/podlet-oci; fi
	tests/engines/cni $(PROGRAMS)/podlet-oci

# As root: pods in CNI networks, with the reference plugins of this machine and those
# of Debian unstable; or of the directories that PODLET_TEST_CNI names, with colons
# between.
test-cni:
	set -e; dirs=$${PODLET_TEST_CNI:-/usr/lib/cni:$$(tests/engines/cni-plugins target/cni)}; \
	export PODLET_TEST_CNI=$$dirs; \
	$(CARGO) test --package podlet-net real; \
	$(CARGO) test --package podlet-tests --test suite -- --mode root,mapped _cni cni_

# podlet and podlet-oci killed at every single system call, and every call of
# them, their launchers and pause failing: what they then say is true, and nothing
# is left. Limits are changed in a virtual machine. The suite has a short form.
# An hour or two; EVERY=10 takes a tenth of the calls, ARGS=FILTER some commands.
EVERY ?= 1
test-kill:
	$(CARGO) test --package podlet-tests --test suite -- --every $(EVERY) $(or $(ARGS),at_any_call any_call_of_which)
	if [ "$$(id -u)" = 0 ]; then \
		PODLET_VM_TIMEOUT=14400 PODLET_VM_SUITE="--mode vm --every $(EVERY)" tests/vm/run at_any_call any_call_of_which; fi

# A thousand rounds each of what races, or may leave something: start after wait, a
# name used again, wait beside ps, a pod in a network, a server there that crashes;
# and a minute of 32 starts at once. The suite has a short form.
test-soak:
	$(CARGO) test --package podlet-tests --test suite -- --every $(EVERY) \
		$(or $(ARGS),of_what_was_waited what_was_waited beside_a_wait starts_at_once again_and_again \
			a_server_in_a_network_crashes)

# podlet beside the kernel's floor, crun and runc; as root. ARGS="--rounds 10"
# makes it shorter, ARGS=--help shows more.
bench: build
	$(CARGO) build --release --package podlet-bench
	target/release/podlet-bench --programs $(PROGRAMS) $(ARGS)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@# The README and docs/embedding.md show examples that the build compiles.
	sed -n '/^```rust$$/,/^```$$/p' README.md | sed '1d;$$d' | diff - crates/pod/examples/embed.rs
	sed -n '/^```rust$$/,/^```$$/p' docs/embedding.md | sed '1d;$$d' | diff - crates/pod-tokio/examples/tasks.rs
	@# After a change of Cargo.lock `make notice` writes it anew. What is linked into
	@# programs for musl alone has to be there, too.
	$(CARGO) fetch --locked
	CARGO="$(CARGO)" packaging/notice | diff NOTICE -

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

# The commands, man pages, completions for bash, zsh and fish, the unit and the
# AppArmor profile; a list of all of them, by which `uninstall` removes them.
install: build pages
	$(foreach place,$(PLACES),$(place)='$($(place))') packaging/install install $(PROGRAMS) $(PAGES)

uninstall:
	$(foreach place,$(PLACES),$(place)='$($(place))') packaging/install uninstall $(PROGRAMS) $(PAGES)

# A package for Debian and Ubuntu, in target: with dpkg-deb alone. DEBFULLNAME and
# DEBEMAIL name who makes it, SOURCE_DATE_EPOCH is its date [default: the last
# commit's].
deb: build pages
	packaging/deb/build $(PROGRAMS) $(PAGES) target

# What is linked into the commands, and its licences.
notice:
	CARGO="$(CARGO)" packaging/notice > NOTICE.new && mv NOTICE.new NOTICE

clean:
	$(CARGO) clean
