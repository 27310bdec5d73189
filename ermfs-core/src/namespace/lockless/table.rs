//! The slots of a directory: open addressing, found by the high bits of a name's hash.
//!
//! Promises: a slot goes from never used to a dentry to TOMBSTONE and never back, so that a chain that
//! leads to a dentry leads there for good; at least a quarter of the slots was never used, so chains
//! are short and end. In a slot four bits of the hash stand beside the dentry's address, so that a
//! look-up that passes another name's dentry seldom looks at it, which in a large tree would be a miss
//! in the cache. Owns the slots and their charge, not the dentries. Changed by the holder of the
//! directory's lock only.

use core::alloc::Layout;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ptr::{self, NonNull};

use ermfs_memory::sync::Arc;
use ermfs_memory::{Allocator, Nodes, prefetch};

use super::dentry::{self, Dentry};
use crate::epoch::{self, Guard};
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::inject::allocation;
use crate::namespace::malloc_footprint;
use crate::namespace::name::{Name, first_slot};
use crate::space::Space;
use crate::sync::atomic::{
    AtomicPtr, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

type Slot = AtomicPtr<dentry::Header>;

/// In a slot: there was a dentry here. No dentry, for its address is none.
const TOMBSTONE: *mut dentry::Header = ptr::without_provenance_mut(1);

/// The bits of a slot that are free in a dentry's address.
const TAG: usize = dentry::ALIGN - 1;

/// What stands beside the address of a dentry with this hash: bits that its place does not depend on, but in the largest tables.
const fn tag(hash: u32) -> usize {
    hash as usize & TAG
}

/// What is in the slot of a dentry.
fn tagged(dentry: Dentry<'_>) -> *mut dentry::Header {
    dentry.as_ptr().map_addr(|address| address | tag(dentry.hash()))
}

/// The dentry that a slot shows, if it is neither a tombstone nor was never used.
fn untagged(slot: *mut dentry::Header) -> Option<NonNull<dentry::Header>> {
    NonNull::new(slot.map_addr(|address| address & !TAG))
}

/// The number of slots is a multiple of this.
const STEP: usize = 8;

/// What stands before the slots.
#[repr(C)]
pub(super) struct Header {
    /// The number of slots.
    capacity: u32,
    /// Slots that are not "never used". Of use to the holder of the lock only.
    used: AtomicU32,
    slots: [Slot; 0],
}

/// A table that is good for `'a`: a pin, or the time that the directory's lock is held.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    at: NonNull<Header>,
    good: PhantomData<&'a Header>,
}

fn layout(capacity: usize) -> Option<Layout> {
    let size = capacity.checked_mul(size_of::<Slot>())?.checked_add(offset_of!(Header, slots))?;
    Layout::from_size_align(size, align_of::<Header>()).ok()
}

/// The number of slots that suits `live` entries and some that will come and go.
pub(super) fn capacity_for(live: usize) -> usize {
    (live.max(1) * 2).next_multiple_of(STEP)
}

/// What a table of so many slots takes.
pub(super) fn footprint(capacity: usize) -> u64 {
    malloc_footprint(offset_of!(Header, slots) + capacity * size_of::<Slot>())
}

impl<'a> Table<'a> {
    /// A table of slots that were never used. The caller has charged for it.
    pub(super) fn new(capacity: usize) -> Result<Table<'a>> {
        let slots = u32::try_from(capacity).map_err(|_| Errno::ENOSPC)?;
        let layout = layout(capacity).ok_or(Errno::ENOMEM)?;
        allocation!("lockless.names.table")?;
        let at = Nodes.allocate(layout).map_err(|_| Errno::ENOMEM)?.cast::<Header>();
        // SAFETY: fresh memory of that layout: a header and `capacity` slots.
        unsafe {
            at.write(Header { capacity: slots, used: AtomicU32::new(0), slots: [] });
            let slots = (&raw mut (*at.as_ptr()).slots).cast::<Slot>();
            for place in 0..capacity {
                slots.add(place).write(Slot::new(ptr::null_mut()));
            }
        }
        Ok(Table { at, good: PhantomData })
    }

    /// # Safety
    /// Made by `new`, and not freed before `'a` ends: it was a directory's table under a pin or lock that `'a` is the time of.
    #[inline]
    pub(super) unsafe fn from_raw(at: NonNull<Header>) -> Table<'a> {
        Table { at, good: PhantomData }
    }

    pub(super) fn as_ptr(self) -> *mut Header {
        self.at.as_ptr()
    }

    #[inline]
    fn header(self) -> &'a Header {
        epoch::note_look(self.at);
        // SAFETY: good for `'a` by the contract of `from_raw`.
        unsafe { self.at.as_ref() }
    }

    pub(super) fn capacity(self) -> usize {
        self.header().capacity as usize
    }

    /// Asks for the first slot of a hash's chain in a table of so many slots, which this one may not be.
    #[inline]
    pub(super) fn prefetch(self, hash: u32, slots: u32) {
        let first = offset_of!(Header, slots) + first_slot(hash, slots as usize) * size_of::<Slot>();
        prefetch(self.at.as_ptr().cast_const().cast::<u8>().wrapping_add(first), 1);
    }

    /// The slots of a hash's chain, all of the table's in the end.
    #[inline]
    fn chain(self, hash: u32) -> impl Iterator<Item = &'a Slot> {
        let capacity = self.capacity();
        let mut next = first_slot(hash, capacity);
        (0..capacity).map(move |_| {
            // SAFETY: good for `'a`, and places below `capacity` are slots. The pointer is the allocation's, not the header's.
            let slot = unsafe { &*(&raw const (*self.at.as_ptr()).slots).cast::<Slot>().add(next) };
            next = if next + 1 == capacity { 0 } else { next + 1 };
            slot
        })
    }

    /// The dentry with this hash that `is` accepts.
    #[inline]
    pub(super) fn find_where(self, hash: u32, is: impl Fn(Dentry<'a>) -> bool) -> Option<Dentry<'a>> {
        let tag = tag(hash);
        for slot in self.chain(hash) {
            let found = slot.load(Acquire);
            let at = found.map_addr(|address| address ^ tag);
            // Null and TOMBSTONE are null with some tag, and no dentry is.
            let Some(at) = NonNull::new(at).filter(|at| at.addr().get() & TAG == 0) else {
                if found.is_null() {
                    return None;
                }
                continue;
            };
            failpoint!("lockless.names.probe");
            dentry::prefetch_inode(at);
            // SAFETY: a dentry is retired after its slot is a tombstone, so this one outlives the pin or lock of `'a`.
            let dentry = unsafe { Dentry::from_raw(at) };
            if dentry.hash() == hash && is(dentry) {
                return Some(dentry);
            }
        }
        None
    }

    /// The dentry with this name.
    #[inline]
    pub(super) fn find(self, name: Name<'_>) -> Option<Dentry<'a>> {
        self.find_where(name.hash, |dentry| dentry.name() == name.bytes)
    }

    /// Whether one more may be entered.
    pub(super) fn has_room(self) -> bool {
        (self.header().used.load(Relaxed) as usize + 1) * 4 <= self.capacity() * 3
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn has_never_used_quarter(self) -> bool {
        let never_used = self.chain(0).filter(|slot| slot.load(Relaxed).is_null()).count();
        never_used == self.capacity() - self.header().used.load(Relaxed) as usize
            && never_used * 4 >= self.capacity()
    }

    /// Shows a dentry in the first slot of its chain that was never used.
    pub(super) fn enter(self, dentry: Dentry<'_>) {
        let slot = self.chain(dentry.hash()).find(|slot| slot.load(Relaxed).is_null());
        slot.expect("a quarter was never used").store(tagged(dentry), Release);
        self.header().used.store(self.header().used.load(Relaxed) + 1, Relaxed);
    }

    /// Makes the slot of `dentry` a tombstone.
    pub(super) fn bury(self, dentry: Dentry<'_>) {
        let slot = self.chain(dentry.hash()).find(|slot| slot.load(Relaxed) == tagged(dentry));
        slot.expect("it was entered").store(TOMBSTONE, Release);
    }

    /// Enters all dentries of another table into this one, which nobody else can see and that has room.
    pub(super) fn fill_from(self, other: Table<'_>) {
        for slot in other.chain(0) {
            if let Some(dentry) = untagged(slot.load(Relaxed)) {
                // SAFETY: what the slots of a directory's table show the holder of its lock is not retired.
                self.enter(unsafe { Dentry::from_raw(dentry) });
            }
        }
    }

    /// Frees it when no pin can see it.
    ///
    /// # Safety
    /// It is no directory's any more. Called once.
    pub(super) unsafe fn retire(self, guard: &Guard, space: &Arc<Space>) {
        let bytes = footprint(self.capacity());
        // SAFETY: by this function's contract. The closure runs when nobody sees it.
        unsafe { super::retire(self.at, bytes, space, guard, |at| Table::from_raw(at).free()) };
    }

    /// Frees it; what is to be released.
    ///
    /// # Safety
    /// Nobody sees it any more.
    pub(super) unsafe fn free(self) -> u64 {
        // SAFETY: by this function's contract; made by `new` with this layout, freed once.
        unsafe {
            let capacity = self.at.as_ref().capacity as usize;
            let layout = layout(capacity).expect("it was made with it");
            if core::mem::needs_drop::<Slot>() {
                let slots = (&raw mut (*self.at.as_ptr()).slots).cast::<Slot>();
                ptr::slice_from_raw_parts_mut(slots, capacity).drop_in_place();
            }
            self.at.drop_in_place();
            Nodes.deallocate(self.at.cast(), layout);
            footprint(capacity)
        }
    }
}
