# shellcheck shell=bash
# What the judges of the mount share. A suite sources this file, calls `suite_begin NAME`, `check` for each thing it judges, and
# `suite_end`. The filesystem under test is at $MOUNT; $WORK is a directory outside it. Both are gone when the suite ends,
# however it ends; what the checks printed stays in <target directory>/suites/logs.
#
#   SUITE_FS       ermfs (default) or tmpfs, the oracle
#   SUITE_OPTIONS  mount options added to those of `mount_fs`
#   ERMFS          the command; default <target directory>/release/ermfs, built if it is missing
#
# A suite that cannot run says "SKIPPED: why" and succeeds. Needs Debian: what is missing is installed.
set -euo pipefail
export LC_ALL=C

SUITES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$SUITES/../.." && pwd)
SUITE_FS=${SUITE_FS:-ermfs}
SUITE_OPTIONS=${SUITE_OPTIONS:-}
SUITE_SIZE=4G
export SUITES ROOT SUITE_FS SUITE_OPTIONS SUITE_SIZE

say() { printf '%s: %s\n' "${SUITE:-suites}" "$*"; }

die() {
    say "$*" >&2
    exit 1
}

skip_suite() {
    printf 'SKIPPED: %s: %s\n' "$SUITE" "$*"
    exit 0
}

fail() { # for use inside a check
    printf '%s\n' "$*" >&2
    return 1
}

# must_fail COMMAND...: for use inside a check. In a shell of its own, because bash forgets `set -e` in what a condition calls.
must_fail() {
    # shellcheck disable=SC2016
    if bash -c 'set -euo pipefail; "$@"' must_fail "$@"; then
        fail "should have failed: $*"
    fi
}

# --- Programs ---

# need PACKAGE COMMAND...: installs the Debian package unless all its commands are there.
need() {
    local package=$1 command missing=
    shift
    for command in "$@"; do
        command -v "$command" > /dev/null || missing=$command
    done
    [ -n "$missing" ] || return 0
    say "installing $package for $missing"
    [ -n "$(apt-cache policy "$package" 2> /dev/null)" ] || timeout 300 apt-get -o DPkg::Lock::Timeout=240 update > /dev/null
    DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends \
        "$package" > /dev/null < /dev/null || die "cannot install $package, which $missing is in: apt-get install $package"
    command -v "$missing" > /dev/null || die "$package has no $missing"
}

# need_crate NAME VERSION: installs the program NAME of the crate NAME; it is at $SUITES_BIN/NAME.
need_crate() {
    local name=$1 version=$2
    [ "$("$SUITES_BIN/$name" --version 2> /dev/null)" != "$name $version" ] || return 0
    say "installing $name $version"
    timeout 1800 cargo install --quiet --locked --root "$TARGET/suites" "$name" --version "$version" < /dev/null \
        || die "cannot install $name: cargo install --locked --root '$TARGET/suites' $name --version $version"
}

need_ermfs() {
    if [ -z "${ERMFS:-}" ]; then
        ERMFS=$TARGET/release/ermfs
        [ -x "$ERMFS" ] || (cd "$ROOT" && timeout 1800 cargo build --quiet --release --features cli --bin ermfs < /dev/null) \
            || die 'cannot build ermfs: cargo build --release --features cli --bin ermfs'
    fi
    [ -x "$ERMFS" ] || die "$ERMFS is not a program; ERMFS names the command"
    ERMFS=$(realpath "$ERMFS")
    export ERMFS
}

# --- Time limits ---

# The numbers of the FUSE connections below $WORK. Read from mountinfo, because a stat may hang as the filesystem does.
connections() { awk -v work="$WORK/" 'index($5, work) == 1 && $0 ~ / - fuse/ { split($3, device, ":"); print device[2] }' /proc/self/mountinfo; }

# A client that waits for an answer of a FUSE server outlives SIGKILL; ending the connection answers it.
abort_connections() {
    local number
    mountpoint -q /sys/fs/fuse/connections || mount -t fusectl fusectl /sys/fs/fuse/connections || return 0
    for number in $(connections); do
        echo 1 > "/sys/fs/fuse/connections/$number/abort" 2> /dev/null || true
    done
}

# limited SECONDS COMMAND...: its exit status, or 124 or 137 after that time. It ends even if the filesystem does not answer.
limited() {
    local limited_watchdog limited_group limited_status=0
    (
        trap 'kill "$!"; wait "$!"; exit 0' TERM
        sleep $(($1 + 20)) &
        wait "$!"
        abort_connections
    ) > /dev/null 2>&1 &
    limited_watchdog=$!
    # In the background, so that a signal to the suite is answered at once.
    timeout --kill-after=10 "$@" &
    limited_group=$!
    wait "$limited_group" || limited_status=$?
    # What the command has left running in the background.
    kill -KILL -- "-$limited_group" 2> /dev/null || true
    kill "$limited_watchdog" 2> /dev/null || true
    wait "$limited_watchdog" 2> /dev/null || true
    return "$limited_status"
}

# --- Mounts ---

mounted() { awk -v dir="$1" '$5 == dir { found = 1 } END { exit !found }' /proc/self/mountinfo; }

# mount_fs DIR [OPTIONS]: the filesystem under test, writable by everybody.
mount_fs() {
    local dir=$1 options=size=$SUITE_SIZE${SUITE_OPTIONS:+,$SUITE_OPTIONS}${2:+,$2}
    mkdir -p "$dir"
    if [ "$SUITE_FS" = tmpfs ]; then
        mount -t tmpfs -o "mode=1777,$options" tmpfs "$dir"
    else
        # The server outlives this call: it must not hold this script's output open.
        limited 30 "$ERMFS" mount -o "allow_other,$options" "$dir" >> "$LOG" 2>&1 < /dev/null || {
            tail -n 5 "$LOG" >&2
            return 1
        }
        mounted "$dir" || fail "ermfs mount has returned and $dir is not mounted" || return
        case ",$options," in *,ro,*) ;; *) chmod 1777 "$dir" ;; esac
    fi
}

# patiently COMMAND...: tries for 5 s, because a process that was killed holds its files for a moment longer.
patiently() {
    local until=$((SECONDS + 5))
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.1
    done
}

# unmount_fs DIR: fails if it stays busy.
unmount_fs() { patiently limited 60 umount "$1"; }

# serve_fs DIR [OPTIONS]: ermfs in the foreground of a background process; its process id is in $SERVER.
serve_fs() {
    local dir=$1 tries=0 options=allow_other,size=$SUITE_SIZE${SUITE_OPTIONS:+,$SUITE_OPTIONS}${2:+,$2}
    mkdir -p "$dir"
    # bash lets what it starts in the background ignore SIGINT.
    env --default-signal=INT "$ERMFS" mount -f -o "$options" "$dir" >> "${SERVER_LOG:-$LOG}" 2>&1 < /dev/null &
    SERVER=$!
    until mounted "$dir"; do
        kill -0 "$SERVER" 2> /dev/null || fail "ermfs mount -f $dir has ended" || return
        [ "$((tries += 1))" -lt 300 ] || fail "ermfs mount -f $dir has not mounted in 30 s" || return
        sleep 0.1
    done
}

# gone PID SECONDS: whether the process ends within that time.
gone() {
    local tries=$(($2 * 10))
    while [ -e "/proc/$1" ] && [ "$(awk '/^State:/ { print $2 }' "/proc/$1/status" 2> /dev/null)" != Z ]; do
        [ "$((tries -= 1))" -gt 0 ] || return 1
        sleep 0.1
    done
}

clean_up() {
    local status=$? dir
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    # timeout hands SIGTERM on to what it runs, and has ten seconds to insist.
    # shellcheck disable=SC2046
    kill $(jobs -p) 2> /dev/null
    for dir in $(jobs -p); do
        gone "$dir" 12 || kill -KILL "$dir" 2> /dev/null
    done
    cd /
    awk -v work="$WORK/" 'index($5, work) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r dir; do
        timeout --kill-after=5 30 umount "$dir" 2> /dev/null && continue
        abort_connections
        umount --lazy "$dir" 2> /dev/null || printf '%s: %s is still mounted\n' "$SUITE" "$dir" >&2
    done
    awk -v work="$WORK/" 'index($5, work) == 1 { exit 1 }' /proc/self/mountinfo && rm -rf --one-file-system "$WORK"
    exit "$status"
}

# --- Checks ---

# suite_begin NAME [nomount]: with nomount the suite mounts by itself.
suite_begin() {
    SUITE=$1
    PASSED=0 FAILED=0 BEGUN=$SECONDS
    case $SUITE_FS in ermfs | tmpfs) ;; *) die "SUITE_FS=$SUITE_FS: it is ermfs or tmpfs" ;; esac
    [ "$(id -u)" = 0 ] || skip_suite 'it needs root'
    TARGET=$(cd "$ROOT" && cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    SUITES_BIN=$TARGET/suites/bin
    mkdir -p "$TARGET/suites/logs"
    LOG=$TARGET/suites/logs/$SUITE.$SUITE_FS.log
    : > "$LOG"
    if [ "$SUITE_FS" = ermfs ]; then
        [ -c /dev/fuse ] || skip_suite 'there is no /dev/fuse'
        need fuse3 fusermount3
        need_ermfs
    fi
    WORK=$(mktemp -d /tmp/ermfs-suite.XXXXXX)
    chmod 755 "$WORK"
    # Some of the programs leave files where they are started.
    cd "$WORK"
    MOUNT=$WORK/mount
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    export SUITE TARGET SUITES_BIN LOG WORK MOUNT
    printf '== %s on %s%s\n' "$SUITE" "$SUITE_FS" "${SUITE_OPTIONS:+ ($SUITE_OPTIONS)}"
    [ "${2:-}" = nomount ] || mount_fs "$MOUNT" || die 'cannot mount the filesystem under test'
}

# check SECONDS NAME COMMAND...: one judgement. The command, which may be a function of the suite, runs in a shell of its own
# with the usual strictness; what it prints is shown if it fails. It sees the variables that the suite exports.
check() {
    local check_seconds=$1 check_name=$2 check_status=0 check_from=$EPOCHREALTIME check_output=$WORK/check.output check_took
    shift 2
    # shellcheck disable=SC2046
    export -f $(declare -F | awk '{ print $3 }')
    # shellcheck disable=SC2016
    limited "$check_seconds" bash -c 'set -euo pipefail; "$@"' check "$@" > "$check_output" 2>&1 < /dev/null || check_status=$?
    check_took=$(((${EPOCHREALTIME/./} - ${check_from/./}) / 100000))
    { printf '\n== %s: exit status %d\n' "$check_name" "$check_status"; cat "$check_output"; } >> "$LOG"
    if [ "$check_status" = 0 ]; then
        PASSED=$((PASSED + 1))
        printf 'ok      %s (%d.%d s)\n' "$check_name" $((check_took / 10)) $((check_took % 10))
        return 0
    fi
    FAILED=$((FAILED + 1))
    case $check_status in 124 | 137) check_status="$check_status: not done in $check_seconds s" ;; esac
    printf 'FAILED  %s (exit status %s)\n' "$check_name" "$check_status"
    tail -n "${CHECK_LINES:-30}" "$check_output" | sed 's/^/        /'
}

suite_end() {
    if mounted "$MOUNT"; then
        check 60 'unmounting' unmount_fs "$MOUNT"
    fi
    printf '%s on %s: %d passed, %d failed in %d s\n' "$SUITE" "$SUITE_FS" "$PASSED" "$FAILED" $((SECONDS - BEGUN))
    [ "$FAILED" = 0 ] || exit 1
    [ "$PASSED" != 0 ] || die 'no check has run'
}
