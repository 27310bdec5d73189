//! One word of the block map: empty, a block, or a node of the map below.
//!
//! Promises: a slot owns one counted reference of what it names and gives it up when it is
//! overwritten or dropped. It is one atomic word, so that a lock-free reader may load it; in locked
//! mode it is changed only through `&mut Slot`. The three low bits of a counted pointer are free
//! (`Counted`), and two of them say what the word names.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use ermfs_memory::Counted;

use super::block::{Block, BlockRef, PackedBlock, RawBlock};
use super::map::Node;

const TAG: usize = 0b11;
const RAW: usize = 0b01;
const PACKED: usize = 0b10;
const NODE: usize = 0b11;

/// See the module's page.
pub(super) struct Slot(AtomicUsize);

/// What a slot names, borrowed.
pub(super) enum Entry<'a> {
    Empty,
    Block(BlockRef<'a>),
    Node(&'a Node),
}

fn tagged<T>(counted: Counted<T>, tag: usize) -> usize {
    counted.into_raw().as_ptr() as usize | tag
}

fn untagged<T>(word: usize) -> NonNull<T> {
    NonNull::new((word & !TAG) as *mut T).expect("a tagged word names something")
}

impl Slot {
    pub(super) const fn empty() -> Slot {
        Slot(AtomicUsize::new(0))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// What the slot names. The borrow of the slot keeps it from being changed.
    #[inline]
    pub(super) fn entry(&self) -> Entry<'_> {
        // Acquire pairs with the lock's release (locked mode) and with the slot swap (lockless mode).
        let word = self.0.load(Ordering::Acquire);
        // SAFETY: the slot owns a reference to what its word names, and while the slot is borrowed
        // shared nobody overwrites it (`set` and `take` need `&mut`).
        unsafe {
            match word & TAG {
                RAW => Entry::Block(BlockRef::Raw(untagged::<RawBlock>(word).as_ref())),
                PACKED => Entry::Block(BlockRef::Packed(untagged::<PackedBlock>(word).as_ref())),
                NODE => Entry::Node(untagged::<Node>(word).as_ref()),
                _ => Entry::Empty,
            }
        }
    }

    /// The block the slot names, borrowed.
    #[inline]
    pub(super) fn block(&self) -> Option<BlockRef<'_>> {
        match self.entry() {
            Entry::Block(block) => Some(block),
            _ => None,
        }
    }

    /// One more counted reference to the block the slot names.
    pub(super) fn share(&self) -> Option<Block> {
        let word = self.0.load(Ordering::Acquire);
        // SAFETY: the word holds what `into_raw` gave (a reference to the block would not do: the count
        // lies outside of it), and the slot's own reference keeps the block during the call.
        unsafe {
            match word & TAG {
                RAW => Some(Block::Raw(Counted::share_raw(untagged(word)))),
                PACKED => Some(Block::Packed(Counted::share_raw(untagged(word)))),
                _ => None,
            }
        }
    }

    /// Whether the slot names exactly this raw block.
    pub(super) fn names(&self, block: &Counted<RawBlock>) -> bool {
        self.0.load(Ordering::Relaxed) == block.as_raw().as_ptr() as usize | RAW
    }

    /// The raw block for changing, if the slot names one and holds the only reference to it.
    #[inline]
    pub(super) fn raw_mut(&mut self) -> Option<&mut RawBlock> {
        let word = *self.0.get_mut();
        if word & TAG != RAW {
            return None;
        }
        let raw = untagged::<RawBlock>(word);
        // SAFETY: the slot owns this reference; the extra handle is not dropped.
        let handle = ManuallyDrop::new(unsafe { Counted::from_raw(raw) });
        // SAFETY: the only reference belongs to this slot, which is borrowed exclusively for as long as
        // the block is.
        handle.is_unique().then(|| unsafe { &mut *raw.as_ptr() })
    }

    /// The node below, for changing. Nodes are never shared.
    pub(super) fn node_mut(&mut self) -> Option<&mut Node> {
        let word = *self.0.get_mut();
        // SAFETY: a node has the one reference its slot owns, and the slot is borrowed exclusively.
        (word & TAG == NODE).then(|| unsafe { &mut *untagged::<Node>(word).as_ptr() })
    }

    /// Names `block` from now on, and lets go of what was named before.
    pub(super) fn set(&mut self, block: Option<Block>) {
        let word = match block {
            None => 0,
            Some(Block::Raw(block)) => tagged(block, RAW),
            Some(Block::Packed(block)) => tagged(block, PACKED),
        };
        drop(self.replace(word));
    }

    /// Names `node`; the slot was empty or its content has been moved into the node.
    pub(super) fn set_node(&mut self, node: Counted<Node>) {
        drop(self.replace(tagged(node, NODE)));
    }

    /// Moves what the slot names out of it.
    pub(super) fn take(&mut self) -> Slot {
        self.replace(0)
    }

    fn replace(&mut self, word: usize) -> Slot {
        Slot(AtomicUsize::new(self.0.swap(word, Ordering::AcqRel)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let word = *self.0.get_mut();
        // SAFETY: the slot owns exactly one reference of what its word names, and gives it up here.
        unsafe {
            match word & TAG {
                RAW => drop(Counted::<RawBlock>::from_raw(untagged(word))),
                PACKED => drop(Counted::<PackedBlock>::from_raw(untagged(word))),
                NODE => drop(Counted::<Node>::from_raw(untagged(word))),
                _ => {}
            }
        }
    }
}
