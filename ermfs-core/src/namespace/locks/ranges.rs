//! The locks of one kind on one inode: a list of byte ranges.
//!
//! Promises what fs/locks.c promises of its lists: an owner's ranges lie together, in order, do not
//! overlap, and are as few as they can be; owners stand in the order of their first lock. A change
//! that was given room cannot fail. Owns the list and its charge, which [`Ranges::release`] gives up.
//! Knows no inode, no waiting and no lock of its own.

use ermfs_memory::Kind;

use super::super::entries::Room;
use super::super::malloc_footprint;
use super::{Lock, LockOwner};
use crate::errno::{Errno, Result};
use crate::inject::allocation;
use crate::space::Space;

/// See the module's page.
pub(super) struct Ranges(Vec<Lock>);

/// What so many locks take.
const fn list_bytes(capacity: usize) -> u64 {
    if capacity == 0 { 0 } else { malloc_footprint(capacity * size_of::<Lock>()) }
}

impl Ranges {
    pub(super) const fn new() -> Ranges {
        Ranges(Vec::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The locks that keep `lock` from being granted, in the list's order.
    pub(super) fn conflicts(&self, lock: &Lock) -> impl Iterator<Item = &Lock> {
        self.0.iter().filter(move |held| held.conflicts_with(lock))
    }

    /// The first lock of `owner` that overlaps `start..=end`.
    pub(super) fn first_of(&self, owner: LockOwner, start: u64, end: u64) -> Option<&Lock> {
        self.0.iter().find(|held| held.owner == owner && held.start <= end && start <= held.end)
    }

    /// Makes room for [`Ranges::set`] of `lock`.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub(super) fn reserve_for_set(&mut self, lock: &Lock, room: &Room<'_>) -> Result<()> {
        let more = if self.splits(lock.owner, lock.start, lock.end) { 2 } else { 1 };
        self.reserve(more, room)
    }

    /// Makes room for [`Ranges::unset`]; needs none unless a lock is cut in two.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub(super) fn reserve_for_unset(
        &mut self,
        owner: LockOwner,
        (start, end): (u64, u64),
        room: &Room<'_>,
    ) -> Result<()> {
        if self.splits(owner, start, end) { self.reserve(1, room) } else { Ok(()) }
    }

    /// Whether a lock of `owner` reaches past both ends of `start..=end`.
    fn splits(&self, owner: LockOwner, start: u64, end: u64) -> bool {
        self.first_of(owner, start, end).is_some_and(|held| held.start < start && held.end > end)
    }

    fn reserve(&mut self, more: usize, room: &Room<'_>) -> Result<()> {
        let old = self.0.capacity();
        if self.0.len() + more > old {
            let new = (2 * old).max(self.0.len() + more);
            let charge = room.charge(list_bytes(new) - list_bytes(old))?;
            allocation!("locks.grow")?;
            self.0.try_reserve_exact(new - self.0.len()).map_err(|_| Errno::ENOMEM)?;
            debug_assert_eq!(self.0.capacity(), new);
            charge.keep();
        }
        Ok(())
    }

    /// Sets a lock that nothing conflicts with and that room was made for: what its owner had in its range is replaced,
    /// and locks of its type that touch it become one with it. Answers whether that may let another one in.
    pub(super) fn set(&mut self, lock: &Lock) -> bool {
        let (first, last) = self.touched(lock.owner, (lock.start, lock.end), Some(lock.exclusive));
        let weakens = !lock.exclusive && self.0[first..last].iter().any(|held| held.exclusive);
        let mut new = *lock;
        let (mut left, mut right) = (None, None);
        if first < last {
            let (head, tail) = (self.0[first], self.0[last - 1]);
            if head.exclusive == lock.exclusive {
                new.start = head.start.min(lock.start);
            } else if head.start < lock.start {
                left = Some(Lock { end: lock.start - 1, ..head });
            }
            if tail.exclusive == lock.exclusive {
                new.end = tail.end.max(lock.end);
            } else if tail.end > lock.end {
                right = Some(Lock { start: lock.end + 1, ..tail });
            }
        }
        self.replace(first, last, [left, Some(new), right]);
        weakens
    }

    /// Takes the owner's locks out of `start..=end`, for which room was made. Answers whether there were any.
    pub(super) fn unset(&mut self, owner: LockOwner, start: u64, end: u64) -> bool {
        let (first, last) = self.touched(owner, (start, end), None);
        if first == last {
            return false;
        }
        let (head, tail) = (self.0[first], self.0[last - 1]);
        let left = (head.start < start).then(|| Lock { end: start - 1, ..head });
        let right = (tail.end > end).then(|| Lock { start: end + 1, ..tail });
        self.replace(first, last, [left, right, None]);
        true
    }

    /// Where the owner's locks lie that overlap `start..=end`, or touch it and are of the type `exclusive`. When there are
    /// none, an empty range at the place for a new one.
    fn touched(&self, owner: LockOwner, (start, end): (u64, u64), exclusive: Option<bool>) -> (usize, usize) {
        let list = &self.0;
        let group = list.iter().position(|held| held.owner == owner).unwrap_or(list.len());
        let len = list[group..].iter().position(|held| held.owner != owner).unwrap_or(list.len() - group);
        // No end is the largest u64, so one more is a number.
        let reach = |held: &Lock| u64::from(exclusive == Some(held.exclusive));
        let own = &list[group..group + len];
        let first = own.partition_point(|held| held.end + reach(held) < start);
        let last = own.partition_point(|held| held.start <= end + reach(held));
        (group + first, group + last.max(first))
    }

    /// Puts up to three locks in the place of `first..last`.
    fn replace(&mut self, first: usize, last: usize, new: [Option<Lock>; 3]) {
        let mut at = first;
        for lock in new.into_iter().flatten() {
            if at < last {
                self.0[at] = lock;
            } else {
                debug_assert!(self.0.len() < self.0.capacity(), "room was made before");
                self.0.insert(at, lock);
            }
            at += 1;
        }
        if at < last {
            self.0.drain(at..last);
        }
    }

    /// Takes out what is not to stay.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Lock) -> bool) {
        self.0.retain(keep);
    }

    /// Frees the list.
    pub(super) fn release(&mut self, space: &Space) {
        let bytes = list_bytes(self.0.capacity());
        self.0 = Vec::new();
        space.release(Kind::Metadata, bytes);
    }

    #[cfg(test)]
    pub(super) fn list(&self) -> &[Lock] {
        &self.0
    }
}
