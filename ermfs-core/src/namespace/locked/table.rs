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

use ermfs_memory::{Kind, NodeVec, Nodes, Purpose, try_node_vec};
use hashbrown::HashTable;

use crate::errno::{Errno, Result};
use crate::inject::allocation;
use crate::namespace::entries::{FIRST_COOKIE, Room};
use crate::namespace::inode::Inode;
use crate::namespace::malloc_footprint;
use crate::namespace::name::{Name, StoredName};
use crate::space::Space;

/// The largest number of places, holes included, that is scanned.
const SCANNED: usize = 8;

type Index = HashTable<u32, Nodes>;

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

/// What the index is fed: all 64 bits have to be of use, the low ones as the position, the top seven as the tag.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// What a vector of `capacity` entries takes.
const fn entries_bytes(capacity: usize) -> u64 {
    if capacity == 0 { 0 } else { malloc_footprint(capacity * size_of::<Entry>()) }
}

/// What an index takes.
fn index_bytes(index: &Index) -> u64 {
    match index.allocation_size() {
        0 => 0,
        bytes => malloc_footprint(bytes),
    }
}

/// At least what an index with room for `capacity` takes after it has grown from `old` buckets.
fn index_bytes_after_growth(capacity: usize, old: usize) -> u64 {
    let buckets = (capacity * 8 / 7 + 1).next_power_of_two().max(old * 2).max(16);
    malloc_footprint(buckets * (size_of::<u32>() + 1) + 32)
}

/// Gives back what of a charge for `have` bytes is not needed.
fn settle(space: &Space, have: u64, need: u64) {
    debug_assert!(have >= need, "charged {have} for {need}");
    space.release(Kind::Metadata, have.saturating_sub(need));
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            entries: NodeVec::new_in(Nodes),
            index: Index::new_in(Nodes),
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
            let found = self.index.find(spread(hash), |place| {
                let entry = &entries[*place as usize];
                entry.hash == hash && is(entry)
            });
            return found.map(|place| *place as usize);
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
        self.entries[place].inode = Some(inode);
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
        if self.indexed {
            self.reserve_index(room)?;
        } else if self.entries.len() >= SCANNED {
            self.build_index(room)?;
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
        space.release(
            Kind::Metadata,
            names + entries_bytes(self.entries.capacity()) + index_bytes(&self.index),
        );
        self.entries = NodeVec::new_in(Nodes);
        self.index = Index::new_in(Nodes);
        self.indexed = false;
    }

    /// Puts the entry at `place` into the index, in which there is room.
    fn enter(&mut self, place: usize) {
        if self.indexed {
            let entries = &self.entries[..];
            let hash = spread(entries[place].hash);
            self.index.insert_unique(hash, place as u32, |place| spread(entries[*place as usize].hash));
        }
    }

    /// Takes the entry at `place` out of the index.
    fn leave(&mut self, place: usize) {
        if self.indexed {
            let hash = spread(self.entries[place].hash);
            if let Ok(found) = self.index.find_entry(hash, |other| *other as usize == place) {
                found.remove();
            }
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

    /// Makes room for one more in the index.
    fn reserve_index(&mut self, room: &Room<'_>) -> Result<()> {
        if self.index.len() < self.index.capacity() {
            return Ok(());
        }
        let old = index_bytes(&self.index);
        let most = index_bytes_after_growth(self.index.len() + 1, self.index.num_buckets());
        let charge = room.charge(most)?;
        let entries = &self.entries[..];
        allocation!("locked.names.index")?;
        let reserved = self.index.try_reserve(1, |place| spread(entries[*place as usize].hash));
        reserved.map_err(|_| Errno::ENOMEM)?;
        charge.keep();
        // Both stood for a moment; it may also have found room without a new allocation.
        settle(room.space(), old + most, index_bytes(&self.index));
        Ok(())
    }

    /// Starts the index, with room for one more.
    fn build_index(&mut self, room: &Room<'_>) -> Result<()> {
        let capacity = self.len() + 1;
        let most = index_bytes_after_growth(capacity, 0);
        let charge = room.charge(most)?;
        let index = self.new_index(capacity)?;
        charge.keep();
        settle(room.space(), most, index_bytes(&index));
        self.index = index;
        self.indexed = true;
        Ok(())
    }

    /// An index of all entries, with room for `capacity`.
    fn new_index(&self, capacity: usize) -> Result<Index> {
        let mut index = Index::new_in(Nodes);
        let entries = &self.entries[..];
        allocation!("locked.names.index")?;
        index.try_reserve(capacity, |_| 0).map_err(|_| Errno::ENOMEM)?;
        Table::fill(&mut index, entries);
        Ok(index)
    }

    fn fill(index: &mut Index, entries: &[Entry]) {
        for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.inode.is_some()) {
            index.insert_unique(spread(entry.hash), place as u32, |place| {
                spread(entries[*place as usize].hash)
            });
        }
    }

    /// Closes up the holes.
    fn compact(&mut self) {
        self.entries.retain(|entry| entry.inode.is_some());
        if self.indexed {
            // The same entries as before, so there is room for them.
            let mut index = core::mem::take(&mut self.index);
            index.clear();
            Table::fill(&mut index, &self.entries);
            self.index = index;
        }
    }

    /// Moves what there is into allocations of a fitting size.
    fn shrink(&mut self, space: &Space) -> Result<()> {
        let capacity = (self.len() * 2).max(SCANNED);
        let keep_index = self.indexed && capacity > SCANNED;
        let most = match keep_index {
            true => index_bytes_after_growth(capacity, 0),
            false => 0,
        };
        let (old_entries, old_index) = (entries_bytes(self.entries.capacity()), index_bytes(&self.index));
        let room = entries_bytes(capacity) + most;
        // Not through `Space::charge`: this is no reason to let caches go.
        space.budget().charge(Kind::Metadata, room, Purpose::Ordinary)?;
        match self.rebuilt(capacity, keep_index) {
            Ok((entries, index)) => {
                debug_assert_eq!(entries.capacity(), capacity);
                self.entries = entries;
                self.index = index;
                self.indexed = keep_index;
                settle(
                    space,
                    old_entries + old_index + room,
                    entries_bytes(capacity) + index_bytes(&self.index),
                );
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
        let mut index = Index::new_in(Nodes);
        if keep_index {
            allocation!("locked.names.index")?;
            index.try_reserve(capacity, |_| 0).map_err(|_| Errno::ENOMEM)?;
        }
        entries.extend(self.entries.drain(..).filter(|entry| entry.inode.is_some()));
        if keep_index {
            Table::fill(&mut index, &entries);
        }
        Ok((entries, index))
    }
}
