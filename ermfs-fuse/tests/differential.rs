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

#[test]
fn the_one_known_difference_is_told_from_others() {
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
            differences.retain(|difference| !is_chown_to_nobody(&difference.report));
            differences.iter().for_each(|difference| println!("{}", difference.report));
            println!("mount: people={people} seed={seed} calls={share} differences={}", differences.len());
            total += differences.len();
        }
    }
    drop(mount);
    std::fs::remove_dir(&dir).unwrap();
    assert_eq!(total, 0, "the mount answers otherwise than tmpfs");
}
