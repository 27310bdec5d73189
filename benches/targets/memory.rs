//! Memory as the kernel counts it: what empty files take, what a large file takes beyond its bytes while it closes, opens and is
//! exported, what stays when it is gone, what churn leaves, and whether the statistics tell the truth. Each line in a process of
//! its own, because memory that was used once is warm.

use libc::{O_CREAT, O_RDWR, O_TRUNC, O_WRONLY};

use crate::packed::exporter;
use crate::side::{NEVER, ON_CLOSE, Random, Side, Who};
use crate::stage::{Goal, Line, Measure, Stage};
use crate::table::figure;
use crate::{Options, corpus};

const MIB: usize = 1 << 20;

pub(crate) fn stages() -> Vec<Stage> {
    let stage = |name, prepare, lines| Stage { name, once: true, prepare, lines };
    vec![
        stage("empty files", empty_files, empty_lines),
        stage("closing", closing, |options| extra_lines(options, "while it closes and is packed")),
        stage("opening", opening, |options| extra_lines(options, "while it is opened and read, packed")),
        stage("exporting", exporting, |options| {
            extra_lines(options, "while it is exported, beyond the export")
        }),
        stage("deleting packed", deleting_packed, |options| deleting_lines(options, "packed")),
        stage("deleting raw", deleting_raw, |options| deleting_lines(options, "raw")),
        stage("churn", churn, churn_lines),
        stage("use raw", use_raw, |options| use_lines(options, "raw")),
        stage("use packed", use_packed, |options| use_lines(options, "packed")),
    ]
}

/// The machine's physical memory that this process holds, in bytes.
pub(crate) fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: f64 =
        status.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("statm's second field");
    pages * 4096.0
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

fn mebibytes(bytes: f64) -> f64 {
    bytes / MIB as f64
}

fn empty_count(options: &Options) -> usize {
    if options.quick { 100_000 } else { 1_000_000 }
}

fn empty_lines(options: &Options) -> Vec<Line> {
    let what = format!("an empty file with a 16-byte name, {} of them, by RSS", empty_count(options));
    vec![Line::new(what, "bytes", Goal::Under(300.0), "create")]
}

fn empty_files(who: Who, options: &Options) -> Measure {
    let side = Side::enter(who, NEVER);
    let files = empty_count(options);
    Box::new(move |_| {
        let before = resident();
        for i in 0..files {
            side.close(side.open(&format!("file-{i:011}"), O_CREAT | O_WRONLY));
        }
        vec![(resident() - before) / files as f64]
    })
}

/// A large file that is written a MiB at a time, so that the program's own part stays small.
struct Large {
    side: Side,
    corpus: corpus::Parts,
    size: usize,
    buffer: Vec<u8>,
}

fn large_size(options: &Options) -> usize {
    if options.quick { 128 } else { 1024 }
}

impl Large {
    fn new(who: Who, options: &Options, compress: u32) -> Large {
        let corpus = corpus::Parts::open(options);
        Large { side: Side::enter(who, compress), corpus, size: large_size(options), buffer: vec![1u8; MIB] }
    }

    /// Writes the file and leaves it open.
    fn write(&mut self) -> i32 {
        let fd = self.side.open("large", O_CREAT | O_TRUNC | O_RDWR);
        for part in 0..self.size {
            self.corpus.read(part, &mut self.buffer);
            self.side.write(fd, &self.buffer);
        }
        fd
    }
}

fn extra_lines(options: &Options, when: &str) -> Vec<Line> {
    let what = format!("extra RSS of a {} MiB file {when}", large_size(options));
    vec![Line::new(what, "MiB", Goal::Under(16.0), "extra")]
}

/// Calls that are made after the deletion, to see what waits for some.
const LATER: usize = 10_000;

fn deleting_lines(options: &Options, form: &str) -> Vec<Line> {
    let what = format!("RSS after writing a {} MiB file, {form}, and deleting it", large_size(options));
    let detail = |figures: &[f64]| format!("{} MiB after {LATER} more calls", figure(figures[1]));
    vec![Line::new(what, "MiB more", Goal::Under(16.0), "delete").detail(detail)]
}

fn closing(who: Who, options: &Options) -> Measure {
    let mut large = Large::new(who, options, ON_CLOSE);
    let fd = large.write();
    Box::new(move |_| vec![peak_beyond(|| large.side.close(fd))])
}

fn opening(who: Who, options: &Options) -> Measure {
    let mut large = Large::new(who, options, ON_CLOSE);
    let fd = large.write();
    large.side.close(fd);
    Box::new(move |_| vec![peak_beyond(|| large.side.read_file("large", &mut large.buffer))])
}

fn exporting(who: Who, options: &Options) -> Measure {
    let mut large = Large::new(who, options, ON_CLOSE);
    let fd = large.write();
    large.side.close(fd);
    let export = exporter(c"ermfs_export_memfd");
    // The export's own pages are the memfd's, and resident in nobody.
    Box::new(move |_| vec![peak_beyond(|| export("large", 0))])
}

fn deleting_packed(who: Who, options: &Options) -> Measure {
    deleting(Large::new(who, options, ON_CLOSE))
}

fn deleting_raw(who: Who, options: &Options) -> Measure {
    deleting(Large::new(who, options, NEVER))
}

fn deleting(mut large: Large) -> Measure {
    Box::new(move |_| {
        let before = resident();
        let fd = large.write();
        large.side.close(fd);
        large.side.unlink("large");
        let at_once = resident() - before;
        for _ in 0..LATER {
            // SAFETY: a NUL-terminated path; the file is gone, so that nothing is written.
            let answer = unsafe { (large.side.abi.access)(c"large".as_ptr(), libc::F_OK) };
            assert_eq!(answer, -1);
        }
        vec![mebibytes(at_once), mebibytes(resident() - before)]
    })
}

fn use_lines(options: &Options, form: &str) -> Vec<Line> {
    let what = format!("bytes_in_use against RSS, {form} file of {} MiB", large_size(options));
    vec![Line::new(what, "% off", Goal::Under(10.0), "use").detail(|figures| {
        format!("RSS grew by {} MiB, bytes_in_use is {} MiB", figure(figures[1]), figure(figures[2]))
    })]
}

fn use_raw(who: Who, options: &Options) -> Measure {
    measure_use(Large::new(who, options, NEVER))
}

fn use_packed(who: Who, options: &Options) -> Measure {
    measure_use(Large::new(who, options, ON_CLOSE))
}

fn measure_use(mut large: Large) -> Measure {
    Box::new(move |_| {
        let before = resident();
        let fd = large.write();
        large.side.close(fd);
        let (grown, in_use) = (resident() - before, large.side.statistics().in_use);
        vec![(grown / in_use - 1.0).abs() * 100.0, mebibytes(grown), mebibytes(in_use)]
    })
}

fn cycles(options: &Options) -> usize {
    if options.quick { 20_000 } else { 1_000_000 }
}

/// When RSS is looked at for the first time.
fn early(options: &Options) -> usize {
    if options.quick { 4_000 } else { 10_000 }
}

fn churn_lines(options: &Options) -> Vec<Line> {
    let (cycles, early) = (cycles(options), early(options));
    let what = format!(
        "RSS after {cycles} cycles of create, write 1-64 KiB, close, delete, at steady total size, against after {early}"
    );
    vec![
        Line::new(what, "% more", Goal::Under(10.0), "churn").detail(|figures| {
            format!("grown by {} MiB, then {} MiB", figure(figures[1]), figure(figures[2]))
        }),
    ]
}

/// 2,000 files, one of which is deleted and another made in each cycle; packed as they are closed.
fn churn(who: Who, options: &Options) -> Measure {
    const LIVE: usize = 2_000;
    let bytes = corpus::mixed(options);
    let (cycles, early) = (cycles(options), early(options));
    let side = Side::enter(who, ON_CLOSE);
    Box::new(move |_| {
        let mut random = Random(1);
        let make = |name: &str, random: &mut Random| {
            let (from, len) = (random.below(bytes.len() - 65_536), 1024 + random.below(63 * 1024 + 1));
            side.write_file(name, &bytes[from..from + len]);
        };
        let start = resident();
        (0..LIVE).for_each(|i| make(&format!("churn-{i}"), &mut random));
        let mut live: Vec<usize> = (0..LIVE).collect();
        let mut then = 0.0;
        for cycle in 0..cycles {
            if cycle == early {
                then = resident() - start;
            }
            let victim = random.below(LIVE);
            side.unlink(&format!("churn-{}", live[victim]));
            live[victim] = LIVE + cycle;
            make(&format!("churn-{}", live[victim]), &mut random);
        }
        let now = resident() - start;
        vec![(now / then - 1.0) * 100.0, mebibytes(then), mebibytes(now)]
    })
}
