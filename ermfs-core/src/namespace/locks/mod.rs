//! Advisory locks: record locks of processes and of open file descriptions, and `flock`.
//!
//! Promises what fs/locks.c of Linux does, for owners that the caller names: record locks and `flock`
//! do not see each other; who waits is served in the order of coming, as far as nobody who does not
//! wait comes between; no wake-up is lost. Owns the locks of all inodes of a filesystem, who waits for
//! them, and the charge of both; an inode without locks costs nothing here. Never: asleep with a
//! lock of the library or inside the gate.
//!
//! `ranges` is one list of locks, `wait` who waits and for whom. Both are worked on under one mutex
//! of the filesystem: a lock call is short, and a cycle of waiters may lead over several inodes.
//!
//! # Fork
//! The child has only the thread that forked. The first look at its locks drops what belonged to
//! its parent: locks of processes, and the records of threads that waited, each with the reference
//! to the open file description that its thread held ([`Hold`]). What belongs to descriptions stays.

mod ranges;
#[cfg(test)]
mod tests;
mod wait;

use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use ermfs_memory::sync::{Mutex, MutexGuard};

use super::by_number::ByNumber;
use super::entries::Room;
use super::inode::{Inode, LOCKS};
use crate::content::MAX_FILE_SIZE;
use crate::errno::{Errno, Result};
use crate::gate;
use crate::space::Space;

use ranges::Ranges;
pub use wait::Hold;
use wait::{Slept, Ticket, Waiters};

/// The last byte that a lock can cover: that of a lock "to the end of the file".
pub const LOCK_TO_END: u64 = MAX_FILE_SIZE;

/// Whose a lock is. An owner's locks never conflict with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockOwner {
    /// A process: POSIX record locks. In a fork child they are gone.
    Process(u64),
    /// An open file description, by its address: OFD record locks and `flock`.
    Description(u64),
}

impl LockOwner {
    /// The process that the filesystem lies in.
    pub const THIS_PROCESS: LockOwner = LockOwner::Process(0);
}

/// A lock on a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Whose it is.
    pub owner: LockOwner,
    /// The process that `F_GETLK` shows, -1 for an open file description.
    pub pid: i32,
    /// Whether it is a write lock: nobody else has one beside it.
    pub exclusive: bool,
    /// The first byte.
    pub start: u64,
    /// The last byte, at most [`LOCK_TO_END`].
    pub end: u64,
}

impl Lock {
    /// A lock on the whole file, as flock(2) takes it.
    pub fn whole(owner: LockOwner, exclusive: bool) -> Lock {
        Lock { owner, pid: -1, exclusive, start: 0, end: LOCK_TO_END }
    }

    /// Whether the two cannot be held together.
    pub(super) fn conflicts_with(&self, other: &Lock) -> bool {
        (self.exclusive || other.exclusive)
            && self.owner != other.owner
            && self.start <= other.end
            && other.start <= self.end
    }
}

/// The two families of locks, which do not see each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// fcntl(2)'s.
    Record,
    /// flock(2)'s: always on the whole file, one an owner.
    Flock,
}

/// What a call does that finds the lock taken.
#[derive(Debug)]
pub enum OnConflict {
    /// It answers `EAGAIN`.
    Fail,
    /// It waits. The reference to the open file description that its thread holds meanwhile goes with the thread if
    /// another one forks.
    Wait(Option<Hold>),
}

/// How a set ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "what was held may be gone"]
pub enum Ended {
    /// The lock is there.
    Granted,
    /// A signal handler that ran during the wait has forked, and this is the child: there is no lock, and the [`Hold`]
    /// belongs to the filesystem now. The caller touches neither any more and answers `EINTR`.
    Forked,
}

/// One inode's locks.
struct Entry {
    records: Ranges,
    flocks: Ranges,
}

impl Entry {
    fn of(&self, kind: LockKind) -> &Ranges {
        match kind {
            LockKind::Record => &self.records,
            LockKind::Flock => &self.flocks,
        }
    }

    fn of_mut(&mut self, kind: LockKind) -> &mut Ranges {
        match kind {
            LockKind::Record => &mut self.records,
            LockKind::Flock => &mut self.flocks,
        }
    }

    fn release(mut self, space: &Space) {
        self.records.release(space);
        self.flocks.release(space);
    }
}

struct Table {
    entries: ByNumber<Entry>,
    waiters: Waiters,
    /// Which process the locks of processes and the waiters are of.
    generation: u32,
}

/// What is asked for, of which inode.
struct Want<'a> {
    inode: &'a Inode,
    kind: LockKind,
    lock: &'a Lock,
}

impl Table {
    /// The entry of an inode, made if need be.
    fn entry(&mut self, ino: u64, room: &Room<'_>) -> Result<&mut Entry> {
        if self.entries.get(ino).is_none() {
            let new = Entry { records: Ranges::new(), flocks: Ranges::new() };
            self.entries.insert(ino, new, room).map_err(|(error, _)| error)?;
        }
        self.entries.get_mut(ino).ok_or(Errno::ENOMEM)
    }

    /// Sets a lock that nothing conflicts with.
    fn grant(&mut self, want: &Want<'_>, room: &Room<'_>) -> Result<()> {
        let entry = self.entry(want.inode.ino, room)?;
        if let Err(error) = entry.of_mut(want.kind).reserve_for_set(want.lock, room) {
            self.forget_if_empty(want.inode, room.space());
            return Err(error);
        }
        let weakened = entry.of_mut(want.kind).set(want.lock);
        want.inode.flags.fetch_or(LOCKS, Relaxed);
        if weakened {
            self.wake(want.inode.ino, want.kind);
        }
        Ok(())
    }

    /// Takes an owner's locks out of a range, for which there is room.
    fn unset(
        &mut self,
        inode: &Inode,
        kind: LockKind,
        owner: LockOwner,
        (start, end): (u64, u64),
        space: &Space,
    ) {
        let Some(entry) = self.entries.get_mut(inode.ino) else { return };
        let unset = entry.of_mut(kind).unset(owner, start, end);
        // Also without: a fork child finds entries that have lost all they had.
        self.forget_if_empty(inode, space);
        if unset {
            self.wake(inode.ino, kind);
        }
    }

    /// Takes out the entry of an inode without locks that nobody waits for. One who was woken counts until it has tried
    /// again: in a fork child a close finds by the entry what its thread held.
    fn forget_if_empty(&mut self, inode: &Inode, space: &Space) {
        let empty =
            self.entries.get(inode.ino).is_some_and(|it| it.records.is_empty() && it.flocks.is_empty());
        if empty
            && !self.waiters.any_for(inode.ino)
            && let Some(entry) = self.entries.remove(inode.ino, space)
        {
            entry.release(space);
            inode.flags.fetch_and(!LOCKS, Relaxed);
        }
    }

    fn wake(&self, ino: u64, kind: LockKind) {
        self.waiters.wake(ino, kind, self.entries.get(ino).map(|entry| entry.of(kind)));
    }

    /// Grants the lock, or, for who has a ticket, queues for it (or stays queued) and answers `false`.
    fn attempt(
        &mut self,
        want: &Want<'_>,
        queue: Option<(&Ticket, &mut Option<Hold>)>,
        room: &Room<'_>,
    ) -> Result<bool> {
        let Want { inode, kind, lock } = *want;
        let taken =
            self.entries.get(inode.ino).is_some_and(|it| it.of(kind).conflicts(lock).next().is_some());
        if !taken {
            self.grant(want, room)?;
            if let Some((ticket, _)) = queue
                && self.waiters.leave(ticket, room.space())
            {
                // Those behind that do not mind this lock.
                self.wake(inode.ino, kind);
            }
            return Ok(true);
        }
        if kind == LockKind::Flock {
            // Changing the type gives up the old lock first, as on Linux, also when the new one is not to be had.
            self.unset(inode, kind, lock.owner, (0, LOCK_TO_END), room.space());
        }
        let (ticket, hold) = queue.ok_or(Errno::EAGAIN)?;
        if kind == LockKind::Record && self.would_deadlock(inode.ino, lock) {
            return Err(Errno::EDEADLK);
        }
        if self.waiters.sleep_on(ticket) {
            // Others may have stood back for this one.
            self.wake(inode.ino, kind);
        } else {
            self.waiters.enter(ticket, (inode.ino, kind), lock, hold, room)?;
        }
        Ok(false)
    }

    fn would_deadlock(&mut self, ino: u64, lock: &Lock) -> bool {
        let Table { entries, waiters, .. } = self;
        waiters.would_deadlock((ino, lock), |ino| entries.get(ino).map(|entry| &entry.records))
    }

    /// In a fork child: drops what was the parent's. The result is to be dropped outside the mutex.
    fn leave_parent(&mut self, space: &Space) -> Waiters {
        self.generation = gate::generation();
        for entry in self.entries.values_mut() {
            entry.records.retain(|held| matches!(held.owner, LockOwner::Description(_)));
        }
        self.waiters.take_all(space)
    }
}

/// The locks of all inodes of a filesystem. All methods may be called from any thread. Empty when the last inode is gone.
pub(crate) struct Locks(Mutex<Table>);

impl Locks {
    pub(crate) fn new() -> Locks {
        let waiters = Waiters::new();
        Locks(Mutex::new(Table { entries: ByNumber::new(), waiters, generation: gate::generation() }))
    }

    fn table(&self, space: &Space) -> MutexGuard<'_, Table> {
        let mut table = self.0.lock();
        if table.generation == gate::generation() {
            return table;
        }
        let gone = table.leave_parent(space);
        drop(table);
        // The descriptions that end with it come back for the locks they had.
        gone.release();
        self.0.lock()
    }

    /// Removes all locks of an inode that is being freed: nobody waits for them.
    #[cold]
    pub(super) fn forget(&self, ino: u64, space: &Space) {
        if let Some(entry) = self.table(space).entries.remove(ino, space) {
            entry.release(space);
        }
    }
}

impl Inode {
    /// Whether it has locks, or somebody who waits for one; costs one load. Sequentially consistent, for who has just emptied
    /// a descriptor's slot (D4).
    #[inline]
    pub fn has_locks(&self) -> bool {
        self.flags.load(SeqCst) & LOCKS != 0
    }

    fn lock_table(&self) -> MutexGuard<'_, Table> {
        self.shared.locks().table(self.shared.space())
    }

    /// The first record lock that keeps `lock` from being granted.
    pub fn conflicting_lock(&self, lock: &Lock) -> Option<Lock> {
        let table = self.has_locks().then(|| self.lock_table())?;
        table.entries.get(self.ino)?.records.conflicts(lock).next().copied()
    }

    /// The first record lock of `owner` in `start..=end`.
    pub fn own_lock(&self, owner: LockOwner, start: u64, end: u64) -> Option<Lock> {
        let table = self.has_locks().then(|| self.lock_table())?;
        table.entries.get(self.ino)?.records.first_of(owner, start, end).copied()
    }

    /// Sets a lock in the place of what its owner has in its range.
    ///
    /// # Errors
    /// `EAGAIN` when another owner's lock conflicts and `on_conflict` is to fail; `EDEADLK` when a process would wait for
    /// itself, through others of this filesystem; `EINTR` when a signal handler ran during the wait; `ENOLCK` without
    /// memory; `EIO` when the filesystem was poisoned during the wait. A `flock` that another type of its owner stood in
    /// for is gone then.
    pub fn set_lock(&self, kind: LockKind, lock: &Lock, on_conflict: OnConflict) -> Result<Ended> {
        let want = Want { inode: self, kind, lock };
        match (self.attempt(&want, None), on_conflict) {
            (Err(Errno::EAGAIN), OnConflict::Wait(hold)) => self.wait_for_lock(&want, hold),
            (done, _) => done.map(|_| Ended::Granted),
        }
    }

    fn attempt(&self, want: &Want<'_>, mut queue: Option<(&Ticket, &mut Option<Hold>)>) -> Result<bool> {
        let granted = Room::attempt(self.shared.space(), |room| {
            let queue = queue.as_mut().map(|(ticket, hold)| (*ticket, &mut **hold));
            self.lock_table().attempt(want, queue, room)
        });
        granted.map_err(no_locks)
    }

    #[cold]
    fn wait_for_lock(&self, want: &Want<'_>, mut hold: Option<Hold>) -> Result<Ended> {
        let ticket = wait::ticket()?;
        loop {
            let failed = match self.attempt(want, Some((&ticket, &mut hold))) {
                Ok(true) => return Ok(Ended::Granted),
                Ok(false) => match wait::sleep(&ticket) {
                    Slept::Woken if self.shared.space().is_poisoned() => Errno::EIO,
                    Slept::Woken => continue,
                    Slept::Interrupted => Errno::EINTR,
                    Slept::Forked => return Ok(Ended::Forked),
                },
                Err(error) => error,
            };
            let mut table = self.lock_table();
            if table.waiters.leave(&ticket, self.shared.space()) {
                table.forget_if_empty(self, self.shared.space());
                // What this one was woken for is the next one's.
                table.wake(self.ino, want.kind);
            }
            return Err(failed);
        }
    }

    /// Takes the locks of `owner` out of `start..=end`.
    ///
    /// # Errors
    /// `ENOLCK` when cutting a lock in two finds no memory.
    pub fn unlock(&self, kind: LockKind, owner: LockOwner, start: u64, end: u64) -> Result<()> {
        if !self.has_locks() {
            return Ok(());
        }
        let done = Room::attempt(self.shared.space(), |room| {
            let mut table = self.lock_table();
            if let Some(entry) = table.entries.get_mut(self.ino) {
                entry.of_mut(kind).reserve_for_unset(owner, (start, end), room)?;
                table.unset(self, kind, owner, (start, end), room.space());
            }
            Ok(())
        });
        done.map_err(no_locks)
    }

    /// Takes all locks of `owner` away, of both kinds; needs no memory.
    pub fn unlock_all(&self, owner: LockOwner) {
        if self.has_locks() {
            let mut table = self.lock_table();
            for kind in [LockKind::Record, LockKind::Flock] {
                table.unset(self, kind, owner, (0, LOCK_TO_END), self.shared.space());
            }
        }
    }
}

/// Without memory there are, in fcntl(2)'s and flock(2)'s words, no locks to be had.
fn no_locks(error: Errno) -> Errno {
    match error {
        Errno::ENOSPC | Errno::ENOMEM => Errno::ENOLCK,
        error => error,
    }
}
