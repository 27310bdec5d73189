//! What a program pays on a mount of ERMFS and on a tmpfs: the same calls on both, in turn within one run.
//!
//! `cargo bench -p ermfs-fuse` writes the table of docs/PERFORMANCE.md. `--rounds N` sets the number of rounds (default 5); the
//! ratio is the median of the rounds' ratios. Needs /dev/fuse, the right to mount, and a tmpfs on /dev/shm.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ermfs_core::{Compress, Config, Fs};
use ermfs_fuse::{Mount, MountOptions};

const MIB: usize = 1 << 20;
/// The size of the file of the lines on bytes.
const FILE: usize = 256 * MIB;
const CALLS: usize = 20_000;
const ENTRIES: usize = 10_000;

/// A line: what is done, its unit, and how it is measured in a directory.
struct Line {
    what: &'static str,
    unit: &'static str,
    /// More is better.
    rate: bool,
    measure: fn(&Path) -> f64,
}

const LINES: [Line; 11] = [
    Line { what: "sequential write, new file, 1 MiB calls", unit: "MiB/s", rate: true, measure: write_all },
    Line { what: "sequential read, not in the page cache", unit: "MiB/s", rate: true, measure: read_cold },
    Line { what: "sequential read, in the page cache", unit: "MiB/s", rate: true, measure: read_all },
    Line { what: "pread 4 KiB at random", unit: "us", rate: false, measure: pread },
    Line { what: "pwrite 4 KiB at random", unit: "us", rate: false, measure: pwrite },
    Line { what: "append 64 bytes", unit: "us", rate: false, measure: append },
    Line { what: "open + close", unit: "us", rate: false, measure: open_close },
    Line { what: "stat", unit: "us", rate: false, measure: stat },
    Line { what: "create + close + unlink", unit: "us", rate: false, measure: create_unlink },
    Line { what: "create, write 4 KiB, close", unit: "us", rate: false, measure: create_small },
    Line { what: "readdir, 10,000 entries, per entry", unit: "us", rate: false, measure: list },
];

fn file(dir: &Path) -> File {
    File::options().read(true).write(true).open(dir.join("file")).expect("the first line has made the file")
}

/// MiB a second.
fn rate(bytes: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    bytes as f64 / MIB as f64 / start.elapsed().as_secs_f64()
}

/// Microseconds a call.
fn each(calls: usize, mut work: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(&mut work);
    start.elapsed().as_secs_f64() * 1e6 / calls as f64
}

/// An offset of a page of the file, as good as random.
fn page(call: usize) -> u64 {
    ((call as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % (FILE as u64 / 4096) * 4096
}

fn write_all(dir: &Path) -> f64 {
    let _ = fs::remove_file(dir.join("file"));
    let bytes: Vec<u8> = (0..MIB).map(|i| ((i * 131) >> 3) as u8).collect();
    rate(FILE, || {
        let mut file = File::create_new(dir.join("file")).unwrap();
        (0..FILE / MIB).for_each(|_| file.write_all(&bytes).unwrap());
    })
}

fn read_all(dir: &Path) -> f64 {
    let (mut file, mut bytes) = (file(dir), vec![0; MIB]);
    rate(FILE, || (0..FILE / MIB).for_each(|_| file.read_exact(&mut bytes).unwrap()))
}

fn read_cold(dir: &Path) -> f64 {
    // Of no effect on a tmpfs.
    // SAFETY: numbers, and a descriptor that is open.
    unsafe { libc::posix_fadvise(file(dir).as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    read_all(dir)
}

fn pread(dir: &Path) -> f64 {
    let (file, mut bytes) = (file(dir), [0; 4096]);
    each(CALLS, |call| file.read_exact_at(&mut bytes, page(call)).unwrap())
}

fn pwrite(dir: &Path) -> f64 {
    let (file, bytes) = (file(dir), [7; 4096]);
    each(CALLS, |call| file.write_all_at(&bytes, page(call)).unwrap())
}

fn append(dir: &Path) -> f64 {
    let path = dir.join("log");
    let mut file = File::options().append(true).create(true).open(&path).unwrap();
    let time = each(CALLS, |_| file.write_all(&[b'x'; 64]).unwrap());
    fs::remove_file(path).unwrap();
    time
}

fn open_close(dir: &Path) -> f64 {
    let path = dir.join("file");
    each(CALLS, |_| drop(File::open(&path).unwrap()))
}

fn stat(dir: &Path) -> f64 {
    let path = dir.join("file");
    each(CALLS, |_| {
        black_box(fs::metadata(&path).unwrap());
    })
}

fn create_unlink(dir: &Path) -> f64 {
    let path = dir.join("new");
    each(CALLS / 2, |_| {
        drop(File::create_new(&path).unwrap());
        fs::remove_file(&path).unwrap();
    })
}

fn create_small(dir: &Path) -> f64 {
    let many = dir.join("many");
    fs::create_dir(&many).unwrap();
    let paths: Vec<PathBuf> = (0..CALLS / 4).map(|i| many.join(format!("f{i}"))).collect();
    let time = each(paths.len(), |i| fs::write(&paths[i], [b'a'; 4096]).unwrap());
    fs::remove_dir_all(many).unwrap();
    time
}

fn list(dir: &Path) -> f64 {
    let many = dir.join("listed");
    if fs::create_dir(&many).is_ok() {
        (0..ENTRIES).for_each(|i| drop(File::create_new(many.join(format!("entry-{i}"))).unwrap()));
    }
    // The first pass fills the kernel's caches.
    each(4, |_| assert_eq!(fs::read_dir(&many).unwrap().count(), ENTRIES)) / ENTRIES as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let rounds = arguments.iter().position(|argument| argument == "--rounds");
    let rounds = rounds.map_or(5, |at| arguments[at + 1].parse().expect("--rounds takes a number"));
    let name = |base: &str| PathBuf::from(format!("{base}/ermfs-bench-{}", std::process::id()));
    let (mounted, tmpfs) = (name("/tmp"), name("/dev/shm"));
    for dir in [&mounted, &tmpfs] {
        fs::create_dir(dir).unwrap();
    }
    let config = Config { max_bytes: 4 << 30, compress: Compress::Never, ..Config::default() };
    let fs = Fs::new(&config).unwrap();
    match Mount::new(Arc::clone(&fs), &mounted, &MountOptions::default()) {
        Ok(mount) => {
            println!("| what | mount | tmpfs | ratio (min .. max) |\n| --- | --- | --- | --- |");
            LINES.iter().for_each(|line| measure(line, rounds, &mounted, &tmpfs));
            mount.unmount().unwrap();
        }
        Err(error) => println!("nothing can be mounted here: {error}"),
    }
    fs::remove_dir(&mounted).unwrap();
    fs::remove_dir_all(&tmpfs).unwrap();
}

fn measure(line: &Line, rounds: usize, mounted: &Path, tmpfs: &Path) {
    let pairs: Vec<(f64, f64)> =
        (0..rounds).map(|_| ((line.measure)(mounted), (line.measure)(tmpfs))).collect();
    // How many times better the mount is.
    let ratios: Vec<f64> = pairs.iter().map(|(a, b)| if line.rate { a / b } else { b / a }).collect();
    let (least, most) =
        ratios.iter().fold((f64::MAX, 0f64), |(least, most), r| (least.min(*r), most.max(*r)));
    let side = |of: fn(&(f64, f64)) -> f64| {
        let value = median(pairs.iter().map(of).collect());
        if value >= 100.0 { format!("{value:.0} {}", line.unit) } else { format!("{value:.2} {}", line.unit) }
    };
    let (ours, theirs, ratio) = (side(|pair| pair.0), side(|pair| pair.1), median(ratios));
    println!("| {} | {ours} | {theirs} | {ratio:.2} ({least:.2} .. {most:.2}) |", line.what);
}
