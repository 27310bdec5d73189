#!/usr/bin/env bash
# Counts the instructions of twelve key calls (c_tests/instructions.c) under callgrind, in both modes, and compares them with
# what benches/instructions.txt says.
#
#   scripts/count-instructions.sh [--update] PROGRAM LIBRARY_DIRECTORY
#
# --update: writes the file instead. LIBRARY_DIRECTORY: where libermfs.so.0 lies, which may be another one than the tree's.
# COUNTS_TOLERANCE (2): more per cent than that above the file fails. Another compiler, C library or processor family gives
# other counts: where the file was made with other ones, differences are told and do not fail. COUNTS_RUNS (5): each
# count is the least of so many runs, because names hash by a random seed and may take a probe more. Without valgrind this says
# so and succeeds.
set -euo pipefail
export LC_ALL=C

say() { printf 'count-instructions: %s\n' "$*" >&2; }

update=
if [ "${1-}" = --update ]; then
    update=1
    shift
fi
if [ $# != 2 ]; then
    say 'usage: count-instructions.sh [--update] PROGRAM LIBRARY_DIRECTORY'
    exit 2
fi
program=$1 library=$2
command -v valgrind > /dev/null || {
    say 'SKIPPED: the counting of instructions needs valgrind (Debian: apt-get install valgrind)'
    exit 0
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
kept=benches/instructions.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What the counts depend on beside the source. Of the processor it is whether memcpy and its kin can use wide registers.
made_with() {
    local wide=
    grep -qw avx2 /proc/cpuinfo 2> /dev/null && wide=' with avx2'
    printf '%s, %s, %s, %s%s\n' "$(rustc --version | cut -d ' ' -f 1,2)" "$(getconf GNU_LIBC_VERSION 2> /dev/null || echo 'another C library')" \
        "$(valgrind --version)" "$(uname -m)" "$wide"
}

# One run: lines of a name and its count, taken from the totals of what callgrind wrote at each leaving of `measured`.
run() { # mode, output
    rm -f "$work"/callgrind.*
    # The same environment for all: its size is where the stack begins.
    env -i PATH="$PATH" LD_LIBRARY_PATH="$library" ERMFS_LOCKLESS="$1" \
        valgrind --tool=callgrind --callgrind-out-file="$work/callgrind" --zero-before=measured --dump-after=measured \
        "$program" > "$work/names" 2> "$work/messages" || {
        cat "$work/messages" >&2
        say "$program failed"
        exit 1
    }
    local part=0 nothing=0 repeated name total
    while IFS=$'\t' read -r repeated name; do
        part=$((part + 1))
        total=$(sed -n 's/^\(totals\|summary\): \([0-9]*\).*/\2/p' "$work/callgrind.$part" | head -n 1)
        if [ "$name" = nothing ]; then nothing=$(awk "BEGIN { print $total / $repeated }"); continue; fi
        awk -v name="$name" "BEGIN { printf \"%s\t%.1f\n\", name, $total / $repeated - $nothing }"
    done < "$work/names" > "$2"
}

# The least of several runs, in the program's order.
count() { # mode, output
    local number
    for ((number = 0; number < ${COUNTS_RUNS:-5}; number++)); do run "$1" "$work/run.$number"; done
    awk -F '\t' '!($1 in least) { order[++n] = $1; least[$1] = $2 } $2 < least[$1] { least[$1] = $2 }
        END { for (at = 1; at <= n; at++) printf "%s\t%.1f\n", order[at], least[order[at]] }' "$work"/run.* > "$2"
}

count 0 "$work/locked"
count 1 "$work/lockless"
with=$(made_with)

if [ -n "$update" ]; then
    {
        echo '# Instructions per repetition of what c_tests/instructions.c repeats, in locked and in lockless mode: `make counts`'
        echo '# compares with this, `make counts-update` writes it.'
        echo "# made with: $with"
        paste "$work/locked" "$work/lockless" | awk -F '\t' '{ printf "%8.1f %8.1f  %s\n", $2, $4, $1 }'
    } > "$kept.new"
    mv "$kept.new" "$kept"
    cat "$kept"
    exit 0
fi

[ -f "$kept" ] || {
    say "there is no $kept; make counts-update writes it"
    exit 1
}
then_with=$(sed -n 's/^# made with: //p' "$kept")
printf '%-44s %8s %8s %8s | %8s %8s %8s\n' '' locked kept '' lockless kept ''
result=0
paste "$work/locked" "$work/lockless" | awk -F '\t' -v tolerance="${COUNTS_TOLERANCE:-2}" -v kept="$kept" '
    BEGIN {
        while ((getline line < kept) > 0) {
            if (line ~ /^#/) continue
            split(line, part, " ")
            name = line
            sub(/^ *[0-9.]+ +[0-9.]+ +/, "", name)
            locked[name] = part[1]; lockless[name] = part[2]
        }
    }
    function change(now, before) {
        difference = (now / before - 1) * 100
        if (difference > tolerance) more++
        if (difference < -tolerance) fewer++
        return sprintf("%+.1f%%%s", difference, difference > tolerance ? "!" : "")
    }
    !($1 in locked) { printf "%-44s %8.1f %26.1f  not in %s\n", $1, $2, $4, kept; unknown++; next }
    {
        printf "%-44s %8.1f %8.1f %8s | ", $1, $2, locked[$1], change($2, locked[$1])
        printf "%8.1f %8.1f %8s\n", $4, lockless[$1], change($4, lockless[$1])
    }
    END {
        if (fewer) printf "%d are lower by more than %s %%: make counts-update keeps that\n", fewer, tolerance
        if (more) printf "%d are higher by more than %s %%\n", more, tolerance
        exit (more || unknown) ? 1 : 0
    }' || result=$?

if [ "$with" != "$then_with" ]; then
    say "WARNING: not compared with the same tools, so nothing fails. Now: $with. Then: $then_with"
    exit 0
fi
[ "$result" = 0 ] && echo 'count-instructions: all within the tolerance'
exit "$result"
