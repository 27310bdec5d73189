#!/usr/bin/env bash
# The test of the test: programs that do one wrong thing each with a page, a piece or a counted value must be reported by
# AddressSanitizer and by Valgrind, and the same program without a fault must not. And LeakSanitizer in a program that uses the
# library as it is (its first argument) must report what the program loses, and nothing of the library's.
#
# A checker that is not there is skipped aloud. Builds go to <target directory>/sanitize-address and <target directory>.
set -euo pipefail
export LC_ALL=C

say() { printf 'test-checkers: %s\n' "$*" >&2; }

library=$(realpath "${1:?the directory of libermfs.so}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
build=(cargo build --quiet --package ermfs-memory --features check-memory --bin planted)

after_free=(page-after-free page-of-block-after-free page-after-free-and-more piece-after-free piece-after-free-and-more)
overruns=(page-overrun piece-overrun-into-its-rounding piece-overrun-into-the-next piece-underrun)

report=$(mktemp)
trap 'rm -f "$report"' EXIT
failed=

# expect CHECKER WHAT FAULT COMMAND...: the command with the fault ends with 66 and a report that has WHAT in it; if WHAT is
# empty, with 0.
expect() {
    local checker=$1 what=$2 fault=$3 code=0
    shift 3
    "$@" "$fault" > "$report" 2>&1 || code=$?
    if [ -z "$what" ] && [ "$code" = 0 ]; then
        say "$checker: $fault: nothing reported"
    elif [ -n "$what" ] && [ "$code" = 66 ] && grep -q "$what" "$report"; then
        say "$checker: $fault: reported"
    else
        say "$checker: $fault: expected '${what:-no report}', got exit code $code and"
        cat "$report" >&2
        failed=1
    fi
}

if ls "$(rustc --print target-libdir)"/librustc-*_rt.asan.a > /dev/null 2>&1; then
    # With --target what runs while building is not instrumented.
    RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$target/sanitize-address" \
        RUSTFLAGS="${RUSTFLAGS-} -Zsanitizer=address -Cunsafe-allow-abi-mismatch=sanitizer" "${build[@]}" --target "$host"
    program=$target/sanitize-address/$host/debug/planted
    export ASAN_OPTIONS="exitcode=66 symbolize=0"
    expect AddressSanitizer '' none "$program"
    for fault in "${after_free[@]}" "${overruns[@]}"; do
        expect AddressSanitizer use-after-poison "$fault" "$program"
    done
    expect AddressSanitizer heap-use-after-free counted-after-free "$program"
else
    say 'SKIPPED: this Rust compiler has no AddressSanitizer'
fi

if command -v valgrind > /dev/null; then
    "${build[@]}"
    run=(valgrind --quiet --error-exitcode=66 "$target/debug/planted")
    expect Valgrind '' none "${run[@]}"
    for fault in "${after_free[@]}" "${overruns[@]}" counted-after-free; do
        expect Valgrind 'Invalid read of size 1' "$fault" "${run[@]}"
    done
    for fault in page-uninitialised piece-uninitialised; do
        expect Valgrind 'depends on uninitialised' "$fault" "${run[@]}"
    done
else
    say 'SKIPPED: what needs valgrind (Debian: apt-get install valgrind)'
fi

program=$target/leaks
if ${CC:-cc} -g -fsanitize=address -Iinclude -o "$program" c_tests/leaks.c -L"$library" -lermfs -Wl,-rpath,"$library" 2> "$report"; then
    export ASAN_OPTIONS="exitcode=66 symbolize=0" LSAN_OPTIONS=exitcode=66
    for ERMFS_LOCKLESS in 0 1; do
        export ERMFS_LOCKLESS
        expect LeakSanitizer '' none "$program"
        expect LeakSanitizer '100 byte(s) leaked in 1 allocation' own "$program"
    done
else
    cat "$report" >&2
    say "SKIPPED: LeakSanitizer in a program of the library's (Debian: apt-get install libasan8)"
fi

[ -z "$failed" ] || exit 1
echo 'test-checkers: whatever was planted is reported'
