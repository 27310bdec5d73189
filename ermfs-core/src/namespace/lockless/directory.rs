//! A directory: its table, its order, and who may change them.
//!
//! Promises what `Entries` promises. The protocol is on the module's page above.
//!
//! Lock order: as in `locked::directory`. Who changes a directory holds its lock from before it looks
//! until all of its change is done, so others who change it, and listings, see it wholly or not at all.

use core::ptr::{self, NonNull};

use ermfs_memory::sync::Arc;
use ermfs_memory::{Kind, Purpose};

use super::dentry::{Dentry, Prepared, Word};
use super::order::Order;
use super::record::Record;
use super::table::{self, Table};
use crate::epoch::Guard;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::namespace::entries::{Bury, Change, Emit, Entries, FIRST_COOKIE, Places, Room};
use crate::namespace::inode::{Inode, Reached};
use crate::namespace::name::Name;
use crate::space::Space;
use crate::sync::atomic::{
    AtomicPtr, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::sync::{Mutex, MutexGuard};

/// In `population`: nothing can be entered any more.
const DEAD: u32 = 1 << 31;

/// A directory's entries.
pub(in crate::namespace) struct Directory {
    /// Null while there was no entry yet.
    table: AtomicPtr<table::Header>,
    record: Record,
    /// The number of entries, and DEAD. Changes under the lock.
    population: AtomicU32,
    /// How many slots the table has, or had a moment ago: for asking for a slot while the table's header is on its way. Not for
    /// models to look at: nothing comes of it but time.
    slots: core::sync::atomic::AtomicU32,
    state: Mutex<State>,
}

/// What only the holder of the lock uses.
struct State {
    order: Order,
    next_cookie: u64,
}

/// The locks of a rename.
enum States<'a> {
    One(MutexGuard<'a, State>),
    Two { from: MutexGuard<'a, State>, to: MutexGuard<'a, State> },
}

impl<'a> States<'a> {
    fn lock(places: &Places<'a, Directory>) -> States<'a> {
        let from = &places.from.0.state;
        match places.to.0 {
            None => States::One(from.lock()),
            Some(to) if places.to_first => {
                let to = to.state.lock();
                States::Two { from: from.lock(), to }
            }
            Some(to) => {
                let from = from.lock();
                States::Two { from, to: to.state.lock() }
            }
        }
    }

    fn from(&mut self) -> &mut State {
        match self {
            States::One(state) | States::Two { from: state, .. } => state,
        }
    }
}

/// An empty directory, locked.
pub(in crate::namespace) struct Sealed<'a> {
    directory: &'a Directory,
    _state: MutexGuard<'a, State>,
}

impl Bury for Sealed<'_> {
    fn bury(self) {
        self.directory.population.store(DEAD, Relaxed);
    }
}

/// # Safety
/// `inode` was found in a directory, under the pin of `guard`.
#[inline]
unsafe fn reached<'g>(inode: NonNull<Inode>, _guard: &'g Guard) -> Reached<'g> {
    // SAFETY: an entry holds a link until its word has changed, and a shell whose last hold goes after that waits for the pin.
    unsafe { Reached::new(inode) }
}

impl Directory {
    pub(in crate::namespace) fn new() -> Directory {
        Directory {
            table: AtomicPtr::new(ptr::null_mut()),
            record: Record::new(),
            population: AtomicU32::new(0),
            slots: core::sync::atomic::AtomicU32::new(0),
            state: Mutex::new(State { order: Order::new(), next_cookie: FIRST_COOKIE }),
        }
    }

    /// The table, good for `'a`: a pin, or the time that the lock is held.
    #[inline]
    fn table<'a>(&self) -> Option<Table<'a>> {
        let table = NonNull::new(self.table.load(Acquire));
        // SAFETY: a table is retired after this pointer has another.
        table.map(|table| unsafe { Table::from_raw(table) })
    }

    fn is_dead(&self) -> bool {
        self.population.load(Relaxed) & DEAD != 0
    }

    /// The dentry of `name`, for the holder of the lock.
    fn find<'a>(&self, _state: &MutexGuard<'a, State>, name: Name<'_>) -> Option<Dentry<'a>> {
        self.table()?.find(name)
    }

    /// Makes room for one more, named `name`, in the table and in the order, and the dentry. Nobody sees any of it.
    fn prepare(
        &self,
        state: &mut State,
        name: Name<'_>,
        cookie: Option<u64>,
        room: &Room<'_>,
        guard: &Guard,
    ) -> Result<Prepared> {
        if cookie.is_none() {
            state.order.reserve(room)?;
        }
        if !self.table().is_some_and(Table::has_room) {
            let capacity = table::capacity_for(self.len() + 1);
            let charge = room.charge(table::footprint(capacity))?;
            self.rebuild(Table::new(capacity)?, room.space(), guard);
            charge.keep();
        }
        Prepared::new(name, cookie.unwrap_or(state.next_cookie), room)
    }

    pub(in crate::namespace) fn next_cookie(&self) -> u64 {
        self.state.lock().next_cookie
    }

    /// Makes room in a new directory for a copy of another's `len` entries, which [`Directory::enter_copy`] enters in the order
    /// of their cookies.
    pub(in crate::namespace) fn prepare_copy(&self, len: usize, room: &Room<'_>) -> Result<()> {
        if len > 0 {
            let capacity = table::capacity_for(len);
            let charge = room.charge(table::footprint(capacity))?;
            self.slots.store(capacity as u32, Relaxed);
            self.table.store(Table::new(capacity)?.as_ptr(), Release);
            charge.keep();
        }
        Ok(())
    }

    pub(in crate::namespace) fn enter_copy(
        &self,
        name: Name<'_>,
        cookie: u64,
        inode: NonNull<Inode>,
        room: &Room<'_>,
    ) -> Result<()> {
        let mut state = self.state.lock();
        state.order.reserve(room)?;
        state.next_cookie = cookie;
        let prepared = Prepared::new(name, cookie, room)?;
        self.push(&mut state, prepared, Word::of(inode));
        Ok(())
    }

    pub(in crate::namespace) fn finish_copy(&self, next_cookie: u64) {
        self.state.lock().next_cookie = next_cookie;
    }

    /// Puts a new table in the place of the one there is.
    fn rebuild(&self, new: Table<'_>, space: &Arc<Space>, guard: &Guard) {
        let old = self.table();
        if let Some(old) = old {
            new.fill_from(old);
        }
        failpoint!("lockless.names.table_made");
        self.slots.store(new.capacity() as u32, Relaxed);
        self.table.store(new.as_ptr(), Release);
        if let Some(old) = old {
            // SAFETY: it was the directory's until here, and is not any more.
            unsafe { old.retire(guard, space) };
        }
    }

    /// Shows what was prepared, under a cookie of its own.
    fn push<'a>(&self, state: &mut State, prepared: Prepared, word: Word) -> Dentry<'a> {
        let dentry = prepared.publish(word);
        state.order.push(dentry);
        state.next_cookie += 1;
        self.enter(dentry);
        self.population.store(self.population.load(Relaxed) + 1, Relaxed);
        dentry
    }

    fn enter(&self, dentry: Dentry<'_>) {
        self.table().expect("`prepare` made it").enter(dentry);
    }

    /// Takes a dentry, which stands for nothing any more, out of the table, and frees it when nobody sees it.
    fn bury(&self, dentry: Dentry<'_>, space: &Arc<Space>, guard: &Guard) {
        self.table().expect("there is a dentry").bury(dentry);
        // SAFETY: its slot was the last place where a look-up finds it, and its word is null. The order had it until now, or
        // has already another in its place; both under the lock.
        unsafe { dentry.retire(guard, space) };
    }

    /// Does what is left to do of an entry whose name is gone.
    fn drop_entry(&self, state: &mut State, dentry: Dentry<'_>, space: &Arc<Space>, guard: &Guard) {
        let live = self.len() - 1;
        self.population.store(live as u32, Relaxed);
        state.order.take(dentry.cookie(), live, space);
        self.bury(dentry, space, guard);
        let capacity = table::capacity_for(live);
        if self.table().is_some_and(|table| table.capacity() > capacity * 4) {
            // A table that cannot shrink now is as good as it was.
            let _ = self.shrink(capacity, space, guard);
        }
    }

    fn shrink(&self, capacity: usize, space: &Arc<Space>, guard: &Guard) -> Result<()> {
        // Not through `Space::charge`: this is no reason to let caches go.
        space.budget().charge(Kind::Metadata, table::footprint(capacity), Purpose::Ordinary)?;
        match Table::new(capacity) {
            Ok(new) => {
                self.rebuild(new, space, guard);
                Ok(())
            }
            Err(error) => {
                space.release(Kind::Metadata, table::footprint(capacity));
                Err(error)
            }
        }
    }
}

impl Entries for Directory {
    type Sealed<'a> = Sealed<'a>;

    #[inline(never)]
    fn lookup<'g>(&self, name: Name<'_>, guard: &'g Guard) -> Option<Reached<'g>> {
        let table = self.table()?;
        table.prefetch(name.hash, self.slots.load(Relaxed));
        let found = self.record.value(table.find(name)?)?;
        // SAFETY: found under the pin.
        Some(unsafe { reached(found, guard) })
    }

    fn insert(
        &self,
        name: Name<'_>,
        child: Reached<'_>,
        room: &Room<'_>,
        guard: &Guard,
        commit: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut state = self.state.lock();
        if self.is_dead() {
            return Err(Errno::ENOENT);
        }
        if self.find(&state, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let prepared = self.prepare(&mut state, name, None, room, guard)?;
        if let Err(error) = commit() {
            prepared.discard(room.space());
            return Err(error);
        }
        failpoint!("names.insert");
        self.push(&mut state, prepared, Word::of(child.as_ptr()));
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
        let mut state = self.state.lock();
        let dentry = self.find(&state, name).ok_or(Errno::ENOENT)?;
        let inode = dentry.inode().ok_or(Errno::ENOENT)?;
        // SAFETY: found under the pin.
        let child = unsafe { reached(inode, guard) };
        let judgement = judge(child)?;
        failpoint!("names.remove");
        dentry.set(Word::ABSENT);
        failpoint!("lockless.names.gone");
        self.drop_entry(&mut state, dentry, space, guard);
        Ok(commit(child, judgement))
    }

    fn rename<'g, J>(
        places: Places<'_, Directory>,
        room: &Room<'_>,
        guard: &'g Guard,
        judge: impl FnOnce(Reached<'g>, Option<Reached<'g>>) -> Result<(Change, J)>,
        commit: impl FnOnce(J),
    ) -> Result<()> {
        let ((from, old), (to, new)) = (places.from, places.to);
        let mut states = States::lock(&places);
        let source = from.table().and_then(|table| table.find(old)).ok_or(Errno::ENOENT)?;
        let target = to.unwrap_or(from).table().and_then(|table| table.find(new));
        let moved = source.inode().ok_or(Errno::ENOENT)?;
        let replaced = target.and_then(Dentry::inode);
        // SAFETY: found under the pin.
        let (change, judgement) =
            unsafe { judge(reached(moved, guard), replaced.map(|inode| reached(inode, guard)))? };
        match (change, target) {
            (Change::Nothing, _) => {}
            (Change::Move, Some(target)) => {
                from.record.switch(source, target, None);
                from.drop_entry(states.from(), source, room.space(), guard);
            }
            (Change::Move, None) => carry((from, to), &mut states, source, new, room, guard)?,
            (Change::Exchange, Some(target)) => from.record.switch(source, target, replaced),
            (Change::Exchange, None) => return Err(Errno::ENOENT),
        }
        commit(judgement);
        Ok(())
    }

    fn next_after(&self, cookie: u64, emit: &mut Emit<'_>) {
        let state = self.state.lock();
        for dentry in state.order.after(cookie) {
            let Some(inode) = dentry.inode() else { continue };
            // SAFETY: the entry holds a link while the lock is held.
            if emit(dentry.cookie(), dentry.name(), unsafe { inode.as_ref() }).is_break() {
                break;
            }
        }
    }

    fn name_of<R>(&self, child: Reached<'_>, hash: u32, found: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let _state = self.state.lock();
        let dentry = self.table()?.find_where(hash, |dentry| dentry.inode() == Some(child.as_ptr()))?;
        Some(found(dentry.name()))
    }

    fn len(&self) -> usize {
        (self.population.load(Relaxed) & !DEAD) as usize
    }

    fn seal(&self) -> Result<Sealed<'_>> {
        let state = self.state.lock();
        if self.len() > 0 {
            return Err(Errno::ENOTEMPTY);
        }
        Ok(Sealed { directory: self, _state: state })
    }

    fn take_any(&self, space: &Space) -> Option<NonNull<Inode>> {
        let mut state = self.state.lock();
        self.population.store(DEAD, Relaxed);
        let dentry = state.order.pop()?;
        let inode = dentry.inode();
        // SAFETY: nobody walks the filesystem, and the table is not looked into any more.
        space.release(Kind::Metadata, unsafe { dentry.free() });
        inode
    }

    fn clear(&self, space: &Arc<Space>, guard: Option<&Guard>) {
        let mut state = self.state.lock();
        self.population.store(DEAD, Relaxed);
        state.order.free(space);
        let table = self.table();
        self.table.store(ptr::null_mut(), Release);
        match (table, guard) {
            (None, _) => {}
            // SAFETY: it was the directory's until here, and is not any more.
            (Some(table), Some(guard)) => unsafe { table.retire(guard, space) },
            // SAFETY: nobody else looks at this directory.
            (Some(table), None) => space.release(Kind::Metadata, unsafe { table.free() }),
        }
    }
}

/// The source's entry gets the target's name, which is not taken.
fn carry(
    (from, to): (&Directory, Option<&Directory>),
    states: &mut States<'_>,
    source: Dentry<'_>,
    new: Name<'_>,
    room: &Room<'_>,
    guard: &Guard,
) -> Result<()> {
    match (states, to) {
        (States::Two { from: from_state, to: to_state }, Some(to)) => {
            if to.is_dead() {
                return Err(Errno::ENOENT);
            }
            let prepared = to.prepare(to_state, new, None, room, guard)?;
            let target = to.push(to_state, prepared, Word::ABSENT);
            from.record.switch(source, target, None);
            from.drop_entry(from_state, source, room.space(), guard);
        }
        // It keeps its cookie: a listing under way shows it once, and a loop over `readdir` that renames ends.
        (States::One(state) | States::Two { from: state, .. }, _) => {
            let prepared = from.prepare(state, new, Some(source.cookie()), room, guard)?;
            let target = prepared.publish(Word::ABSENT);
            from.enter(target);
            from.record.switch(source, target, None);
            state.order.replace(target);
            from.bury(source, room.space(), guard);
        }
    }
    Ok(())
}

#[cfg(test)]
mod harness;
#[cfg(all(test, loom))]
mod loom;
#[cfg(all(test, not(loom)))]
mod tests;
