#!/usr/bin/env bash
# The C tests under Valgrind's memcheck, with the checking library: any error fails, and any memory that is lost for sure.
#
#   scripts/valgrind.sh [--short]
#
# --short: a few minutes. VALGRIND_SCALE: how long the programs go on, in per cent (full 20, short 1); VALGRIND_PROGRAMS: which.
# Without valgrind it says so and succeeds.
set -euo pipefail
export LC_ALL=C

say() { printf 'valgrind: %s\n' "$*" >&2; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scale=${VALGRIND_SCALE:-20}
read -ra programs <<< "${VALGRIND_PROGRAMS:-test_posix test_ermfd test_fork test_lockless_correctness test_lockless_concurrency}"
case "${1-}" in
    '') ;;
    --short)
        scale=${VALGRIND_SCALE:-1}
        # As many as the programs open, and not as many as they could.
        export ERMFS_MAX_FDS=${ERMFS_MAX_FDS:-4096}
        ;;
    *)
        say "unknown argument $1; it takes --short"
        exit 2
        ;;
esac
command -v valgrind > /dev/null || {
    say 'SKIPPED: what needs valgrind (Debian: apt-get install valgrind)'
    exit 0
}

library=$(scripts/build-library.sh --checked | tail -n 1)
directory=$(dirname "$library")
# It knows no execveat of a descriptor.
export ERMFS_TEST_SCALE=$scale ERMFS_TEST_NO_EXEC=1

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=
run() {
    local start=$SECONDS code=0 process leaks=full
    # It forks hundreds of times, and every child would look for losses.
    [ "$1" != test_ermfd ] || leaks=no
    printf '== %s, ERMFS_LOCKLESS=%s\n' "$1" "$2"
    rm -f "$logs"/*
    # Threads take turns, or one that waits for another by looking may keep it from running. What a fork child finds lost is
    # what the threads had that it has not: there is a report for each process, and of losses only the first one's counts.
    ERMFS_LOCKLESS=$2 valgrind --quiet --log-file="$logs/%p" --error-exitcode=66 --fair-sched=try --leak-check=$leaks \
        --show-leak-kinds=definite --errors-for-leak-kinds=none --num-callers=30 "$directory/$1" &
    process=$!
    wait $process || code=$?
    if [ "$code" != 0 ] || grep -q 'definitely lost' "$logs/$process"; then
        cat "$logs"/* >&2
        say "failed (exit code $code): $1, ERMFS_LOCKLESS=$2"
        failed="$failed $1:$2"
    fi
    printf '   %s s\n' $((SECONDS - start))
}

for program in "${programs[@]}"; do
    "${CC:-cc}" -O1 -g -std=gnu11 -Wall -Wextra -Werror -Iinclude -o "$directory/$program" "c_tests/$program.c" \
        -L"$directory" -Wl,-rpath,"$directory" -lermfs -pthread
    case $program in
        # They switch by themselves.
        test_lockless_*) run "$program" 0 ;;
        *) for lockless in 0 1; do run "$program" "$lockless"; done ;;
    esac
done

if [ -n "$failed" ]; then
    say "failed:$failed"
    exit 1
fi
echo 'valgrind: nothing reported'
