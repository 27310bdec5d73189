#!/usr/bin/env bash
# The command as a person uses it: sizes, options, errors, signals, statistics. The checks under "ermfs only" judge the command;
# the others hold for every mounted filesystem.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# mount_with DIR OPTIONS: these options and no others.
mount_with() {
    mkdir -p "$1"
    if [ "$SUITE_FS" = tmpfs ]; then
        mount -t tmpfs -o "$2" tmpfs "$1"
    else
        limited 30 "$ERMFS" mount -o "$2" "$1"
        mounted "$1" || fail "ermfs mount has returned and $1 is not mounted"
    fi
}

nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }

# in_df FIELD: what df says, in bytes.
in_df() { df --block-size=1 --output="$1" "$MOUNT" | tail -n 1 | tr -d ' '; }

# between LOW VALUE HIGH
between() {
    if [ "$2" -lt "$1" ] || [ "$2" -gt "$3" ]; then fail "$2 is not between $1 and $3"; fi
}

# --- Every filesystem ---

sizes() {
    mount_with "$MOUNT" size=64M
    between 66000000 "$(in_df size)" 67108864
    between 0 "$(in_df used)" 2000000
    # Random, so that it does not shrink.
    head -c 16000000 /dev/urandom > "$MOUNT/file"
    between 16000000 "$(in_df used)" 18000000
    between 45000000 "$(in_df avail)" 51200000
    read -r blocks free available size name nodes < <(stat -f -c '%b %f %a %S %l %c' "$MOUNT")
    between 66000000 $((blocks * size)) 67108864
    between 16000000 $(((blocks - free) * size)) 18000000
    between 0 "$available" "$free"
    [ "$name" = 255 ] || fail "names have $name bytes"
    [ "$nodes" -gt 0 ] || fail 'df -i shows no inodes'
    rm "$MOUNT/file"
    sleep 1
    between 0 "$(in_df used)" 2000000
    unmount_fs "$MOUNT"
}

full() {
    mount_with "$MOUNT" size=16M
    must_fail dd if=/dev/urandom of="$MOUNT/file" bs=64k count=1000 status=none 2> "$WORK/full"
    grep 'No space left on device' "$WORK/full" || fail "a full filesystem says: $(cat "$WORK/full")"
    between 12000000 "$(stat -c %s "$MOUNT/file")" 16777216
    cat "$MOUNT/file" > /dev/null
    rm "$MOUNT/file"
    sleep 1
    head -c 8000000 /dev/urandom > "$MOUNT/file"
    unmount_fs "$MOUNT"
}

read_only() {
    mount_with "$MOUNT" size=16M,ro
    must_fail touch "$MOUNT/file" 2> "$WORK/ro"
    grep 'Read-only file system' "$WORK/ro" || fail "touch says: $(cat "$WORK/ro")"
    must_fail mkdir "$MOUNT/directory"
    unmount_fs "$MOUNT"
}

# has_options WORD...: the kernel's word on the mount.
has_options() {
    local word options
    options=$(awk -v dir="$MOUNT" '$5 == dir { print $6 }' /proc/self/mountinfo)
    for word in "$@"; do
        case ",$options," in *",$word,"*) ;; *) fail "the mount has the options $options, not $word" ;; esac
    done
}

no_exec() {
    mount_with "$MOUNT" size=16M,noexec
    has_options noexec
    cp /bin/true "$MOUNT/program"
    must_fail "$MOUNT/program" 2> "$WORK/noexec"
    grep 'Permission denied' "$WORK/noexec"
    unmount_fs "$MOUNT"
    mount_with "$MOUNT" size=16M,nosuid,nodev,noatime
    has_options nosuid nodev noatime
    cp /bin/true "$MOUNT/program"
    "$MOUNT/program"
    unmount_fs "$MOUNT"
}

owner() {
    mount_with "$MOUNT" size=16M,uid=1234,gid=4321
    [ "$(stat -c %u:%g "$MOUNT")" = 1234:4321 ] || fail "the root directory belongs to $(stat -c %u:%g "$MOUNT")"
    unmount_fs "$MOUNT"
}

busy() {
    mount_with "$MOUNT" size=16M
    exec 8> "$MOUNT/file"
    must_fail umount "$MOUNT" 2> "$WORK/busy"
    grep 'busy' "$WORK/busy"
    exec 8>&-
    unmount_fs "$MOUNT"
    [ -z "$(ls -A "$MOUNT")" ]
}

# --- ermfs only ---

# refused PATTERN ARGUMENT...: it fails at once, mounts nothing, and says on stderr what is wrong, matching the pattern.
refused() {
    local pattern=$1 status=0
    shift
    mkdir -p "$MOUNT"
    timeout 10 "$ERMFS" "$@" > "$WORK/refused.out" 2> "$WORK/refused" || status=$?
    ! mounted "$MOUNT" || fail "ermfs $* has mounted"
    case $status in
        0) fail "ermfs $* has succeeded" ;;
        124) fail "ermfs $* does not return" ;;
        101 | 134 | 139) fail "ermfs $* has crashed: $(cat "$WORK/refused")" ;;
    esac
    cat "$WORK/refused"
    grep -qiE -- "$pattern" "$WORK/refused" || fail "ermfs $*: its message does not match $pattern"
}

# carries OPTIONS: mounts with them, and a file survives being closed, packed and read again.
carries() {
    mount_with "$MOUNT" "size=64M,$1"
    seq 500000 > "$MOUNT/file"
    echo end >> "$MOUNT/file"
    { seq 500000; echo end; } | cmp - "$MOUNT/file"
    unmount_fs "$MOUNT"
}

packs() {
    mount_with "$MOUNT" size=64M,compress=close
    seq 2000000 > "$MOUNT/file"
    # 14.9 MB of numbers; a third of that at rest. It is packed after the close, while nobody waits.
    for _ in $(seq 50); do
        [ "$(in_df used)" -ge 8000000 ] || break
        sleep 0.1
    done
    between 0 "$(in_df used)" 8000000
    unmount_fs "$MOUNT"
    mount_with "$MOUNT" size=64M,compress=never
    seq 2000000 > "$MOUNT/file"
    between 14000000 "$(in_df used)" 20000000
    unmount_fs "$MOUNT"
}

masked() {
    mount_with "$MOUNT" size=16M,umask=027
    [ "$((8#$(stat -c %a "$MOUNT") & 8#027))" = 0 ] || fail "the root directory has the mode $(stat -c %a "$MOUNT")"
    unmount_fs "$MOUNT"
}

# Without allow_other nobody else may look; with it the modes of files decide.
others() {
    mount_with "$MOUNT" size=16M
    chmod 755 "$MOUNT"
    must_fail nobody ls "$MOUNT"
    unmount_fs "$MOUNT"
    mount_with "$MOUNT" size=16M,allow_other
    chmod 755 "$MOUNT"
    echo secret > "$MOUNT/secret"
    chmod 600 "$MOUNT/secret"
    echo public > "$MOUNT/public"
    chmod 644 "$MOUNT/public"
    [ "$(nobody cat "$MOUNT/public")" = public ]
    must_fail nobody cat "$MOUNT/secret"
    must_fail nobody touch "$MOUNT/new"
    unmount_fs "$MOUNT"
}

# What holds the command's output ends with the command, or every `$(ermfs mount ...)` would hang.
detaches() {
    local output
    mkdir -p "$MOUNT"
    output=$(timeout 10 "$ERMFS" mount -o size=16M "$MOUNT" 2>&1 < /dev/null | cat)
    mounted "$MOUNT" || fail "not mounted when the command returns: $output"
    [ -z "$output" ] || fail "it is not silent: $output"
    echo x > "$MOUNT/file"
    unmount_fs "$MOUNT"
}

helper() {
    mkdir -p "$WORK/bin" "$MOUNT"
    ln -sf "$ERMFS" "$WORK/bin/mount.ermfs"
    # As mount(8) calls a helper: source, directory, options.
    limited 30 "$WORK/bin/mount.ermfs" ermfs "$MOUNT" -o rw,size=16M,allow_other
    mounted "$MOUNT"
    between 16000000 "$(in_df size)" 16777216
    unmount_fs "$MOUNT"
}

statistics() {
    mount_with "$MOUNT" size=64M
    seq 100000 > "$MOUNT/file"
    timeout 10 "$ERMFS" stats "$MOUNT" | tee "$WORK/table"
    [ "$(wc -l < "$WORK/table")" -ge 3 ] || fail 'the table has fewer than three lines'
    timeout 10 "$ERMFS" stats --json "$MOUNT" > "$WORK/json"
    jq --exit-status 'type == "object" and length > 2' "$WORK/json"
    unmount_fs "$MOUNT"
    timeout 10 "$ERMFS" stats "$MOUNT" > /dev/null 2> "$WORK/stats" && fail 'statistics of what is not mounted'
    [ -s "$WORK/stats" ]
}

helps() {
    "$ERMFS" mount --help > "$WORK/help"
    for word in size level compress mode uid gid umask allow_other threads; do
        grep -qw -- "$word" "$WORK/help" || fail "ermfs mount --help does not tell of $word"
    done
    "$ERMFS" --help | grep -w mount
    "$ERMFS" --help | grep -w stats
    "$ERMFS" --version
}

# The server's child is not of the check's shell, so these two take process ids.
stopped() { # PID: has ended and taken its mount away
    gone "$1" 10 || fail 'the server still runs'
    ! mounted "$MOUNT" || fail 'it is still mounted'
    [ -z "$(ls -A "$MOUNT")" ]
}

prints() { # PID: SIGUSR1 makes it print, and go on
    local before tries=0
    echo x > "$MOUNT/file"
    before=$(stat -c %s "$WORK/server.log")
    kill -USR1 "$1"
    until [ "$(stat -c %s "$WORK/server.log")" -gt "$before" ]; do
        [ "$((tries += 1))" -lt 50 ] || fail 'nothing printed in 5 s'
        sleep 0.1
    done
    kill -0 "$1" || fail 'the server has ended'
    [ "$(cat "$MOUNT/file")" = x ]
}

suite_begin usage nomount
mkdir -p "$MOUNT"
need util-linux setpriv
check 60 'df and stat -f' sizes
check 60 'full: no space left' full
check 30 'ro' read_only
check 30 'noexec, nosuid, nodev, noatime' no_exec
check 30 'uid, gid' owner
check 30 'busy' busy

if [ "$SUITE_FS" = ermfs ]; then
    need jq jq
    touch "$WORK/a-file"
    check 20 '--help, --version' helps
    check 20 'refused: an unknown option' refused 'sizze' mount -o sizze=1G "$MOUNT"
    check 20 'refused: a bad size' refused 'size|12Q' mount -o size=12Q "$MOUNT"
    check 20 'refused: a bad level' refused 'level' mount -o level=99 "$MOUNT"
    check 20 'refused: a bad policy, told which ones there are' refused 'background' mount -o compress=sometimes "$MOUNT"
    check 20 'refused: a bad mode, told which ones there are' refused 'lockless' mount -o mode=loose "$MOUNT"
    check 20 'refused: a file' refused 'a-file.*directory|directory.*a-file' mount "$WORK/a-file"
    check 20 'refused: what is not there' refused 'missing' mount "$WORK/missing"
    check 20 'refused: no directory' refused 'DIR|usage' mount
    check 20 'refused: in the foreground too' refused 'sizze' mount -f -o sizze=1G "$MOUNT"
    for options in compress=close compress=background compress=never mode=locked level=9 threads=1 threads=4; do
        check 60 "$options" carries "$options"
    done
    check 60 'mode=lockless' carries mode=lockless
    check 60 'packing shows in df' packs
    check 30 'umask' masked
    check 30 'allow_other' others
    check 30 'returns once mounted, silent' detaches
    check 30 'mount.ermfs' helper
    check 30 'ermfs stats' statistics
    for signal in INT TERM HUP; do
        serve_fs "$MOUNT" || die 'cannot mount the filesystem under test'
        kill "-$signal" "$SERVER"
        check 30 "SIG$signal unmounts" stopped "$SERVER"
        status=0
        wait "$SERVER" || status=$?
        check 10 "and is no failure (exit status $status)" test "$status" = 0
    done
    SERVER_LOG=$WORK/server.log serve_fs "$MOUNT" || die 'cannot mount the filesystem under test'
    check 30 'SIGUSR1 prints the statistics' prints "$SERVER"
    check 30 'umount ends the foreground server' unmount_fs "$MOUNT"
    check 30 'which leaves nothing' stopped "$SERVER"
fi
suite_end
