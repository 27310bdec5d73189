//! One word of the block map: empty, a block, or a node of the map below.
//!
//! Promises: a slot owns one counted reference of what it names, and hands it over, as a slot of its own, when it is
//! made to name something else. It is one atomic word, which is replaced in one step. The three low bits of a counted
//! pointer are free (`Counted`), and two of them say what the word names. Never drops what it named: whoever looks
//! without the file's lock may still be at it (`exclusion`).
//!
//! What is borrowed from a slot is borrowed from what [keeps](Keeps) it as well: the file's lock, or a pin.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use ermfs_memory::Counted;

use super::block::{Block, BlockRef, PackedBlock, RawBlock};
use super::file::Books;
use super::map::Node;
use crate::epoch::Guard;
use crate::sync::atomic::{AtomicUsize, Ordering};

const TAG: usize = 0b11;
const RAW: usize = 0b01;
const PACKED: usize = 0b10;
const NODE: usize = 0b11;

/// See the module's page.
pub(super) struct Slot(AtomicUsize);

/// What keeps blocks and nodes that are reached through slots from being freed.
///
/// # Safety
/// While a value of the type is borrowed, nothing that a slot of the file at hand names, or named since the borrow
/// began, is freed.
pub(super) unsafe trait Keeps {}

// SAFETY: the books of a file are behind its lock, which is held while they are borrowed; who replaces what a slot names
// borrows them exclusively, so no such borrow is alive then.
unsafe impl Keeps for Books {}

/// A pin on behalf of a reader of a file in lockless mode.
pub(super) struct Pinned<'g> {
    _guard: &'g Guard,
}

impl<'g> Pinned<'g> {
    /// # Safety
    /// The file's filesystem is in lockless mode: what slots named goes through the collector there.
    pub(super) unsafe fn new(guard: &'g Guard) -> Pinned<'g> {
        Pinned { _guard: guard }
    }
}

// SAFETY: by the contract of `new`, whatever a slot named is freed after the pins that may have seen it.
unsafe impl Keeps for Pinned<'_> {}

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
    pub(super) fn empty() -> Slot {
        Slot(AtomicUsize::new(0))
    }

    pub(super) fn of_block(block: Block) -> Slot {
        Slot(AtomicUsize::new(match block {
            Block::Raw(block) => tagged(block, RAW),
            Block::Packed(block) => tagged(block, PACKED),
        }))
    }

    pub(super) fn of_node(node: Counted<Node>) -> Slot {
        Slot(AtomicUsize::new(tagged(node, NODE)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// What the slot names.
    #[inline]
    pub(super) fn entry<'k>(&self, _keep: &'k impl Keeps) -> Entry<'k> {
        // Acquire pairs with `replace` (and with the lock's release).
        let word = self.0.load(Ordering::Acquire);
        // SAFETY: the slot owned a reference to what its word names when it was loaded, and that is not given up while
        // `_keep` is borrowed.
        unsafe {
            match word & TAG {
                RAW => Entry::Block(BlockRef::Raw(untagged::<RawBlock>(word).as_ref())),
                PACKED => Entry::Block(BlockRef::Packed(untagged::<PackedBlock>(word).as_ref())),
                NODE => Entry::Node(untagged::<Node>(word).as_ref()),
                _ => Entry::Empty,
            }
        }
    }

    /// One more counted reference to the block the slot names.
    pub(super) fn share(&self, _keep: &impl Keeps) -> Option<Block> {
        let word = self.0.load(Ordering::Acquire);
        // SAFETY: the word holds what `into_raw` gave (a reference to the block would not do: the count
        // lies outside of it), and `_keep` keeps the block during the call.
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

    /// The raw block the slot names, if it holds the only reference to it: then only who holds the file's lock alone, or
    /// a pin, can be looking at it.
    #[inline]
    pub(super) fn sole_raw(&self, _books: &mut Books) -> Option<NonNull<RawBlock>> {
        let word = self.0.load(Ordering::Relaxed);
        if word & TAG != RAW {
            return None;
        }
        let raw = untagged::<RawBlock>(word);
        // SAFETY: the slot owns this reference; the extra handle is not dropped.
        let handle = ManuallyDrop::new(unsafe { Counted::from_raw(raw) });
        handle.is_unique().then_some(raw)
    }

    /// Names what `new` names from now on. The result names what it named before, for the caller to let go of.
    #[must_use]
    pub(super) fn replace(&self, new: Slot, _books: &mut Books) -> Slot {
        let word = ManuallyDrop::new(new).0.load(Ordering::Relaxed);
        // Release: whoever loads the word sees what it names whole.
        Slot(AtomicUsize::new(self.0.swap(word, Ordering::AcqRel)))
    }

    /// A second owner of what the slot names; one of the two is to be disowned.
    pub(super) fn duplicate(&self) -> Slot {
        Slot(AtomicUsize::new(self.0.load(Ordering::Acquire)))
    }

    /// Forgets what the slot names, which has another owner.
    pub(super) fn disown(self) {
        core::mem::forget(self);
    }

    /// The same in place.
    pub(super) fn forget(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The node below, of a slot that nobody else knows.
    pub(super) fn node_mut(&mut self) -> Option<&mut Node> {
        let word = self.0.load(Ordering::Relaxed);
        // SAFETY: a node has the one reference its slot owns, and the slot is borrowed exclusively.
        (word & TAG == NODE).then(|| unsafe { &mut *untagged::<Node>(word).as_ptr() })
    }

    /// The raw block that the slot names, of which the slot owned a reference.
    pub(super) fn into_raw_block(self) -> Option<Counted<RawBlock>> {
        let word = self.0.load(Ordering::Relaxed);
        if word & TAG != RAW {
            return None;
        }
        self.disown();
        // SAFETY: the reference that the slot owned is taken over.
        Some(unsafe { Counted::from_raw(untagged(word)) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let word = self.0.load(Ordering::Relaxed);
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
