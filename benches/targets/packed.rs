//! Bytes at rest: packing, inflating, random reads, appending to a packed file, exports.

use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;

use libc::{O_APPEND, O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY};

use crate::codec::{BLOCK, Bare, filter, memfd};
use crate::side::{ON_CLOSE, Side, Who, nanoseconds, path, second_time, symbol};
use crate::stage::{Goal, Line, Measure, Stage, is_installed};
use crate::{MOST_ROUNDS, Options, corpus};

const MIB: usize = 1 << 20;

pub(crate) fn stages() -> Vec<Stage> {
    vec![
        Stage { name: "packed", once: false, prepare: packed, lines: packed_lines },
        Stage { name: "large packed", once: false, prepare: large, lines: large_lines },
        Stage { name: "export", once: false, prepare: export, lines: export_lines },
    ]
}

const GZIP: (&str, &str) = ("gzip", "gzip");
const BGZIP: (&str, &str) = ("bgzip", "tabix");

fn packed_lines(options: &Options) -> Vec<Line> {
    let size = corpus::mixed_size(options) / MIB;
    let write = format!("sequential write of {size} MiB, then close, level 1");
    let read = format!("sequential read of the packed {size} MiB in 1 MiB calls");
    let line = |what: &str, goal, ours| Line::new(what, "ms", Goal::TimesFaster(goal), ours);
    vec![
        line(&write, 0.95, "write").beside("bare codec loop", "pack"),
        line("the same", 2.7, "write").beside("gzip -1", "gzip").needs(GZIP.0, GZIP.1),
        line(&read, 0.95, "read").beside("bare inflate loop", "inflate"),
        line("the same", 4.5, "read").beside("gzip -d", "gunzip").needs(GZIP.0, GZIP.1),
        line("the same", 1.15, "read").beside("bgzip -d", "bgunzip").needs(BGZIP.0, BGZIP.1),
    ]
}

fn packed(who: Who, options: &Options) -> Measure {
    let bytes = corpus::mixed(options);
    if who != Who::Other {
        let side = Side::enter(who, ON_CLOSE);
        let mut buffer = vec![0u8; MIB];
        return Box::new(move |measurement| {
            vec![
                second_time(|| match measurement {
                    "write" => side.write_file("packed", &bytes),
                    _ => side.read_file("packed", &mut buffer),
                }) / 1e6,
            ]
        });
    }
    let bare = Bare::new();
    let members = bare.pack(&bytes);
    let answer = |(command, _), arguments| match is_installed(command) {
        true => filter(command, arguments, &bytes).1,
        false => Vec::new(),
    };
    let (gz, bgz) = (answer(GZIP, &["-1"]), answer(BGZIP, &["-l", "1"]));
    Box::new(move |measurement| {
        vec![match measurement {
            "pack" => second_time(|| drop(bare.pack(&bytes))) / 1e6,
            "gzip" => filter("gzip", &["-1"], &bytes).0,
            "inflate" => bare.inflate_all(&members),
            "gunzip" => filter("gzip", &["-d"], &gz).0,
            _ => filter("bgzip", &["-d"], &bgz).0,
        }]
    })
}

/// How often the mixed corpus stands in the large file.
fn copies(options: &Options) -> usize {
    if options.quick { 2 } else { 4 }
}

fn large_lines(options: &Options) -> Vec<Line> {
    let size = copies(options) * corpus::mixed_size(options) / MIB;
    let read = format!("random 4 KiB read of a cold packed {size} MiB file");
    let append = "reopen, append 4 KiB to that file, close";
    vec![
        Line::new(read, "us", Goal::Beyond(10.0), "read").beside("one 64 KiB inflate", "inflate"),
        Line::new(append, "us", Goal::Under(700.0), "append"),
    ]
}

/// Each visit must find its block cold, so each block is visited once, an eighth of them a round.
fn large(who: Who, options: &Options) -> Measure {
    let bytes = corpus::mixed(options);
    let blocks = copies(options) * bytes.len() / BLOCK;
    let visits = blocks / MOST_ROUNDS;
    let order = move |round: usize| (round * visits..(round + 1) * visits).map(move |i| i * 4_099 % blocks);
    let mut round = 0..MOST_ROUNDS;
    let mut room = vec![0u8; BLOCK];
    if who == Who::Other {
        let bare = Bare::new();
        let members = bare.pack(&bytes);
        return Box::new(move |_| {
            let order = order(round.next().expect("no more rounds than that"));
            let inflate = |block: usize| bare.inflate(&members[block % members.len()], &mut room);
            vec![nanoseconds(visits, || order.for_each(inflate)) / 1e3]
        });
    }
    let side = Side::enter(who, ON_CLOSE);
    let fd = side.open("large", O_CREAT | O_TRUNC | O_WRONLY);
    (0..copies(options)).for_each(|_| side.write(fd, &bytes));
    side.close(fd);
    let record = bytes[..4096].to_vec();
    let append = move || {
        let fd = side.open("large", O_WRONLY | O_APPEND);
        side.write(fd, &record);
        side.close(fd);
    };
    Box::new(move |measurement| {
        if measurement == "append" {
            return vec![nanoseconds(1, &append) / 1e3];
        }
        let order = order(round.next().expect("no more rounds than that"));
        let fd = side.open("large", O_RDONLY);
        let mut read = |block: usize| {
            side.pread(fd, &mut room[..4096], block * BLOCK + 8192);
        };
        let time = nanoseconds(visits, || order.for_each(&mut read)) / 1e3;
        side.close(fd);
        vec![time]
    })
}

type Export = unsafe extern "C" fn(*const libc::c_char, i32) -> i32;

/// `ermfs_export_memfd` or `ermfs_export_gzip`; the library is loaded.
pub(crate) fn exporter(function: &'static CStr) -> impl Fn(&str, i32) -> File {
    // SAFETY: these functions have this type (ermfs.h).
    let export = unsafe { std::mem::transmute::<*mut c_void, Export>(symbol(function)) };
    move |name, flags| {
        // SAFETY: a path that ends with NUL; the descriptor is new and ours once it is known to be one.
        unsafe {
            let fd = export(path(name).as_ptr(), flags);
            assert!(fd >= 0, "{function:?} of {name}");
            File::from_raw_fd(fd)
        }
    }
}

fn export_lines(options: &Options) -> Vec<Line> {
    let what = format!("export of a packed {} MiB file", corpus::mixed_size(options) / MIB);
    let again = "second sealed export of the same file";
    vec![
        Line::new(what, "ms", Goal::TimesFaster(0.95), "export").beside("inflate + write()", "write"),
        Line::new(again, "us", Goal::Under(10.0), "again"),
    ]
}

fn export(who: Who, options: &Options) -> Measure {
    let bytes = corpus::mixed(options);
    if who == Who::Other {
        let bare = Bare::new();
        let members = bare.pack(&bytes);
        let mut room = vec![0u8; BLOCK];
        return Box::new(move |_| {
            let write = || {
                let mut file = memfd();
                for member in &members {
                    bare.inflate(member, &mut room);
                    file.write_all(&room).expect("memory");
                }
            };
            vec![second_time(write) / 1e6]
        });
    }
    let side = Side::enter(who, ON_CLOSE);
    side.write_file("packed", &bytes);
    let take = exporter(c"ermfs_export_memfd");
    Box::new(move |measurement| match measurement {
        "export" => vec![second_time(|| drop(take("packed", 0))) / 1e6],
        _ => {
            let first = take("packed", 1);
            let time = nanoseconds(1, || drop(take("packed", 1))) / 1e3;
            drop(first);
            vec![time]
        }
    })
}
