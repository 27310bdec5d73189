//! The block map of one file: block index to block, as a radix tree of 32 slots a node.
//!
//! Promises: a file of one block needs no node at all; holes cost nothing, at any size; a node that
//! becomes empty is let go of. Every node is charged as metadata before it is made. Depth is at most 10
//! (2^47 blocks of 64 KiB are 2^63 bytes). Whoever walks the map beside a change of it finds each slot's block as it was
//! before or as it is after. Never: a lock; changes need the file's books, which are behind its lock. Never drops what is
//! taken out: that is handed to the caller, piece by piece (`exclusion`).

use core::ops::{ControlFlow, Range};
use core::ptr::NonNull;

use ermfs_memory::sync::Arc;
use ermfs_memory::{Counted, Kind, Purpose};

use super::block::{Block, BlockRef, RawBlock};
use super::file::Books;
use super::garbage::Garbage;
use super::slot::{Entry, Keeps, Slot};
use crate::errno::Result;
use crate::space::Space;

const BITS: u32 = 5;
const FANOUT: usize = 1 << BITS;

/// 32 slots of the level below.
pub(super) struct Node {
    space: Arc<Space>,
    /// Levels from here down to the blocks: 1 where the slots name blocks.
    height: u32,
    slots: [Slot; FANOUT],
}

impl Node {
    fn try_new(space: &Arc<Space>, height: u32, purpose: Purpose) -> Result<Counted<Node>> {
        let charge = space.charged(Kind::Metadata, Counted::<Node>::footprint(), purpose)?;
        let node = Node { space: Arc::clone(space), height, slots: core::array::from_fn(|_| Slot::empty()) };
        charge.keep();
        Ok(Counted::try_new(node).map_err(|(error, _)| error)?)
    }

    fn is_empty(&self) -> bool {
        self.slots.iter().all(Slot::is_empty)
    }
}

impl Node {
    /// Forgets what the first slot names.
    pub(super) fn forget_first(&mut self) {
        self.slots[0].forget();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.space.release(Kind::Metadata, Counted::<Node>::footprint());
    }
}

/// See the module's page.
pub(super) struct BlockMap {
    /// Names block 0, or the top node.
    root: Slot,
}

/// The index within a node whose children stand `height` levels above the blocks.
fn digit(index: u64, height: u32) -> usize {
    ((index >> (BITS * height)) as usize) & (FANOUT - 1)
}

/// How many blocks a subtree of this height spans.
fn span(height: u32) -> u64 {
    1 << (BITS * height)
}

impl BlockMap {
    pub(super) fn new() -> BlockMap {
        BlockMap { root: Slot::empty() }
    }

    /// Whether nothing is in it, not even a node.
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// The block at `index`.
    #[inline]
    pub(super) fn get<'k>(&self, index: u64, keep: &'k impl Keeps) -> Option<BlockRef<'k>> {
        // One load of each slot: beside a reader without the lock the next one may find something else.
        let (mut node, mut height) = match self.root.entry(keep) {
            Entry::Node(top) if index < span(top.height) => (top, top.height),
            Entry::Block(block) if index == 0 => return Some(block),
            _ => return None,
        };
        loop {
            // Counted here: a lower node's own height lies in another line than the slot.
            height -= 1;
            match node.slots[digit(index, height)].entry(keep) {
                Entry::Node(below) => node = below,
                Entry::Block(block) => return Some(block),
                Entry::Empty => return None,
            }
        }
    }

    /// One more counted reference to the block at `index`.
    pub(super) fn share(&self, index: u64, keep: &impl Keeps) -> Option<Block> {
        self.slot(index, keep)?.share(keep)
    }

    /// The slot of `index`, if there are nodes down to it.
    #[inline]
    pub(super) fn slot<'k>(&'k self, index: u64, keep: &'k impl Keeps) -> Option<&'k Slot> {
        let (mut node, mut height) = match self.root.entry(keep) {
            Entry::Node(top) if index < span(top.height) => (top, top.height),
            Entry::Node(_) => return None,
            _ => return (index == 0).then_some(&self.root),
        };
        loop {
            height -= 1;
            let slot = &node.slots[digit(index, height)];
            if height == 0 {
                return Some(slot);
            }
            let Entry::Node(below) = slot.entry(keep) else { return None };
            node = below;
        }
    }

    /// Makes the nodes down to `index` where they are missing.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM`; nodes made so far stay until the map is cut or freed, and are empty.
    pub(super) fn make_way(
        &self,
        index: u64,
        space: &Arc<Space>,
        books: &mut Books,
        purpose: Purpose,
    ) -> Result<()> {
        let mut height = self.height(books);
        while index >= span(height) {
            height += 1;
            if self.root.is_empty() && index >= span(height) {
                continue;
            }
            let mut above = Node::try_new(space, height, purpose)?;
            let node = above.get_mut().expect("a new node has one reference");
            // What the root named has two owners for a moment: a reader finds it all the time.
            node.slots[0] = self.root.duplicate();
            self.root.replace(Slot::of_node(above), books).disown();
        }
        let mut at = &self.root;
        while height > 0 {
            if at.is_empty() {
                let node = Slot::of_node(Node::try_new(space, height, purpose)?);
                let before = at.replace(node, books);
                debug_assert!(before.is_empty());
            }
            height -= 1;
            // SAFETY: nothing is taken out here.
            at = unsafe { child(at, digit(index, height), books) }.expect("the node was there or is made");
        }
        Ok(())
    }

    /// Calls `each` for every block of `range` that is there, in order, until it breaks.
    pub(super) fn for_each<'a, B>(
        &'a self,
        range: Range<u64>,
        books: &'a Books,
        mut each: impl FnMut(u64, &'a Slot, BlockRef<'a>) -> ControlFlow<B>,
    ) -> Option<B> {
        visit(&self.root, self.height(books), 0, &range, books, &mut each).break_value()
    }

    /// Takes every block of `range` out, and the nodes that become empty.
    pub(super) fn remove(&self, range: Range<u64>, books: &mut Books, let_go: &mut impl FnMut(Garbage)) {
        remove(&self.root, self.height(books), 0, &range, books, let_go);
        // A file that was cut down to its first blocks is as compact as one that never was longer.
        while let Entry::Node(top) = self.root.entry(books) {
            if top.slots[1..].iter().any(|slot| !slot.is_empty()) {
                return;
            }
            let first = top.slots[0].duplicate();
            let_go(Garbage::Top(self.root.replace(first, books)));
        }
    }

    /// Has `other`'s blocks instead of its own, in one step.
    pub(super) fn exchange(&self, other: BlockMap, books: &mut Books) -> Slot {
        self.root.replace(other.root, books)
    }

    /// Puts `block` at `index`, where nothing is, of a map that nobody else knows.
    pub(super) fn insert(
        &self,
        index: u64,
        block: Block,
        space: &Arc<Space>,
        books: &mut Books,
        purpose: Purpose,
    ) -> Result<()> {
        self.make_way(index, space, books, purpose)?;
        let before = self.replace(index, Slot::of_block(block), books);
        debug_assert!(before.is_empty());
        Ok(())
    }

    /// Levels of nodes above the blocks: 0 while the root itself names block 0, or nothing.
    fn height(&self, books: &Books) -> u32 {
        match self.root.entry(books) {
            Entry::Node(top) => top.height,
            _ => 0,
        }
    }

    /// Has the slot of `index`, which is there, name what `new` names.
    #[must_use]
    pub(super) fn replace(&self, index: u64, new: Slot, books: &mut Books) -> Slot {
        // SAFETY: nothing is taken out on the way.
        unsafe { self.slot_mut(index, books) }.expect("a way to it was made").replace(new, books)
    }

    /// The raw block at `index`, if the map has the only reference to it ([`Slot::sole_raw`]).
    #[inline]
    pub(super) fn sole_raw(&self, index: u64, books: &mut Books) -> Option<NonNull<RawBlock>> {
        // SAFETY: nothing is taken out on the way.
        unsafe { self.slot_mut(index, books) }?.sole_raw(books)
    }

    /// As [`BlockMap::slot`], without keeping the books borrowed.
    ///
    /// # Safety
    /// Nothing is taken out of the map while the slot is used.
    #[inline]
    unsafe fn slot_mut(&self, index: u64, books: &mut Books) -> Option<&Slot> {
        let slot: *const Slot = self.slot(index, books)?;
        // SAFETY: a slot lies in the map or in a node, which stays by this function's contract.
        Some(unsafe { &*slot })
    }
}

/// A slot of the node that `slot` names, if it names one.
///
/// # Safety
/// The node is not taken out while the result is used.
unsafe fn child<'a>(slot: &'a Slot, digit: usize, books: &mut Books) -> Option<&'a Slot> {
    let Entry::Node(node) = slot.entry(books) else { return None };
    let child: *const Slot = &node.slots[digit];
    // SAFETY: by this function's contract.
    Some(unsafe { &*child })
}

fn visit<'a, B>(
    slot: &'a Slot,
    height: u32,
    base: u64,
    range: &Range<u64>,
    books: &'a Books,
    each: &mut impl FnMut(u64, &'a Slot, BlockRef<'a>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    match slot.entry(books) {
        Entry::Empty => ControlFlow::Continue(()),
        Entry::Block(block) if range.contains(&base) => each(base, slot, block),
        Entry::Block(_) => ControlFlow::Continue(()),
        Entry::Node(node) => {
            for (child, from) in node.slots.iter().zip((base..).step_by(span(height - 1) as usize)) {
                if from < range.end && from + (span(height - 1) - 1) >= range.start {
                    visit(child, height - 1, from, range, books, each)?;
                }
            }
            ControlFlow::Continue(())
        }
    }
}

fn remove(
    slot: &Slot,
    height: u32,
    base: u64,
    range: &Range<u64>,
    books: &mut Books,
    let_go: &mut impl FnMut(Garbage),
) {
    if slot.is_empty() || base >= range.end || base + (span(height) - 1) < range.start {
        return;
    }
    if range.start <= base && base + (span(height) - 1) < range.end {
        return let_go(Garbage::tree(slot.replace(Slot::empty(), books), 0));
    }
    if height == 0 {
        return;
    }
    for (digit, from) in (base..).step_by(span(height - 1) as usize).take(FANOUT).enumerate() {
        // SAFETY: the node is taken out after its children only.
        let Some(child) = (unsafe { child(slot, digit, books) }) else { return };
        remove(child, height - 1, from, range, books, let_go);
    }
    if let Entry::Node(node) = slot.entry(books)
        && node.is_empty()
    {
        let_go(Garbage::tree(slot.replace(Slot::empty(), books), 0));
    }
}
