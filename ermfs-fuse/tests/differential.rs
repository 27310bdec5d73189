//! A mount beside a real tmpfs: random calls, the same answers. Skipped, aloud, where nothing can be mounted.
//!
//! Settings: `ERMFS_DIFF_CALLS` (how many calls, 20,000) and `ERMFS_DIFF_SEED` (one seed; else a fixed and a fresh one).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ermfs_core::{Config, Fs};
use ermfs_ffi_tests::differential::{Compress, Setting, Subject, campaign};
use ermfs_fuse::{Mount, MountOptions};

/// A seed that every run takes.
const FIXED_SEED: u64 = 20_260_102;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| value.parse().expect(name))
}

/// Whether a difference is that of docs/CONFORMANCE.md: a chown that names neither owner nor group, of a file whose
/// set-id bits have to go, by who does not own it.
fn is_chown_to_nobody(report: &str) -> bool {
    let lines: Vec<&str> = report.lines().map(str::trim).collect();
    lines.windows(3).any(|lines| {
        lines[0].contains("chown ")
            && lines[0].contains("uid=-1 gid=-1")
            && lines[1].starts_with("expected -1 EPERM")
            && lines[2].starts_with("subject  = 0")
    })
}

/// Whether it is the other one: a fallocate that was refused, by who does not own the file, after which nothing but its set-id bits
/// is different.
fn is_refused_fallocate(report: &str) -> bool {
    let lines: Vec<&str> = report.lines().map(str::trim).collect();
    let Some(walk) = lines.windows(2).position(|lines| lines[0].contains("fallocate ") && lines[1] == "walk")
    else {
        return false;
    };
    let seen = &lines[walk + 2..];
    let Some(subject) = seen.iter().position(|line| line.starts_with("subject")) else { return false };
    let (expected, subject) = seen.split_at(subject);
    let words = |lines: &[&str]| -> Vec<String> {
        let words = lines.iter().flat_map(|line| line.split_whitespace());
        words.filter(|word| !["expected", "subject"].contains(word)).map(without_set_id).collect()
    };
    words(expected) == words(subject)
}

/// A word of a report; of a mode, without set-user-ID and set-group-ID.
fn without_set_id(word: &str) -> String {
    match word.strip_prefix("mode=").and_then(|mode| u32::from_str_radix(mode, 8).ok()) {
        Some(mode) => format!("mode={:o}", mode & !0o6000),
        None => String::from(word),
    }
}

#[test]
fn the_known_differences_are_told_from_others() {
    let refused = |call: &str, mode: &str| {
        format!(
            "become who=1\n{call}\nwalk\n  expected /x/ mode=0104755 nlink=1 uid=0\n    f7 mode=0104755 at=0\n  \
             subject  /x/ mode={mode} nlink=1 uid=0\n    f7 mode={mode} at=0\n\n"
        )
    };
    assert!(is_refused_fallocate(&refused("fallocate fd=f7 mode=0 off=0 len=2147483525", "0100755")));
    assert!(!is_refused_fallocate(&refused("fallocate fd=f7 mode=0 off=0 len=2147483525", "0104750")));
    assert!(!is_refused_fallocate(&refused("pwrite fd=f7 off=0 len=5", "0100755")));

    let report =
        |call: &str, expected: &str| format!("become who=1\n{call}\n  expected {expected}\n  subject  = 0\n");
    assert!(is_chown_to_nobody(&report("fchown fd=f6 uid=-1 gid=-1", "-1 EPERM")));
    assert!(is_chown_to_nobody(&report("watch fchown fd=f9 uid=-1 gid=-1", "-1 EPERM; times moved: ")));
    for (call, expected) in [
        ("fchown fd=f6 uid=1 gid=-1", "-1 EPERM"),
        ("fchown fd=f6 uid=-1 gid=-1", "-1 EBADF"),
        ("fchmod fd=f6 mode=0644", "-1 EPERM"),
    ] {
        assert!(!is_chown_to_nobody(&report(call, expected)), "{call}");
    }
}

#[test]
fn a_mount_answers_like_tmpfs() {
    let calls = number("ERMFS_DIFF_CALLS").unwrap_or(20_000) as usize;
    let fresh =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64 % 1_000_000_000);
    let seeds = number("ERMFS_DIFF_SEED").map_or(vec![FIXED_SEED, fresh], |seed| vec![seed]);
    let dir = PathBuf::from(format!("/tmp/ermfs-fuse-differential-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let fs = Fs::new(&Config::default()).unwrap();
    let options = MountOptions { allow_other: true, ..MountOptions::default() };
    let mount = match Mount::new(Arc::clone(&fs), &dir, &options) {
        Ok(mount) => mount,
        Err(error) => {
            println!("SKIPPED: nothing can be mounted here: {error}");
            return std::fs::remove_dir(&dir).unwrap();
        }
    };
    let mut total = 0;
    for seed in &seeds {
        for people in [false, true] {
            // Access times the kernel does not move where it reads from its own pages.
            let setting = Setting { compress: Compress::Close, mounted: false, access_times: false, people };
            let share = calls / seeds.len() / 2;
            let mut differences = campaign(&Subject::Directory(dir.clone()), &setting, *seed, share).unwrap();
            let is_known = |report: &str| is_chown_to_nobody(report) || is_refused_fallocate(report);
            differences.retain(|difference| !is_known(&difference.report));
            differences.iter().for_each(|difference| println!("{}", difference.report));
            println!("mount: people={people} seed={seed} calls={share} differences={}", differences.len());
            total += differences.len();
        }
    }
    drop(mount);
    std::fs::remove_dir(&dir).unwrap();
    assert_eq!(total, 0, "the mount answers otherwise than tmpfs");
}
