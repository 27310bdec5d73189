//! Memory: what a large file takes beyond its bytes while it closes, opens and is exported, what stays when it is
//! gone, what churn leaves, and whether the statistics tell the truth. Runs first: memory that was used once is warm.

use ermfs_ffi_tests::abi::Abi;
use libc::{O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY};

use crate::Options;
use crate::corpus;
use crate::packed::{library_symbol, take_export};
use crate::side::{ON_CLOSE, Sides, Table, open, path, resident};

const MIB: usize = 1 << 20;

pub(crate) fn run(sides: &Sides, options: &Options, table: &mut Table) {
    let copies = if options.quick { 1 } else { 4 };
    let bytes = corpus::mixed(256 * MIB);
    let root = sides.mount(ON_CLOSE);
    let abi = &sides.ermfs.abi;
    large_file(abi, table, &bytes, copies, root);
    churn(abi, table, &bytes, if options.quick { 20_000 } else { 100_000 });
    sides.unmount(root);
}

fn large_file(abi: &Abi, table: &mut Table, bytes: &[u8], copies: usize, root: i32) {
    let size = copies * bytes.len() / MIB;
    let before = resident();
    let fd = open(abi, "large", O_CREAT | O_TRUNC | O_WRONLY);
    for part in (0..copies).flat_map(|_| bytes.chunks(MIB)) {
        // SAFETY: a live buffer of that length.
        assert_eq!(unsafe { (abi.write)(fd, part.as_ptr().cast(), part.len()) }, part.len() as isize);
    }
    let grown = resident() - before;
    let off = (grown / bytes_in_use(root) - 1.0).abs() * 100.0;
    table.once(&format!("bytes_in_use against RSS, raw file of {size} MiB"), "% off", 10.0, off);
    // SAFETY: no pointers.
    let extra = peak_beyond(|| unsafe { (abi.close)(fd) });
    table.once("extra RSS while it closes", "MiB", 16.0, extra);
    let off = ((resident() - before) / bytes_in_use(root) - 1.0).abs() * 100.0;
    table.once("bytes_in_use against RSS, the same packed", "% off", 10.0, off);
    let extra = peak_beyond(|| read_whole(abi, "large"));
    table.once("extra RSS while it is opened and read", "MiB", 16.0, extra);
    let extra = peak_beyond(|| drop(take_export("large", 0)));
    table.once("extra RSS while it is exported, beside the export", "MiB", 16.0, extra);
    // SAFETY: a NUL-terminated path.
    unsafe { (abi.unlink)(path("large").as_ptr()) };
    table.once("RSS after it is deleted", "MiB more", 16.0, (resident() - before) / MIB as f64);
}

/// Files of 1 to 64 KiB replaced by others, at steady total size.
fn churn(abi: &Abi, table: &mut Table, bytes: &[u8], cycles: usize) {
    let live = 2_000;
    let mut state = 1u64;
    let mut next = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut early = 0.0;
    let start = resident();
    for cycle in 0..live + cycles {
        let file = if cycle < live { cycle } else { next(live) };
        let name = format!("churn-{file}");
        let fd = open(abi, &name, O_CREAT | O_TRUNC | O_WRONLY);
        let (from, len) = (next(bytes.len() - 65_536), 1 + next(65_536));
        // SAFETY: a live buffer of that length.
        unsafe {
            assert_eq!((abi.write)(fd, bytes[from..].as_ptr().cast(), len), len as isize);
            (abi.close)(fd);
        }
        if cycle == live + cycles / 10 {
            early = resident() - start;
        }
    }
    let more = ((resident() - start) / early - 1.0) * 100.0;
    let what = format!("RSS after {cycles} files replaced against after {}", cycles / 10);
    table.once(&what, "% more", 10.0, more);
}

fn read_whole(abi: &Abi, name: &str) {
    let mut buffer = vec![0u8; MIB];
    let fd = open(abi, name, O_RDONLY);
    // SAFETY: a live buffer of that length.
    while unsafe { (abi.read)(fd, buffer.as_mut_ptr().cast(), MIB) } > 0 {}
    // SAFETY: no pointers.
    unsafe { (abi.close)(fd) };
}

/// MiB by which the peak of `work` exceeds what was resident before.
fn peak_beyond<R>(work: impl FnOnce() -> R) -> f64 {
    // 5: the peak starts again from what is resident now; proc(5).
    std::fs::write("/proc/self/clear_refs", "5").expect("/proc is mounted");
    let before = peak();
    work();
    peak() - before
}

fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of KiB") / 1024.0
}

type GetStats = unsafe extern "C" fn(i32, *mut u64, usize) -> i32;

fn bytes_in_use(root: i32) -> f64 {
    /// `bytes_in_use` in `struct ermfs_stats`, a structure of 64-bit numbers.
    const BYTES_IN_USE: usize = 9;
    let mut stats = [0u64; BYTES_IN_USE + 1];
    // SAFETY: the library is loaded; this function has this type (ermfs.h), and fills what it is told to.
    let answer = unsafe {
        let get = std::mem::transmute::<*mut std::ffi::c_void, GetStats>(library_symbol(c"ermfs_get_stats"));
        get(root, stats.as_mut_ptr(), size_of_val(&stats))
    };
    assert_eq!(answer, 0);
    stats[BYTES_IN_USE] as f64
}
