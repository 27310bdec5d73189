//! A counter that threads move without disturbing one another.
//!
//! Promises: adding and subtracting touch one cache line, which few threads share; the sum is exact while nothing happens.
//! Owns 1 KiB.

use core::cell::Cell;

use ermfs_memory::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use ermfs_memory::{LINES, own_line};

#[repr(align(64))]
struct Line(AtomicU64);

impl Default for Stripes {
    fn default() -> Stripes {
        Stripes::new()
    }
}

/// See the module's page.
pub(crate) struct Stripes([Line; LINES]);

impl Stripes {
    pub(crate) const fn new() -> Stripes {
        Stripes([const { Line(AtomicU64::new(0)) }; LINES])
    }

    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.own().fetch_add(n, Relaxed);
    }

    /// Takes away what any thread has added.
    #[inline]
    pub(crate) fn subtract(&self, n: u64) {
        self.own().fetch_sub(n, Relaxed);
    }

    /// Puts `after` in the place of `before`, which threads have added.
    #[inline]
    pub(crate) fn replace(&self, before: u64, after: u64) {
        // Wrapping round, as the sum does.
        self.own().fetch_add(after.wrapping_sub(before), Relaxed);
    }

    /// The sum; never below zero, though a moment's may be if others count meanwhile.
    pub(crate) fn sum(&self) -> u64 {
        let sum = self.0.iter().fold(0u64, |sum, line| sum.wrapping_add(line.0.load(Relaxed)));
        sum.cast_signed().max(0).cast_unsigned()
    }

    #[inline]
    fn own(&self) -> &AtomicU64 {
        &self.0[own_line()].0
    }
}

/// The calling thread's number: threads are numbered in the order in which they ask first.
#[inline]
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // One more than the number; no destructor, so it is there for as long as the thread runs.
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Relaxed).wrapping_add(1).max(1));
        }
        number.get() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thread_adds_another_may_take_away() {
        let stripes = Stripes::new();
        stripes.add(5);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    stripes.add(3);
                    stripes.subtract(2);
                });
            }
        });
        assert_eq!(stripes.sum(), 25);
        std::thread::scope(|scope| {
            scope.spawn(|| stripes.subtract(25));
        });
        assert_eq!(stripes.sum(), 0);
        stripes.replace(0, 7);
        std::thread::scope(|scope| {
            scope.spawn(|| stripes.replace(7, 4));
        });
        assert_eq!(stripes.sum(), 4);
    }

    #[test]
    fn threads_have_numbers_of_their_own() {
        let mine = thread_number();
        let others: Vec<usize> = (0..5).map(|_| std::thread::spawn(thread_number).join().unwrap()).collect();
        assert_eq!(thread_number(), mine);
        assert!(others.is_sorted_by(|a, b| a < b) && !others.contains(&mine));
    }
}
