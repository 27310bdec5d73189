#!/usr/bin/env bash
# Programs as people use them: git, sqlite3, tar, rsync, gcc and make, scripts and programs run from the mount.
# shellcheck disable=SC2016  # scripts and makefiles are written in single quotes
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# tree DIR: 1,200 files of many sizes in 40 directories, the same ones every time.
tree() {
    local directory file
    for directory in {1..40}; do
        mkdir -p "$1/d$((directory % 7))/d$directory"
        for file in {1..30}; do
            seq "$directory" $((directory + file * file * 3)) > "$1/d$((directory % 7))/d$directory/f$file.txt"
        done
    done
}

# checksums DIR: of every file, by name.
checksums() { (cd "$1" && find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum); }

# --- git ---

git_work() {
    local at=$MOUNT/git
    git init --quiet --bare --initial-branch=main "$at/bare.git"
    git init --quiet --initial-branch=main "$at/one"
    tree "$at/one/files"
    cd "$at/one"
    git add .
    git commit --quiet --message first
    git remote add origin "$at/bare.git"
    git push --quiet origin main
    git clone --quiet "$at/bare.git" "$at/two"
    diff -r --exclude=.git "$at/one" "$at/two"
    cd "$at/two"
    git mv files/d1 files/moved
    git rm --quiet -r files/d2
    echo more >> files/d3/d3/f1.txt
    git commit --quiet --all --message second
    git push --quiet origin main
    cd "$at/one"
    git pull --quiet --ff-only origin main
    git checkout --quiet -b branch HEAD~1
    git merge --quiet --no-edit main
    git stash list
    diff -r --exclude=.git "$at/one" "$at/two"
    for repository in "$at/one" "$at/two" "$at/bare.git"; do
        cd "$repository"
        git gc --quiet --aggressive --prune=now
        # A complaint of fsck is a failure even where its exit status is not.
        [ -z "$(git fsck --full --strict 2>&1 | tee /dev/stderr)" ] || fail "git fsck complains of $repository"
    done
    cd "$at/one"
    [ -z "$(git status --porcelain)" ] || fail 'git status: the tree has changed'
}

# --- sqlite3 ---

# database FILE JOURNAL MMAP_SIZE: a work of many transactions, of which one is rolled back; prints what must be the same
# everywhere. With the journal off there is no rollback.
database() {
    {
        printf '%s\n' '.bail on' "PRAGMA journal_mode=$2;" "PRAGMA mmap_size=$3;" 'PRAGMA cache_size=50;' \
            'CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT, b BLOB);' 'CREATE INDEX i ON t(v);'
        for start in {0..9}; do
            printf '%s\n' "WITH RECURSIVE n(x) AS (SELECT $start * 2000 UNION ALL SELECT x + 1 FROM n WHERE x < $start * 2000 + 1999)
                INSERT INTO t SELECT x, printf('%d-%d', x * 7919 % 20000, x), zeroblob(x % 300) FROM n;"
        done
        for start in {0..40}; do printf '%s\n' "UPDATE t SET v = v || '-$start' WHERE k % 41 = $start;"; done
        if [ "$2" != off ]; then
            printf '%s\n' 'BEGIN;' 'UPDATE t SET b = zeroblob(500);' 'DELETE FROM t WHERE k < 10000;' 'ROLLBACK;'
        fi
        printf '%s\n' 'DELETE FROM t WHERE k % 3 = 0;' 'VACUUM;' 'PRAGMA wal_checkpoint(TRUNCATE);' 'PRAGMA integrity_check;'
    } | sqlite3 "$1"
    sqlite3 "$1" 'PRAGMA integrity_check;' 'SELECT count(*), sum(k), sum(length(v)), sum(length(b)) FROM t;'
    sqlite3 "$1" .dump | sha256sum
}

# sqlite_work JOURNAL MMAP_SIZE: as the same work on a tmpfs.
sqlite_work() {
    mkdir -p "$MOUNT/sqlite"
    database "$MOUNT/sqlite/$1-$2.db" "$1" "$2" > "$WORK/sqlite.found"
    database "$WORK/tmpfs/$1-$2.db" "$1" "$2" > "$WORK/sqlite.expected"
    diff "$WORK/sqlite.expected" "$WORK/sqlite.found"
    [ "$(grep -cx ok "$WORK/sqlite.found")" = 2 ] || fail "$(cat "$WORK/sqlite.found")"
    cmp "$MOUNT/sqlite/$1-$2.db" "$WORK/tmpfs/$1-$2.db" || [ "$1" = wal ] # a WAL file has random salts; its database does not
    grep -qx "$1" "$WORK/sqlite.found" || fail "sqlite3 does not take journal_mode=$1"
}

# Four writers of one database at once, who wait for each other's locks.
sqlite_writers() {
    local file=$MOUNT/sqlite/writers.db writer pids=()
    sqlite3 "$file" "PRAGMA journal_mode=$1;" 'CREATE TABLE t(k INTEGER);'
    for writer in {1..4}; do
        for _ in {1..50}; do
            sqlite3 -cmd '.timeout 60000' "$file" 'BEGIN IMMEDIATE;' "INSERT INTO t VALUES($writer);" 'COMMIT;'
        done &
        pids+=("$!")
    done
    for writer in "${pids[@]}"; do wait "$writer"; done
    [ "$(sqlite3 "$file" 'PRAGMA integrity_check;' 'SELECT count(*) FROM t;')" = $'ok\n200' ]
    rm "$file"*
}

# --- tar, rsync ---

# special DIR: what is more than bytes: attributes, holes, hard links, symlinks, modes, owners, times, a fifo, an empty directory.
special() {
    tree "$1/files"
    setfattr -n user.colour -v blue "$1/files/d1/d1/f1.txt"
    setfattr -n user.of.directory -v 0x00ff00 "$1/files/d1"
    truncate -s 64M "$1/sparse"
    printf middle | dd of="$1/sparse" bs=1 seek=30000000 conv=notrunc status=none
    printf end | dd of="$1/sparse" bs=1 seek=67108861 conv=notrunc status=none
    ln "$1/sparse" "$1/hard"
    ln "$1/files/d1/d1/f2.txt" "$1/files/d2/linked.txt"
    ln -s files/d1/d1/f1.txt "$1/soft"
    ln -s nowhere "$1/dangling"
    mkfifo "$1/fifo"
    mkdir -m 1750 "$1/empty"
    chown 1234:4321 "$1/empty" "$1/files/d3/d3/f1.txt"
    chmod 4751 "$1/files/d3/d3/f2.txt"
    touch -h -d '2001-02-03 04:05:06.123456789' "$1/soft" "$1/files/d3/d3/f3.txt" "$1/empty"
}

# described DIR: all of it that has to survive a copy. Links are told by their number and by the first name of the inode.
described() {
    (
        cd "$1"
        find . \( -type d -printf '%P %y %m %U:%G %T@\n' \) -o -printf '%P %y %m %U:%G %s %n %T@ %l\n' | sort
        find . -type f -links +1 -printf '%i %P\n' | sort | awk '$1 != inode { inode = $1; first = $2 } { print "link", $2, first }' | sort
        getfattr --absolute-names -R -h -d -m - -e hex . | sed '/^$/d'
        checksums .
    )
}

same() { # DIR DIR
    described "$1" > "$WORK/described.one"
    described "$2" > "$WORK/described.two"
    [ -s "$WORK/described.one" ]
    diff "$WORK/described.one" "$WORK/described.two"
}

sparse() { # FILE: 64 MiB of which hardly anything is stored
    [ "$(stat -c %s "$1")" = 67108864 ]
    [ "$(stat -c %b "$1")" -lt 4096 ] || fail "$1 takes $(stat -c %b "$1") blocks of 512 bytes"
}

tar_work() {
    mkdir -p "$MOUNT/tar"
    special "$WORK/tmpfs/special"
    # In from a tmpfs, out of the mount, and in once more from an archive that lies on the mount.
    tar --create --sparse --xattrs --xattrs-include='*' --acls --directory "$WORK/tmpfs/special" --file "$MOUNT/tar/in.tar" .
    mkdir "$MOUNT/tar/in" "$WORK/tmpfs/out"
    tar --extract --sparse --xattrs --xattrs-include='*' --preserve-permissions --same-owner --directory "$MOUNT/tar/in" --file "$MOUNT/tar/in.tar"
    same "$WORK/tmpfs/special" "$MOUNT/tar/in"
    sparse "$MOUNT/tar/in/sparse"
    tar --create --sparse --xattrs --xattrs-include='*' --directory "$MOUNT/tar/in" --file "$WORK/tmpfs/out.tar" .
    tar --extract --sparse --xattrs --xattrs-include='*' --preserve-permissions --same-owner --directory "$WORK/tmpfs/out" --file "$WORK/tmpfs/out.tar"
    same "$MOUNT/tar/in" "$WORK/tmpfs/out"
    # tar knows holes by SEEK_HOLE: the archive is small if the mount tells of them.
    [ "$(stat -c %s "$WORK/tmpfs/out.tar")" -lt 30000000 ] || fail 'tar has stored the holes'
    gzip -9 < "$MOUNT/tar/in.tar" > "$MOUNT/tar/in.tar.gz"
    gzip -dc "$MOUNT/tar/in.tar.gz" | cmp - "$MOUNT/tar/in.tar"
    rm -rf "$MOUNT/tar" "$WORK/tmpfs/out" "$WORK/tmpfs/special"
    [ ! -e "$MOUNT/tar" ]
}

rsync_work() {
    # A window of -1 makes it compare and set nanoseconds too.
    local options=(-aHAX --numeric-ids --modify-window=-1)
    # A filesystem without ACLs refuses -A, which copies none here.
    rsync --dry-run -A "$SUITES/lib.sh" "$MOUNT/" > /dev/null || options=(-aHX --numeric-ids --modify-window=-1)
    special "$WORK/tmpfs/special"
    rsync "${options[@]}" --sparse "$WORK/tmpfs/special/" "$MOUNT/rsync/"
    same "$WORK/tmpfs/special" "$MOUNT/rsync"
    sparse "$MOUNT/rsync/sparse"
    rsync "${options[@]}" --itemize-changes --stats "$WORK/tmpfs/special/" "$MOUNT/rsync/" > "$WORK/rsync.second"
    grep -E '^Number of regular files transferred: 0$' "$WORK/rsync.second" > /dev/null || fail "$(cat "$WORK/rsync.second")"
    ! grep -E '^([<>ch.*])[fdLDS]' "$WORK/rsync.second" || fail 'the second rsync finds differences'
    [ -z "$(rsync "${options[@]}" --checksum --dry-run --itemize-changes "$WORK/tmpfs/special/" "$MOUNT/rsync/")" ] || fail 'the bytes differ'
    # A change is found, carried over in place, and deleted files go.
    echo change >> "$WORK/tmpfs/special/files/d4/d4/f9.txt"
    rm "$WORK/tmpfs/special/files/d4/d4/f8.txt"
    rsync "${options[@]}" --delete --inplace --no-whole-file "$WORK/tmpfs/special/" "$MOUNT/rsync/"
    same "$WORK/tmpfs/special" "$MOUNT/rsync"
    # And back.
    rsync "${options[@]}" "$MOUNT/rsync/" "$WORK/tmpfs/back/"
    same "$MOUNT/rsync" "$WORK/tmpfs/back"
    rm -rf "$MOUNT/rsync" "$WORK/tmpfs/special" "$WORK/tmpfs/back"
}

# --- gcc, make ---

project() { # DIR: 50 sources, a library, a program that adds what the sources return
    local number
    mkdir -p "$1"
    cd "$1"
    for number in {1..50}; do
        printf '#include "all.h"\nint f%d(int x) { int s = 0; for (int i = 0; i < x; i++) s += i %% %d; return s; }\n' \
            "$number" $((number + 1)) > "f$number.c"
    done
    for number in {1..50}; do echo "int f$number(int x);"; done > all.h
    {
        printf '#include <stdio.h>\n#include "all.h"\nint main(void) {\n    long sum = 0;\n'
        for number in {1..50}; do echo "    sum += f$number(1000);"; done
        printf '    printf("%%ld\\n", sum);\n    return 0;\n}\n'
    } > main.c
    printf 'OBJECTS = $(patsubst %%.c,%%.o,$(wildcard f*.c))\nCFLAGS = -O1 -g\nprogram: main.o libf.a\n\t$(CC) -o $@ main.o -L. -lf\n' > Makefile
    printf 'libf.a: $(OBJECTS)\n\t$(AR) rcs $@ $(OBJECTS)\n%%.o: %%.c all.h\n\t$(CC) $(CFLAGS) -c -o $@ $<\n' >> Makefile
}

make_work() {
    local expected
    project "$MOUNT/project"
    make --silent -j2
    expected=$(awk 'BEGIN { for (n = 2; n <= 51; n++) for (i = 0; i < 1000; i++) sum += i % n; print sum }')
    [ "$(./program)" = "$expected" ] || fail "the program says $(./program), not $expected"
    make --question || fail 'make wants to build again what it has built'
    sleep 0.02
    touch f7.c
    ! make --question || fail 'make does not see a newer source'
    [ "$(make -j2 | grep -c -- ' -c ')" = 1 ] || fail 'make has not built one source again'
    [ "$(./program)" = "$expected" ]
    strip program
    [ "$(./program)" = "$expected" ]
}

# --- Execution ---

script_work() {
    printf '#!/bin/sh\necho "script $1"\n' > "$MOUNT/script"
    chmod 755 "$MOUNT/script"
    [ "$("$MOUNT/script" runs)" = 'script runs' ]
    chmod 644 "$MOUNT/script"
    must_fail "$MOUNT/script" runs
    # The interpreter may lie on the mount too.
    cp /bin/sh "$MOUNT/shell"
    printf '#!%s\necho "inner $1"\n' "$MOUNT/shell" > "$MOUNT/script"
    chmod 755 "$MOUNT/script"
    [ "$("$MOUNT/script" runs)" = 'inner runs' ]
    rm "$MOUNT/script" "$MOUNT/shell"
}

text_busy() {
    local running
    cp /bin/sleep "$MOUNT/program"
    "$MOUNT/program" 30 &
    running=$!
    until [ "$(readlink "/proc/$running/exe")" = "$MOUNT/program" ]; do sleep 0.05; done
    # Opening it for writing is refused while it runs; so is truncating.
    (echo x >> "$MOUNT/program") 2> "$WORK/busy" && fail 'a running program was opened for writing'
    grep 'Text file busy' "$WORK/busy" || fail "not ETXTBSY: $(cat "$WORK/busy")"
    truncate -s 0 "$MOUNT/program" 2> "$WORK/busy" && fail 'a running program was truncated'
    grep 'Text file busy' "$WORK/busy" || fail "not ETXTBSY: $(cat "$WORK/busy")"
    # A rename over its name works; the running one goes on with its own file, and the name runs the new one.
    cp /bin/echo "$MOUNT/new"
    mv -f "$MOUNT/new" "$MOUNT/program"
    [ "$("$MOUNT/program" new)" = new ]
    kill -0 "$running" || fail 'the running program has ended'
    [ "$(readlink "/proc/$running/exe")" = "$MOUNT/program (deleted)" ]
    cmp "/proc/$running/exe" /bin/sleep
    kill "$running"
    wait "$running" || [ "$?" = 143 ]
    # Nothing runs from it any more: it can be written.
    echo x >> "$MOUNT/program"
    rm "$MOUNT/program"
}

suite_begin clients
# What a program would take from the caller's home is not part of the judgement.
export HOME=/nonexistent GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
need git git
need sqlite3 sqlite3
need tar tar
need rsync rsync
need attr setfattr getfattr
need gcc gcc
need binutils ar ld strip
need make make
need diffutils diff cmp
mkdir "$WORK/tmpfs"
mount -t tmpfs -o size=2G tmpfs "$WORK/tmpfs"

check 300 'git: init, commit, push, clone, merge, gc, fsck' git_work
for journal in delete truncate persist memory wal off; do
    for mapped in 0 268435456; do
        check 120 "sqlite3: journal_mode=$journal mmap_size=$mapped" sqlite_work "$journal" "$mapped"
    done
done
check 120 'sqlite3: four writers, journal_mode=delete' sqlite_writers delete
check 120 'sqlite3: four writers, journal_mode=wal' sqlite_writers wal
check 120 'tar: sparse files and attributes, in and out' tar_work
check 120 'rsync: twice, changed, and back' rsync_work
check 300 'gcc and make: 50 sources, -j2' make_work
check 30 'a script' script_work
check 60 'a program that is replaced while it runs' text_busy
suite_end
