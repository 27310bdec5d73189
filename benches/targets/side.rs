//! The two sides of a comparison, and the table of results.

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Instant;

use ermfs_ffi_tests::abi::{self, Abi, Ermfs, ErmfsConfig};

use crate::Options;

/// `compress` of the C interface's configuration.
pub(crate) const ON_CLOSE: u32 = 0;
pub(crate) const NEVER: u32 = 2;

/// Both sets of functions, the kernel's working directory being a directory of its own on a tmpfs.
pub(crate) struct Sides {
    pub(crate) kernel: Abi,
    pub(crate) ermfs: Ermfs,
    dir: PathBuf,
}

impl Sides {
    pub(crate) fn open() -> Result<Sides, String> {
        let ermfs = Ermfs::load(abi::library()?)?;
        let dir = PathBuf::from(format!("/dev/shm/ermfs-bench-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        std::env::set_current_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Sides { kernel: Abi::kernel(), ermfs, dir })
    }

    /// Makes a new, empty filesystem ERMFS's working directory; it lives until the descriptor is closed.
    pub(crate) fn mount(&self, compress: u32) -> i32 {
        let config = ErmfsConfig {
            struct_size: size_of::<ErmfsConfig>(),
            max_bytes: 8 << 30,
            compress,
            level: 1,
            ..ErmfsConfig::default()
        };
        // SAFETY: the configuration is a live, complete structure.
        let root = unsafe { (self.ermfs.fsmount)(&config) };
        // SAFETY: no pointers.
        assert_eq!(unsafe { (self.ermfs.abi.fchdir)(root) }, 0, "the new filesystem can be entered");
        root
    }

    /// Leaves and frees a filesystem that [`Sides::mount`] made.
    pub(crate) fn unmount(&self, root: i32) {
        // SAFETY: a path literal; no other pointers.
        unsafe {
            (self.ermfs.abi.close)(root);
            let next = (self.ermfs.fsmount)(std::ptr::null());
            (self.ermfs.abi.fchdir)(next);
            (self.ermfs.abi.close)(next);
        }
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        let _ = std::env::set_current_dir("/");
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn path(text: &str) -> CString {
    CString::new(text).expect("no NUL")
}

/// Opens a file or says which one failed.
pub(crate) fn open(abi: &Abi, name: &str, flags: i32) -> i32 {
    // SAFETY: a NUL-terminated path.
    let fd = unsafe { (abi.open)(path(name).as_ptr(), flags, 0o644) };
    assert!(fd >= 0, "{name}: {}", std::io::Error::last_os_error());
    fd
}

/// Nanoseconds an operation of `work`, which does `operations` of them.
pub(crate) fn nanoseconds(operations: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / operations as f64
}

/// The machine's physical memory that this process holds, in bytes.
pub(crate) fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: f64 =
        status.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("statm's second field");
    pages * 4096.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How a line is judged.
pub(crate) enum Goal {
    /// `other / ours` is at least this.
    TimesFaster(f64),
    /// Our time is at most the other's plus so many nanoseconds.
    Beyond(f64),
    /// Our figure is at least this part of the other's.
    AtLeast(f64),
}

/// Markdown on standard output, a line as soon as it is known.
pub(crate) struct Table {
    rounds: usize,
    lines: usize,
    reached: usize,
}

impl Table {
    pub(crate) fn begin(options: &Options) -> Table {
        println!("| what | ERMFS | compared to | | ratio (min .. max) | target | |");
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        Table { rounds: options.rounds, lines: 0, reached: 0 }
    }

    /// Times both sides in turn and writes the line. The unit is that of what the closures return.
    pub(crate) fn pair(
        &mut self,
        what: &str,
        unit: &str,
        other: &str,
        goal: Goal,
        mut ours: impl FnMut() -> f64,
        mut theirs: impl FnMut() -> f64,
    ) {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            b.push(theirs());
            a.push(ours());
        }
        // How many times better ours is: smaller, or, where more is better, larger.
        let more_is_better = matches!(goal, Goal::AtLeast(_));
        let ratio = |(a, b): (&f64, &f64)| if more_is_better { a / b } else { b / a };
        let ratios: Vec<f64> = a.iter().zip(&b).map(ratio).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        let (ratio, a, b) = (median(ratios), median(a), median(b));
        let (target, reached) = match goal {
            Goal::TimesFaster(times) => (format!("{times} x"), ratio >= times),
            Goal::Beyond(extra) => (format!("+{} {unit}", figure(extra)), a <= b + extra),
            Goal::AtLeast(part) => (format!("{part} x"), ratio >= part),
        };
        let spread = format!("{ratio:.2} ({least:.2} .. {most:.2})");
        self.line(
            what,
            &format!("{} {unit}", figure(a)),
            other,
            &format!("{} {unit}", figure(b)),
            &spread,
            &target,
            reached,
        );
    }

    /// Writes a line of one figure that can be had once in a process.
    pub(crate) fn once(&mut self, what: &str, unit: &str, most: f64, value: f64) {
        let target = format!("{} {unit}", figure(most));
        self.line(what, &format!("{} {unit}", figure(value)), "", "", "once", &target, value <= most);
    }

    /// Writes a line of one figure that nothing is paired with.
    pub(crate) fn single(&mut self, what: &str, unit: &str, most: f64, mut ours: impl FnMut() -> f64) {
        let figures = (0..self.rounds).map(|_| ours()).collect();
        let value = median(figures);
        let target = format!("{} {unit}", figure(most));
        self.line(what, &format!("{} {unit}", figure(value)), "", "", "", &target, value <= most);
    }

    #[allow(clippy::too_many_arguments, reason = "the columns of a table")]
    fn line(&mut self, what: &str, a: &str, other: &str, b: &str, ratio: &str, target: &str, reached: bool) {
        self.lines += 1;
        self.reached += usize::from(reached);
        println!(
            "| {what} | {a} | {other} | {b} | {ratio} | {target} | {} |",
            if reached { "reached" } else { "short" }
        );
    }

    pub(crate) fn end(self) {
        println!("\n{} of {} lines reached, medians of {} rounds", self.reached, self.lines, self.rounds);
    }
}

fn figure(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{:.2}", value.max(0.0)),
    }
}
