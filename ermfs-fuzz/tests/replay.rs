//! The inputs that the fuzzers found, and the seeds that were made by hand, through the same code. Each function of
//! `ermfs_fuzz` runs an input in both modes, whatever `ERMFS_LOCKLESS` says.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The inputs of a target, by name.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = fs::read_dir(&folder).expect("the target's folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Runs all inputs of a target and says which of them fail.
fn replay(target: &str, run: fn(&[u8])) {
    let files = corpus(target);
    assert!(!files.is_empty(), "{target} has no inputs");
    // What a failed run has left open would fail all that follow.
    for file in &files {
        let input = fs::read(file).expect("an input");
        let result = catch_unwind(AssertUnwindSafe(|| run(&input)));
        assert!(result.is_ok(), "{} fails", file.display());
    }
    println!("{target}: {} inputs", files.len());
}

#[test]
fn streams_are_imported_or_refused() {
    replay("import_gzip", ermfs_fuzz::import_gzip);
}

#[test]
fn calls_answer_as_the_model_says() {
    replay("calls", ermfs_fuzz::calls);
}

#[test]
fn damaged_members_are_noticed() {
    replay("member", ermfs_fuzz::member);
}

/// What the fuzzers start from, without them: each seed is another sequence.
#[test]
fn random_calls_answer_as_the_model_says() {
    const SEQUENCES: u64 = 1500;
    for seed in 0..SEQUENCES {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0123_4567;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let input: Vec<u8> = (0..20 + seed % 700).map(|_| byte()).collect();
        let result = catch_unwind(|| ermfs_fuzz::calls(&input));
        assert!(result.is_ok(), "sequence {seed} fails");
    }
}
