#!/usr/bin/env bash
# fsx: random operations on one file, beside a copy of it in memory; any wrong byte or size fails.
# tests/suites/fsx.sh [N | --short] [SEED]: N operations (200,000; --short: 20,000) on 256 KiB, N/5 on 4 MiB. The seed is printed;
# the same one gives the same operations.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

operations=${1:-200000}
[ "$operations" != --short ] || operations=20000
seed=${2:-$RANDOM$RANDOM}

# exercise CONFIGURATION NAME OPERATIONS: in runs of at most 20,000 operations, each with the next seed, because the number of
# its mappings grows with the operations (26,000 after 200,000 of them), and the time of each with it.
exercise() {
    local artifacts=$TARGET/suites/logs left=$3 next=$seed count
    while [ "$left" -gt 0 ]; do
        count=$((left < 20000 ? left : 20000))
        # On a failure fsx leaves its copy and prints the last operations.
        "$SUITES_BIN/fsx" -f "$1" -N "$count" -S "$next" -P "$artifacts" "$MOUNT/$2" || {
            cp "$MOUNT/$2" "$artifacts/$2.bad" || true
            fail "seed $next, $count operations: the file is $artifacts/$2.bad, what it should be $artifacts/$2.fsxgood"
        }
        left=$((left - count)) next=$((next + 1))
    done
}

# Whether the judge sees what it is there for: --inject leaves out one operation, here one that is a write.
notices() {
    printf '%s\n' '[weights]' 'write = 4' 'read = 1' 'mapread = 0' 'mapwrite = 0' 'truncate = 0' > "$WORK/injected.toml"
    if "$SUITES_BIN/fsx" -f "$WORK/injected.toml" -N 100 -S 1 -P "$WORK" --inject 20 "$MOUNT/injected" 2> "$WORK/injected.output"; then
        fail 'fsx noticed nothing'
    fi
    grep miscompare "$WORK/injected.output"
}

suite_begin fsx
need_crate fsx 0.3.2
export seed
sed 's/^flen = .*/flen = 4194304/; s/^max = .*/max = 150000/' "$SUITES/fsx.toml" > "$WORK/large.toml"
say "$operations operations, seed $seed"
check 60 'fsx notices an operation left out' notices
check 900 "256 KiB" exercise "$SUITES/fsx.toml" fsx-256K "$operations"
check 900 "4 MiB" exercise "$WORK/large.toml" fsx-4M $((operations / 5))
suite_end
