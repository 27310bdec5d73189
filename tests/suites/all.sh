#!/usr/bin/env bash
# Every suite, one after the other, whatever the earlier ones found; a summary at the end. tests/suites/all.sh [--short]: only
# pjdfstest and a short fsx. SUITE_FS and SUITE_OPTIONS as in lib.sh.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

suites=(usage pjdfstest fsx fio clients stress-ng sigkill)
fsx=()
if [ "${1:-}" = --short ]; then
    suites=(pjdfstest fsx)
    fsx=(--short)
fi
summary=()
failed=
for suite in "${suites[@]}"; do
    from=$SECONDS
    output=$(mktemp)
    # The limit is for what the suite's own limits do not reach.
    arguments=()
    [ "$suite" != fsx ] || arguments=("${fsx[@]}")
    timeout --foreground --kill-after=60 3600 "./$suite.sh" "${arguments[@]}" 2>&1 | tee "$output"
    status=${PIPESTATUS[0]}
    last=$(grep -E "^($suite on .*: [0-9]+ passed, |SKIPPED: )" "$output" | tail -n 1)
    rm -f "$output"
    [ "$status" = 0 ] || failed="$failed $suite"
    summary+=("${last:-$suite: ended without a result (exit status $status, $((SECONDS - from)) s)}")
done
printf '\n== Summary\n'
printf '%s\n' "${summary[@]}"
if [ -n "$failed" ]; then
    echo "failed:$failed"
    exit 1
fi
