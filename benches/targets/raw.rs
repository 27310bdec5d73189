//! Bytes that are not compressed: random reads and writes, appends, a long sequential write.

use ermfs_ffi_tests::abi::Abi;
use libc::{O_APPEND, O_CREAT, O_RDWR, O_TRUNC, O_WRONLY};

use crate::Options;
use crate::corpus;
use crate::side::{Goal, NEVER, Sides, Table, nanoseconds, open, path};

const MIB: usize = 1 << 20;

pub(crate) fn run(sides: &Sides, options: &Options, table: &mut Table) {
    let large = if options.quick { 32 } else { 256 };
    for (mebibytes, read, write) in [(large, 2.0, 2.0), (1, 2.5, 1.5)] {
        random_lines(sides, options, table, mebibytes, read, write);
    }
    append_line(sides, options, table);
    sequential_line(sides, table, large);
}

fn random_lines(
    sides: &Sides,
    options: &Options,
    table: &mut Table,
    mebibytes: usize,
    read: f64,
    write: f64,
) {
    let root = sides.mount(NEVER);
    let operations = if options.quick { 50_000 } else { 400_000 };
    let pages = mebibytes * 256;
    let content = corpus::text(MIB);
    let fds = [&sides.kernel, &sides.ermfs.abi].map(|abi| {
        let fd = open(abi, "random", O_CREAT | O_RDWR);
        for i in 0..mebibytes {
            // SAFETY: a live buffer of that length.
            let n = unsafe { (abi.pwrite)(fd, content.as_ptr().cast(), MIB, (i * MIB) as i64) };
            assert_eq!(n, MIB as isize);
        }
        fd
    });
    let mut buffer = vec![0u8; 4096];
    let mut visit = |abi: &Abi, fd: i32, write: bool| {
        let mut at = 12_345u64;
        nanoseconds(operations, || {
            for _ in 0..operations {
                at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let offset = ((at >> 33) as usize % pages * 4096) as i64;
                // SAFETY: a live buffer of that length.
                let n = unsafe {
                    match write {
                        true => (abi.pwrite)(fd, buffer.as_ptr().cast(), 4096, offset),
                        false => (abi.pread)(fd, buffer.as_mut_ptr().cast(), 4096, offset),
                    }
                };
                assert_eq!(n, 4096);
            }
        })
    };
    for (call, goal, writes) in [("pread", read, false), ("pwrite", write, true)] {
        let what = format!("{call} 4 KiB at random in a raw {mebibytes} MiB file");
        // Both closures use the one buffer, in turn.
        let visit = std::cell::RefCell::new(&mut visit);
        table.pair(
            &what,
            "ns",
            "tmpfs",
            Goal::TimesFaster(goal),
            || visit.borrow_mut()(&sides.ermfs.abi, fds[1], writes),
            || visit.borrow_mut()(&sides.kernel, fds[0], writes),
        );
    }
    for (abi, fd) in [(&sides.kernel, fds[0]), (&sides.ermfs.abi, fds[1])] {
        // SAFETY: a NUL-terminated path.
        unsafe {
            (abi.close)(fd);
            (abi.unlink)(path("random").as_ptr());
        }
    }
    sides.unmount(root);
}

fn append_line(sides: &Sides, options: &Options, table: &mut Table) {
    let root = sides.mount(NEVER);
    let operations = if options.quick { 50_000 } else { 400_000 };
    let append = |abi: &Abi| {
        let fd = open(abi, "append", O_CREAT | O_TRUNC | O_WRONLY | O_APPEND);
        let record = [b'x'; 64];
        let time = nanoseconds(operations, || {
            for _ in 0..operations {
                // SAFETY: a live buffer of that length.
                assert_eq!(unsafe { (abi.write)(fd, record.as_ptr().cast(), 64) }, 64);
            }
        });
        // SAFETY: no pointers.
        unsafe { (abi.close)(fd) };
        time
    };
    table.pair(
        "append 64 bytes",
        "ns",
        "tmpfs",
        Goal::TimesFaster(2.0),
        || append(&sides.ermfs.abi),
        || append(&sides.kernel),
    );
    sides.unmount(root);
    std::fs::remove_file("append").expect("made above");
}

fn sequential_line(sides: &Sides, table: &mut Table, mebibytes: usize) {
    let root = sides.mount(NEVER);
    let content = corpus::text(MIB);
    let write = |abi: &Abi| {
        let time = nanoseconds(1, || {
            let fd = open(abi, "sequential", O_CREAT | O_TRUNC | O_WRONLY);
            for _ in 0..mebibytes {
                // SAFETY: a live buffer of that length.
                assert_eq!(unsafe { (abi.write)(fd, content.as_ptr().cast(), MIB) }, MIB as isize);
            }
            // SAFETY: no pointers.
            unsafe { (abi.close)(fd) };
        });
        // SAFETY: a NUL-terminated path.
        unsafe { (abi.unlink)(path("sequential").as_ptr()) };
        time / 1e6
    };
    let what = format!("sequential write of {mebibytes} MiB in 1 MiB calls, then close, never compressed");
    table.pair(
        &what,
        "ms",
        "tmpfs",
        Goal::TimesFaster(1.5),
        || write(&sides.ermfs.abi),
        || write(&sides.kernel),
    );
    sides.unmount(root);
}
