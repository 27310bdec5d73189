//! Who waits for a lock, and for whom.
//!
//! Promises: whoever could be served after a change is woken, in the order of coming, but for those
//! who would only find one taken that was woken before them; a thread sleeps outside the gate, on a
//! word of its own. Owns the records of those who wait and their charge; the words, 32 bytes each,
//! are not charged. Never grants a lock: who was woken tries again.
//!
//! Order: a record comes and goes, and its word changes, under the mutex of the locks. A thread goes
//! to sleep on a word that says asleep, and the kernel looks at it once more; the waker stores first
//! and calls the kernel then, so a wake-up between the two is seen.
//!
//! A signal handler that runs before the thread has come to sleep interrupts nothing, as with every
//! system call.

use core::fmt;
use core::ptr::NonNull;

use ermfs_memory::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Release},
};
use ermfs_memory::{Counted, Kind, Reclaim};
use rustix::thread::futex;

use super::super::entries::Room;
use super::super::malloc_footprint;
use super::ranges::Ranges;
use super::{Lock, LockKind, LockOwner};
use crate::errno::{Errno, Result};
use crate::gate;
use crate::inject::allocation;
use crate::space::Space;

const ASLEEP: u32 = 0;
const WOKEN: u32 = 1;

/// The word that one waiting thread sleeps on; by it, its record is known.
pub(super) type Ticket = Counted<AtomicU32>;

/// # Errors
/// `ENOLCK`.
pub(super) fn ticket() -> Result<Ticket> {
    Counted::try_new(AtomicU32::new(ASLEEP)).map_err(|_| Errno::ENOLCK)
}

/// A counted reference that a waiting thread holds on its stack, so that a fork child can let it go in the place of
/// the thread, which it does not have. Means nothing in the process in which the thread waits.
pub struct Hold {
    value: NonNull<()>,
    release: unsafe fn(NonNull<()>),
}

// SAFETY: made of a `Counted` of what is `Send` and `Sync`, and used like one.
unsafe impl Send for Hold {}

impl Hold {
    /// # Safety
    /// The caller holds `value` until the call that it gives this to returns. If that answers
    /// [`Ended::Forked`](super::Ended::Forked), it forgets `value`, which is not its own any more.
    pub unsafe fn of<T: Send + Sync, R: Reclaim<T>>(value: &Counted<T, R>) -> Hold {
        /// # Safety
        /// `raw` came from a `Counted<T, R>`, whose reference is given up here.
        unsafe fn release<T, R: Reclaim<T>>(raw: NonNull<()>) {
            // SAFETY: by this function's contract.
            drop(unsafe { Counted::<T, R>::from_raw_reclaimed(raw.cast()) });
        }
        Hold { value: value.as_raw().cast(), release: release::<T, R> }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hold").field(&self.value).finish()
    }
}

/// How far the search for a cycle has come with a waiter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    No,
    Yes,
    Followed,
}

struct Waiter {
    ino: u64,
    kind: LockKind,
    lock: Lock,
    ticket: Ticket,
    hold: Option<Hold>,
    reached: Reached,
}

impl Waiter {
    fn is_woken(&self) -> bool {
        self.ticket.load(Acquire) == WOKEN
    }

    fn wake(&self) {
        self.ticket.store(WOKEN, Release);
        // It may not sleep yet, or not any more.
        let _ = futex::wake(&self.ticket, futex::Flags::PRIVATE, 1);
    }
}

/// All who wait in a filesystem, in the order of coming.
pub(super) struct Waiters(Vec<Waiter>);

/// What room for so many takes.
const fn list_bytes(capacity: usize) -> u64 {
    if capacity == 0 { 0 } else { malloc_footprint(capacity * size_of::<Waiter>()) }
}

impl Waiters {
    pub(super) const fn new() -> Waiters {
        Waiters(Vec::new())
    }

    fn position(&self, ticket: &Ticket) -> Option<usize> {
        self.0.iter().position(|waiter| waiter.ticket.ptr_eq(ticket))
    }

    /// Enters one who is to sleep; takes `hold`.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub(super) fn enter(
        &mut self,
        ticket: &Ticket,
        (ino, kind): (u64, LockKind),
        lock: &Lock,
        hold: &mut Option<Hold>,
        room: &Room<'_>,
    ) -> Result<()> {
        let old = self.0.capacity();
        if self.0.len() == old {
            let new = (2 * old).max(1);
            let charge = room.charge(list_bytes(new) - list_bytes(old))?;
            allocation!("locks.grow")?;
            self.0.try_reserve_exact(new - old)?;
            debug_assert_eq!(self.0.capacity(), new);
            charge.keep();
        }
        let (lock, ticket, hold) = (*lock, ticket.clone(), hold.take());
        self.0.push(Waiter { ino, kind, lock, ticket, hold, reached: Reached::No });
        Ok(())
    }

    /// Lets one who was woken in vain sleep again, in its old place; `false` when it has none.
    pub(super) fn sleep_on(&self, ticket: &Ticket) -> bool {
        let queued = self.position(ticket).is_some();
        if queued {
            ticket.store(ASLEEP, Release);
        }
        queued
    }

    /// Whether somebody waits for a lock of this inode, or was woken and has not tried again yet.
    pub(super) fn any_for(&self, ino: u64) -> bool {
        self.0.iter().any(|waiter| waiter.ino == ino)
    }

    /// Takes one out; `false` when it was not in. Its hold is its own again.
    pub(super) fn leave(&mut self, ticket: &Ticket, space: &Space) -> bool {
        let Some(place) = self.position(ticket) else { return false };
        self.0.remove(place);
        if self.0.is_empty() {
            self.take_all(space);
        }
        true
    }

    /// Takes all out.
    pub(super) fn take_all(&mut self, space: &Space) -> Waiters {
        let all = core::mem::replace(self, Waiters::new());
        space.release(Kind::Metadata, list_bytes(all.0.capacity()));
        all
    }

    /// In a fork child: gives up what the threads held that it does not have.
    pub(super) fn release(self) {
        for hold in self.0.into_iter().filter_map(|waiter| waiter.hold) {
            // SAFETY: by the contract of `Hold::of` the thread held the reference at the fork. It is not here to give it
            // up, or, if it forked from a signal handler, forgets it.
            unsafe { (hold.release)(hold.value) };
        }
    }

    /// Wakes who may get what they wait for, `held` being what is locked now.
    pub(super) fn wake(&self, ino: u64, kind: LockKind, held: Option<&Ranges>) {
        let here = |waiter: &&Waiter| waiter.ino == ino && waiter.kind == kind;
        for (place, waiter) in self.0.iter().enumerate() {
            let before = || self.0[..place].iter().filter(here).filter(|other| other.is_woken());
            if here(&waiter)
                && !waiter.is_woken()
                && held.is_none_or(|held| held.conflicts(&waiter.lock).next().is_none())
                && !before().any(|other| other.lock.conflicts_with(&waiter.lock))
            {
                waiter.wake();
            }
        }
    }

    /// Whether the owner of `lock`, a process, would wait for itself. As on Linux, it may wait for an open file description
    /// that waits for a process; the waits of others for descriptions are not followed, because that a description holds
    /// a lock says nothing of who could release it.
    pub(super) fn would_deadlock<'a>(
        &mut self,
        (ino, lock): (u64, &Lock),
        records: impl Fn(u64) -> Option<&'a Ranges>,
    ) -> bool {
        if !matches!(lock.owner, LockOwner::Process(_)) {
            return false;
        }
        for waiter in &mut self.0 {
            waiter.reached = Reached::No;
        }
        let mut next = Some((ino, *lock));
        while let Some((ino, wanted)) = next {
            if self.follow(&wanted, lock.owner, records(ino)) {
                return true;
            }
            let reached = self.0.iter_mut().find(|waiter| waiter.reached == Reached::Yes);
            next = reached.map(|waiter| {
                waiter.reached = Reached::Followed;
                (waiter.ino, waiter.lock)
            });
        }
        false
    }

    /// Marks the waits of those who hold what `wanted` waits for; whether `target` is one of them.
    fn follow(&mut self, wanted: &Lock, target: LockOwner, held: Option<&Ranges>) -> bool {
        let is_first = wanted.owner == target;
        let mut last = None;
        for blocker in held.into_iter().flat_map(|held| held.conflicts(wanted)) {
            if blocker.owner == target {
                return true;
            }
            let followed = is_first || matches!(blocker.owner, LockOwner::Process(_));
            if !followed || last == Some(blocker.owner) {
                continue;
            }
            last = Some(blocker.owner);
            let theirs = |it: &&mut Waiter| it.kind == LockKind::Record && it.lock.owner == blocker.owner;
            for waiter in self.0.iter_mut().filter(theirs) {
                if waiter.reached == Reached::No {
                    waiter.reached = Reached::Yes;
                }
            }
        }
        false
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Why a thread sleeps no more.
pub(super) enum Slept {
    /// It may try again.
    Woken,
    /// A signal handler ran.
    Interrupted,
    /// A signal handler ran and forked, and this is the child.
    Forked,
}

/// Sleeps until the ticket is woken.
pub(super) fn sleep(ticket: &Ticket) -> Slept {
    let generation = gate::generation();
    while ticket.load(Acquire) == ASLEEP {
        let slept = gate::outside(|| futex::wait(ticket, futex::Flags::PRIVATE, ASLEEP, None));
        if gate::generation() != generation {
            return Slept::Forked;
        }
        if slept == Err(rustix::io::Errno::INTR) {
            return Slept::Interrupted;
        }
    }
    Slept::Woken
}
