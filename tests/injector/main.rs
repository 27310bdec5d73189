//! Every failure on purpose.
//!
//! Each script runs with the first place that can fail refusing, then with the second, and so on, until a run comes to its
//! end without a refusal; and so again with that place and all later ones of its label, and with all later ones. Each time
//! every call gives what it must or an errno that its page names, nothing is lost or wrong (`world`), and when everything
//! was removed the filesystem, the allocators and the kernel's descriptors are back where they were.
//!
//! ERMFS_INJECTOR=all: every place. Otherwise one in so many that a run takes a minute or so, other ones of each script.

mod scripts;
mod startup;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ermfs_core::{Statistics, process};
use ermfs_memory::inject::{self, Which};
use ermfs_memory::process_memory;

use scripts::{SCRIPTS, Script};
use world::World;

/// The plan is the process's.
static ALONE: Mutex<()> = Mutex::new(());

/// How far apart the places are that refuse in an ordinary run.
const ORDINARY_STRIDE: u64 = 7;

fn stride() -> u64 {
    match std::env::var("ERMFS_INJECTOR").as_deref() {
        Ok("all") => 1,
        _ => ORDINARY_STRIDE,
    }
}

/// What must be as before: pages and pieces in use, kernel descriptors.
fn process_holds() -> (u64, u64, usize) {
    let memory = process_memory();
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("/proc").count();
    (memory.pages_in_use, memory.pieces_in_use + memory.nodes_in_use, descriptors)
}

/// What a cleared filesystem holds.
fn held(statistics: &Statistics) -> [u64; 9] {
    let Statistics { files, directories, open_descriptions, logical_bytes, .. } = *statistics;
    let Statistics { raw_bytes, packed_bytes, cached_bytes, exported_bytes, metadata_bytes, .. } =
        *statistics;
    assert_eq!(statistics.errors, 0, "a panic or a damaged block");
    [
        files,
        directories,
        open_descriptions,
        logical_bytes,
        raw_bytes,
        packed_bytes,
        cached_bytes,
        exported_bytes,
        metadata_bytes,
    ]
}

/// One run: how many places refused, and what the cleared filesystem holds, unless it could not be made. The packer's thread
/// may still be at its last file, so `expected` is waited for.
fn run(script: &Script, which: Which, expected: Option<[u64; 9]>) -> (u64, Option<[u64; 9]>) {
    // In a thread of its own, which has nothing that it keeps for its work yet.
    let body = || {
        inject::arm(which);
        let Some(mut world) = World::mounted(&script.config()) else {
            return (inject::disarm().0, None);
        };
        (script.run)(&mut world);
        let made = inject::disarm().0;
        world.clear();
        let left = settled(expected, || held(&process::statistics(world.root()).expect("statistics")));
        world.end();
        ermfs_core::inject::settle();
        (made, Some(left))
    };
    let ended = thread::scope(|scope| scope.spawn(|| catch_unwind(AssertUnwindSafe(body))).join());
    match ended {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) | Err(panic) => {
            let (_, last) = inject::disarm();
            eprintln!("{}: {which:?} failed; last refused: {last:?}", script.name);
            resume_unwind(panic)
        }
    }
}

/// How often it is looked, a millisecond apart, whether others have let go of what they hold.
const LOOKS: usize = 2000;

/// What `look` answers once it answers what is expected, or the same for a while, or after a long while.
fn settled<T: PartialEq>(expected: Option<T>, look: impl Fn() -> T) -> T {
    let (mut now, mut same) = (look(), 0);
    for _ in 0..LOOKS {
        ermfs_core::inject::settle();
        let before = core::mem::replace(&mut now, look());
        same = if before == now { same + 1 } else { 0 };
        if expected.as_ref().map_or(same == LOOKS / 40, |expected| now == *expected) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    now
}

fn torment(script: &Script, plan: fn(u64) -> Which, first: u64) -> u64 {
    // What is made on first need is there then.
    run(script, Which::One(u64::MAX), None);
    let before = settled(None, process_holds);
    let (_, clean) = run(script, Which::One(u64::MAX), None);
    assert_eq!(settled(Some(before), process_holds), before, "{}", script.name);
    let mut runs = 0;
    for number in (first..).step_by(stride() as usize) {
        let which = plan(number);
        let (made, left) = run(script, which, clean);
        if let Some(left) = left {
            assert_eq!(Some(left), clean, "{}: {which:?} leaves something", script.name);
        }
        assert_eq!(
            settled(Some(before), process_holds),
            before,
            "{}: {which:?} keeps something",
            script.name
        );
        if made == 0 {
            break;
        }
        runs += 1;
    }
    runs
}

#[test]
fn whatever_fails_nothing_is_lost() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let only = std::env::var("ERMFS_INJECTOR_ONLY").ok();
    for (at, script) in SCRIPTS.iter().enumerate() {
        if only.as_ref().is_some_and(|only| !script.name.contains(only.as_str())) {
            continue;
        }
        let plans: [fn(u64) -> Which; 3] = [Which::One, Which::Label, Which::All];
        let first = 1 + at as u64 % stride();
        let runs: Vec<u64> = plans.into_iter().map(|plan| torment(script, plan, first)).collect();
        println!("{}: {runs:?} runs with a place, its label, all from it on refusing", script.name);
    }
    if only.is_none() {
        let missed = reach_the_rest();
        assert!(missed.is_empty(), "nothing failed at {missed:?}");
    }
    let mut by_label: BTreeMap<&str, (u64, BTreeSet<(&str, u32)>)> = BTreeMap::new();
    for (failure, count) in inject::failures() {
        let label = by_label.entry(failure.label).or_default();
        label.0 += count;
        label.1.insert(failure.place);
    }
    for (label, (count, places)) in &by_label {
        println!("{label}: {count} failures in {} places", places.len());
    }
    let all: u64 = by_label.values().map(|(count, _)| count).sum();
    println!("{all} failures made and survived, of {} labels", by_label.len());
}

/// Has the labels refuse that were passed over, in all scripts, and answers those that no script comes to.
fn reach_the_rest() -> Vec<&'static str> {
    let other_mode = if process::is_lockless() { "locked." } else { "lockless." };
    let listed = inject::LABELS.iter().chain(ermfs_core::inject::LABELS).copied();
    let mut missed: Vec<_> =
        listed.filter(|label| !startup::LABELS.contains(label) && !label.starts_with(other_mode)).collect();
    missed.retain(|label| {
        let has_failed = || inject::failures().keys().any(|failure| failure.label == *label);
        let mut scripts = SCRIPTS.iter();
        while !has_failed() {
            let Some(script) = scripts.next() else { return true };
            run(script, Which::Named(label), None);
        }
        false
    });
    missed
}
