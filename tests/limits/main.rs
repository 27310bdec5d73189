//! Limits met and passed: a filesystem filled to its last byte and worked on, the largest numbers of names, links and
//! descriptors. Those of names, paths, symbolic links and sizes stand in `tests/behaviour`, that of link counts (2^31) beside
//! its code.
//!
//! ERMFS_LIMITS=all: the numbers in full, for which a release build is better. Otherwise smaller ones.

mod full;
mod many;

use ermfs_core::{Statistics, process};

/// `all` on demand, else `some`.
fn number(all: usize, some: usize) -> usize {
    if std::env::var("ERMFS_LIMITS").as_deref() == Ok("all") { all } else { some }
}

/// What the filesystem of `root` holds once all garbage was freed; what is `expected` is waited for, because what other tests'
/// threads look at keeps it.
fn held(root: i32, expected: Option<u64>) -> Statistics {
    let mut statistics = process::statistics(root).expect("statistics");
    for _ in 0..2000 {
        // A call that finds no room makes what it can.
        let fd = process::openat(root, b"press", libc::O_CREAT | libc::O_RDWR, 0o600);
        if let Ok(fd) = fd {
            assert!(process::fallocate(fd, 0, 0, 1 << 50).is_err(), "more than there is");
            process::close(fd).expect("closed");
            process::unlinkat(root, b"press", 0).expect("removed");
            assert!(process::fsync(root).is_ok());
        }
        statistics = process::statistics(root).expect("statistics");
        if expected.is_none_or(|expected| statistics.bytes_in_use == expected) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    statistics
}
