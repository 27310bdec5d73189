//! What was taken out of a file and may still be looked at: blocks, nodes of the map, pages.
//!
//! Promises: dropping it frees what it was, and nothing that has another owner. Where readers take no lock it is dropped
//! through the collector, counted by bytes in its filesystem until then, and pushed towards being freed whenever a
//! thread has retired a stated number of bytes. Owns what it names.

use core::cell::Cell;
use core::ptr::NonNull;

use ermfs_memory::{Counted, PAGE_SIZE};

use super::block::RawBlock;
use super::slot::Slot;
use crate::epoch;
use crate::space::Space;

/// How many bytes a thread retires before it hands them to all threads to be freed: what one that does nothing any more
/// keeps to itself stays below.
const PUSHED_AT: u64 = 64 << 10;

thread_local! {
    static UNPUSHED: Cell<u64> = const { Cell::new(0) };
}

/// See the module's page.
pub(super) enum Garbage {
    /// A block, or a node with all that is below it. The bytes are those of the blocks.
    Tree { slot: Slot, bytes: u32 },
    /// The top node of a map, whose first slot has become the top: what that names is no part of this.
    Top(Slot),
    /// A raw block of which these pages, a bit for each, are its successor's now.
    Replaced { block: Counted<RawBlock>, passed_on: u16 },
}

const _: () = assert!(size_of::<Garbage>() <= 16, "the closure that drops it would be boxed");

impl Garbage {
    /// What a slot named, with blocks of so many bytes.
    pub(super) fn tree(slot: Slot, bytes: u64) -> Garbage {
        Garbage::Tree { slot, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }

    /// The same, of so many bytes.
    pub(super) fn with_bytes(self, bytes: u64) -> Garbage {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let mut garbage = self;
        if let Garbage::Tree { bytes: counted, .. } = &mut garbage {
            *counted = bytes;
        }
        garbage
    }

    /// What named a raw block that only the map held, and that passed these pages on.
    pub(super) fn replaced(old: Slot, passed_on: u16) -> Garbage {
        Garbage::Replaced { block: old.into_raw_block().expect("a raw block was replaced"), passed_on }
    }

    fn bytes(&self) -> u64 {
        match self {
            Garbage::Tree { bytes, .. } => u64::from(*bytes),
            Garbage::Top(_) => 0,
            Garbage::Replaced { block, passed_on } => {
                (block.page_count() - passed_on.count_ones() as usize) as u64 * PAGE_SIZE as u64
            }
        }
    }

    /// Drops it after every pin that there is now. `space` is the space of its file.
    pub(super) fn retire(self, space: &Space) {
        if let Garbage::Tree { slot, .. } = &self
            && slot.is_empty()
        {
            return;
        }
        let bytes = self.bytes();
        space.note_retired(bytes);
        let retired = Retired { garbage: self, space: NonNull::from(space) };
        let guard = epoch::pin();
        // SAFETY: what is dropped owns all it needs and may be dropped by any thread (see `Retired`).
        unsafe { guard.defer_unchecked(move || drop(retired)) };
        let unpushed = UNPUSHED.get() + bytes;
        UNPUSHED.set(if unpushed < PUSHED_AT { unpushed } else { 0 });
        if unpushed >= PUSHED_AT {
            guard.flush();
        }
    }
}

impl Drop for Garbage {
    fn drop(&mut self) {
        match self {
            Garbage::Tree { .. } => {}
            Garbage::Top(slot) => {
                if let Some(node) = slot.node_mut() {
                    node.forget_first();
                }
            }
            Garbage::Replaced { block, passed_on } => {
                // A block that is replaced so has one reference, and by now no reader is left.
                let block = block.get_mut().expect("nobody else has a block that was replaced");
                block.forget(*passed_on);
            }
        }
    }
}

/// Garbage on its way through the collector.
struct Retired {
    garbage: Garbage,
    /// Every block and node holds a reference of its space, so this is there until they are dropped.
    space: NonNull<Space>,
}

// SAFETY: blocks and nodes are `Send`, and a space may be used by any thread.
unsafe impl Send for Retired {}

impl Drop for Retired {
    fn drop(&mut self) {
        // SAFETY: the garbage is dropped after this (it is a field), and holds the space until then.
        unsafe { self.space.as_ref() }.note_freed(self.garbage.bytes());
    }
}
