//! The one place that says where the lock-free modules get their atomics and locks from: the standard library and
//! parking_lot (by way of `ermfs_memory::sync`, which can count what is done with them) or, built with `--cfg loom`, the
//! model checker loom, which runs a test under every order of the accesses that the memory model allows.
//!
//! Promises: the names and meanings of `core::sync::atomic` and of parking_lot's locks in both. A module whose protocol
//! a loom test checks takes all its atomics and locks from here, and reaches and frees what its readers look at by
//! `look` and `retire` of [`epoch`](crate::epoch). Owns nothing.
//!
//! A loom test is called `loom_*`, stands in `mod loom` beside what it tests, and runs its threads in `model`. loom takes
//! sequentially consistent accesses for acquiring and releasing ones: a protocol that needs more is written with fences.

#[cfg(not(loom))]
pub(crate) use ermfs_memory::sync::atomic;
#[cfg(loom)]
pub(crate) use loom::sync::atomic;

#[cfg(not(loom))]
pub(crate) use ermfs_memory::sync::{Mutex, MutexGuard, RwLock};
#[cfg(loom)]
pub(crate) use model::{Mutex, MutexGuard, RwLock};

#[cfg(all(test, loom))]
pub(crate) use model::model;

/// A slice of `len` values that are what zero bytes are; memory that comes zero from the kernel is not touched.
///
/// # Errors
/// Without memory.
#[cfg(not(loom))]
pub(crate) fn zeroed<T: ermfs_memory::Zeroable>(
    len: usize,
    _value: fn() -> T,
) -> Result<Box<[T]>, ermfs_memory::AllocError> {
    ermfs_memory::try_zeroed_slice(len)
}

/// loom's atomics are no zero bytes, so each is made.
#[cfg(loom)]
pub(crate) fn zeroed<T>(len: usize, value: fn() -> T) -> Result<Box<[T]>, ermfs_memory::AllocError> {
    Ok((0..len).map(|_| value()).collect())
}

/// loom's locks in the shape of parking_lot's, which know no poisoning, and how its tests are run.
#[cfg(loom)]
mod model {
    pub(crate) use loom::sync::MutexGuard;

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Mutex<T> {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a model ends at its first panic")
        }
    }

    #[derive(Debug)]
    pub(crate) struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> RwLock<T> {
            RwLock(loom::sync::RwLock::new(value))
        }

        pub(crate) fn read(&self) -> loom::sync::RwLockReadGuard<'_, T> {
            self.0.read().expect("a model ends at its first panic")
        }

        pub(crate) fn write(&self) -> loom::sync::RwLockWriteGuard<'_, T> {
            self.0.write().expect("a model ends at its first panic")
        }
    }

    /// How often a thread may be interrupted in one execution, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
    #[cfg(test)]
    const PREEMPTIONS: usize = 2;

    /// Models take turns: which pages the process's allocator hands out, and so whether two lie side by side, is part of what
    /// an execution does, and must be the same in all of them.
    #[cfg(test)]
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

    /// Runs `work` in every order of its threads' accesses that has no more than that many interruptions.
    #[cfg(test)]
    pub(crate) fn model(work: impl Fn() + Send + Sync + 'static) {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Takes what the environment says.
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound.get_or_insert(PREEMPTIONS);
        // An execution has no more than that many accesses: a block's cells alone are sixteen.
        builder.max_branches = 20_000;
        builder.check(move || crate::epoch::model::execution(&work));
    }
}
