#!/usr/bin/env bash
# fio with checksums: what was written by several engines, sizes and jobs is read back as written. Every job writes, verifies,
# and is verified again by a second fio that only reads, whose opening drops the kernel's cached pages of the file.
# tests/suites/fio.sh [MIB]: how much each job writes (256).
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

size=${1:-256}M

# run_fio NAME OPTION...
run_fio() {
    local name=$1 status=0
    shift
    fio --name="$name" --directory="$MOUNT" --verify=crc32c --verify_fatal=1 --invalidate=1 --fallocate=none --verify_state_save=0 --group_reporting \
        --output="$WORK/fio.output" "$@" || status=$?
    [ "$status" = 0 ] || {
        cat "$WORK/fio.output"
        fail "fio: exit status $status"
    }
    # Its words count, not its exit status only.
    if grep -E 'verify: bad|verify failed|verify type mismatch|bad header|err= *[1-9]|error=' "$WORK/fio.output"; then
        fail 'fio tells of errors and ends with status 0'
    fi
    grep -E 'err= 0' "$WORK/fio.output" > /dev/null || fail 'fio has run no job'
    grep -E '(READ|WRITE): ' "$WORK/fio.output"
}

# verified NAME OPTION...: writes and reads, then only reads.
verified() {
    run_fio "$@" --do_verify=1
    run_fio "$@" --verify_only=1
    rm -f "$MOUNT/$1".*
}

# Whether the judge sees what it is there for: one byte of what fio wrote is changed.
notices() {
    run_fio changed --rw=write --bs=64k --size=1M --do_verify=1
    printf '\377\0' | dd of="$MOUNT/changed.0.0" bs=1 seek=500000 conv=notrunc status=none
    must_fail run_fio changed --rw=write --bs=64k --size=1M --verify_only=1
}

suite_begin fio
need fio fio
export size
check 60 'fio notices a changed byte' notices
check 300 'sequential, 64 KiB' verified seq64k --rw=write --bs=64k --ioengine=psync --size="$size"
check 300 'sequential, 4 KiB, synchronised every 1000' verified seq4k --rw=write --bs=4k --ioengine=psync --fsync=1000 --size="$size"
check 300 'sequential, 1 MiB' verified seq1m --rw=write --bs=1m --ioengine=psync --size="$size"
check 300 'sequential, vectors' verified vectors --rw=write --bs=64k --ioengine=pvsync2 --iodepth=1 --size="$size"
check 300 'random, 4 KiB' verified rand4k --rw=randwrite --bs=4k --ioengine=psync --size="$size"
check 300 'random, 512 bytes to 128 KiB' verified mixed --rw=randwrite --bsrange=512-128k --bs_unaligned=0 --ioengine=psync --size="$size"
check 300 'random read and write' verified readwrite --rw=randrw --rwmixread=40 --bs=16k --ioengine=psync --size="$size"
check 300 'mapped, sequential' verified mapseq --rw=write --bs=64k --ioengine=mmap --size="$size"
check 300 'mapped, random' verified maprand --rw=randwrite --bs=4k --ioengine=mmap --size="$size"
check 300 'asynchronous, 16 deep' verified aio --rw=randwrite --bs=8k --ioengine=posixaio --iodepth=16 --size="$size"
check 300 '4 jobs, random' verified jobs --rw=randwrite --bs=4k --ioengine=psync --numjobs=4 --size="$((${size%M} / 4))M"
check 300 '4 jobs, mapped' verified mapjobs --rw=randwrite --bs=4k --ioengine=mmap --numjobs=4 --size="$((${size%M} / 4))M"
check 300 'compressible to a half' verified half --rw=write --bs=64k --ioengine=psync --buffer_compress_percentage=50 --size="$size"
suite_end
