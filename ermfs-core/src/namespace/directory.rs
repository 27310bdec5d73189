//! A directory's table, of the mode that its filesystem is in.
//!
//! Promises what `Entries` promises, by the one of two implementations that the directory was made
//! with. It gets the other one only by `replace`. Owns nothing of its own.

use core::cell::UnsafeCell;
use core::ptr::NonNull;

use ermfs_memory::sync::Arc;

use super::entries::{Bury, Change, Emit, Entries, Places, Room};
use super::inode::{Inode, Reached};
use super::name::Name;
use super::{locked, lockless};
use crate::epoch::Guard;
use crate::errno::{Errno, Result};
use crate::fs::Mode;
use crate::space::Space;

/// One implementation or the other.
pub(super) enum Table {
    Locked(locked::Directory),
    Lockless(lockless::Directory),
}

/// A directory's entries.
pub(super) struct Directory {
    /// Changes only while no other thread is inside the library.
    table: UnsafeCell<Table>,
}

// SAFETY: both tables may be used from any thread, and which of them it is changes only by `replace`, whose caller is alone.
unsafe impl Sync for Directory {}

/// An empty directory that is kept empty.
pub(super) enum Sealed<'a> {
    Locked(locked::Sealed<'a>),
    Lockless(lockless::Sealed<'a>),
}

impl Bury for Sealed<'_> {
    fn bury(self) {
        match self {
            Sealed::Locked(sealed) => sealed.bury(),
            Sealed::Lockless(sealed) => sealed.bury(),
        }
    }
}

impl Table {
    /// An empty table, which takes no memory.
    pub(super) fn new(mode: Mode) -> Table {
        match mode {
            Mode::Locked => Table::Locked(locked::Directory::new()),
            Mode::Lockless => Table::Lockless(lockless::Directory::new()),
        }
    }
}

/// Calls a method of the table that there is.
macro_rules! dispatch {
    ($found:expr, $table:ident => $call:expr) => {
        match $found {
            Table::Locked($table) => $call,
            Table::Lockless($table) => $call,
        }
    };
}

/// For who copies a directory into a table of the other mode, while nobody else sees either.
impl Table {
    pub(super) fn mode(&self) -> Mode {
        match self {
            Table::Locked(_) => Mode::Locked,
            Table::Lockless(_) => Mode::Lockless,
        }
    }

    /// The cookie of the next entry.
    pub(super) fn next_cookie(&self) -> u64 {
        dispatch!(self, table => table.next_cookie())
    }

    /// Makes an empty table ready for `len` entries.
    pub(super) fn prepare_copy(&self, len: usize, room: &Room<'_>) -> Result<()> {
        dispatch!(self, table => table.prepare_copy(len, room))
    }

    /// Enters one of them; they come in the order of their cookies. No link is counted.
    pub(super) fn enter_copy(
        &self,
        name: Name<'_>,
        cookie: u64,
        inode: NonNull<Inode>,
        room: &Room<'_>,
    ) -> Result<()> {
        dispatch!(self, table => table.enter_copy(name, cookie, inode, room))
    }

    pub(super) fn finish_copy(&self, next_cookie: u64) {
        dispatch!(self, table => table.finish_copy(next_cookie));
    }

    /// Frees its memory. Its links are not given up.
    pub(super) fn dismantle(&self, space: &Arc<Space>) {
        dispatch!(self, table => {
            while table.take_any(space).is_some() {}
            table.clear(space, None);
        });
    }
}

impl Directory {
    pub(super) fn new(mode: Mode) -> Directory {
        Directory { table: UnsafeCell::new(Table::new(mode)) }
    }

    #[inline]
    pub(super) fn table(&self) -> &Table {
        // SAFETY: by the contract of `replace` there is no change while this is used.
        unsafe { &*self.table.get() }
    }

    /// Puts another table in the place of this one, which is returned.
    ///
    /// # Safety
    /// No other thread is inside the library, and the caller uses nothing that it has of this directory.
    pub(super) unsafe fn replace(&self, table: Table) -> Table {
        // SAFETY: by this function's contract nobody else uses it.
        unsafe { self.table.get().replace(table) }
    }
}

impl Entries for Directory {
    type Sealed<'a> = Sealed<'a>;

    #[inline]
    fn lookup<'g>(&self, name: Name<'_>, guard: &'g Guard) -> Option<Reached<'g>> {
        dispatch!(self.table(), table => table.lookup(name, guard))
    }

    fn insert(
        &self,
        name: Name<'_>,
        child: Reached<'_>,
        room: &Room<'_>,
        guard: &Guard,
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        dispatch!(self.table(), table => table.insert(name, child, room, guard, commit))
    }

    fn remove<'g, J, R>(
        &self,
        name: Name<'_>,
        space: &Arc<Space>,
        guard: &'g Guard,
        judge: impl FnOnce(Reached<'g>) -> Result<J>,
        commit: impl FnOnce(Reached<'g>, J) -> R,
    ) -> Result<R> {
        dispatch!(self.table(), table => table.remove(name, space, guard, judge, commit))
    }

    fn rename<'g, J>(
        places: Places<'_, Directory>,
        room: &Room<'_>,
        guard: &'g Guard,
        judge: impl FnOnce(Reached<'g>, Option<Reached<'g>>) -> Result<(Change, J)>,
        commit: impl FnOnce(J),
    ) -> Result<()> {
        let Places { from: (from, old), to: (to, new), to_first } = places;
        match (from.table(), to.map_or(from.table(), Directory::table)) {
            (Table::Locked(from), Table::Locked(other)) => {
                let places = Places { from: (from, old), to: (to.map(|_| other), new), to_first };
                Entries::rename(places, room, guard, judge, commit)
            }
            (Table::Lockless(from), Table::Lockless(other)) => {
                let places = Places { from: (from, old), to: (to.map(|_| other), new), to_first };
                Entries::rename(places, room, guard, judge, commit)
            }
            // All directories that have a name are converted at once, so one of these was removed before.
            _ => Err(Errno::ENOENT),
        }
    }

    fn next_after(&self, cookie: u64, emit: &mut Emit<'_>) {
        dispatch!(self.table(), table => table.next_after(cookie, emit));
    }

    fn name_of<R>(&self, child: Reached<'_>, hash: u32, found: impl FnOnce(&[u8]) -> R) -> Option<R> {
        dispatch!(self.table(), table => table.name_of(child, hash, found))
    }

    #[inline]
    fn len(&self) -> usize {
        dispatch!(self.table(), table => table.len())
    }

    fn seal(&self) -> Result<Sealed<'_>> {
        match self.table() {
            Table::Locked(table) => table.seal().map(Sealed::Locked),
            Table::Lockless(table) => table.seal().map(Sealed::Lockless),
        }
    }

    fn take_any(&self, space: &Space) -> Option<NonNull<Inode>> {
        dispatch!(self.table(), table => table.take_any(space))
    }

    fn clear(&self, space: &Arc<Space>, guard: Option<&Guard>) {
        dispatch!(self.table(), table => table.clear(space, guard));
    }
}
