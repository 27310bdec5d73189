//! The one place that says where the lock-free modules get their atomics and locks from: the standard library and
//! parking_lot, or, built with `--cfg loom`, the model checker loom, which runs a test under every order of the
//! accesses that the memory model allows.
//!
//! Promises: the names and meanings of `core::sync::atomic` and of parking_lot's locks in both. A module whose protocol
//! a loom test checks takes all its atomics and locks from here. Owns nothing.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic;
#[cfg(loom)]
pub(crate) use loom::sync::atomic;

#[cfg(loom)]
pub(crate) use model::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use parking_lot::{Mutex, MutexGuard};

/// loom's locks in the shape of parking_lot's, which know no poisoning.
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
}
