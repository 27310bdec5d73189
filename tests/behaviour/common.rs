//! What the families share: filesystems of every kind, contents, and errors as numbers.

use std::fmt::Debug;
use std::io;
use std::time::{Duration, Instant};

use ermfs::{Compress, Fs};

pub(crate) const BLOCK: usize = 65_536;
pub(crate) const PAGE: usize = 4_096;

/// Runs `test` on a new filesystem for each policy of compression.
pub(crate) fn for_each_policy(test: impl Fn(&Fs)) {
    for policy in [Compress::OnClose, Compress::Background, Compress::Never] {
        let fs = Fs::builder().max_bytes(256 << 20).compress(policy).build().expect("a filesystem");
        println!("{policy:?}");
        test(&fs);
        let statistics = fs.statistics().expect("statistics");
        assert_eq!(statistics.errors, 0, "{policy:?}: no corrupt block, no fault of the library");
    }
}

/// A filesystem with the defaults.
pub(crate) fn new_fs() -> Fs {
    Fs::new().expect("a filesystem")
}

/// The number of the error that `result` is.
#[track_caller]
pub(crate) fn errno<T: Debug>(result: io::Result<T>) -> i32 {
    match result {
        Ok(value) => panic!("succeeded with {value:?}"),
        Err(error) => error.raw_os_error().unwrap_or_else(|| panic!("an error without a number: {error}")),
    }
}

/// Bytes that shrink well, different for each seed.
pub(crate) fn text(seed: u64, len: usize) -> Vec<u8> {
    let line = format!("line of file {seed}: the quick brown fox jumps over the lazy dog\n");
    line.bytes().cycle().take(len).collect()
}

/// Bytes that do not shrink.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// A bit of everything: text, noise, zeros, and an end that fills no page.
pub(crate) fn mixed(seed: u64) -> Vec<u8> {
    let mut content = text(seed, 3 * BLOCK + 100);
    content.extend(noise(seed, 2 * BLOCK));
    content.extend(vec![0; 2 * BLOCK]);
    content.extend(text(seed + 1, 12_345));
    content
}

/// The sizes around the boundaries of pages and blocks.
pub(crate) fn sizes() -> impl Iterator<Item = usize> {
    let around = |size: usize| [size - 1, size, size + 1];
    [0, 1, 2].into_iter().chain([PAGE, BLOCK, BLOCK + PAGE, 3 * BLOCK].into_iter().flat_map(around))
}

/// Waits until `done`, which somebody else brings about soon.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
