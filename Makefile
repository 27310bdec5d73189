# ERMFS for those who do not live in cargo. `make` builds the library; `make help` lists the rest.
#
# Everything built lies under cargo's target directory (CARGO_TARGET_DIR is respected). JOBS: how many compilers at once.

PREFIX ?= /usr/local
DESTDIR ?=
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
DEMO_ARGS ?=
JOBS ?= 2
TEST_TIMEOUT ?= 300
LONG_CALLS ?= 200000
LOOM_BOUND ?= 2
FAILURES ?= some
FUZZ_TARGET ?= calls
FUZZ_SECONDS ?= 60

# ERMFS_LOCKLESS=1: what is built is lockless where nothing says otherwise; what is run is so in any case, by the environment.
export ERMFS_LOCKLESS
LOCKLESS = $(if $(filter 1,$(ERMFS_LOCKLESS)),--lockless)
comma = ,

CC ?= cc
CFLAGS ?= -O2 -g
C_WARNINGS = -std=gnu11 -Wall -Wextra -Werror
CARGO ?= cargo
CARGO_BUILD_JOBS ?= $(JOBS)
export CARGO_BUILD_JOBS

VERSION = $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
TARGET_DIR = $(or $(shell $(CARGO) metadata --no-deps --format-version 1 2> /dev/null \
	| sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'),$(CARGO_TARGET_DIR),$(CURDIR)/target)
LIB_DIR = $(TARGET_DIR)/ermfs/release
PROGRAMS = $(TARGET_DIR)/ermfs/c_tests

# What is installed.
FUNCTIONS = $(shell sed 's/@.*//' ermfs-ffi-tests/golden/symbols.txt)
COMPLETIONS = $(DATADIR)/bash-completion/completions/ermfs $(DATADIR)/zsh/site-functions/_ermfs \
	$(DATADIR)/fish/vendor_completions.d/ermfs.fish
LIBRARY_FILES = $(INCLUDEDIR)/ermfs.h $(LIBDIR)/libermfs.a $(LIBDIR)/libermfs.so.0 $(LIBDIR)/libermfs.so \
	$(LIBDIR)/pkgconfig/ermfs.pc $(foreach name,ermfs $(FUNCTIONS),$(MANDIR)/man3/$(name).3)
COMMAND_FILES = $(BINDIR)/ermfs $(SBINDIR)/mount.ermfs $(MANDIR)/man1/ermfs.1 $(MANDIR)/man8/mount.ermfs.8 $(COMPLETIONS)

.PHONY: all help tools lib ermfs header demo test test-rust test-c test-threads test-long test-mount test-mount-short \
	test-mount-tmpfs loom tsan asan fuzz bench bench-lockless bench-atomics counts counts-update install install-library \
	install-command uninstall install-check package deny clean test-failures test-limits bench-quick bench-tools \
	bench-micro test-checkers valgrind valgrind-short
.DELETE_ON_ERROR:

all: lib

help:
	@echo 'make [lib]     libermfs.so, libermfs.a; ERMFS_LOCKLESS=1: of the lockless mode by default'
	@echo 'make ermfs     the command, which mounts'
	@echo 'make demo      builds and runs c_tests/demo.c; DEMO_ARGS="--small" for a quick one'
	@echo 'make test      every test; make test-long: $(LONG_CALLS) random calls beside the kernel, per compression setting'
	@echo 'make loom      models of the lock-free protocols, every order of accesses with up to LOOM_BOUND=$(LOOM_BOUND) interruptions a thread'
	@echo 'make test-threads      what threads see of each other and may stop in each other, in both modes'
	@echo 'make test-failures     what can fail is made to, place after place; FAILURES=all: every place'
	@echo 'make test-limits       a full filesystem, every bit of members, a million files: the numbers that make test has smaller'
	@echo 'make test-mount        the suites of tests/suites on a mounted ERMFS (Debian, root); test-mount-short: two of them, briefly;'
	@echo '                       test-mount-tmpfs: the same on a tmpfs, for comparison'
	@echo 'make tsan, make asan   the tests of many threads under ThreadSanitizer; all under AddressSanitizer and LeakSanitizer'
	@echo 'make valgrind          the C tests under Valgrind; valgrind-short: at reduced counts, which make test does'
	@echo 'make fuzz      FUZZ_TARGET=import_gzip, calls ($(FUZZ_TARGET)) or member, for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'make bench     every line of the targets in both modes, into docs/PERFORMANCE.md; holds two files of 1 GiB at once;'
	@echo '               make bench-quick: smaller data, writes nothing; make bench-micro: parts of the engine alone;'
	@echo '               make bench-lockless: the two modes beside a tmpfs, by number of threads;'
	@echo '               make bench-atomics: what a call writes to memory that threads share'
	@echo 'make counts    instructions of twelve calls under callgrind, against benches/instructions.txt; COUNTS_TOLERANCE=2 per cent;'
	@echo '               make counts-update: writes that file anew'
	@echo 'make header    include/ermfs.h anew'
	@echo 'make install   to PREFIX ($(PREFIX)), under DESTDIR; install-library, install-command: a part; make uninstall'
	@echo 'make install-check     builds programs in C and C++ against an installed copy, shared and static'
	@echo 'make package   the crates that can be published, each built from its package; make deny: licences, sources, advisories (cargo-deny)'
	@echo 'make clean     removes everything built'

tools:
	@missing=; \
	need() { command -v $$1 > /dev/null || missing="$$missing\n  $$1: install $$2"; }; \
	need $(CARGO) 'Rust 1.95 or later, by rustup'; \
	need $(CC) 'gcc (Debian: apt-get install gcc)'; \
	need ld 'binutils (Debian: apt-get install binutils)'; \
	need flock 'util-linux (Debian: apt-get install util-linux)'; \
	need timeout 'coreutils (Debian: apt-get install coreutils)'; \
	if [ -n "$$missing" ]; then printf "missing:$$missing\n" >&2; exit 1; fi

lib: tools
	@scripts/build-library.sh --release $(LOCKLESS)

ermfs: tools
	$(CARGO) build --release --features cli$(if $(LOCKLESS),$(comma)lockless) --bin ermfs

header: tools
	@mkdir -p '$(TARGET_DIR)'
	@ERMFS_HEADER_OUT='$(TARGET_DIR)/ermfs.h' $(CARGO) check --quiet --package ermfs --features header-check
	@cmp -s '$(TARGET_DIR)/ermfs.h' include/ermfs.h || cp '$(TARGET_DIR)/ermfs.h' include/ermfs.h
	@echo 'include/ermfs.h is current'

# $(call compile,program,source,options)
compile = mkdir -p '$(PROGRAMS)' && $(CC) $(CFLAGS) $(C_WARNINGS) $(3) -Iinclude -o '$(PROGRAMS)/$(1)' '$(2)' \
	-L'$(LIB_DIR)' -Wl,-rpath,'$(LIB_DIR)' $(if $(findstring ORACLE,$(3)),,-lermfs) -pthread

demo: lib
	@$(call compile,demo,c_tests/demo.c)
	'$(PROGRAMS)/demo' $(DEMO_ARGS)

test: test-rust test-threads test-failures test-c install-check test-checkers valgrind-short loom
	@echo 'make test: all passed'

test-rust: tools
	@command -v bgzip > /dev/null || echo 'SKIPPED: what needs bgzip (Debian: apt-get install tabix)'
	ERMFS_LOCKLESS=0 $(CARGO) test --workspace --features ermfs/cli
	ERMFS_LOCKLESS=1 $(CARGO) test --workspace --features ermfs/cli

# Each program runs in both modes; the test_lockless_ ones switch by themselves. test_posix.c runs on the kernel's own
# filesystem too, which shows that what it expects is right.
test-c: lib
	@failed=; \
	run() { \
		echo "== $$1$${2:+, ERMFS_LOCKLESS=$$2}"; \
		ERMFS_LOCKLESS=$${2:-0} timeout --kill-after=10 $(TEST_TIMEOUT) '$(PROGRAMS)'/$$1 \
			|| { echo "FAILED: $$1$${2:+, ERMFS_LOCKLESS=$$2} (exit code $$?)"; return 1; }; \
	}; \
	for source in c_tests/test_*.c; do \
		name=$$(basename $$source .c); \
		echo "compiling $$source"; \
		{ $(call compile,'"$$name"','"$$source"'); } || { failed="$$failed $$name"; continue; }; \
		case $$name in \
		test_lockless_*) run $$name || failed="$$failed $$name" ;; \
		*) for lockless in 0 1; do run $$name $$lockless || failed="$$failed $$name:$$lockless"; done ;; \
		esac; \
	done; \
	{ $(call compile,test_posix_oracle,c_tests/test_posix.c,-DORACLE); } && run test_posix_oracle || failed="$$failed test_posix_oracle"; \
	if [ -n "$$failed" ]; then echo "make test-c: failed:$$failed"; exit 1; fi; \
	echo 'make test-c: all passed'

# Faults that are planted must be reported.
test-checkers: lib
	scripts/test-checkers.sh '$(LIB_DIR)'

# VALGRIND_SCALE: how long the programs go on, in per cent; VALGRIND_PROGRAMS: which
valgrind: tools
	scripts/valgrind.sh

valgrind-short: tools
	scripts/valgrind.sh --short

# With failpoints threads lose the processor in the middle of calls, or for good.
test-threads: tools
	@for lockless in 0 1; do \
		echo "== ERMFS_LOCKLESS=$$lockless"; \
		ERMFS_LOCKLESS=$$lockless $(CARGO) test --package ermfs --features failpoints --test history --test progress \
			&& ERMFS_LOCKLESS=$$lockless $(CARGO) test --package ermfs-core --features failpoints --lib -- stopped ended || exit 1; \
	done
	@echo 'make test-threads: all passed'

# FAILURES: all for every place that can fail, which takes long; else one in some.
test-failures: tools
	@for lockless in 0 1; do \
		echo "== ERMFS_LOCKLESS=$$lockless"; \
		ERMFS_LOCKLESS=$$lockless ERMFS_INJECTOR=$(FAILURES) $(CARGO) test --package ermfs --features injector --test injector -- --nocapture \
			&& ERMFS_LOCKLESS=$$lockless $(CARGO) test --package ermfs-core --features injector --lib -- inject || exit 1; \
	done
	@echo 'make test-failures: all passed'

# In release builds.
test-limits: tools
	@for lockless in 0 1; do \
		echo "== ERMFS_LOCKLESS=$$lockless"; \
		ERMFS_LOCKLESS=$$lockless ERMFS_LIMITS=all $(CARGO) test --release --package ermfs --test limits -- --nocapture \
			&& ERMFS_LOCKLESS=$$lockless ERMFS_LIMITS=all $(CARGO) test --release --package ermfs-core --lib -- --nocapture a_flipped_bit || exit 1; \
	done
	@echo 'make test-limits: all passed'

test-long: lib
	@for compress in close background never; do \
		echo "== $(LONG_CALLS) calls, compress=$$compress"; \
		ERMFS_DIFF_CALLS=$(LONG_CALLS) ERMFS_DIFF_COMPRESS=$$compress \
			$(CARGO) test --release --package ermfs-ffi-tests --test differential -- --nocapture answers_like every_mode || exit 1; \
	done
	@echo "== $(LONG_CALLS) calls, a mount"
	@ERMFS_DIFF_CALLS=$(LONG_CALLS) $(CARGO) test --release --package ermfs-fuse --test differential -- --nocapture
	@echo 'make test-long: all passed'

# In a directory of its own, because the flag is the whole build's. Link-time optimisation would only cost time.
loom: tools
	RUSTFLAGS='--cfg loom' LOOM_MAX_PREEMPTIONS=$(LOOM_BOUND) CARGO_TARGET_DIR='$(TARGET_DIR)/loom' \
		CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
		$(CARGO) test --package ermfs-core --lib --release loom_

# SUITE_OPTIONS: more mount options
test-mount: tools
	$(CARGO) build --release --features cli --bin ermfs
	SUITE_FS=ermfs tests/suites/all.sh

test-mount-short: tools
	$(CARGO) build --release --features cli --bin ermfs
	SUITE_FS=ermfs tests/suites/all.sh --short

test-mount-tmpfs: tools
	SUITE_FS=tmpfs tests/suites/all.sh

# What races or touches what is gone is reported, and fails. SANITIZE_SCALE: how long the C programs go on, in per cent.
tsan: tools
	scripts/sanitize.sh thread

asan: tools
	scripts/sanitize.sh address

# What is found is added to <target directory>/fuzz-corpus and what fails is left in <target directory>/fuzz-failures; the inputs
# in the tree are read only. Leaks are looked for by the targets, in the budget: to the sanitizer everything that is retired
# looks like one. RUSTC_BOOTSTRAP lets the stable compiler take cargo-fuzz's options.
fuzz: tools
	@missing=; \
	need() { command -v $$1 > /dev/null || missing="$$missing\n  $$1: $$2"; }; \
	need cargo-fuzz 'cargo install cargo-fuzz'; \
	need c++ 'install g++ (Debian: apt-get install g++)'; \
	if [ -n "$$missing" ]; then printf "missing:$$missing\n" >&2; exit 1; fi
	@mkdir -p '$(TARGET_DIR)/fuzz-corpus/$(FUZZ_TARGET)' '$(TARGET_DIR)/fuzz-failures'
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --target-dir '$(TARGET_DIR)/fuzz' $(FUZZ_TARGET) \
		'$(TARGET_DIR)/fuzz-corpus/$(FUZZ_TARGET)' ermfs-fuzz/corpus/$(FUZZ_TARGET) -- \
		-max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=3000 -detect_leaks=0 -print_final_stats=1 \
		-artifact_prefix='$(TARGET_DIR)/fuzz-failures/$(FUZZ_TARGET)-'

# BENCH_ARGS: --quick, --rounds N, --threads N, --tmpfs DIRECTORY, --csv FILE, --only TEXT
bench-lockless: lib
	@$(call compile,benchmark_lockless,c_tests/benchmark_lockless.c)
	'$(PROGRAMS)/benchmark_lockless' $(BENCH_ARGS)

# BENCH_ARGS: --calls N, --only TEXT, --where
bench-atomics: tools
	$(CARGO) bench --package ermfs --bench atomics --features count-atomics -- $(BENCH_ARGS)

# Instructions per call, which a busy machine does not change. A slow-down shows where it is made.
counts: lib
	@$(call compile,instructions,c_tests/instructions.c)
	@scripts/count-instructions.sh '$(PROGRAMS)/instructions' '$(LIB_DIR)'

counts-update: lib
	@$(call compile,instructions,c_tests/instructions.c)
	@scripts/count-instructions.sh --update '$(PROGRAMS)/instructions' '$(LIB_DIR)'

# What is compared to a command that is not there is left out aloud.
bench_targets = ERMFS_LIBRARY='$(LIB_DIR)/libermfs.so' $(CARGO) bench --package ermfs --bench targets -- $(1) $(BENCH_ARGS)
bench-tools: tools
	@command -v gzip > /dev/null || echo 'SKIPPED: what is compared to gzip (Debian: apt-get install gzip)'
	@command -v bgzip > /dev/null || echo 'SKIPPED: what is compared to bgzip (Debian: apt-get install tabix)'
	@command -v sqlite3 > /dev/null || command -v python3 > /dev/null \
		|| echo 'SKIPPED: database pages (Debian: apt-get install sqlite3)'

# Writes docs/PERFORMANCE.md, but for what is written by hand. BENCH_ARGS: --rounds N
bench: lib bench-tools
	@$(call compile,benchmark_lockless,c_tests/benchmark_lockless.c)
	'$(PROGRAMS)/benchmark_lockless' --threads 4 --csv '$(PROGRAMS)/threads.csv'
	$(call bench_targets,--page --threads-csv '$(PROGRAMS)/threads.csv')

# BENCH_ARGS: --rounds N, --only TEXT, --list
bench-quick: lib bench-tools
	@$(call compile,benchmark_lockless,c_tests/benchmark_lockless.c)
	'$(PROGRAMS)/benchmark_lockless' --quick --threads 2
	$(call bench_targets,--quick)

# MICRO_ARGS: what criterion takes, such as a part of a bench's name
bench-micro: tools
	$(CARGO) bench --package ermfs --bench micro --features micro -- $(MICRO_ARGS)

install: install-library install-command

# Directories that do not lie under PREFIX are written as they are.
under_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))

# Root often has no cargo: what was built before is installed then.
if_cargo = $(if $(shell command -v $(CARGO)),$(1))
is_built = @[ -f '$(1)' ] || { echo 'not built yet: run `make lib ermfs` first' >&2; exit 1; }

install-library: $(call if_cargo,lib)
	$(call is_built,$(LIB_DIR)/libermfs.a)
	install -d $(foreach place,$(LIBDIR)/pkgconfig $(INCLUDEDIR) $(MANDIR)/man3,'$(DESTDIR)$(place)')
	install -m 644 include/ermfs.h '$(DESTDIR)$(INCLUDEDIR)/ermfs.h'
	install -m 644 '$(LIB_DIR)/libermfs.a' '$(DESTDIR)$(LIBDIR)/libermfs.a'
	install -m 755 '$(LIB_DIR)/libermfs.so.0' '$(DESTDIR)$(LIBDIR)/libermfs.so.0'
	ln -sfn libermfs.so.0 '$(DESTDIR)$(LIBDIR)/libermfs.so'
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(call under_prefix,$(LIBDIR))|' \
		-e 's|@INCLUDEDIR@|$(call under_prefix,$(INCLUDEDIR))|' -e 's|@VERSION@|$(VERSION)|' \
		ermfs.pc.in > '$(DESTDIR)$(LIBDIR)/pkgconfig/ermfs.pc'
	chmod 644 '$(DESTDIR)$(LIBDIR)/pkgconfig/ermfs.pc'
	install -m 644 man/ermfs.3 '$(DESTDIR)$(MANDIR)/man3/ermfs.3'
	@for name in $(FUNCTIONS); do \
		echo '.so man3/ermfs.3' > '$(DESTDIR)$(MANDIR)/man3'/$$name.3 && chmod 644 '$(DESTDIR)$(MANDIR)/man3'/$$name.3 || exit 1; \
	done

install-command: $(call if_cargo,ermfs)
	$(call is_built,$(TARGET_DIR)/release/ermfs)
	install -d $(foreach place,$(BINDIR) $(SBINDIR) $(MANDIR)/man1 $(MANDIR)/man8 $(dir $(COMPLETIONS)),'$(DESTDIR)$(place)')
	install -m 755 '$(TARGET_DIR)/release/ermfs' '$(DESTDIR)$(BINDIR)/ermfs'
	ln -sfn '$(BINDIR)/ermfs' '$(DESTDIR)$(SBINDIR)/mount.ermfs'
	install -m 644 man/ermfs.1 '$(DESTDIR)$(MANDIR)/man1/ermfs.1'
	install -m 644 man/mount.ermfs.8 '$(DESTDIR)$(MANDIR)/man8/mount.ermfs.8'
	'$(TARGET_DIR)/release/ermfs' completions bash > '$(DESTDIR)$(word 1,$(COMPLETIONS))'
	'$(TARGET_DIR)/release/ermfs' completions zsh > '$(DESTDIR)$(word 2,$(COMPLETIONS))'
	'$(TARGET_DIR)/release/ermfs' completions fish > '$(DESTDIR)$(word 3,$(COMPLETIONS))'

# The files that `make install` makes, with the same PREFIX and the rest; directories stay.
uninstall:
	rm -f $(foreach file,$(LIBRARY_FILES) $(COMMAND_FILES),'$(DESTDIR)$(file)')

# Builds against an installed copy as anybody would.
install-check: lib ermfs
	@MAKE='$(MAKE)' CHECK_CC='$(CC)' tests/install/check.sh '$(TARGET_DIR)/install-check'

# The crates that can be published, built from their packages. OFFLINE= : with the network. Cargo unpacks and builds a
# package once for a directory and a version, whatever has changed since: what it has of ours goes first.
OFFLINE ?= --offline
PACKAGES = ermfs-memory ermfs-core ermfs-fuse ermfs
package: tools
	rm -rf '$(TARGET_DIR)/packages' $(foreach crate,$(PACKAGES),"$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/-*/$(crate)-[0-9]*)
	CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 \
		$(CARGO) package --target-dir '$(TARGET_DIR)/packages' $(OFFLINE) $(PACKAGE_OPTIONS) $(addprefix --package ,$(PACKAGES)) --features ermfs/cli

# Licences, sources, versions twice; and what is known against a dependency, when the list of that can be had.
deny: tools
	@if ! $(CARGO) deny --version > /dev/null 2>&1; then \
		echo 'SKIPPED: make deny (needs cargo-deny: cargo install --locked cargo-deny)'; exit 0; \
	fi; \
	$(CARGO) deny check bans licenses sources || exit 1; \
	if $(CARGO) deny fetch db > /dev/null 2>&1; then $(CARGO) deny check advisories; \
	else echo 'SKIPPED: advisories, whose database cannot be fetched'; fi

clean:
	$(CARGO) clean
