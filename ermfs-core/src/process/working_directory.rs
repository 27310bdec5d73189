//! The working directory's slot, in the mode that the process is in.
//!
//! Promises: empty while the working directory is the default filesystem's root. Owns the reference.

#[cfg(loom)]
use std::sync::LazyLock;

use ermfs_memory::Counted;

use super::place::Place;
use super::reclaim::{ByEpoch, expect_pinning_readers};
use super::{fd_table, locked, lockless};
use crate::epoch;
use crate::fs::Mode;

static LOCKED: locked::Slot<Place, ByEpoch> = locked::Slot::empty();
#[cfg(not(loom))]
static LOCKLESS: lockless::Slot<Place, ByEpoch> = lockless::Slot::empty();
#[cfg(loom)]
static LOCKLESS: LazyLock<lockless::Slot<Place, ByEpoch>> = LazyLock::new(lockless::Slot::empty);

/// A reference to it.
#[inline]
pub(super) fn get() -> Option<Counted<Place, ByEpoch>> {
    match fd_table::mode() {
        Mode::Locked => LOCKED.get(),
        Mode::Lockless => LOCKLESS.get(),
    }
}

/// Runs one of two, as [`fd_table::with`] does; neither when it is empty.
#[inline]
pub(super) fn with<A>(
    briefly: impl FnOnce(&Place) -> Option<A>,
    held: impl FnOnce(&Place) -> A,
) -> Option<A> {
    match fd_table::mode() {
        Mode::Locked => Some(held(&*LOCKED.get()?)),
        Mode::Lockless => with_pinned(briefly, held),
    }
}

#[inline]
fn with_pinned<A>(briefly: impl FnOnce(&Place) -> Option<A>, held: impl FnOnce(&Place) -> A) -> Option<A> {
    let answer = {
        let guard = epoch::pin();
        let seen = LOCKLESS.see(&guard)?;
        briefly(seen.get()).map(|answer| (answer, seen.has_owner()))
    };
    match answer {
        Some((answer, true)) => Some(answer),
        // An answer that does not count is not dropped under the pin.
        _ => Some(held(&*LOCKLESS.get()?)),
    }
}

/// Puts a new one in and gives back the one before.
pub(super) fn replace(place: Option<Counted<Place, ByEpoch>>) -> Option<Counted<Place, ByEpoch>> {
    match fd_table::mode() {
        Mode::Locked => LOCKED.replace(place),
        Mode::Lockless => {
            expect_pinning_readers();
            LOCKLESS.replace(place)
        }
    }
}

/// Brings it from where the process's mode looks for it to where the other one does. All other threads are outside the gate.
pub(super) fn switch(to: Mode) {
    match to {
        Mode::Lockless => {
            expect_pinning_readers();
            LOCKLESS.replace(LOCKED.replace(None))
        }
        Mode::Locked => LOCKED.replace(LOCKLESS.replace(None)),
    };
}
