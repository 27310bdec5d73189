//! The descriptor table of the lockless mode.
//!
//! Promises: see [`FdTable`]. No call waits for another; a lookup writes nothing that other threads use, unless it is asked
//! for a counted reference. Owns the references in the slots, which take no memory where no number was ever claimed. Never
//! drops a description: whoever takes one out does, since closing may pack a whole file.

use ermfs_memory::{Counted, Reclaim};

use super::bitmap::Bitmap;
use super::slot::Slot;
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::process::fd_table::{FdTable, index_in, number, start_of};
use crate::process::reclaim::expect_pinning_readers;
use crate::sync::atomic::{Ordering::SeqCst, fence};
use crate::sync::zeroed;

/// How often a call tries to replace what is being opened or closed.
#[cfg(not(loom))]
const TURNS: usize = 128;
#[cfg(loom)]
const TURNS: usize = 1;

/// How many slots share a cache line.
const IN_A_LINE: usize = 8;
/// Slots that change places among themselves: a page of 4 KiB.
const GROUP: usize = 512;

/// Where the slot of a number lies. Threads that open at the same time get numbers that follow one another, so such numbers'
/// slots lie in different cache lines, though still in few pages. A model has few numbers and no lines.
#[inline]
fn position(index: usize) -> usize {
    const LINES: usize = GROUP / IN_A_LINE;
    let within = index % GROUP;
    if cfg!(loom) { index } else { index - within + within % LINES * IN_A_LINE + within / LINES }
}

/// See the module's page.
pub(in crate::process) struct Table<T, R: Reclaim<T>> {
    capacity: usize,
    numbers: Bitmap,
    /// In the order of `position`, in whole groups.
    slots: Box<[Slot<T, R>]>,
}

impl<T, R: Reclaim<T>> Table<T, R> {
    /// A table for `capacity` descriptors, all free.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(in crate::process) fn new(capacity: usize) -> Result<Table<T, R>> {
        expect_pinning_readers();
        let slots = if cfg!(loom) { capacity } else { capacity.next_multiple_of(GROUP) };
        Ok(Table { capacity, numbers: Bitmap::new(capacity)?, slots: zeroed(slots, Slot::empty)? })
    }

    #[inline]
    fn slot_of(&self, fd: i32) -> Result<&Slot<T, R>> {
        self.index_of(fd).map(|index| self.slot_at(index))
    }

    #[inline]
    fn index_of(&self, fd: i32) -> Result<usize> {
        index_in(self.capacity, fd).ok_or(Errno::EBADF)
    }

    #[inline]
    fn slot_at(&self, index: usize) -> &Slot<T, R> {
        &self.slots[position(index)]
    }
}

impl<T: Send + Sync, R: Reclaim<T>> FdTable<T, R> for Table<T, R> {
    #[inline]
    fn lookup(&self, fd: i32) -> Result<Counted<T, R>> {
        self.slot_of(fd)?.get().ok_or(Errno::EBADF)
    }

    #[inline]
    fn briefly<A>(&self, fd: i32, look: impl FnOnce(&T) -> Option<Result<A>>) -> Option<Result<A>> {
        let slot = match self.slot_of(fd) {
            Ok(slot) => slot,
            Err(error) => return Some(Err(error)),
        };
        let looked = {
            let guard = epoch::pin();
            let Some(seen) = slot.see(&guard) else { return Some(Err(Errno::EBADF)) };
            look(seen.get()).map(|answer| (answer, seen.has_owner()))
        };
        // An answer that does not count goes here, not under the pin.
        looked.and_then(|(answer, counts)| counts.then_some(answer))
    }

    fn still_names(&self, fd: i32, file: &Counted<T, R>) -> bool {
        fence(SeqCst);
        self.slot_of(fd).is_ok_and(|slot| slot.holds(file))
    }

    #[inline]
    fn claim(&self, lowest: i32, any: bool) -> Result<i32> {
        let claimed = if any { self.numbers.claim_any() } else { self.numbers.claim_from(start_of(lowest)) };
        claimed.map(number).ok_or(Errno::EMFILE)
    }

    #[inline]
    fn install(&self, fd: i32, file: Counted<T, R>, close_on_exec: bool) {
        if let Ok(slot) = self.slot_of(fd) {
            slot.publish(file, close_on_exec);
        }
    }

    fn unclaim(&self, fd: i32) {
        if let Ok(index) = self.index_of(fd) {
            self.numbers.free(index);
        }
    }

    fn replace(&self, fd: i32, file: Counted<T, R>, close_on_exec: bool) -> Result<Option<Counted<T, R>>> {
        let index = self.index_of(fd)?;
        let (slot, mut file) = (self.slot_at(index), file);
        for turn in 0..TURNS {
            if self.numbers.claim(index) {
                slot.publish(file, close_on_exec);
                return Ok(None);
            }
            // Empty while it is taken: not open yet, or not any more, which is over in a moment if the closing thread runs.
            match slot.exchange(file, close_on_exec) {
                Ok(before) => return Ok(Some(before)),
                Err(refused) => file = refused,
            }
            match turn % 16 {
                15 => std::thread::yield_now(),
                _ => core::hint::spin_loop(),
            }
        }
        Err(Errno::EBUSY)
    }

    #[inline]
    fn remove(&self, fd: i32) -> Result<Counted<T, R>> {
        let index = self.index_of(fd)?;
        let file = self.slot_at(index).take().ok_or(Errno::EBADF)?;
        failpoint!("lockless.fd.taken_out");
        self.numbers.free(index);
        Ok(file)
    }

    fn close_on_exec(&self, fd: i32) -> Result<bool> {
        self.slot_of(fd)?.flag().ok_or(Errno::EBADF)
    }

    fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<()> {
        self.slot_of(fd)?.set_flag(on).ok_or(Errno::EBADF)
    }

    fn used(&self) -> usize {
        self.numbers.used()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_one_another_lie_in_lines_of_their_own() {
        let line = |index| position(index) / IN_A_LINE;
        for first in 0..3 * GROUP {
            assert!((first + 1..first + IN_A_LINE).all(|other| line(other) != line(first)), "{first}");
            assert_eq!(position(first) / GROUP, first / GROUP, "its group is another");
        }
        let mut all: Vec<usize> = (0..3 * GROUP).map(position).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..3 * GROUP), "two numbers have one slot");
    }
}
