//! Entries in the order of their cookies, and an index over them.
//!
//! Promises: an entry keeps its cookie for life; what is prepared can be pushed without failing;
//! taking out needs no memory. Owns the entries, their names and the index, and their charge. Knows
//! no locks, and does not count links: an entry is a pointer here.
//!
//! Entries are only appended. One that is taken out leaves a hole; when more than half are holes,
//! the others close up. Up to eight entries are scanned, comparing 32-bit hashes; above that there
//! is an index. When most of an allocation is unused, what is in it moves to a smaller one, unless
//! there is no memory or budget for the two together.

use core::ptr::NonNull;

use super::index::Index;
use crate::errno::{Errno, Result};
use crate::inject::allocation;
use crate::namespace::entries::{FIRST_COOKIE, Room};
use crate::namespace::inode::Inode;
use crate::namespace::malloc_footprint;
use crate::namespace::name::{Name, StoredName};
use crate::space::Space;
use ermfs_memory::{Kind, NodeVec, Nodes, Purpose, try_node_vec};

/// The largest number of places, holes included, that is scanned.
const SCANNED: usize = 8;

struct Entry {
    cookie: u64,
    /// `None`: a hole.
    inode: Option<NonNull<Inode>>,
    hash: u32,
    name: StoredName,
}

const _: () = assert!(size_of::<Entry>() == 40, "the entry has grown");

// SAFETY: the pointer is only followed by who holds what keeps the inode, and inodes are `Send` and `Sync`.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

pub(super) struct Table {
    entries: NodeVec<Entry>,
    /// Places in `entries` of all that are no hole, by hash; unused (empty, without memory) while they are scanned.
    index: Index,
    next_cookie: u64,
    live: u32,
    indexed: bool,
    dead: bool,
}

/// Room for one more entry, and its name.
pub(super) struct Prepared {
    hash: u32,
    name: StoredName,
}

impl Prepared {
    fn new(name: Name<'_>, room: &Room<'_>) -> Result<Prepared> {
        let charge = room.charge(StoredName::footprint(name.bytes.len()))?;
        let stored = StoredName::try_new(name.bytes)?;
        charge.keep();
        Ok(Prepared { hash: name.hash, name: stored })
    }

    pub(super) fn discard(self, space: &Space) {
        space.release(Kind::Metadata, self.name.charged());
    }
}

/// What a vector of `capacity` entries takes.
const fn entries_bytes(capacity: usize) -> u64 {
    if capacity == 0 { 0 } else { malloc_footprint(capacity * size_of::<Entry>()) }
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            entries: NodeVec::new_in(Nodes),
            index: Index::none(),
            next_cookie: FIRST_COOKIE,
            live: 0,
            indexed: false,
            dead: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.live as usize
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    pub(super) fn mark_dead(&mut self) {
        self.dead = true;
    }

    /// The place of `name`. Good until something is taken out.
    #[inline(always)]
    pub(super) fn find(&self, name: Name<'_>) -> Option<usize> {
        self.find_where(name.hash, |entry| entry.name.as_bytes() == name.bytes)
    }

    pub(super) fn find_inode(&self, inode: NonNull<Inode>, hash: u32) -> Option<usize> {
        self.find_where(hash, |entry| entry.inode == Some(inode))
    }

    #[inline(always)]
    fn find_where(&self, hash: u32, mut is: impl FnMut(&Entry) -> bool) -> Option<usize> {
        if self.indexed {
            let entries = &self.entries[..];
            return self.index.find(hash, |place, inode| {
                // What the look-up is for comes to the cache while the entry does.
                Inode::prefetch(inode.as_ptr());
                is(&entries[place])
            });
        }
        self.entries.iter().position(|entry| entry.hash == hash && entry.inode.is_some() && is(entry))
    }

    /// The inode at a place that `find` gave.
    #[inline]
    pub(super) fn inode(&self, place: usize) -> NonNull<Inode> {
        self.entries[place].inode.expect("a found place is no hole")
    }

    pub(super) fn name(&self, place: usize) -> &[u8] {
        self.entries[place].name.as_bytes()
    }

    pub(super) fn set_inode(&mut self, place: usize, inode: NonNull<Inode>) {
        let entry = &mut self.entries[place];
        entry.inode = Some(inode);
        if self.indexed {
            self.index.set_inode(entry.hash, place, inode);
        }
    }

    /// Cookie, name and inode of what comes after `cookie`.
    pub(super) fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, &[u8], NonNull<Inode>)> {
        let start = self.entries.partition_point(|entry| entry.cookie <= cookie);
        self.entries[start..]
            .iter()
            .filter_map(|entry| Some((entry.cookie, entry.name.as_bytes(), entry.inode?)))
    }

    /// Makes room for one more entry, named `name`.
    pub(super) fn prepare(&mut self, name: Name<'_>, room: &Room<'_>) -> Result<Prepared> {
        if self.entries.len() == self.entries.capacity() {
            self.grow(room)?;
        }
        if self.indexed || self.entries.len() >= SCANNED {
            self.reserve_index(room)?;
        }
        Prepared::new(name, room)
    }

    pub(super) fn next_cookie(&self) -> u64 {
        self.next_cookie
    }

    /// The next entry gets this cookie, which is none below the one it would get.
    pub(super) fn skip_to(&mut self, cookie: u64) {
        debug_assert!(cookie >= self.next_cookie);
        self.next_cookie = cookie;
    }

    pub(super) fn push(&mut self, prepared: Prepared, inode: NonNull<Inode>) {
        let Prepared { hash, name } = prepared;
        let place = self.entries.len();
        self.entries.push(Entry { cookie: self.next_cookie, inode: Some(inode), hash, name });
        self.next_cookie += 1;
        self.live += 1;
        self.enter(place);
    }

    /// Renames the entry at `place`, which keeps its cookie.
    pub(super) fn rename(&mut self, place: usize, name: Name<'_>, room: &Room<'_>) -> Result<()> {
        if self.indexed {
            self.reserve_index(room)?;
        }
        let prepared = Prepared::new(name, room)?;
        self.leave(place);
        let entry = &mut self.entries[place];
        room.space().release(Kind::Metadata, entry.name.charged());
        entry.name = prepared.name;
        entry.hash = prepared.hash;
        self.enter(place);
        Ok(())
    }

    /// Takes the entry at `place` out.
    pub(super) fn take(&mut self, place: usize, space: &Space) -> NonNull<Inode> {
        self.leave(place);
        let entry = &mut self.entries[place];
        let inode = entry.inode.take().expect("a found place is no hole");
        space.release(Kind::Metadata, entry.name.charged());
        entry.name = StoredName::EMPTY;
        self.live -= 1;
        let live = self.entries.iter().rposition(|entry| entry.inode.is_some()).map_or(0, |last| last + 1);
        self.entries.truncate(live);
        if self.entries.len() > SCANNED && self.entries.len() > self.len() * 2 {
            self.compact();
        }
        if self.entries.capacity() > SCANNED && self.entries.capacity() > self.len() * 4 {
            // A table that cannot shrink now is as good as it was.
            let _ = self.shrink(space);
        }
        inode
    }

    /// Takes the last entry out of a table that is being taken apart, which makes it dead and unfit for looking up.
    pub(super) fn take_last(&mut self, space: &Space) -> Option<NonNull<Inode>> {
        self.indexed = false;
        self.dead = true;
        while let Some(entry) = self.entries.pop() {
            space.release(Kind::Metadata, entry.name.charged());
            if entry.inode.is_some() {
                self.live -= 1;
                return entry.inode;
            }
        }
        None
    }

    /// Frees all memory.
    pub(super) fn free(&mut self, space: &Space) {
        let names: u64 = self.entries.iter().map(|entry| entry.name.charged()).sum();
        space
            .release(Kind::Metadata, names + entries_bytes(self.entries.capacity()) + self.index.footprint());
        self.entries = NodeVec::new_in(Nodes);
        self.index = Index::none();
        self.indexed = false;
    }

    /// Puts the entry at `place` into the index, in which there is room.
    fn enter(&mut self, place: usize) {
        if self.indexed {
            Table::enter_into(&mut self.index, &self.entries, place);
        }
    }

    fn enter_into(index: &mut Index, entries: &[Entry], place: usize) {
        if let Entry { inode: Some(inode), hash, .. } = entries[place] {
            index.enter(hash, place, inode);
        }
    }

    /// Takes the entry at `place` out of the index.
    fn leave(&mut self, place: usize) {
        if self.indexed {
            self.index.leave(self.entries[place].hash, place);
        }
    }

    fn grow(&mut self, room: &Room<'_>) -> Result<()> {
        let old = self.entries.capacity();
        let new = match old {
            0 => SCANNED / 2,
            1..64 => old * 2,
            _ => old + old / 2,
        };
        if u32::try_from(new).is_err() {
            return Err(Errno::ENOSPC);
        }
        let charge = room.charge(entries_bytes(new) - entries_bytes(old))?;
        allocation!("names.grow")?;
        self.entries.try_reserve_exact(new - self.entries.len()).map_err(|_| Errno::ENOMEM)?;
        debug_assert_eq!(self.entries.capacity(), new);
        charge.keep();
        Ok(())
    }

    /// Makes room for one more in the index, or starts it.
    fn reserve_index(&mut self, room: &Room<'_>) -> Result<()> {
        if self.indexed && self.index.has_room() {
            return Ok(());
        }
        let live = self.len() + 1;
        let charge = room.charge(Index::footprint_for(live))?;
        let mut index = Index::try_new(live)?;
        charge.keep();
        Table::fill(&mut index, &self.entries);
        // Both stood for a moment.
        room.space().release(Kind::Metadata, self.index.footprint());
        self.index = index;
        self.indexed = true;
        Ok(())
    }

    fn fill(index: &mut Index, entries: &[Entry]) {
        (0..entries.len()).for_each(|place| Table::enter_into(index, entries, place));
    }

    /// Closes up the holes.
    fn compact(&mut self) {
        self.entries.retain(|entry| entry.inode.is_some());
        if self.indexed {
            // The same entries as before, so there is room for them.
            self.index.clear();
            Table::fill(&mut self.index, &self.entries);
        }
    }

    /// Moves what there is into allocations of a fitting size.
    fn shrink(&mut self, space: &Space) -> Result<()> {
        let capacity = (self.len() * 2).max(SCANNED);
        let keep_index = self.indexed && capacity > SCANNED;
        let index = if keep_index { Index::footprint_for(capacity) } else { 0 };
        let old = entries_bytes(self.entries.capacity()) + self.index.footprint();
        let room = entries_bytes(capacity) + index;
        // Not through `Space::charge`: this is no reason to let caches go.
        space.budget().charge(Kind::Metadata, room, Purpose::Ordinary)?;
        match self.rebuilt(capacity, keep_index) {
            Ok((entries, index)) => {
                debug_assert_eq!(entries.capacity(), capacity);
                self.entries = entries;
                self.index = index;
                self.indexed = keep_index;
                space.release(Kind::Metadata, old);
                Ok(())
            }
            Err(error) => {
                space.release(Kind::Metadata, room);
                Err(error)
            }
        }
    }

    /// The entries, closed up, in new allocations; the old ones are left empty. Nothing has changed on failure.
    fn rebuilt(&mut self, capacity: usize, keep_index: bool) -> Result<(NodeVec<Entry>, Index)> {
        let mut entries = try_node_vec(capacity)?;
        let mut index = if keep_index { Index::try_new(capacity)? } else { Index::none() };
        entries.extend(self.entries.drain(..).filter(|entry| entry.inode.is_some()));
        if keep_index {
            Table::fill(&mut index, &entries);
        }
        Ok((entries, index))
    }
}
