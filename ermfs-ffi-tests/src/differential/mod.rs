//! The differential test: random sequences of POSIX calls, answered by two sides, compared call by call.
//!
//! Promises that what a program can see of ERMFS through its C interface (results, errno, bytes, stat fields, listings,
//! descriptor numbers, which times move) is what it sees of a real tmpfs. A sequence is made whole from a seed
//! (`generate`), run by each side in a process of its own (`sandbox`, `world`), and the two lists of answers are
//! compared and, when they part, made short (`shrink`). Owns no state beyond a run. Never writes to a disk.
//!
//! Not compared: st_dev, st_ino, st_blocks, st_blksize, a directory's size, the values of times that nobody set, the
//! order of readdir, positions in directories, what SEEK_DATA and SEEK_HOLE answer as long as it fits the bytes. Nor, with
//! the reason where it is left out: which error a NULL pointer meets first, absolute paths beside a closed descriptor,
//! the times of `truncate` to the size a file has, `fdopendir` with O_PATH or on a shared position, `realpath` of a path
//! that is too long, counts above SSIZE_MAX, unknown flags beside AT_EMPTY_PATH, opening a fifo; and, but for worlds with
//! people, sticky modes that others may write to.

mod answer;
mod attributes;
mod field;
mod generate;
mod locks;
mod model;
mod op;
mod people;
mod random;
mod sandbox;
mod shrink;
mod size;
mod stream;
mod transfer;
mod values;
mod walk;
mod world;

use crate::abi::{Abi, library};
use op::Step;
use sandbox::Side;
use shrink::Mismatch;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// When ERMFS packs files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    /// At the last close.
    Close,
    /// Later, in a thread of its own.
    Background,
    /// Not at all.
    Never,
}

impl Compress {
    /// All of them.
    pub const ALL: [Compress; 3] = [Compress::Close, Compress::Background, Compress::Never];

    /// Its name in the settings and reports.
    pub fn name(self) -> &'static str {
        match self {
            Compress::Close => "close",
            Compress::Background => "background",
            Compress::Never => "never",
        }
    }

    /// The policy of this name.
    pub fn parse(name: &str) -> Option<Compress> {
        Compress::ALL.into_iter().find(|compress| compress.name() == name)
    }
}

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// When ERMFS packs.
    pub compress: Compress,
    /// Whether ERMFS's side is a filesystem of `ermfs_fsmount`, without a working directory, instead of the default one.
    pub mounted: bool,
    /// Whether access times are compared.
    pub access_times: bool,
    /// Whether calls are made for several users. Left out, aloud, where that is not possible.
    pub people: bool,
}

/// What is put in the place of ERMFS.
#[derive(Clone)]
pub enum Subject {
    /// The built library.
    Library,
    /// These functions on a second tmpfs: the test of the test.
    Functions(Box<Abi>),
    /// The kernel's functions in directories under this one: the test of a mount.
    Directory(PathBuf),
}

/// A difference, shrunk.
pub struct Difference {
    /// A sequence that shows it, one step a line, for `regressions/`.
    pub sequence: String,
    /// How many steps it has.
    pub steps: usize,
    /// Both answers, in words.
    pub report: String,
}

/// How many calls one world sees.
const CALLS_PER_WORLD: usize = 500;
/// After so many different differences a run stops.
const MOST_DIFFERENCES: usize = 12;
/// Worlds with the same difference are not shrunk again, but so many of them end the run.
const MOST_BROKEN_WORLDS: usize = 200;

/// Runs `calls` random calls in worlds of `CALLS_PER_WORLD` calls, kernel against `subject`.
///
/// # Errors
/// A text that says why a side could not begin.
pub fn campaign(
    subject: &Subject,
    setting: &Setting,
    seed: u64,
    calls: usize,
) -> Result<Vec<Difference>, String> {
    let sides = [Side::Kernel(Box::new(Abi::kernel())), side(subject)?];
    let setting = Setting { people: setting.people && people_possible(), ..*setting };
    let limits = generate::Limits {
        working_directory: !setting.mounted,
        // SAFETY: asks for a number only.
        own_ids_only: unsafe { libc::geteuid() } != 0,
        people: setting.people,
        // FUSE has a request for it, fuser has not.
        tmpfile: !matches!(subject, Subject::Directory(_)),
    };
    hunt(&sides, &setting, seed, calls, |seed, calls| generate::sequence(seed, calls, &limits))
}

/// Runs `calls` calls on single files with every mode of fallocate, the byte model against the library, or with the
/// modes that tmpfs has against `subject`'s functions.
///
/// # Errors
/// A text that says why a side could not begin.
pub fn model_campaign(
    subject: &Subject,
    setting: &Setting,
    seed: u64,
    calls: usize,
) -> Result<Vec<Difference>, String> {
    use libc::{FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE};
    const OF_TMPFS: &[i32] =
        &[0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE];
    const ALL: &[i32] = &[
        0,
        FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
        libc::FALLOC_FL_ZERO_RANGE,
        libc::FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_COLLAPSE_RANGE,
        FALLOC_FL_COLLAPSE_RANGE,
        FALLOC_FL_INSERT_RANGE,
        FALLOC_FL_INSERT_RANGE,
        FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE,
        FALLOC_FL_PUNCH_HOLE,
    ];
    let modes = if matches!(subject, Subject::Library) { ALL } else { OF_TMPFS };
    let sides = [Side::Model, side(subject)?];
    hunt(&sides, setting, seed, calls, |seed, calls| generate::file_sequence(seed, calls, modes))
}

/// Whether calls can be made for several users; says so when not.
fn people_possible() -> bool {
    let possible = people::possible();
    if !possible {
        println!(
            "SKIPPED: calls of several users, which need root, fs.protected_hardlinks=1 and its siblings 0"
        );
    }
    possible
}

fn side(subject: &Subject) -> Result<Side, String> {
    Ok(match subject {
        Subject::Library => Side::Ermfs(library()?.to_path_buf()),
        Subject::Functions(abi) => Side::Kernel(abi.clone()),
        Subject::Directory(path) => Side::Directory(path.clone()),
    })
}

fn hunt(
    sides: &[Side; 2],
    setting: &Setting,
    seed: u64,
    calls: usize,
    make: impl Fn(u64, usize) -> Vec<Step>,
) -> Result<Vec<Difference>, String> {
    let mut seeds = random::Random::new(seed);
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut differences = Vec::new();
    let mut left = calls;
    let mut broken = 0;
    while left > 0 && differences.len() < MOST_DIFFERENCES && broken < MOST_BROKEN_WORLDS {
        let count = left.min(CALLS_PER_WORLD);
        left -= count;
        let world_seed = seeds.next();
        let steps = make(world_seed, count);
        let Some(found) = shrink::compare(sides, setting, &steps)? else { continue };
        broken += 1;
        // What a walk finds may have any cause, so a few of those are shrunk.
        let shape = shrink::shape(&steps, &found);
        let seen = known.entry(shape).or_insert(0);
        *seen += 1;
        if *seen > if steps[found.index].op.is_walk() { 3 } else { 1 } {
            continue;
        }
        let (short, last) = shrink::shrink(sides, setting, &steps, &found);
        differences.push(describe(setting, world_seed, found.index, &short, &last));
    }
    Ok(differences)
}

fn describe(setting: &Setting, seed: u64, index: usize, steps: &[Step], found: &Mismatch) -> Difference {
    let Setting { compress, mounted, people, .. } = setting;
    let mut sequence = format!("# compress={} mounted={mounted} people={people}\n", compress.name());
    for step in steps {
        let _ = writeln!(sequence, "{}", step.text());
    }
    let mut report = format!("world seed {seed}, call {index}; shrunk to {} steps:\n{sequence}", steps.len());
    let [left, right] = &found.answers;
    let different = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| !other.lines().any(|other| other == *line));
        lines.collect::<Vec<_>>().join("\n           ")
    };
    let _ = writeln!(report, "  expected {}", different(left, right));
    let _ = writeln!(report, "  subject  {}", different(right, left));
    Difference { sequence, steps: steps.len(), report }
}

/// Replays a sequence of `regressions/` on the kernel and on `subject`, under the policy its first line names.
///
/// # Errors
/// A text: why a line or a side is wrong.
pub fn replay(subject: &Subject, access_times: bool, text: &str) -> Result<Option<Difference>, String> {
    let mut setting = Setting { compress: Compress::Close, mounted: false, access_times, people: false };
    for word in text.lines().next().unwrap_or_default().split(' ') {
        if let Some(name) = word.strip_prefix("compress=") {
            setting.compress = Compress::parse(name).ok_or_else(|| format!("no such policy: {name}"))?;
        }
        if let Some(value) = word.strip_prefix("mounted=") {
            setting.mounted = value == "true";
        }
        if word == "people=true" {
            if !people_possible() {
                return Ok(None);
            }
            setting.people = true;
        }
    }
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let steps = lines.map(Step::parse).collect::<Result<Vec<_>, _>>()?;
    let sides = [Side::Kernel(Box::new(Abi::kernel())), side(subject)?];
    let found = shrink::compare(&sides, &setting, &steps)?;
    Ok(found.map(|found| describe(&setting, 0, found.index, &steps[..=found.index], &found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence that mostly fails would compare little.
    #[test]
    fn every_call_succeeds_and_fails_somewhere() {
        let people = people::possible();
        let kernel = Side::Kernel(Box::new(Abi::kernel()));
        let mut counts: BTreeMap<&str, (usize, BTreeMap<String, usize>)> = BTreeMap::new();
        for seed in 0..60 {
            let people = people && seed % 3 == 0;
            let limits =
                generate::Limits { working_directory: true, own_ids_only: false, people, tmpfile: true };
            let setting = Setting { compress: Compress::Never, mounted: false, access_times: false, people };
            let steps = generate::sequence(seed, CALLS_PER_WORLD, &limits);
            let answers =
                sandbox::start(&kernel, &setting, &steps).and_then(sandbox::Child::finish).expect("a run");
            assert_eq!(answers.len(), steps.len(), "{:?}", answers.last());
            for (step, answer) in steps.iter().zip(&answers) {
                assert!(!answer.contains("WRONG"), "{}: {answer}", step.text());
                let (good, bad) = counts.entry(step.op.name()).or_default();
                match answer
                    .strip_prefix("-1 ")
                    .or(answer.strip_prefix("NULL "))
                    .or(answer.strip_prefix("not asked"))
                {
                    Some(errno) => {
                        *bad.entry(errno.split([' ', ';', ':']).next().unwrap_or_default().into())
                            .or_default() += 1
                    }
                    None => *good += 1,
                }
            }
        }
        for (name, (good, bad)) in &counts {
            println!("{name}: {good} succeed, {bad:?}");
            let must_succeed = !matches!(*name, "dup2_bad" | "fcntl_bad");
            assert_eq!(*good > 0, must_succeed, "{name}");
            let must_fail = !matches!(*name, "walk" | "umask" | "fadvise" | "become");
            assert_eq!(!bad.is_empty(), must_fail, "{name}");
        }
    }
}
