#!/usr/bin/env bash
# The tests of many threads under a sanitizer: those in Rust of ermfs-core and of the library's behaviour, then the lockless
# programs of c_tests, C and Rust instrumented alike and linked with rustc's runtime.
#
#   scripts/sanitize.sh thread | address
#
# SANITIZE_SCALE: how long the C programs go on, in per cent (20); SANITIZE_ONLY=rust or c: one half. Any report fails. Builds go
# to <target directory>/sanitize-thread or -address. RUSTC_BOOTSTRAP lets the stable compiler take the option.
set -euo pipefail
export LC_ALL=C

say() { printf 'sanitize: %s\n' "$*" >&2; }

kind=${1-}
case "$kind" in
    thread) runtime=tsan ;;
    address) runtime=asan ;;
    *)
        say 'which one? thread or address'
        exit 2
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/sanitize-$kind
archive=$(rustc --print target-libdir)/librustc-stable_rt.$runtime.a
[ -f "$archive" ] || archive=$(ls "$(rustc --print target-libdir)"/librustc-*_rt.$runtime.a 2> /dev/null | head -n 1)
[ -f "$archive" ] || {
    say "this Rust compiler has no $kind sanitizer"
    exit 1
}
command -v llvm-symbolizer > /dev/null || say 'without llvm-symbolizer reports name no lines, and nothing is suppressed (Debian: apt-get install llvm)'

# With --target what runs while building is not instrumented. Fat LTO would take minutes and find nothing more.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export RUSTFLAGS="${RUSTFLAGS-} -Zsanitizer=$kind -Cunsafe-allow-abi-mismatch=sanitizer"
export TSAN_OPTIONS="suppressions=$PWD/scripts/tsan.supp exitcode=66 ${TSAN_OPTIONS-}"
export ASAN_OPTIONS="detect_stack_use_after_return=1 exitcode=66 ${ASAN_OPTIONS-}"
options=(--release --target "$host")

# The tests of ermfs-core that have to do with several threads, by parts of their names. Those of one thread and many steps take
# minutes here.
core_tests=(concurrent epoch fd_table lockless slot counts packer content::tests calls::tests::locks --skip random_operations)

failed=
run() {
    printf '== %s\n' "$*"
    "$@" || {
        say "failed (exit code $?): $*"
        failed=1
    }
}

if [ "${SANITIZE_ONLY-}" != c ]; then
    for lockless in 0 1; do
        export ERMFS_LOCKLESS=$lockless
        run cargo test "${options[@]}" --package ermfs-core --lib -- "${core_tests[@]}"
        run cargo test "${options[@]}" --package ermfs --test behaviour -- threads::
    done
fi

if [ "${SANITIZE_ONLY-}" != rust ]; then
    cargo build "${options[@]}" --package ermfs-capi --lib
    for program in test_lockless_concurrency test_lockless_correctness; do
        "${CC:-cc}" -O1 -g -fno-omit-frame-pointer -std=gnu11 -Wall -Wextra -Werror -fsanitize="$kind" -Iinclude \
            -c -o "$target/$program.o" "c_tests/$program.c"
        "${CC:-cc}" -o "$target/$program" "$target/$program.o" "$target/$host/release/libermfs.a" \
            -Wl,--whole-archive "$archive" -Wl,--no-whole-archive -rdynamic -lgcc_s -lpthread -lm -ldl -lrt
    done
    export ERMFS_TEST_SCALE=${SANITIZE_SCALE:-20}
    run "$target/test_lockless_concurrency"
    [ "$kind" = thread ] || run "$target/test_lockless_correctness"
fi

[ -z "$failed" ] || exit 1
echo "sanitize: $kind: nothing reported"
