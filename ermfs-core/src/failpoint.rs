//! The steps of the calls at which a test can stop a thread.
//!
//! Promises: `failpoint!("label")` is nothing without the feature `failpoints`, and with it one look at a thread's own
//! plan. A thread does there only what it asked for itself, through [`set`]: others pass. A label that is not in
//! [`LABELS`] does not compile. Owns the list of labels. Never: anything for a program; a parked thread stands where it
//! stands, with whatever it holds, inside the gate.

/// Stops, notes or delays the calling thread, if it asked for it. The label names a step of a call: what has just been
/// done, or what is held.
macro_rules! failpoint {
    ($label:literal) => {
        #[cfg(feature = "failpoints")]
        {
            const { assert!($crate::failpoint::is_listed($label), "a label that is not in the list") };
            $crate::failpoint::hit($label);
        }
    };
}
pub(crate) use failpoint;

#[cfg(feature = "failpoints")]
pub use enabled::{LABELS, Parking, Plan, set, trace};
#[cfg(feature = "failpoints")]
pub(crate) use enabled::{hit, is_listed};

#[cfg(feature = "failpoints")]
mod enabled {
    use core::cell::RefCell;
    use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
    use std::time::{Duration, Instant};

    /// Every step that has a label, by module. Labels that start with `locked.` or `lockless.` are of that mode only.
    pub const LABELS: &[&str] = &[
        // Path walk: at a directory, before its name is looked up; with the inode that was found.
        "walk.directory",
        "walk.found",
        // Calls by path, before the inode that the walk found is counted, and after.
        "lookup.resolved",
        "open.resolved",
        "inode.acquired",
        // stat: metadata taken, not yet known whether the inode is still there.
        "stat.taken",
        "readlink.found",
        // The last hold of an inode went: before its content goes.
        "inode.ended",
        // Names, under the directory's lock: before the entry is there, gone, or moved.
        "names.insert",
        "names.remove",
        "names.rename",
        "locked.names.lookup",
        // Creating: the name was not there, and the inode is made.
        "create.made",
        // Descriptors: looked up; claimed and not open; taken out and not ended.
        "fd.looked_up",
        "fd.claimed",
        "fd.removed",
        "locked.slot.held",
        "dup2.looked_up",
        "dup2.replaced",
        // Open file descriptions: made; the last reference gone.
        "description.made",
        "description.ended",
        // Content: a read at a block; an inflated copy that is about to be hung on its block; a change
        // under the file's lock.
        "read.block",
        "cache.keep",
        "content.change",
        // Lockless mode only. A number taken out of its slot, and not free yet.
        "lockless.fd.taken_out",
        // A read with the pages of a block; at the block that the file ends in, and with the size; a change before and after it shows a block, before
        // it shows a page or moves the mark; a cut that has moved the size, and noted it.
        "lockless.read.cells",
        "lockless.read.tail",
        "lockless.read.size",
        "lockless.content.block_made",
        "lockless.content.block_shown",
        "lockless.content.page_made",
        "lockless.content.past_the_mark",
        "lockless.cut.size",
        "lockless.cut.noted",
        // A look-up at a dentry; a name gone, its slot not; a new table not shown; a rename decided.
        "lockless.names.probe",
        "lockless.names.gone",
        "lockless.names.table_made",
        "lockless.names.renamed",
    ];

    pub(crate) const fn is_listed(label: &str) -> bool {
        let mut at = 0;
        while at < LABELS.len() {
            if same(LABELS[at].as_bytes(), label.as_bytes()) {
                return true;
            }
            at += 1;
        }
        false
    }

    const fn same(one: &[u8], other: &[u8]) -> bool {
        if one.len() != other.len() {
            return false;
        }
        let mut at = 0;
        while at < one.len() {
            if one[at] != other[at] {
                return false;
            }
            at += 1;
        }
        true
    }

    /// What the calling thread does at labels.
    pub enum Plan {
        /// Nothing, as every thread at its start.
        Pass,
        /// Notes each label that it passes; [`trace`] answers them.
        Trace(Vec<&'static str>),
        /// Parks at the label, when it comes there after having passed it so often, and then no more.
        Park(&'static str, usize, Arc<Parking>),
        /// Gives the processor away at one label in four, chosen by this number, which is not 0.
        Shake(u64),
    }

    thread_local! {
        static PLAN: RefCell<Plan> = const { RefCell::new(Plan::Pass) };
    }

    /// Where a thread parks, and is waited for and let go by others.
    #[derive(Default)]
    pub struct Parking {
        state: Mutex<State>,
        changed: Condvar,
    }

    #[derive(Default)]
    struct State {
        occupied: bool,
        open: bool,
    }

    impl Parking {
        fn state(&self) -> MutexGuard<'_, State> {
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn park(&self) {
            let mut state = self.state();
            state.occupied = true;
            self.changed.notify_all();
            while !state.open {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }

        /// Whether a thread has parked, for which this waits so long.
        pub fn wait(&self, most: Duration) -> bool {
            let end = Instant::now() + most;
            let mut state = self.state();
            while !state.occupied {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            true
        }

        /// Lets the thread go on, or, if it did not come yet, pass.
        pub fn release(&self) {
            self.state().open = true;
            self.changed.notify_all();
        }
    }

    /// Makes `plan` the calling thread's.
    pub fn set(plan: Plan) {
        PLAN.with(|current| current.replace(plan));
    }

    /// The labels that the calling thread passed since it was set to [`Plan::Trace`], in order; ends that.
    pub fn trace() -> Vec<&'static str> {
        match PLAN.with(|current| current.replace(Plan::Pass)) {
            Plan::Trace(passed) => passed,
            _ => Vec::new(),
        }
    }

    pub(crate) fn hit(label: &'static str) {
        // A thread that is too far in its end for a plan has none.
        let parking = PLAN.try_with(|plan| plan.borrow_mut().pass(label)).unwrap_or_default();
        if let Some(parking) = parking {
            parking.park();
        }
    }

    impl Plan {
        /// Where to park, if at all.
        fn pass(&mut self, label: &'static str) -> Option<Arc<Parking>> {
            match self {
                Plan::Pass => None,
                Plan::Trace(passed) => {
                    passed.push(label);
                    None
                }
                Plan::Park(at, _, _) if *at != label => None,
                Plan::Park(_, 0, _) => match core::mem::replace(self, Plan::Pass) {
                    Plan::Park(_, _, parking) => Some(parking),
                    _ => None,
                },
                Plan::Park(_, passes, _) => {
                    *passes -= 1;
                    None
                }
                Plan::Shake(random) => {
                    *random ^= *random << 13;
                    *random ^= *random >> 7;
                    *random ^= *random << 17;
                    if random.is_multiple_of(4) {
                        std::thread::yield_now();
                    }
                    None
                }
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_the_thread_that_asked_parks_and_only_once() {
            let parking = Arc::new(Parking::default());
            hit("walk.found");
            std::thread::scope(|scope| {
                let victim = scope.spawn(|| {
                    set(Plan::Park("walk.found", 1, Arc::clone(&parking)));
                    for label in ["walk.directory", "walk.found", "walk.found", "walk.found"] {
                        hit(label);
                    }
                });
                assert!(parking.wait(Duration::from_secs(60)));
                hit("walk.found");
                assert!(!victim.is_finished());
                parking.release();
            });
        }

        #[test]
        fn a_trace_has_each_label_in_order() {
            set(Plan::Trace(Vec::new()));
            hit("walk.found");
            hit("walk.directory");
            assert_eq!(trace(), ["walk.found", "walk.directory"]);
            hit("walk.found");
            assert_eq!(trace(), [""; 0]);
        }

        #[test]
        fn labels_are_listed_once() {
            for (at, label) in LABELS.iter().enumerate() {
                assert!(is_listed(label) && !LABELS[..at].contains(label), "{label}");
            }
            assert!(!is_listed("walk.foun") && !is_listed("walk.found.") && !is_listed(""));
        }
    }
}
