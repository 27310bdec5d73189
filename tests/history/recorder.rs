//! Threads that make random calls and write down when.
//!
//! Promises: every run follows from its seed, but for how the threads meet. Owns the clock of a run. A run that fails
//! prints its seed; ERMFS_HISTORY_SEED makes every test start with that one, ERMFS_HISTORY_RUNS says how many runs there
//! are of each kind (by default 1,000, or as many as there is time for on a busy machine).

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::checker::{Call, History, Model, check};

/// A run's random numbers (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        // Consecutive seeds are to have nothing in common.
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((mixed ^ (mixed >> 31)) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// The time of a run: moves at every look.
#[derive(Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    fn look(&self) -> u64 {
        self.0.fetch_add(1, SeqCst)
    }
}

/// What one thread does, and has seen.
pub(crate) struct Recorder<'a, O, A> {
    clock: &'a Clock,
    random: Random,
    calls: Vec<Call<O, A>>,
}

impl<'a, O, A> Recorder<'a, O, A> {
    pub(crate) fn new(clock: &'a Clock, random: Random) -> Recorder<'a, O, A> {
        Recorder { clock, random, calls: Vec::new() }
    }

    /// Makes one call.
    pub(crate) fn record(&mut self, operation: O, work: impl FnOnce(&O) -> A) {
        // So that threads do not fall into step.
        for _ in 0..self.random.below(8) {
            core::hint::spin_loop();
        }
        let began = self.clock.look();
        let answer = work(&operation);
        let ended = self.clock.look();
        self.calls.push(Call { began, ended, operation, answer });
    }

    pub(crate) fn calls(self) -> Vec<Call<O, A>> {
        self.calls
    }
}

/// Runs `plans`, one a thread, all from the same moment on, and answers what each has seen. `begin` makes what a thread
/// works with.
pub(crate) fn play<O, A, T>(
    clock: &Clock,
    seed: u64,
    plans: Vec<Vec<O>>,
    begin: impl Fn(usize) -> T + Sync,
    call: impl Fn(&mut T, &O) -> A + Sync,
) -> History<O, A>
where
    O: Send,
    A: Send,
{
    let ready = AtomicUsize::new(plans.len());
    thread::scope(|scope| {
        let threads: Vec<_> = plans
            .into_iter()
            .enumerate()
            .map(|(number, plan)| {
                let (ready, begin, call) = (&ready, &begin, &call);
                scope.spawn(move || {
                    let mut random = Random::new(seed ^ (number as u64 + 1) << 48);
                    shake(random.next());
                    let mut recorder = Recorder::new(clock, random);
                    let mut own = begin(number);
                    ready.fetch_sub(1, SeqCst);
                    while ready.load(SeqCst) > 0 {
                        thread::yield_now();
                    }
                    for operation in plan {
                        recorder.record(operation, |operation| call(&mut own, operation));
                    }
                    recorder.calls()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Has the calling thread give the processor away in the middle of calls, where the build can.
#[cfg(feature = "failpoints")]
fn shake(random: u64) {
    ermfs_core::failpoint::set(ermfs_core::failpoint::Plan::Shake(random | 1));
}

#[cfg(not(feature = "failpoints"))]
fn shake(_random: u64) {}

/// Between 2 and 8 threads, mostly few, each with a plan of a few operations.
pub(crate) fn plans<O>(
    random: &mut Random,
    mut operation: impl FnMut(&mut Random, usize) -> O,
) -> Vec<Vec<O>> {
    let threads = random.pick(&[2, 2, 2, 3, 3, 4, 6, 8]);
    let most = if threads > 4 { 4 } else { 8 };
    (0..threads)
        .map(|thread| (0..2 + random.below(most)).map(|_| operation(random, thread)).collect())
        .collect()
}

const MOST_RUNS: u64 = 1_000;
/// The time after which no run is begun, unless the number of runs was asked for.
const ENOUGH: Duration = Duration::from_secs(5);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.trim().parse().ok())
}

/// Makes one history per seed, and checks it.
pub(crate) fn run_all<M: Model>(model: &M, one: impl Fn(u64) -> (M::State, History<M::Operation, M::Answer>))
where
    M::State: Debug,
{
    static RUNS: AtomicU64 = AtomicU64::new(0);
    // One test at a time: threads meet when they have processors.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (most, end) = match setting("ERMFS_HISTORY_RUNS") {
        Some(runs) => (runs, None),
        None => (MOST_RUNS, Some(Instant::now() + ENOUGH)),
    };
    let first = setting("ERMFS_HISTORY_SEED").unwrap_or_else(|| {
        let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
        since.as_nanos() as u64 ^ RUNS.fetch_add(1, Relaxed) << 40
    });
    println!("seeds from {first}");
    let (mut runs, mut calls, mut overlaps, mut points) = (0, 0, 0, 0);
    while runs < most && end.is_none_or(|end| Instant::now() < end) {
        let seed = first.wrapping_add(runs);
        runs += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| one(seed)));
        let (start, history) = outcome.unwrap_or_else(|panic| {
            eprintln!("ERMFS_HISTORY_SEED={seed}");
            resume_unwind(panic)
        });
        points +=
            check(model, start, &history).unwrap_or_else(|told| panic!("ERMFS_HISTORY_SEED={seed}\n{told}"));
        let all: Vec<_> = history.iter().flatten().collect();
        calls += all.len();
        // Times have no gaps, so a call that nothing came between ended in the moment after it began.
        overlaps += all.iter().filter(|call| call.ended > call.began + 1).count();
    }
    println!("{runs} runs, {calls} calls, {overlaps} of them overlapping others, {points} points searched");
    assert!(overlaps > 0, "threads that never meet show nothing");
}
