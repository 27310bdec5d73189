//! ERMFS beside a real tmpfs: random calls, the same answers.
//!
//! Settings: `ERMFS_DIFF_CALLS` (how many calls, 20,000), `ERMFS_DIFF_SEED` (one seed; else a fixed and a fresh one),
//! `ERMFS_DIFF_COMPRESS` (`close`, `background` or `never`; else each gets its share), `ERMFS_DIFF_ATIME=1` (access times
//! are compared in all worlds, not only in those with several users), `ERMFS_LIBRARY` (the library; else it is built). Needs root, or user namespaces.

use ermfs_ffi_tests::abi::Abi;
use ermfs_ffi_tests::differential::{
    Compress, Difference, Setting, Subject, campaign, model_campaign, replay,
};
use std::path::Path;

/// A seed that every run takes.
const FIXED_SEED: u64 = 20_260_101;
/// Calls of a run in which nothing else is asked for.
const DEFAULT_CALLS: usize = 20_000;

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn calls() -> usize {
    environment("ERMFS_DIFF_CALLS").map_or(DEFAULT_CALLS, |value| value.parse().expect("ERMFS_DIFF_CALLS"))
}

fn seeds() -> Vec<u64> {
    if let Some(value) = environment("ERMFS_DIFF_SEED") {
        return vec![value.parse().expect("ERMFS_DIFF_SEED")];
    }
    let fresh =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |time| time.as_nanos());
    vec![FIXED_SEED, fresh as u64 % 1_000_000_000]
}

fn policies() -> Vec<Compress> {
    match environment("ERMFS_DIFF_COMPRESS") {
        Some(name) => vec![Compress::parse(&name).expect("ERMFS_DIFF_COMPRESS")],
        None => Compress::ALL.to_vec(),
    }
}

fn access_times() -> bool {
    environment("ERMFS_DIFF_ATIME").is_some_and(|value| value == "1")
}

fn setting(compress: Compress, mounted: bool, people: bool) -> Setting {
    Setting { compress, mounted, access_times: people || access_times(), people }
}

/// Prints the differences and gives their number.
fn tell(differences: &[Difference]) -> usize {
    for difference in differences {
        println!("{}", difference.report);
    }
    differences.len()
}

#[test]
fn answers_like_tmpfs() {
    let (seeds, policies) = (seeds(), policies());
    let share = calls().div_ceil(seeds.len() * policies.len());
    let mut total = 0;
    for &seed in &seeds {
        for &compress in &policies {
            // A quarter of the worlds has a filesystem of its own instead of the default one; in half, the calls are made
            // for several users.
            let eighth = share / 8;
            let parts = [
                (false, false, share - 5 * eighth),
                (true, false, eighth),
                (false, true, 3 * eighth),
                (true, true, eighth),
            ];
            for (mounted, people, part) in parts {
                let setting = setting(compress, mounted, people);
                let differences =
                    campaign(&Subject::Library, &setting, seed, part).unwrap_or_else(|why| panic!("{why}"));
                let count = tell(&differences);
                let name = compress.name();
                println!(
                    "differential: compress={name} mounted={mounted} people={people} seed={seed} calls={part} differences={count}"
                );
                total += count;
            }
        }
    }
    assert_eq!(total, 0, "ERMFS answers otherwise than tmpfs");
}

#[test]
fn every_mode_of_fallocate_matches_a_byte_model() {
    let (seeds, policies) = (seeds(), policies());
    let share = calls().div_ceil(2 * seeds.len() * policies.len());
    let mut total = 0;
    for &seed in &seeds {
        for &compress in &policies {
            let differences =
                model_campaign(&Subject::Library, &setting(compress, false, false), seed, share)
                    .unwrap_or_else(|why| panic!("{why}"));
            let count = tell(&differences);
            println!(
                "byte model: compress={} seed={seed} calls={share} differences={count}",
                compress.name()
            );
            total += count;
        }
    }
    assert_eq!(total, 0, "ERMFS answers otherwise than the byte model");
}

/// Replays every sequence of `regressions/` and gives how many there are and how many differ.
fn replay_all(subject: &Subject) -> (usize, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let entries = std::fs::read_dir(&folder).expect("the folder of regressions");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut different = 0;
    for path in &files {
        let text = std::fs::read_to_string(path).expect("a sequence");
        let found = replay(subject, access_times(), &text);
        if let Some(difference) = found.unwrap_or_else(|why| panic!("{}: {why}", path.display())) {
            println!("{}:\n{}", path.display(), difference.report);
            different += 1;
        }
    }
    println!("regressions: files={} differences={different}", files.len());
    (files.len(), different)
}

#[test]
fn regressions_stay_away() {
    let (files, different) = replay_all(&Subject::Library);
    assert!(files > 0, "there are no sequences to replay");
    assert_eq!(different, 0, "an old difference is back");
}

#[test]
fn the_kernel_is_like_itself() {
    let kernel = Subject::Functions(Box::new(Abi::kernel()));
    for (mounted, people) in [(false, false), (true, false), (false, true)] {
        let setting = setting(Compress::Never, mounted, people);
        let differences =
            campaign(&kernel, &setting, FIXED_SEED, calls() / 4).unwrap_or_else(|why| panic!("{why}"));
        let count = tell(&differences);
        println!(
            "kernel against kernel: mounted={mounted} people={people} seed={FIXED_SEED} calls={} differences={count}",
            calls() / 4
        );
        assert_eq!(count, 0, "the test itself sees differences where there are none");
    }
    assert_eq!(replay_all(&kernel).1, 0, "a sequence of regressions/ has no certain answer");
}

#[test]
fn the_byte_model_is_like_the_kernel() {
    let kernel = Subject::Functions(Box::new(Abi::kernel()));
    let differences =
        model_campaign(&kernel, &setting(Compress::Never, false, false), FIXED_SEED, calls() / 4)
            .unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(tell(&differences), 0, "the byte model is wrong about what tmpfs has too");
}

/// Functions with one fault each, to be found.
mod planted {
    use libc::{c_char, c_int, c_uint, off_t};

    pub(super) unsafe extern "C" fn rename_without_flags(
        from: c_int,
        old: *const c_char,
        to: c_int,
        new: *const c_char,
        flags: c_uint,
    ) -> c_int {
        let flags = if flags == libc::RENAME_NOREPLACE { 0 } else { flags };
        // SAFETY: the caller's pointers, handed on.
        unsafe { libc::renameat2(from, old, to, new, flags) }
    }

    pub(super) unsafe extern "C" fn grow_with_garbage(fd: c_int, len: off_t) -> c_int {
        // SAFETY: lseek takes numbers only.
        let (at, old) = unsafe { (libc::lseek(fd, 0, libc::SEEK_CUR), libc::lseek(fd, 0, libc::SEEK_END)) };
        // SAFETY: as above.
        unsafe { libc::lseek(fd, at, libc::SEEK_SET) };
        // SAFETY: as above.
        let answer = unsafe { libc::ftruncate(fd, len) };
        if answer == 0 && old >= 0 && len > old {
            // SAFETY: one byte is read from a static.
            unsafe { libc::pwrite(fd, b"G".as_ptr().cast(), 1, old) };
        }
        answer
    }

    pub(super) unsafe extern "C" fn chmod_without_ctime(fd: c_int, _mode: libc::mode_t) -> c_int {
        // Answers as if it had done it.
        // SAFETY: asks for flags only.
        if unsafe { libc::fcntl(fd, libc::F_GETFL) } < 0 { -1 } else { 0 }
    }

    pub(super) unsafe extern "C" fn flock_beside_others(fd: c_int, operation: c_int) -> c_int {
        // SAFETY: takes numbers only.
        let answer = unsafe { libc::flock(fd, operation) };
        let taken = std::io::Error::last_os_error().raw_os_error() == Some(libc::EWOULDBLOCK);
        if answer == -1 && taken { 0 } else { answer }
    }

    pub(super) unsafe extern "C" fn crash(_fd: c_int) -> c_int {
        // SAFETY: ends this process, which is the subject's own child.
        unsafe { libc::raise(libc::SIGKILL) }
    }
}

#[test]
fn planted_faults_are_found_and_made_short() {
    let kernel = Abi::kernel();
    let faults = [
        ("NOREPLACE ignored", Abi { renameat2: planted::rename_without_flags, ..kernel }),
        ("garbage in a grown file", Abi { ftruncate: planted::grow_with_garbage, ..kernel }),
        ("fchmod does nothing", Abi { fchmod: planted::chmod_without_ctime, ..kernel }),
        ("a taken flock is granted", Abi { flock: planted::flock_beside_others, ..kernel }),
        ("fsync crashes", Abi { fsync: planted::crash, ..kernel }),
    ];
    for (name, abi) in faults {
        let subject = Subject::Functions(Box::new(abi));
        let differences = campaign(&subject, &setting(Compress::Never, false, false), FIXED_SEED, 4000)
            .unwrap_or_else(|why| panic!("{why}"));
        let shortest = differences.iter().min_by_key(|difference| difference.steps).expect(name);
        println!("planted: {name}: {} differences, the shortest:\n{}", differences.len(), shortest.report);
        assert!(shortest.steps <= 4, "{name}: {} steps are not short", shortest.steps);
        let again = replay(&subject, false, &shortest.sequence).unwrap_or_else(|why| panic!("{why}"));
        assert!(again.is_some(), "{name}: the printed sequence does not show it again");
    }
}
