#!/usr/bin/env bash
# The server is killed under load: no client hangs, each sees an error, the mount can be taken away, and a new one on the same
# directory works. tests/suites/sigkill.sh [ROUNDS]: 4.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# What a client is told: ENOTCONN; ECONNABORTED if its call was on the way.
dead='Transport endpoint is not connected|Software caused connection abort'

# load: starts clients that work until a call fails; their process ids are in $CLIENTS, what they say in $WORK/client.NAME.
load() {
    local name
    CLIENTS=()
    mkdir -p "$MOUNT/files"
    for name in {1..300}; do echo "$name" > "$MOUNT/files/$name"; done
    git init --quiet "$MOUNT/git"
    for name in write read find create git grep; do
        # `exec` keeps the number of the process that may hang.
        (exec > "$WORK/client.$name" 2>&1 < /dev/null; "client_$name") &
        CLIENTS+=("$name:$!")
    done
}

client_write() { while dd if=/dev/zero of="$MOUNT/written" bs=64k count=2000 status=none; do :; done; }
client_read() {
    dd if=/dev/urandom of="$MOUNT/read" bs=64k count=200 status=none
    while dd if="$MOUNT/read" of=/dev/null bs=64k iflag=nocache status=none; do :; done
}
client_find() { while find "$MOUNT/files" -type f -newermt 2000-01-01 > /dev/null; do :; done; }
client_create() {
    local number=0
    while echo x > "$MOUNT/created.$((number % 50))" && rm "$MOUNT/created.$((number % 50))"; do number=$((number + 1)); done
}
client_git() {
    local number=0
    while echo "$number" > "$MOUNT/git/file.$((number % 20))" && git -C "$MOUNT/git" add . \
        && git -C "$MOUNT/git" -c user.name=a -c user.email=a@example.org commit --quiet --message "$number"; do
        number=$((number + 1))
    done
}
client_grep() { while grep -c x "$MOUNT/files/"* > /dev/null || [ "$?" = 1 ]; do :; done; }

ended() { # NAME PID
    gone "$2" 30 || fail "client $1 hangs: $(cat "/proc/$2/wchan" 2> /dev/null)"
}

# told NAME: every complaint of the client is of a dead connection, and there is one. git may say in its own words only what it
# then could not read.
told() {
    tail -n 5 "$WORK/client.$1"
    if [ "$1" = git ]; then
        grep -qE "$dead|^(fatal|error): " "$WORK/client.$1" || fail 'git was not told'
        return
    fi
    grep -qE "$dead" "$WORK/client.$1" || fail "client $1 was not told"
    ! grep -vE "$dead|^$" "$WORK/client.$1" || fail "client $1 was told something else"
}

not_connected() {
    must_fail ls "$MOUNT" 2> "$WORK/ls"
    grep -E "$dead" "$WORK/ls" || fail "ls says: $(cat "$WORK/ls")"
}

descriptor() {
    must_fail dd if=/dev/zero bs=4096 count=1 status=none >&8 2> "$WORK/descriptor"
    grep -E "$dead" "$WORK/descriptor"
}

take_away() { # COMMAND...
    patiently "$@" "$MOUNT"
    ! mounted "$MOUNT" || fail "$1 has succeeded and it is still mounted"
    [ -z "$(ls -A "$MOUNT")" ]
}

works() {
    echo again > "$MOUNT/file"
    [ "$(cat "$MOUNT/file")" = again ]
    [ ! -e "$MOUNT/files" ] || fail 'the new filesystem has files of the old one'
}

[ "$SUITE_FS" = ermfs ] || SUITE=sigkill skip_suite 'a tmpfs has no server'
suite_begin sigkill nomount
need git git
export dead
rounds=${1:-4}
for ((round = 1; round <= rounds; round++)); do
    say "round $round"
    serve_fs "$MOUNT" || die 'cannot mount the filesystem under test'
    load
    # An open file that has no client process.
    exec 8> "$MOUNT/held"
    sleep "$((round % 3 + 1))"
    kill -KILL "$SERVER"
    check 60 'the server is gone' gone "$SERVER" 30
    for client in "${CLIENTS[@]}"; do
        check 60 "client ${client%%:*} ends" ended "${client%%:*}" "${client##*:}"
        check 10 "client ${client%%:*} was told" told "${client%%:*}"
    done
    check 30 'ls is told' not_connected
    check 30 'an open descriptor is told' descriptor
    exec 8>&-
    if [ $((round % 2)) = 0 ]; then
        check 30 'umount' take_away umount
    else
        check 30 'fusermount3 -u' take_away fusermount3 -u
    fi
    mount_fs "$MOUNT" || die 'cannot mount again on the same directory'
    check 30 'a new mount works' works
    check 30 'and goes' unmount_fs "$MOUNT"
done
suite_end
