#!/usr/bin/env bash
# The tests under a sanitizer: in Rust those of ermfs-memory, of ermfs-core, the histories of threads and the library's behaviour;
# in C the programs of c_tests, C and Rust instrumented alike and linked with rustc's runtime.
#
#   scripts/sanitize.sh thread | address
#
# thread: what several threads do, std itself built with ThreadSanitizer too (from its sources: rustup component add rust-src),
# so that nothing has to be suppressed. address: with memory that belongs to nobody poisoned, and LeakSanitizer. Each in both
# modes.
#
# SANITIZE_SCALE: how long the C programs go on, in per cent (10); SANITIZE_ONLY=rust or c: one half; SANITIZE_MODES: "0 1".
# Any report fails. Builds go to <target directory>/sanitize-thread or -address. RUSTC_BOOTSTRAP lets the stable compiler
# take the option.
set -euo pipefail
export LC_ALL=C

say() { printf 'sanitize: %s\n' "$*" >&2; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target what runs while building is not instrumented.
options=(--release --target "$host")
features=ermfs/failpoints,ermfs-core/failpoints
kind=${1-}
case "$kind" in
    thread)
        runtime=tsan
        # What runs on one thread in many steps takes minutes here and shows nothing.
        core_tests=(concurrent epoch fd_table lockless slot counts packer threads content::tests calls::tests::locks --skip random_operations
            --skip flipped)
        behaviour_tests=(threads::)
        programs=(test_lockless_concurrency)
        [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ] || {
            say 'needs the sources of std: rustup component add rust-src'
            exit 1
        }
        options+=(-Zbuild-std)
        ;;
    address)
        runtime=asan
        core_tests=()
        behaviour_tests=()
        programs=(test_lockless_concurrency test_lockless_correctness test_posix test_ermfd test_fork)
        features+=,ermfs/check-memory,ermfs-core/check-memory,ermfs-memory/check-memory
        ;;
    *)
        say 'which one? thread or address'
        exit 2
        ;;
esac

target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/sanitize-$kind
archive=$(ls "$(rustc --print target-libdir)"/librustc-*_rt.$runtime.a 2> /dev/null | head -n 1)
[ -f "$archive" ] || {
    say "this Rust compiler has no $kind sanitizer"
    exit 1
}
command -v llvm-symbolizer > /dev/null || say 'without llvm-symbolizer reports name no lines (Debian: apt-get install llvm)'

# Fat LTO would take minutes and find nothing more. rustix calls libc, which the sanitizers watch, and not the kernel.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
export RUSTFLAGS="${RUSTFLAGS-} -Zsanitizer=$kind -Cunsafe-allow-abi-mismatch=sanitizer --cfg rustix_use_libc"
export TSAN_OPTIONS="exitcode=66 ${TSAN_OPTIONS-}"
export ASAN_OPTIONS="detect_stack_use_after_return=1 detect_leaks=1 exitcode=66 ${ASAN_OPTIONS-}"

failed=
run() {
    local start=$SECONDS
    printf '== ERMFS_LOCKLESS=%s %s\n' "${ERMFS_LOCKLESS-}" "${*##*/}"
    "$@" || {
        say "failed (exit code $?): ERMFS_LOCKLESS=${ERMFS_LOCKLESS-} $*"
        failed=1
    }
    printf '   %s s\n' $((SECONDS - start))
}

# One build for all of them, whose paths cargo tells.
build_tests() {
    cargo test "${options[@]}" --no-run --message-format json-render-diagnostics --features "$features" \
        --package ermfs-memory --package ermfs-core --package ermfs --lib --test process_memory --test history --test behaviour \
        | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}
test_called() { grep "/$1-[0-9a-f]*\$" <<< "$tests"; }

if [ "${SANITIZE_ONLY-}" != c ]; then
    tests=$(build_tests)
    cd ermfs-memory
    run "$(test_called ermfs_memory)"
    run "$(test_called process_memory)"
    cd ..
    for lockless in ${SANITIZE_MODES-0 1}; do
        export ERMFS_LOCKLESS=$lockless
        (cd ermfs-core && run "$(test_called ermfs_core)" "${core_tests[@]}" && [ -z "$failed" ]) || failed=1
        run "$(test_called history)"
        run "$(test_called behaviour)" "${behaviour_tests[@]}"
    done
fi

if [ "${SANITIZE_ONLY-}" != rust ]; then
    cargo build "${options[@]}" --package ermfs-capi --lib $([ "$kind" = thread ] || echo --features check-memory)
    export ERMFS_TEST_SCALE=${SANITIZE_SCALE:-10}
    for program in "${programs[@]}"; do
        "${CC:-cc}" -O1 -g -fno-omit-frame-pointer -std=gnu11 -Wall -Wextra -Werror -fsanitize="$kind" -Iinclude \
            -c -o "$target/$program.o" "c_tests/$program.c"
        "${CC:-cc}" -o "$target/$program" "$target/$program.o" "$target/$host/release/libermfs.a" \
            -Wl,--whole-archive "$archive" -Wl,--no-whole-archive -rdynamic -lgcc_s -lpthread -lm -ldl -lrt
        case $program in
            # They switch by themselves.
            test_lockless_*) ERMFS_LOCKLESS=0 run "$target/$program" ;;
            *) for lockless in ${SANITIZE_MODES-0 1}; do ERMFS_LOCKLESS=$lockless run "$target/$program"; done ;;
        esac
    done
fi

[ -z "$failed" ] || exit 1
echo "sanitize: $kind: nothing reported"
