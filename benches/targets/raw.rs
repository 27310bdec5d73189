//! Bytes that are not compressed: random reads and writes, appends, a long sequential write.

use libc::{O_APPEND, O_CREAT, O_RDWR, O_TRUNC, O_WRONLY};

use crate::Options;
use crate::corpus::{self, Kind};
use crate::side::{NEVER, Random, Side, Who, nanoseconds};
use crate::stage::{Goal, Line, Measure, Stage};

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

pub(crate) fn stages() -> Vec<Stage> {
    vec![
        Stage {
            name: "random in a large file",
            once: false,
            prepare: |who, options| random(who, options, large(options)),
            lines: |options| random_lines(large(options), 2.0, 2.0),
        },
        Stage {
            name: "random in a small file",
            once: false,
            prepare: |who, options| random(who, options, 1),
            lines: |_| random_lines(1, 2.5, 1.5),
        },
        Stage { name: "append", once: false, prepare: append, lines: append_lines },
        Stage { name: "sequential", once: false, prepare: sequential, lines: sequential_lines },
    ]
}

/// In MiB.
fn large(options: &Options) -> usize {
    if options.quick { 32 } else { 256 }
}

fn random_lines(mebibytes: usize, read: f64, write: f64) -> Vec<Line> {
    let line = |call, limit, goal, measurement| {
        let what = format!("{call} 4 KiB at random in a raw {mebibytes} MiB file");
        Line::new(what, "ns", Goal::TimesFaster(goal), measurement)
            .beside("tmpfs", measurement)
            .limit("memcpy", limit)
    };
    vec![line("pread", "memcpy out", read, "pread"), line("pwrite", "memcpy in", write, "pwrite")]
}

fn random(who: Who, options: &Options, mebibytes: usize) -> Measure {
    let side = Side::enter(who, NEVER);
    let operations = if options.quick { 50_000 } else { 400_000 };
    let pages = mebibytes * MIB / PAGE;
    let content = corpus::load(Kind::Source, options, MIB);
    let fd = side.open("random", O_CREAT | O_RDWR);
    (0..mebibytes).for_each(|_| side.write(fd, &content));
    // What memcpy works on: as large as the file, every page of it written.
    let mut memory = if who == Who::Other { content.repeat(mebibytes) } else { Vec::new() };
    let mut buffer = vec![0u8; PAGE];
    Box::new(move |measurement| {
        let mut random = Random(12_345);
        vec![nanoseconds(operations, || {
            for _ in 0..operations {
                let offset = random.below(pages) * PAGE;
                match measurement {
                    "pread" => side.pread(fd, &mut buffer, offset),
                    "pwrite" => side.pwrite(fd, &buffer, offset),
                    "memcpy out" => buffer.copy_from_slice(&memory[offset..offset + PAGE]),
                    _ => memory[offset..offset + PAGE].copy_from_slice(&buffer),
                }
                std::hint::black_box(&mut buffer);
            }
        })]
    })
}

fn append_lines(_: &Options) -> Vec<Line> {
    vec![Line::new("append 64 bytes", "ns", Goal::TimesFaster(2.0), "append").beside("tmpfs", "append")]
}

fn append(who: Who, options: &Options) -> Measure {
    let side = Side::enter(who, NEVER);
    let operations = if options.quick { 50_000 } else { 400_000 };
    Box::new(move |_| {
        let fd = side.open("append", O_CREAT | O_TRUNC | O_WRONLY | O_APPEND);
        let record = [b'x'; 64];
        let time = nanoseconds(operations, || (0..operations).for_each(|_| side.write(fd, &record)));
        side.close(fd);
        vec![time]
    })
}

fn sequential_lines(options: &Options) -> Vec<Line> {
    let mebibytes = large(options);
    let what = format!("sequential write of {mebibytes} MiB in 1 MiB calls, then close, never compressed");
    vec![
        Line::new(what, "ms", Goal::TimesFaster(1.5), "write")
            .beside("tmpfs", "write")
            .limit("memcpy to warm memory", "memcpy"),
    ]
}

fn sequential(who: Who, options: &Options) -> Measure {
    let side = Side::enter(who, NEVER);
    let mebibytes = large(options);
    let content = corpus::load(Kind::Source, options, MIB);
    let mut memory = if who == Who::Other { content.repeat(mebibytes) } else { Vec::new() };
    Box::new(move |measurement| {
        if measurement == "memcpy" {
            let copy = || memory.chunks_mut(MIB).for_each(|part| part.copy_from_slice(&content));
            return vec![nanoseconds(1, copy) / 1e6];
        }
        let write = || {
            let fd = side.open("sequential", O_CREAT | O_TRUNC | O_WRONLY);
            (0..mebibytes).for_each(|_| side.write(fd, &content));
            side.close(fd);
        };
        write();
        side.unlink("sequential");
        // At once, as `second_time`.
        let time = nanoseconds(1, write);
        side.unlink("sequential");
        vec![time / 1e6]
    })
}
