#!/usr/bin/env bash
# stress-ng: its stressors of the class "filesystem", and a few of the class "io", each by itself for a few seconds, verifying.
# tests/suites/stress-ng.sh [SECONDS [STRESSOR...]]: 4 seconds each.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

each=${1:-4}
[ $# = 0 ] || shift

# What of the class is left out, because a tmpfs cannot do it or because it does not touch the filesystem under test.
left_out() {
    case $1 in
        bind-mount) echo 'mounts, and is called pathological by stress-ng itself' ;;
        binderfs) echo 'a filesystem of its own' ;;
        fiemap) echo 'tmpfs has no FS_IOC_FIEMAP' ;;
        verity) echo 'tmpfs has no fs-verity' ;;
        procfs) echo 'reads /proc' ;;
        eventfd) echo 'touches no file' ;;
        dup) echo 'the descriptor table, on /dev/zero' ;;
        ioprio) echo 'priorities of the I/O scheduler' ;;
        handle) echo 'opens by file handle, which a FUSE filesystem need not offer' ;;
        *) return 1 ;;
    esac
}

# stress STRESSOR
stress() {
    local output=$WORK/stress.output status=0 bytes=()
    case $1 in
        hdd | iomix | fallocate | readahead | revio) bytes=(--"$1"-bytes 64M) ;;
        copy-file | sync-file) bytes=(--"$1"-bytes 128M) ;;
        seek) bytes=(--seek-size 64M) ;;
    esac
    mkdir "$MOUNT/$1"
    chmod 1777 "$MOUNT/$1"
    stress-ng --"$1" 2 --timeout "$each" --verify --temp-path "$MOUNT/$1" "${bytes[@]}" \
        > "$output" 2>&1 || status=$?
    cat "$output"
    # Its words count: several failures leave the exit status 0.
    if grep -Ei '(^|: )fail(ed|ure)?:|unsuccessful|untrustworthy: *[1-9]|metrics[^:]* untrustworthy|aborted early|resource limit|corrupt' \
        "$output" | grep -vE 'failed: 0|untrustworthy: 0'; then
        fail 'stress-ng tells of failures'
    fi
    [ "$status" = 0 ] || fail "stress-ng: exit status $status"
    grep -q 'successful run completed' "$output" || fail 'stress-ng does not say that it has completed'
    if grep -E "skipping|skipped: *[1-9]|not implemented|not supported" "$output" | grep -vE 'skipped: 0'; then
        fail 'stress-ng has skipped it; on tmpfs it runs'
    fi
    rmdir "$MOUNT/$1" || fail "left behind: $(find "$MOUNT/$1" -mindepth 1 | head -n 5)"
}

suite_begin stress-ng
need stress-ng stress-ng
export each
stressors=$*
[ -n "$stressors" ] || stressors="$(stress-ng --class 'filesystem?' | sed 's/^[^:]*: *//') aiol readahead revio seek sendfile"
for stressor in $stressors; do
    if why=$(left_out "$stressor"); then
        say "without $stressor: $why"
    else
        check $((each + 60)) "$stressor" stress "$stressor"
    fi
done
suite_end
