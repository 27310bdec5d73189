//! Names and metadata: open, stat, create, readdir.

use std::ffi::c_char;

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

/// Files three components deep, visited in an order that no cache foresees. The paths lie in that order, so that what is timed
/// is the calls and not the fetching of what they are asked.
fn tree(who: Who, options: &Options) -> Measure {
    let side = Side::enter(who, NEVER);
    let (top, middle, files) = shape(options);
    let mut names = Vec::new();
    for i in 0..top {
        side.make_dir(&format!("top-{i}"));
        for j in 0..middle {
            side.make_dir(&format!("top-{i}/middle-{j}"));
            for k in 0..files {
                let name = format!("top-{i}/middle-{j}/file-{k}");
                side.close(side.open(&name, O_CREAT | O_EXCL | O_WRONLY));
                names.push(name);
            }
        }
    }
    let visits: Paths = (0..names.len()).map(|i| names[i * 48_271 % names.len()].as_str()).collect();
    Box::new(move |measurement| {
        vec![match measurement {
            "open" => open_close(&side, &visits),
            _ => stat(&side, &visits),
        }]
    })
}

/// Paths, one behind the other in memory.
#[derive(Default)]
struct Paths {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl<'a> FromIterator<&'a str> for Paths {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Paths {
        let mut paths = Paths::default();
        for name in names {
            paths.starts.push(paths.bytes.len());
            paths.bytes.extend_from_slice(path(name).as_bytes_with_nul());
        }
        paths
    }
}

impl Paths {
    /// NUL-terminated each.
    fn iter(&self) -> impl ExactSizeIterator<Item = *const c_char> {
        self.starts.iter().map(|start| self.bytes[*start..].as_ptr().cast())
    }
}

fn open_close(side: &Side, visits: &Paths) -> f64 {
    nanoseconds(visits.iter().len(), || {
        for path in visits.iter() {
            // SAFETY: a NUL-terminated path.
            let closed = unsafe { (side.abi.close)((side.abi.open)(path, O_RDONLY)) };
            assert_eq!(closed, 0);
        }
    })
}

fn stat(side: &Side, visits: &Paths) -> f64 {
    // SAFETY: integers only, of which zeros are a value.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    nanoseconds(visits.iter().len(), || {
        for path in visits.iter() {
            // SAFETY: a NUL-terminated path and room for the answer.
            let answer = unsafe { (side.abi.stat)(path, &mut status) };
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
