//! The process's descriptor table: what it promises in either mode, and the way to it.
//!
//! Promises: numbers start at [`FIRST_FD`], where no kernel descriptor is, and the lowest free one is
//! given out first; a lookup takes no lock that other descriptors share; at most as many descriptors as the
//! capacity exist at a time. Owns the two tables and the choice of the one that is in use. Never allocates
//! after start except a chunk of slots when numbers first reach it.

use std::sync::OnceLock;

use ermfs_memory::{Counted, Reclaim};

use super::open_file::{OpenFile, OpenFileRef};
use super::reclaim::ByEpoch;
use super::{locked, lockless, working_directory};
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::fs::Mode;

/// The lowest descriptor number.
pub const FIRST_FD: i32 = 1 << 20;

/// How many descriptors there can be unless `ERMFS_MAX_FDS` says otherwise.
const DEFAULT_CAPACITY: usize = 65_536;
/// The largest number that `ERMFS_MAX_FDS` is heeded to; the table's directory is then 256 KiB.
const LARGEST_CAPACITY: usize = 1 << 24;

/// A table of descriptors of `T`s. A number is free, claimed (taken by a call that has not finished), or open.
pub(super) trait FdTable<T, R: Reclaim<T>>: Sync {
    /// The description that `fd` names. `EBADF` unless open.
    fn lookup(&self, fd: i32) -> Result<Counted<T, R>>;

    /// Runs `look` on the description that `fd` names, where a description can be looked at without being counted; `None`
    /// where it cannot. `look` neither waits nor takes long, and declines (`None`) what it cannot do so. `None` also when the
    /// description ended meanwhile: the answer does not count then, for the number may name another by now. `EBADF` unless
    /// open.
    fn briefly<A>(&self, fd: i32, look: impl FnOnce(&T) -> Option<Result<A>>) -> Option<Result<A>>;

    /// What [`with`] does, of this table.
    #[cfg(test)]
    fn with<C, A>(
        &self,
        fd: i32,
        context: &mut C,
        briefly: impl FnOnce(&T, &mut C) -> Option<Result<A>>,
        held: impl FnOnce(&Counted<T, R>, &mut C) -> Result<A>,
    ) -> Result<A> {
        match self.briefly(fd, |file| briefly(file, context)) {
            Some(answer) => answer,
            None => held(&self.lookup(fd)?, context),
        }
    }

    /// Whether `fd` still names `file`: for a call that had it looked up, and has since set what a call that closes `fd`
    /// looks at afterwards (D4).
    fn still_names(&self, fd: i32, file: &Counted<T, R>) -> bool;

    /// Takes the lowest free number that is not below `lowest`, or, with `any`, one that suits the
    /// calling thread. `EMFILE` when there is none, `ENOMEM`.
    fn claim(&self, lowest: i32, any: bool) -> Result<i32>;

    /// Opens a claimed number.
    fn install(&self, fd: i32, file: Counted<T, R>, close_on_exec: bool);

    /// Frees a claimed number.
    fn unclaim(&self, fd: i32);

    /// Makes `fd`, free or open, name `file`, and gives back what it named before. `EBADF` outside
    /// the table, `EBUSY` while claimed, `ENOMEM`.
    fn replace(&self, fd: i32, file: Counted<T, R>, close_on_exec: bool) -> Result<Option<Counted<T, R>>>;

    /// Frees an open number and gives back what it named. `EBADF` unless open.
    fn remove(&self, fd: i32) -> Result<Counted<T, R>>;

    /// The descriptor's close-on-exec flag. `EBADF` unless open.
    fn close_on_exec(&self, fd: i32) -> Result<bool>;

    /// Sets the descriptor's close-on-exec flag. `EBADF` unless open.
    fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<()>;

    /// How many numbers are not free.
    fn used(&self) -> usize;

    /// How many numbers there are.
    fn capacity(&self) -> usize;
}

/// The place of `fd` in a table of `capacity` numbers; `None` outside of it.
#[inline]
pub(super) fn index_in(capacity: usize, fd: i32) -> Option<usize> {
    let index = usize::try_from(fd.checked_sub(FIRST_FD)?).ok()?;
    (index < capacity).then_some(index)
}

/// The descriptor at a place in a table.
#[inline]
pub(super) fn number(index: usize) -> i32 {
    // Within the capacity, which ends far below i32::MAX - FIRST_FD.
    FIRST_FD + index as i32
}

/// The place from which on a number that is not below `lowest` is looked for.
#[inline]
pub(super) fn start_of(lowest: i32) -> usize {
    usize::try_from(lowest.saturating_sub(FIRST_FD)).unwrap_or(0)
}

type LockedTable = locked::Table<OpenFile, ByEpoch>;
type LocklessTable = lockless::Table<OpenFile, ByEpoch>;

static LOCKED: OnceLock<LockedTable> = OnceLock::new();
static LOCKLESS: OnceLock<LocklessTable> = OnceLock::new();

/// The mode of the process: of its descriptors, and of its working directory. Changes only while no other thread is inside the
/// gate.
#[inline]
pub(super) fn mode() -> Mode {
    Mode::default()
}

/// Gives `$work` the table in use as `$table`, if any descriptor was ever made, else is `$otherwise`.
macro_rules! in_use {
    ($table:ident => $work:expr, else $otherwise:expr) => {
        match mode() {
            Mode::Locked => match LOCKED.get() {
                Some($table) => $work,
                None => $otherwise,
            },
            Mode::Lockless => match LOCKLESS.get() {
                Some($table) => $work,
                None => $otherwise,
            },
        }
    };
}

/// Makes the table in use, if it is not there yet.
fn need_table() -> Result<()> {
    let is_there = match mode() {
        Mode::Locked => LOCKED.get().is_some(),
        Mode::Lockless => LOCKLESS.get().is_some(),
    };
    if is_there { Ok(()) } else { make_table(mode()) }
}

/// The process's first number.
#[cold]
fn claim_first(lowest: i32, any: bool) -> Result<i32> {
    need_table()?;
    in_use!(table => table.claim(lowest, any), else Err(Errno::ENOMEM))
}

#[cold]
fn make_table(mode: Mode) -> Result<()> {
    let capacity = configured_capacity();
    // Another thread may have been faster; its table is as good.
    match mode {
        Mode::Locked => drop(LOCKED.set(LockedTable::new(capacity)?)),
        Mode::Lockless => drop(LOCKLESS.set(LocklessTable::new(capacity)?)),
    }
    Ok(())
}

/// Has the process use the table of another mode from now on. To be called while no other thread is inside the gate.
///
/// # Errors
/// `EBUSY` while a number is not free.
pub(super) fn switch(to: Mode) -> Result<()> {
    if used() > 0 {
        return Err(Errno::EBUSY);
    }
    if to == mode() {
        return Ok(());
    }
    working_directory::switch(to);
    to.set_for_process();
    Ok(())
}

/// What the environment asks for.
fn configured_capacity() -> usize {
    capacity_of(std::env::var("ERMFS_MAX_FDS").ok().as_deref())
}

/// What `ERMFS_MAX_FDS` asks for; what is no number between 1 and the largest is not heeded.
fn capacity_of(setting: Option<&str>) -> usize {
    setting
        .and_then(|text| text.trim().parse().ok())
        .filter(|capacity| (1..=LARGEST_CAPACITY).contains(capacity))
        .unwrap_or(DEFAULT_CAPACITY)
}

/// A number that is taken but not open yet; freed again unless something is installed.
pub(super) struct Claimed {
    fd: i32,
}

impl Claimed {
    /// Takes the lowest free number from `lowest` on (numbers below the table mean its start), or any.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
    pub(super) fn new(lowest: i32, any: bool) -> Result<Claimed> {
        in_use!(table => table.claim(lowest, any), else claim_first(lowest, any)).map(|fd| Claimed { fd })
    }

    /// Opens the number for `file` and answers it.
    pub(super) fn install(self, file: OpenFileRef, close_on_exec: bool) -> i32 {
        let fd = self.fd;
        core::mem::forget(self);
        in_use!(table => table.install(fd, file, close_on_exec), else drop(file));
        fd
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        in_use!(table => table.unclaim(self.fd), else ());
    }
}

/// See [`FdTable::lookup`].
#[inline(always)]
pub(super) fn lookup(fd: i32) -> Result<OpenFileRef> {
    in_use!(table => table.lookup(fd), else Err(Errno::EBADF))
}

/// Runs one of two on the description that `fd` names: `briefly`, where that can be (see [`FdTable::briefly`]); else, and where
/// its answer does not count, `held`.
///
/// # Errors
/// `EBADF` unless open.
#[inline(always)]
pub(super) fn with<C, A>(
    fd: i32,
    context: &mut C,
    briefly: impl FnOnce(&OpenFile, &mut C) -> Option<Result<A>>,
    held: impl FnOnce(&OpenFileRef, &mut C) -> Result<A>,
) -> Result<A> {
    let look = |file: &OpenFile| {
        failpoint!("fd.looked_up");
        briefly(file, context)
    };
    if let Some(answer) = in_use!(table => table.briefly(fd, look), else None) {
        return answer;
    }
    // The one place of `held`: two would be two calls of what should be none.
    let file = lookup(fd)?;
    failpoint!("fd.looked_up");
    held(&file, context)
}

/// See [`FdTable::still_names`].
pub(super) fn still_names(fd: i32, file: &OpenFileRef) -> bool {
    in_use!(table => table.still_names(fd, file), else false)
}

/// See [`FdTable::replace`].
pub(super) fn replace(fd: i32, file: OpenFileRef, close_on_exec: bool) -> Result<Option<OpenFileRef>> {
    need_table()?;
    in_use!(table => table.replace(fd, file, close_on_exec), else Err(Errno::ENOMEM))
}

/// See [`FdTable::remove`].
pub(super) fn remove(fd: i32) -> Result<OpenFileRef> {
    in_use!(table => table.remove(fd), else Err(Errno::EBADF))
}

/// See [`FdTable::close_on_exec`].
pub(super) fn close_on_exec(fd: i32) -> Result<bool> {
    in_use!(table => table.close_on_exec(fd), else Err(Errno::EBADF))
}

/// See [`FdTable::set_close_on_exec`].
pub(super) fn set_close_on_exec(fd: i32, on: bool) -> Result<()> {
    in_use!(table => table.set_close_on_exec(fd, on), else Err(Errno::EBADF))
}

/// How many descriptors are open or being opened.
pub(super) fn used() -> usize {
    in_use!(table => table.used(), else 0)
}

/// Whether `fd` lies within the table: the first number that does not is what `dup2` refuses.
pub(super) fn is_in_range(fd: i32) -> bool {
    let capacity = in_use!(table => table.capacity(), else configured_capacity());
    fd.checked_sub(FIRST_FD).is_some_and(|index| (0..capacity as i64).contains(&i64::from(index)))
}

#[cfg(all(test, not(loom)))]
mod tests;
