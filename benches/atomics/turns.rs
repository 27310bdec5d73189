//! Two threads that take turns.
//!
//! Promises: one of them works at a time, each for one step and then the other, so that what is counted does not depend on
//! how they meet. Owns whose turn it is.

use std::sync::{Condvar, Mutex, PoisonError};

/// How many threads there are.
pub(crate) const THREADS: usize = 2;

/// See the module's page.
#[derive(Default)]
pub(crate) struct Turns {
    next: Mutex<usize>,
    moved: Condvar,
}

impl Turns {
    /// Has thread `number` do `step` when it is its turn, and passes the turn on.
    pub(crate) fn take<R>(&self, number: usize, step: impl FnOnce() -> R) -> R {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |next: &mut usize| *next != number;
        let mut next = self.moved.wait_while(next, waiting).unwrap_or_else(PoisonError::into_inner);
        let answer = step();
        *next = (number + 1) % THREADS;
        self.moved.notify_all();
        answer
    }
}
