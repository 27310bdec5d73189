//! Which entry has a name: an index over a table's entries, by hash.
//!
//! Promises: a slot says what is needed to ask for the entry and its inode at a time, which in a large tree are two misses in
//! the cache; finding, entering where there is room and taking out need no memory. Open addressing, at most three quarters full;
//! what is taken out leaves no mark, for what stands behind it closes up. Owns its memory, not the charge of it. Knows no
//! names, and never follows a pointer.

use core::ptr::NonNull;

use ermfs_memory::{NodeVec, Nodes, try_node_vec};

use crate::errno::Result;
use crate::namespace::inode::Inode;
use crate::namespace::malloc_footprint;
use crate::namespace::name::first_slot;

/// The number of slots is a multiple of this.
const STEP: usize = 8;

#[derive(Clone, Copy)]
struct Slot {
    /// `None`: nothing is here.
    inode: Option<NonNull<Inode>>,
    hash: u32,
    place: u32,
}

const _: () = assert!(size_of::<Slot>() == 16, "the slot has grown");

const EMPTY: Slot = Slot { inode: None, hash: 0, place: 0 };

/// See the module's page. A place is where an entry stands in its table.
pub(super) struct Index {
    slots: NodeVec<Slot>,
    len: usize,
}

// SAFETY: an inode's address is kept and told, not followed; inodes are `Send` and `Sync`.
unsafe impl Send for Index {}
// SAFETY: as above.
unsafe impl Sync for Index {}

/// The number of slots that suits `live` entries and some that will come.
fn capacity_for(live: usize) -> usize {
    (live * 2).next_multiple_of(STEP)
}

const fn footprint(capacity: usize) -> u64 {
    if capacity == 0 { 0 } else { malloc_footprint(capacity * size_of::<Slot>()) }
}

impl Index {
    /// One that has no slots and takes no memory.
    pub(super) fn none() -> Index {
        Index { slots: NodeVec::new_in(Nodes), len: 0 }
    }

    /// An empty one with room for `live` entries and some more.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn try_new(live: usize) -> Result<Index> {
        let capacity = capacity_for(live);
        let mut slots = try_node_vec(capacity)?;
        slots.resize(capacity, EMPTY);
        Ok(Index { slots, len: 0 })
    }

    /// What one takes that is made for `live` entries.
    pub(super) fn footprint_for(live: usize) -> u64 {
        footprint(capacity_for(live))
    }

    /// What this one takes.
    pub(super) fn footprint(&self) -> u64 {
        footprint(self.slots.len())
    }

    /// Whether one more may be entered.
    pub(super) fn has_room(&self) -> bool {
        (self.len + 1) * 4 <= self.slots.len() * 3
    }

    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.slots.len() { 0 } else { slot + 1 }
    }

    /// How far `to` is behind `from`.
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.slots.len() - from }
    }

    /// The slot with this hash that `is` accepts, by what it says of place and inode.
    #[inline(always)]
    fn slot(&self, hash: u32, mut is: impl FnMut(usize, NonNull<Inode>) -> bool) -> Option<usize> {
        let slots = &self.slots[..];
        let mut at = first_slot(hash, slots.len());
        // A quarter is empty, so this ends.
        while let Slot { inode: Some(inode), hash: other, place } = slots[at] {
            if other == hash && is(place as usize, inode) {
                return Some(at);
            }
            at = if at + 1 == slots.len() { 0 } else { at + 1 };
        }
        None
    }

    /// The place with this hash that `is` accepts.
    #[inline(always)]
    pub(super) fn find(&self, hash: u32, is: impl FnMut(usize, NonNull<Inode>) -> bool) -> Option<usize> {
        self.slot(hash, is).map(|slot| self.slots[slot].place as usize)
    }

    /// Enters a place, for which there is room.
    pub(super) fn enter(&mut self, hash: u32, place: usize, inode: NonNull<Inode>) {
        debug_assert!(self.has_room());
        let mut at = first_slot(hash, self.slots.len());
        while self.slots[at].inode.is_some() {
            at = self.after(at);
        }
        self.slots[at] = Slot { inode: Some(inode), hash, place: place as u32 };
        self.len += 1;
    }

    /// The slot of a place that was entered.
    fn slot_of(&self, hash: u32, place: usize) -> usize {
        self.slot(hash, |other, _| other == place).expect("an indexed entry has a slot")
    }

    /// Notes that the entry at a place is another inode's now.
    pub(super) fn set_inode(&mut self, hash: u32, place: usize, inode: NonNull<Inode>) {
        let slot = self.slot_of(hash, place);
        self.slots[slot].inode = Some(inode);
    }

    /// Takes a place out.
    pub(super) fn leave(&mut self, hash: u32, place: usize) {
        let mut gap = self.slot_of(hash, place);
        let mut next = self.after(gap);
        while self.slots[next].inode.is_some() {
            // Whoever looks for it begins at `first`, and has to come to it without passing the gap.
            let first = first_slot(self.slots[next].hash, self.slots.len());
            if self.distance(first, next) >= self.distance(gap, next) {
                self.slots[gap] = self.slots[next];
                gap = next;
            }
            next = self.after(next);
        }
        self.slots[gap] = EMPTY;
        self.len -= 1;
    }

    /// Takes all out, and keeps the slots.
    pub(super) fn clear(&mut self) {
        self.slots.fill(EMPTY);
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn inode(number: usize) -> NonNull<Inode> {
        NonNull::new(core::ptr::without_provenance_mut((number + 1) * 16)).unwrap()
    }

    #[test]
    fn an_index_is_full_at_three_quarters() {
        for live in 1..500 {
            let mut index = Index::try_new(live).unwrap();
            assert_eq!(index.footprint(), Index::footprint_for(live));
            for place in 0..live {
                assert!(index.has_room(), "{place} of {live}");
                index.enter((place as u32).wrapping_mul(0x9e37_79b9), place, inode(place));
            }
            while index.has_room() {
                index.enter(u32::MAX, index.len, inode(0));
            }
            assert!(index.len * 4 <= index.slots.len() * 3 && (index.len + 1) * 4 > index.slots.len() * 3);
        }
    }

    /// Few hashes, so that chains are long, lie over each other and go around the end.
    #[test]
    fn what_is_entered_is_found_until_it_is_taken_out() {
        const LIVE: usize = 90;
        let hash_of =
            |number: usize| [0, u32::MAX, u32::MAX - 1, 0x7fff_ffff, 0x8000_0000, 0xf800_0000][number % 6];
        let mut index = Index::try_new(LIVE).unwrap();
        let mut model: HashMap<usize, (u32, NonNull<Inode>)> = HashMap::new();
        let mut random = 1u32;
        for step in 0..60_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let place = (random >> 8) as usize % 128;
            match (model.get(&place).copied(), random >> 30) {
                (Some((hash, _)), 0..=1) => {
                    index.leave(hash, place);
                    model.remove(&place);
                }
                (Some((hash, _)), _) => {
                    index.set_inode(hash, place, inode(step));
                    model.insert(place, (hash, inode(step)));
                }
                (None, _) if model.len() < LIVE => {
                    let hash = hash_of((random >> 20) as usize);
                    index.enter(hash, place, inode(step));
                    model.insert(place, (hash, inode(step)));
                }
                _ => {}
            }
            assert_eq!(index.len, model.len());
            if step % 64 == 0 {
                for (&place, &(hash, inode)) in &model {
                    assert_eq!(index.find(hash, |other, its| other == place && its == inode), Some(place));
                }
                let found = index.slots.iter().filter(|slot| slot.inode.is_some()).count();
                assert_eq!(found, model.len());
                assert_eq!(index.find(12_345, |_, _| true), None);
            }
        }
        index.clear();
        assert!(model.iter().all(|(_, (hash, _))| index.find(*hash, |_, _| true).is_none()));
    }
}
