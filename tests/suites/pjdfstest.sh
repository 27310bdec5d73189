#!/usr/bin/env bash
# pjdfstest, the POSIX test suite: every test that tmpfs passes, passes. tests/suites/pjdfstest.sh [PATTERN...]: only the tests
# whose names contain one of the patterns, and no count.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Of version 0.2.2 on tmpfs; a test that is skipped instead is a failure here. Skipped: the 13 EROFS tests, which the second
# run judges, and link::link_count_max, because neither filesystem tells a LINK_MAX.
passing=384
skipping=14
erofs=13

users() {
    id tests > /dev/null 2>&1 || useradd --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin tests
}

# mount(8) hands a remount of a FUSE filesystem to its helper, which cannot do it; -i asks the kernel.
internal_mount() {
    local mount
    mount=$(command -v mount)
    mkdir -p "$WORK/bin"
    printf '#!/bin/sh\nexec %s -i "$@"\n' "$mount" > "$WORK/bin/mount"
    chmod 755 "$WORK/bin/mount"
}

# run CONFIGURATION EXPECTED [PATTERN...]: EXPECTED is what the summary begins with.
run() {
    local configuration=$1 expected=$2 summary
    shift 2
    NO_COLOR=1 PATH=$WORK/bin:$PATH RUST_BACKTRACE=0 "$SUITES_BIN/pjdfstest" -c "$configuration" -p "$MOUNT" \
        -s "$WORK/second" "$@" > "$WORK/pjdfstest.output" 2>&1 || true
    # What is not ok, each with the lines that say why.
    sed -n '/ ok$/d; p' "$WORK/pjdfstest.output"
    summary=$(sed -n 's/^Summary: //p' "$WORK/pjdfstest.output")
    printf '%s\n' "$summary" > "$WORK/summary"
    case $summary in
        *' 0 passed'*) fail 'no test has run' ;;
        "$expected"*) ;;
        *) fail "expected: $expected" ;;
    esac
}

suite_begin pjdfstest
need_crate pjdfstest 0.2.2
users
internal_mount
mkdir "$WORK/second"
mount -t tmpfs -o size=64M,mode=1777 tmpfs "$WORK/second"
sed 's/^allow_remount = .*/allow_remount = true/' "$SUITES/pjdfstest.toml" > "$WORK/remount.toml"

export CHECK_LINES=200
if [ $# -gt 0 ]; then
    check 600 "tests named *$**" run "$SUITES/pjdfstest.toml" '0 failed' "$@"
else
    check 600 "$passing tests" run "$SUITES/pjdfstest.toml" "0 failed, $skipping skipped, $passing passed"
fi
say "$(cat "$WORK/summary")"
if [ $# = 0 ]; then
    check 120 "$erofs tests of a filesystem remounted read-only" run "$WORK/remount.toml" "0 failed, 0 skipped, $erofs passed" erofs
    say "$(cat "$WORK/summary")"
fi
suite_end
