//! Names and metadata: open, stat, create, readdir.

use std::ffi::CString;

use libc::{O_CREAT, O_EXCL, O_RDONLY, O_WRONLY};

use crate::Options;
use crate::side::{NEVER, Side, Who, nanoseconds, path};
use crate::stage::{Goal, Line, Measure, Stage};

pub(crate) fn stages() -> Vec<Stage> {
    vec![
        Stage { name: "tree", once: false, prepare: tree, lines: tree_lines },
        Stage { name: "create", once: false, prepare: create, lines: create_lines },
        Stage { name: "readdir", once: false, prepare: readdir, lines: readdir_lines },
    ]
}

/// Directories at the top, directories in each of them, files in each of these.
fn shape(options: &Options) -> (usize, usize, usize) {
    if options.quick { (5, 20, 100) } else { (10, 100, 100) }
}

fn tree_lines(options: &Options) -> Vec<Line> {
    let (top, middle, files) = shape(options);
    let what = format!("open + close of an existing file, 3 components, {} files", top * middle * files);
    vec![
        Line::new(what, "ns", Goal::TimesFaster(3.0), "open").beside("tmpfs", "open"),
        Line::new("stat of the same", "ns", Goal::TimesFaster(2.0), "stat").beside("tmpfs", "stat"),
    ]
}

/// Files three components deep, visited in an order that no cache foresees.
fn tree(who: Who, options: &Options) -> Measure {
    let side = Side::enter(who, NEVER);
    let (top, middle, files) = shape(options);
    let mut paths = Vec::new();
    for i in 0..top {
        side.make_dir(&format!("top-{i}"));
        for j in 0..middle {
            side.make_dir(&format!("top-{i}/middle-{j}"));
            for k in 0..files {
                let name = format!("top-{i}/middle-{j}/file-{k}");
                side.close(side.open(&name, O_CREAT | O_EXCL | O_WRONLY));
                paths.push(path(&name));
            }
        }
    }
    Box::new(move |measurement| {
        let visits = (0..paths.len()).map(|i| &paths[i * 48_271 % paths.len()]);
        vec![match measurement {
            "open" => open_close(&side, visits),
            _ => stat(&side, visits),
        }]
    })
}

fn open_close<'a>(side: &Side, visits: impl ExactSizeIterator<Item = &'a CString>) -> f64 {
    nanoseconds(visits.len(), || {
        for path in visits {
            // SAFETY: a NUL-terminated path.
            let closed = unsafe { (side.abi.close)((side.abi.open)(path.as_ptr(), O_RDONLY)) };
            assert_eq!(closed, 0);
        }
    })
}

fn stat<'a>(side: &Side, visits: impl ExactSizeIterator<Item = &'a CString>) -> f64 {
    // SAFETY: integers only, of which zeros are a value.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    nanoseconds(visits.len(), || {
        for path in visits {
            // SAFETY: a NUL-terminated path and room for the answer.
            let answer = unsafe { (side.abi.stat)(path.as_ptr(), &mut status) };
            assert_eq!(answer, 0);
        }
    })
}

fn create_lines(_: &Options) -> Vec<Line> {
    let what = "create + close + unlink, empty file";
    vec![Line::new(what, "ns", Goal::TimesFaster(4.0), "create").beside("tmpfs", "create")]
}

fn create(who: Who, options: &Options) -> Measure {
    let side = Side::enter(who, NEVER);
    let operations = if options.quick { 20_000 } else { 200_000 };
    let name = path("a-new-file");
    Box::new(move |_| {
        vec![nanoseconds(operations, || {
            for _ in 0..operations {
                // SAFETY: a NUL-terminated path.
                let gone = unsafe {
                    (side.abi.close)((side.abi.open)(name.as_ptr(), O_CREAT | O_EXCL | O_WRONLY, 0o644));
                    (side.abi.unlink)(name.as_ptr())
                };
                assert_eq!(gone, 0);
            }
        })]
    })
}

fn entries(options: &Options) -> usize {
    if options.quick { 2_000 } else { 10_000 }
}

fn readdir_lines(options: &Options) -> Vec<Line> {
    let what = format!("readdir of {} entries, per entry", entries(options));
    vec![Line::new(what, "ns", Goal::TimesFaster(2.0), "list").beside("tmpfs", "list")]
}

fn readdir(who: Who, options: &Options) -> Measure {
    let side = Side::enter(who, NEVER);
    let entries = entries(options);
    side.make_dir("list");
    for i in 0..entries {
        side.close(side.open(&format!("list/entry-{i}"), O_CREAT | O_WRONLY));
    }
    let name = path("list");
    // One listing takes a fraction of a millisecond.
    let times = 10;
    Box::new(move |_| {
        vec![nanoseconds(times * entries, || {
            for _ in 0..times {
                // SAFETY: a NUL-terminated path, and one thread uses the stream.
                let seen = unsafe {
                    let stream = (side.abi.opendir)(name.as_ptr());
                    let seen = std::iter::repeat_with(|| (side.abi.readdir)(stream))
                        .take_while(|entry| !entry.is_null());
                    let seen = seen.count();
                    (side.abi.closedir)(stream);
                    seen
                };
                assert_eq!(seen, entries + 2);
            }
        })]
    })
}
