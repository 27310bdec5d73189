//! Names and metadata: open, stat, create, readdir, and what an empty file costs.

use std::ffi::CString;

use ermfs_ffi_tests::abi::Abi;
use libc::{O_CREAT, O_EXCL, O_RDONLY, O_WRONLY};

use crate::Options;
use crate::side::{Goal, NEVER, Sides, Table, nanoseconds, open, path, resident};

pub(crate) fn run(sides: &Sides, options: &Options, table: &mut Table) {
    tree_lines(sides, options, table);
    create_line(sides, options, table);
    readdir_line(sides, options, table);
    empty_file_line(sides, options, table);
}

/// 100,000 files three components deep, visited in an order that no cache foresees.
fn tree_lines(sides: &Sides, options: &Options, table: &mut Table) {
    let root = sides.mount(NEVER);
    let (top, middle, files) = if options.quick { (5, 20, 100) } else { (10, 100, 100) };
    let mut paths = Vec::new();
    for abi in [&sides.kernel, &sides.ermfs.abi] {
        paths.clear();
        for i in 0..top {
            make_dir(abi, &format!("top-{i}"));
            for j in 0..middle {
                make_dir(abi, &format!("top-{i}/middle-{j}"));
                for k in 0..files {
                    let name = format!("top-{i}/middle-{j}/file-{k}");
                    // SAFETY: no pointers.
                    unsafe { (abi.close)(open(abi, &name, O_CREAT | O_EXCL | O_WRONLY)) };
                    paths.push(path(&name));
                }
            }
        }
    }
    let visits: Vec<&CString> = (0..paths.len()).map(|i| &paths[i * 48_271 % paths.len()]).collect();
    let name = format!("open + close of an existing file, 3 components, {} files", paths.len());
    table.pair(
        &name,
        "ns",
        "tmpfs",
        Goal::TimesFaster(3.0),
        || open_close(&sides.ermfs.abi, &visits),
        || open_close(&sides.kernel, &visits),
    );
    table.pair(
        "stat of the same",
        "ns",
        "tmpfs",
        Goal::TimesFaster(2.0),
        || stat(&sides.ermfs.abi, &visits),
        || stat(&sides.kernel, &visits),
    );
    sides.unmount(root);
    for i in 0..top {
        std::fs::remove_dir_all(format!("top-{i}")).expect("made above");
    }
}

fn make_dir(abi: &Abi, name: &str) {
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { (abi.mkdir)(path(name).as_ptr(), 0o755) }, 0, "{name}");
}

fn open_close(abi: &Abi, visits: &[&CString]) -> f64 {
    nanoseconds(visits.len(), || {
        for path in visits {
            // SAFETY: a NUL-terminated path.
            let closed = unsafe { (abi.close)((abi.open)(path.as_ptr(), O_RDONLY)) };
            assert_eq!(closed, 0);
        }
    })
}

fn stat(abi: &Abi, visits: &[&CString]) -> f64 {
    // SAFETY: integers only, of which zeros are a value.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    nanoseconds(visits.len(), || {
        for path in visits {
            // SAFETY: a NUL-terminated path and room for the answer.
            let answer = unsafe { (abi.stat)(path.as_ptr(), &mut status) };
            assert_eq!(answer, 0);
        }
    })
}

fn create_line(sides: &Sides, options: &Options, table: &mut Table) {
    let root = sides.mount(NEVER);
    let operations = if options.quick { 20_000 } else { 200_000 };
    let name = path("a-new-file");
    let cycle = |abi: &Abi| {
        nanoseconds(operations, || {
            for _ in 0..operations {
                // SAFETY: a NUL-terminated path.
                let gone = unsafe {
                    (abi.close)((abi.open)(name.as_ptr(), O_CREAT | O_EXCL | O_WRONLY, 0o644));
                    (abi.unlink)(name.as_ptr())
                };
                assert_eq!(gone, 0);
            }
        })
    };
    let what = "create + close + unlink, empty file";
    table.pair(
        what,
        "ns",
        "tmpfs",
        Goal::TimesFaster(4.0),
        || cycle(&sides.ermfs.abi),
        || cycle(&sides.kernel),
    );
    sides.unmount(root);
}

fn readdir_line(sides: &Sides, options: &Options, table: &mut Table) {
    let root = sides.mount(NEVER);
    let entries = if options.quick { 2_000 } else { 10_000 };
    for abi in [&sides.kernel, &sides.ermfs.abi] {
        make_dir(abi, "list");
        for i in 0..entries {
            // SAFETY: no pointers.
            unsafe { (abi.close)(open(abi, &format!("list/entry-{i}"), O_CREAT | O_WRONLY)) };
        }
    }
    let list = |abi: &Abi| {
        let name = path("list");
        nanoseconds(entries, || {
            // SAFETY: a NUL-terminated path, and one thread uses the stream.
            unsafe {
                let stream = (abi.opendir)(name.as_ptr());
                let mut seen = 0;
                while !(abi.readdir)(stream).is_null() {
                    seen += 1;
                }
                (abi.closedir)(stream);
                assert_eq!(seen, entries + 2);
            }
        })
    };
    let what = format!("readdir of {entries} entries, per entry");
    table.pair(
        &what,
        "ns",
        "tmpfs",
        Goal::TimesFaster(2.0),
        || list(&sides.ermfs.abi),
        || list(&sides.kernel),
    );
    sides.unmount(root);
    std::fs::remove_dir_all("list").expect("made above");
}

fn empty_file_line(sides: &Sides, options: &Options, table: &mut Table) {
    let files = if options.quick { 100_000 } else { 1_000_000 };
    let what = format!("an empty file with a 16-byte name, {files} of them, by RSS");
    let abi = &sides.ermfs.abi;
    let mut cost = None;
    table.single(&what, "bytes", 300.0, || {
        // Memory that was freed once is warm: only the first time tells.
        *cost.get_or_insert_with(|| {
            let root = sides.mount(NEVER);
            let before = resident();
            for i in 0..files {
                // SAFETY: no pointers.
                unsafe { (abi.close)(open(abi, &format!("file-{i:011}"), O_CREAT | O_WRONLY)) };
            }
            let cost = (resident() - before) / files as f64;
            sides.unmount(root);
            cost
        })
    });
}
