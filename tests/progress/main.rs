//! What a stopped thread cannot stop.
//!
//! A victim is stopped for good at each labelled step of each operation, and the others must still finish theirs. In
//! lockless mode that is what is claimed: a thread that stopped while it reads (paths, descriptors, contents) or opens and
//! closes stops nobody; one that stopped while it changes a directory or a file keeps others from changing that, and
//! nobody from reading it. Locked mode claims nothing of the kind.
//!
//! ERMFS_PROGRESS_ROUNDS: how often the others do everything (200 by default).

mod operations;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ermfs_core::failpoint::{self, LABELS, Parking, Plan};
use ermfs_core::process;

use operations::{OPERATIONS, Operation, Part, World};

/// How many others there are.
const OTHERS: usize = 3;
/// When a thread that has not finished counts as stopped; it needs milliseconds.
const STOPPED: Duration = Duration::from_secs(30);
const NOBODY_CAME: &str = "nobody came to";
/// A victim stops at the first visits of a step only.
const VISITS: usize = 4;

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(OTHERS + 1));

/// The tree and the descriptor table are the process's.
static ALONE: Mutex<()> = Mutex::new(());

fn rounds() -> usize {
    std::env::var("ERMFS_PROGRESS_ROUNDS").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(200)
}

fn operation(name: &str) -> &'static Operation {
    OPERATIONS.iter().find(|operation| operation.name == name).expect("an operation")
}

/// The steps that one thread comes through in an operation, each as often as it does.
fn steps_of(operation: &Operation) -> BTreeMap<&'static str, usize> {
    // Once without being looked at: what is made on first need is there then.
    (operation.run)(&WORLD, 0);
    failpoint::set(Plan::Trace(Vec::new()));
    (operation.run)(&WORLD, 0);
    let mut steps = BTreeMap::new();
    for label in failpoint::trace() {
        *steps.entry(label).or_default() += 1;
    }
    steps
}

/// What others must be able to do while a victim stands in an operation of this part.
fn unhindered(part: Part) -> impl Iterator<Item = &'static Operation> {
    OPERATIONS
        .iter()
        .filter(move |operation| operation.part != part || part == Part::Reads || part == Part::ChangesOwn)
}

/// Stops a victim at a visit of a step of `operation`, and has the others do `all` so many times each.
///
/// # Errors
/// What was not finished after `patience`.
fn stop_one(
    operation: &Operation,
    (label, visit): (&'static str, usize),
    all: &[&Operation],
    (rounds, patience): (usize, Duration),
) -> Result<(), String> {
    let world = &*WORLD;
    let parking = &Arc::new(Parking::default());
    thread::scope(|scope| {
        let victim = scope.spawn(move || {
            failpoint::set(Plan::Park(label, visit, Arc::clone(parking)));
            (operation.run)(world, 0);
            failpoint::set(Plan::Pass);
        });
        while !parking.wait(Duration::from_millis(10)) && !victim.is_finished() {}
        if !parking.wait(Duration::ZERO) {
            return Err(format!("{}: {NOBODY_CAME} {label}", operation.name));
        }
        let (finished, reports) = channel();
        for thread in 1..=OTHERS {
            let finished = finished.clone();
            scope.spawn(move || {
                for (at, other) in all.iter().enumerate() {
                    (0..rounds).for_each(|_| (other.run)(world, thread));
                    // Nobody may be there to hear it any more.
                    let _ = finished.send(at);
                }
            });
        }
        drop(finished);
        let mut left = vec![OTHERS; all.len()];
        let end = Instant::now() + patience;
        while let Ok(at) = reports.recv_timeout(end.saturating_duration_since(Instant::now())) {
            left[at] -= 1;
        }
        let still_stopped = !victim.is_finished();
        parking.release();
        if !still_stopped {
            return Err(format!("{}: the victim did not stop at {label}", operation.name));
        }
        // All do everything in the same order.
        match left.iter().position(|threads| *threads > 0) {
            None => Ok(()),
            Some(at) => Err(format!("{} at {label}, visit {visit}, stops: {}", operation.name, all[at].name)),
        }
    })
}

#[test]
fn a_stopped_thread_stops_nobody_whom_it_may_not_stop() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !process::is_lockless() {
        println!("locked mode: nothing is claimed");
        return;
    }
    let (mut tried, mut failures) = (0, Vec::new());
    let (mut met, mut stopped_at) = (BTreeSet::new(), BTreeSet::new());
    for operation in OPERATIONS {
        let all: Vec<_> = unhindered(operation.part).collect();
        for (label, visits) in steps_of(operation) {
            met.insert(label);
            for visit in 0..visits.min(VISITS) {
                tried += 1;
                let stopped = stop_one(operation, (label, visit), &all, (rounds(), STOPPED));
                // A directory's table is made anew at some change or other.
                if stopped.as_ref().is_err_and(|told| told.contains(NOBODY_CAME)) {
                    continue;
                }
                stopped_at.insert(label);
                if let Err(told) = stopped {
                    eprintln!("{told}");
                    failures.push(told);
                }
                assert!(failures.len() < 5, "enough: {failures:#?}");
            }
        }
    }
    println!("{tried} steps");
    let missed: Vec<_> = met.difference(&stopped_at).collect();
    assert!(missed.is_empty(), "nobody was ever stopped at {missed:?}");
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_step_that_has_a_label_is_come_to() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let met: BTreeSet<_> = OPERATIONS.iter().flat_map(|operation| steps_of(operation).into_keys()).collect();
    let other_mode = if process::is_lockless() { "locked." } else { "lockless." };
    let missed: Vec<_> =
        LABELS.iter().filter(|label| !met.contains(*label) && !label.starts_with(other_mode)).collect();
    assert!(missed.is_empty(), "no operation comes to {missed:?}");
    let strange: Vec<_> = met.iter().filter(|label| label.starts_with(other_mode)).collect();
    assert!(strange.is_empty(), "operations come to steps of the other mode: {strange:?}");
}

#[test]
fn who_is_stopped_by_a_lock_is_noticed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // In either mode changers of one directory exclude each other.
    let create = operation("create and unlink");
    let told =
        stop_one(create, ("names.insert", 0), &[operation("fstat"), create], (1, Duration::from_secs(2)))
            .expect_err("the directory is locked");
    assert_eq!(told, "create and unlink at names.insert, visit 0, stops: create and unlink");
    let told = stop_one(operation("fstat"), ("names.insert", 0), &[], (1, STOPPED));
    assert!(told.is_err_and(|told| told.ends_with("nobody came to names.insert")));
}

#[test]
fn who_stops_between_locks_stops_nobody_in_either_mode() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let all: Vec<_> = OPERATIONS.iter().collect();
    for (name, label) in [("stat", "walk.directory"), ("stat", "stat.taken"), ("fstat", "fd.looked_up")] {
        assert_eq!(stop_one(operation(name), (label, 0), &all, (10, STOPPED)), Ok(()));
    }
}
