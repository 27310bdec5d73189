//! The block map of one file: block index to block, as a radix tree of 32 slots a node.
//!
//! Promises: a file of one block needs no node at all; holes cost nothing, at any size; a node that
//! becomes empty is freed. Every node is charged as metadata before it is made. Depth is at most 10
//! (2^47 blocks of 64 KiB are 2^63 bytes). Never: a lock; exclusion is the caller's.

use core::ops::{ControlFlow, Range};
use std::sync::Arc;

use ermfs_memory::{Counted, Kind, Purpose};

use super::block::{Block, BlockRef};
use super::slot::{Entry, Slot};
use crate::errno::Result;
use crate::space::Space;

const BITS: u32 = 5;
const FANOUT: usize = 1 << BITS;

/// 32 slots of the level below.
pub(super) struct Node {
    space: Arc<Space>,
    slots: [Slot; FANOUT],
}

impl Node {
    fn try_new(space: &Arc<Space>, purpose: Purpose) -> Result<Counted<Node>> {
        let charge = space.charged(Kind::Metadata, Counted::<Node>::footprint(), purpose)?;
        let node = Node { space: Arc::clone(space), slots: [const { Slot::empty() }; FANOUT] };
        charge.keep();
        Ok(Counted::try_new(node).map_err(|(error, _)| error)?)
    }

    fn is_empty(&self) -> bool {
        self.slots.iter().all(Slot::is_empty)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.space.release(Kind::Metadata, Counted::<Node>::footprint());
    }
}

/// See the module's page.
pub(super) struct BlockMap {
    root: Slot,
    /// Levels of nodes above the blocks: 0 while the root itself names block 0.
    height: u32,
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
    pub(super) const fn new() -> BlockMap {
        BlockMap { root: Slot::empty(), height: 0 }
    }

    /// The block at `index`.
    #[inline]
    pub(super) fn get(&self, index: u64) -> Option<BlockRef<'_>> {
        self.slot(index)?.block()
    }

    /// The slot of `index`, if there are nodes down to it.
    #[inline]
    pub(super) fn slot(&self, index: u64) -> Option<&Slot> {
        if index >= span(self.height) {
            return None;
        }
        let mut slot = &self.root;
        for height in (0..self.height).rev() {
            let Entry::Node(node) = slot.entry() else { return None };
            slot = &node.slots[digit(index, height)];
        }
        Some(slot)
    }

    /// The slot of `index`, if there are nodes down to it, for changing.
    #[inline]
    pub(super) fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        if index >= span(self.height) {
            return None;
        }
        let mut slot = &mut self.root;
        for height in (0..self.height).rev() {
            slot = &mut slot.node_mut()?.slots[digit(index, height)];
        }
        Some(slot)
    }

    /// The slot of `index`, with the nodes down to it made where they are missing.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM`; nodes made so far stay until the map is cut or freed, and are empty.
    pub(super) fn slot_or_new(
        &mut self,
        index: u64,
        space: &Arc<Space>,
        purpose: Purpose,
    ) -> Result<&mut Slot> {
        while index >= span(self.height) {
            if !self.root.is_empty() {
                let mut above = Node::try_new(space, purpose)?;
                let node = above.get_mut().expect("a new node has one reference");
                node.slots[0] = self.root.take();
                self.root.set_node(above);
            }
            self.height += 1;
        }
        let mut slot = &mut self.root;
        for height in (0..self.height).rev() {
            if slot.is_empty() {
                slot.set_node(Node::try_new(space, purpose)?);
            }
            let node = slot.node_mut().expect("an inner slot names a node");
            slot = &mut node.slots[digit(index, height)];
        }
        Ok(slot)
    }

    /// Calls `each` for every block of `range` that is there, in order, until it breaks.
    pub(super) fn for_each<'a, B>(
        &'a self,
        range: Range<u64>,
        mut each: impl FnMut(u64, &'a Slot, BlockRef<'a>) -> ControlFlow<B>,
    ) -> Option<B> {
        visit(&self.root, self.height, 0, &range, &mut each).break_value()
    }

    /// Removes every block of `range`, and the nodes that become empty.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        remove(&mut self.root, self.height, 0, &range);
        // A file that was cut down to its first blocks is as compact as one that never was longer.
        while let Some(node) = self.root.node_mut() {
            if node.slots[1..].iter().any(|slot| !slot.is_empty()) {
                return;
            }
            let first = node.slots[0].take();
            self.root = first;
            self.height -= 1;
        }
        if self.root.is_empty() {
            self.height = 0;
        }
    }

    /// Puts `block` at `index`.
    pub(super) fn insert(
        &mut self,
        index: u64,
        block: Block,
        space: &Arc<Space>,
        purpose: Purpose,
    ) -> Result<()> {
        self.slot_or_new(index, space, purpose)?.set(Some(block));
        Ok(())
    }
}

fn visit<'a, B>(
    slot: &'a Slot,
    height: u32,
    base: u64,
    range: &Range<u64>,
    each: &mut impl FnMut(u64, &'a Slot, BlockRef<'a>) -> ControlFlow<B>,
) -> ControlFlow<B> {
    match slot.entry() {
        Entry::Empty => ControlFlow::Continue(()),
        Entry::Block(block) if range.contains(&base) => each(base, slot, block),
        Entry::Block(_) => ControlFlow::Continue(()),
        Entry::Node(node) => {
            for (child, from) in node.slots.iter().zip((base..).step_by(span(height - 1) as usize)) {
                if from < range.end && from + (span(height - 1) - 1) >= range.start {
                    visit(child, height - 1, from, range, each)?;
                }
            }
            ControlFlow::Continue(())
        }
    }
}

fn remove(slot: &mut Slot, height: u32, base: u64, range: &Range<u64>) {
    if slot.is_empty() || base >= range.end || base + (span(height) - 1) < range.start {
        return;
    }
    if range.start <= base && base + (span(height) - 1) < range.end {
        drop(slot.take());
        return;
    }
    let Some(node) = slot.node_mut() else { return };
    for (child, from) in node.slots.iter_mut().zip((base..).step_by(span(height - 1) as usize)) {
        remove(child, height - 1, from, range);
    }
    if node.is_empty() {
        drop(slot.take());
    }
}
