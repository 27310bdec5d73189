//! A table under a readers-writer lock.
//!
//! Lock order: the directory nearer to the root first, at the same depth the one with the smaller
//! inode number; whoever renames across directories holds the topology lock, so depths stand still
//! (`namespace::rename`). Nothing is called from under the lock but what the trait says.

use core::ptr::NonNull;

use ermfs_memory::sync::{Arc, RwLock, RwLockWriteGuard};

use super::table::Table;
use crate::epoch::Guard;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::namespace::entries::{Bury, Change, Emit, Entries, Places, Room};
use crate::namespace::inode::{Inode, Reached};
use crate::namespace::name::Name;
use crate::space::Space;

/// A directory's entries.
pub(in crate::namespace) struct Directory {
    table: RwLock<Table>,
}

impl Directory {
    pub(in crate::namespace) fn new() -> Directory {
        Directory { table: RwLock::new(Table::new()) }
    }

    pub(in crate::namespace) fn next_cookie(&self) -> u64 {
        self.table.read().next_cookie()
    }

    /// Nothing: the table grows as it is entered.
    pub(in crate::namespace) fn prepare_copy(&self, _len: usize, _room: &Room<'_>) -> Result<()> {
        Ok(())
    }

    pub(in crate::namespace) fn enter_copy(
        &self,
        name: Name<'_>,
        cookie: u64,
        inode: NonNull<Inode>,
        room: &Room<'_>,
    ) -> Result<()> {
        let mut table = self.table.write();
        let prepared = table.prepare(name, room)?;
        table.skip_to(cookie);
        table.push(prepared, inode);
        Ok(())
    }

    pub(in crate::namespace) fn finish_copy(&self, next_cookie: u64) {
        self.table.write().skip_to(next_cookie);
    }
}

/// The tables of a rename, locked.
enum Tables<'a> {
    One(RwLockWriteGuard<'a, Table>),
    Two { from: RwLockWriteGuard<'a, Table>, to: RwLockWriteGuard<'a, Table> },
}

impl<'a> Tables<'a> {
    fn lock(places: &Places<'a, Directory>) -> Tables<'a> {
        let from = &places.from.0.table;
        match places.to.0 {
            None => Tables::One(from.write()),
            Some(to) if places.to_first => {
                let to = to.table.write();
                Tables::Two { from: from.write(), to }
            }
            Some(to) => {
                let from = from.write();
                Tables::Two { from, to: to.table.write() }
            }
        }
    }

    fn from(&mut self) -> &mut Table {
        match self {
            Tables::One(table) | Tables::Two { from: table, .. } => table,
        }
    }

    fn to(&mut self) -> &mut Table {
        match self {
            Tables::One(table) | Tables::Two { to: table, .. } => table,
        }
    }

    /// The source's entry gets the target's name, which is not taken.
    fn carry(&mut self, source: usize, new: Name<'_>, room: &Room<'_>) -> Result<()> {
        match self {
            // It keeps its cookie: a listing under way shows it once, and a loop over `readdir` that renames ends.
            Tables::One(table) => table.rename(source, new, room),
            Tables::Two { from, to } => {
                if to.is_dead() {
                    return Err(Errno::ENOENT);
                }
                let prepared = to.prepare(new, room)?;
                let inode = from.take(source, room.space());
                to.push(prepared, inode);
                Ok(())
            }
        }
    }
}

/// # Safety
/// `inode` stands in a table that is locked, and `guard` was pinned before.
unsafe fn reached<'g>(inode: NonNull<Inode>, _guard: &'g Guard) -> Reached<'g> {
    // SAFETY: the entry holds a link while the table is locked, and a shell whose last hold goes after that waits for the pin.
    unsafe { Reached::new(inode) }
}

/// An empty directory, locked.
pub(in crate::namespace) struct Sealed<'a>(RwLockWriteGuard<'a, Table>);

impl Bury for Sealed<'_> {
    fn bury(mut self) {
        self.0.mark_dead();
    }
}

impl Entries for Directory {
    type Sealed<'a> = Sealed<'a>;

    #[inline]
    fn lookup<'g>(&self, name: Name<'_>, guard: &'g Guard) -> Option<Reached<'g>> {
        let table = self.table.read();
        failpoint!("locked.names.lookup");
        let found = table.inode(table.find(name)?);
        // SAFETY: the table is locked, and the caller pinned.
        Some(unsafe { reached(found, guard) })
    }

    fn insert(
        &self,
        name: Name<'_>,
        child: Reached<'_>,
        room: &Room<'_>,
        _guard: &Guard,
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut table = self.table.write();
        if table.is_dead() {
            return Err(Errno::ENOENT);
        }
        if table.find(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let prepared = table.prepare(name, room)?;
        failpoint!("names.insert");
        if let Err(error) = commit() {
            prepared.discard(room.space());
            return Err(error);
        }
        table.push(prepared, child.as_ptr());
        Ok(())
    }

    fn remove<'g, J, R>(
        &self,
        name: Name<'_>,
        space: &Arc<Space>,
        guard: &'g Guard,
        judge: impl FnOnce(Reached<'g>) -> Result<J>,
        commit: impl FnOnce(Reached<'g>, J) -> R,
    ) -> Result<R> {
        let mut table = self.table.write();
        let place = table.find(name).ok_or(Errno::ENOENT)?;
        // SAFETY: the table is locked, and the caller pinned.
        let child = unsafe { reached(table.inode(place), guard) };
        let judgement = judge(child)?;
        failpoint!("names.remove");
        table.take(place, space);
        Ok(commit(child, judgement))
    }

    fn rename<'g, J>(
        places: Places<'_, Directory>,
        room: &Room<'_>,
        guard: &'g Guard,
        judge: impl FnOnce(Reached<'g>, Option<Reached<'g>>) -> Result<(Change, J)>,
        commit: impl FnOnce(J),
    ) -> Result<()> {
        let (old, new) = (places.from.1, places.to.1);
        let mut tables = Tables::lock(&places);
        let source = tables.from().find(old).ok_or(Errno::ENOENT)?;
        let target = tables.to().find(new);
        let moved = tables.from().inode(source);
        let replaced = target.map(|target| tables.to().inode(target));
        // SAFETY: both tables are locked, and the caller pinned.
        let (change, judgement) =
            unsafe { judge(reached(moved, guard), replaced.map(|inode| reached(inode, guard)))? };
        failpoint!("names.rename");
        match (change, target.zip(replaced)) {
            (Change::Nothing, _) => {}
            (Change::Move, Some((target, _))) => {
                tables.to().set_inode(target, moved);
                tables.from().take(source, room.space());
            }
            (Change::Move, None) => tables.carry(source, new, room)?,
            (Change::Exchange, Some((target, replaced))) => {
                tables.to().set_inode(target, moved);
                tables.from().set_inode(source, replaced);
            }
            (Change::Exchange, None) => return Err(Errno::ENOENT),
        }
        commit(judgement);
        Ok(())
    }

    fn next_after(&self, cookie: u64, emit: &mut Emit<'_>) {
        let table = self.table.read();
        for (cookie, name, inode) in table.after(cookie) {
            // SAFETY: the entry holds a link while the table is locked.
            if emit(cookie, name, unsafe { inode.as_ref() }).is_break() {
                break;
            }
        }
    }

    fn name_of<R>(&self, child: Reached<'_>, hash: u32, found: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let table = self.table.read();
        table.find_inode(child.as_ptr(), hash).map(|place| found(table.name(place)))
    }

    fn len(&self) -> usize {
        self.table.read().len()
    }

    fn seal(&self) -> Result<Sealed<'_>> {
        let table = self.table.write();
        if table.len() > 0 {
            return Err(Errno::ENOTEMPTY);
        }
        Ok(Sealed(table))
    }

    fn take_any(&self, space: &Space) -> Option<NonNull<Inode>> {
        self.table.write().take_last(space)
    }

    fn clear(&self, space: &Arc<Space>, _guard: Option<&Guard>) {
        let mut table = self.table.write();
        table.mark_dead();
        table.free(space);
    }
}
