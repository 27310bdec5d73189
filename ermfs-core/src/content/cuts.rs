//! How often a file has been cut: what tells a reader without a lock that it has to read again.
//!
//! Promises: a reader that finds the number even, then reads size and blocks, and then finds it unchanged has seen no
//! effect of a cut or a rearrangement that the size it read does not go with. Owns the number. Never waits.
//!
//! Cut protocol (B5 in docs/INVARIANTS.md), under the file's lock:
//!
//! | pair | who cuts | reader |
//! | --- | --- | --- |
//! | X1 | store size, then add 2 (Release) | load the number (Acquire), then the size: who sees the number moved sees the size |
//! | X2 | add 2, then replace slots (Release) | load slots (Acquire), then the number: who sees a slot replaced sees the number moved |
//!
//! Whoever moves blocks to other places, or changes bytes and the end of the file together, makes the number odd before and
//! even after: what is between is no state of the file, and a reader that meets it takes the lock instead.

use crate::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// See the module's page.
pub(super) struct Cuts(AtomicU32);

impl Cuts {
    pub(super) fn new() -> Cuts {
        Cuts(AtomicU32::new(0))
    }

    /// The number, for [`Cuts::is_still`]; `None` while blocks are on the move.
    #[inline]
    pub(super) fn look(&self) -> Option<u32> {
        let number = self.0.load(Acquire);
        number.is_multiple_of(2).then_some(number)
    }

    /// Whether what was read since [`Cuts::look`] is of one file.
    #[inline]
    pub(super) fn is_still(&self, number: u32) -> bool {
        // What was read before must not be read after.
        fence(Acquire);
        self.0.load(Relaxed) == number
    }

    /// The file was cut: the size is stored, its blocks go next.
    #[inline]
    pub(super) fn note_cut(&self) {
        self.0.fetch_add(2, Release);
    }

    /// Runs `change` while readers wait.
    pub(super) fn around<R>(&self, change: impl FnOnce() -> R) -> R {
        // Relaxed: all that `change` stores is stored with Release.
        self.0.fetch_add(1, Relaxed);
        let result = change();
        self.0.fetch_add(1, Release);
        result
    }
}
