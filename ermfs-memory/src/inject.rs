//! Failures on purpose: the places where memory, the budget or the kernel may refuse, each under a label.
//!
//! Promises: without the feature `injector`, [`fails`] is the constant `false` and nothing of this is left in what is built.
//! With it a test says which of the places that the process comes to refuses (`arm`), as if there were no memory, and
//! learns which did (`failures`); unarmed, none does. Owns this crate's list of labels and the plan, which is the whole
//! process's. Never: a failure that could not happen without it.

use crate::AllocError;

/// The places of this crate.
pub const LABELS: &[&str] = &[
    // A filesystem's limit, for what anybody asks and for what may use the reserve.
    "budget.ordinary",
    "budget.reserved",
    // Pages: one, a block of them, an arena for pieces; a piece.
    "page",
    "page.block",
    "arena",
    "piece",
    // The kernel's part: address space, and memory in it.
    "mmap",
    "mprotect",
    // Fallible counterparts of what the standard library has: Arc, Box, Vec, a zeroed slice; a node.
    "counted",
    "box",
    "vec",
    "zeroed",
    "node",
];

/// Whether `label` is in `list`, for checks at compile time.
pub const fn is_listed(list: &[&str], label: &str) -> bool {
    let mut at = 0;
    while at < list.len() {
        if same(list[at].as_bytes(), label.as_bytes()) {
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

/// Whether the place `label`, which the calling thread has come to, is to refuse.
#[cfg(not(feature = "injector"))]
#[inline(always)]
pub const fn fails(_label: &'static str) -> bool {
    false
}

/// An allocation at the place `label`, for where the standard library makes it.
///
/// # Errors
/// [`AllocError::Memory`] when the place is to refuse.
#[inline(always)]
#[cfg_attr(feature = "injector", track_caller)]
pub fn allocation(label: &'static str) -> Result<(), AllocError> {
    if fails(label) { Err(AllocError::Memory) } else { Ok(()) }
}

#[cfg(feature = "injector")]
pub use enabled::{Failure, Which, arm, disarm, fails, failures, made, paused};

#[cfg(feature = "injector")]
mod enabled {
    use core::panic::Location;
    use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::collections::BTreeMap;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Which of the places refuse that are come to while a plan is armed, counted from 1 in the order of coming.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Which {
        /// The one of this number.
        One(u64),
        /// The one of this number, and from then on all that have its label.
        Label(u64),
        /// The one of this number and all that follow.
        All(u64),
        /// All of this label.
        Named(&'static str),
    }

    /// A place that refused.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Failure {
        /// Its label.
        pub label: &'static str,
        /// The source file and line that asked.
        pub place: (&'static str, u32),
    }

    struct Plan {
        which: Option<Which>,
        passed: u64,
        /// The label of the first that refused, for [`Which::Label`].
        label: &'static str,
        made: u64,
        last: Option<Failure>,
        all: BTreeMap<Failure, u64>,
    }

    static PLAN: Mutex<Plan> =
        Mutex::new(Plan { which: None, passed: 0, label: "", made: 0, last: None, all: BTreeMap::new() });
    /// Whether there is anything to ask the plan: spares all others its lock.
    static ARMED: AtomicBool = AtomicBool::new(false);

    fn plan() -> MutexGuard<'static, Plan> {
        PLAN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, in all threads, `which` refuses.
    pub fn arm(which: Which) {
        let mut plan = plan();
        (plan.which, plan.passed, plan.made, plan.label) = (Some(which), 0, 0, "");
        ARMED.store(true, SeqCst);
    }

    /// From now on nothing refuses. Answers how many did since [`arm`], and the last of them.
    pub fn disarm() -> (u64, Option<Failure>) {
        let mut plan = plan();
        ARMED.store(false, SeqCst);
        plan.which = None;
        (core::mem::take(&mut plan.made), plan.last.take())
    }

    /// How many places refused since [`arm`], and the last of them.
    pub fn made() -> (u64, Option<Failure>) {
        let plan = plan();
        (plan.made, plan.last)
    }

    /// Runs `work` while no place refuses or is counted, in any thread. Not to be nested.
    pub fn paused<R>(work: impl FnOnce() -> R) -> R {
        let was = ARMED.swap(false, SeqCst);
        let done = work();
        ARMED.store(was, SeqCst);
        done
    }

    /// Every place that refused since the process began, with how often.
    pub fn failures() -> BTreeMap<Failure, u64> {
        plan().all.clone()
    }

    /// Whether the place `label`, which the calling thread has come to, is to refuse.
    #[track_caller]
    pub fn fails(label: &'static str) -> bool {
        ARMED.load(SeqCst) && plan().meet(label, Location::caller())
    }

    impl Plan {
        fn meet(&mut self, label: &'static str, place: &'static Location<'static>) -> bool {
            let Some(which) = self.which else { return false };
            self.passed += 1;
            let refuses = match which {
                Which::One(number) => self.passed == number,
                Which::Label(number) if self.passed == number => {
                    self.label = label;
                    true
                }
                Which::Label(number) => self.passed > number && label == self.label,
                Which::All(number) => self.passed >= number,
                Which::Named(name) => label == name,
            };
            if refuses {
                let failure = Failure { label, place: (place.file(), place.line()) };
                self.made += 1;
                self.last = Some(failure);
                *self.all.entry(failure).or_default() += 1;
            }
            refuses
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// What refuses of these places, by number.
        fn refusing(which: Which, labels: &[&'static str]) -> Vec<usize> {
            let mut plan =
                Plan { which: Some(which), passed: 0, label: "", made: 0, last: None, all: BTreeMap::new() };
            (1..)
                .zip(labels)
                .filter(|(_, label)| plan.meet(label, Location::caller()))
                .map(|(n, _)| n)
                .collect()
        }

        #[test]
        fn the_plan_decides_which() {
            let places = ["page", "box", "page", "box", "page", "piece"];
            assert_eq!(refusing(Which::One(3), &places), [3]);
            assert_eq!(refusing(Which::Label(2), &places), [2, 4]);
            assert_eq!(refusing(Which::All(4), &places), [4, 5, 6]);
            assert_eq!(refusing(Which::All(7), &places), [0; 0]);
            assert_eq!(refusing(Which::Named("page"), &places), [1, 3, 5]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_listed_once() {
        for (at, label) in LABELS.iter().enumerate() {
            assert!(is_listed(LABELS, label) && !is_listed(&LABELS[..at], label), "{label}");
        }
        assert!(!is_listed(LABELS, "pag") && !is_listed(LABELS, "page.") && !is_listed(LABELS, ""));
    }
}
