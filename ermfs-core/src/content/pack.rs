//! Packing: what a file's changed blocks become when nobody writes it any more.
//!
//! Promises: packing never fails and never loses a byte; what cannot be packed stays raw. One block
//! at a time, its pages freed as soon as its member stands. No lock is held while a block is
//! compressed: a counted reference to it makes every writer copy, so if the slot still names the
//! block afterwards, nothing has changed it. Blocks that were not changed since are not looked at.

use core::ops::ControlFlow;

use ermfs_memory::{Counted, PAGE_SIZE, Piece};

use super::block::{Block, BlockRef, PackedBlock, RawBlock};
use super::exclusion::Exclusion;
use super::file::Books;
use super::garbage::Garbage;
use super::{BLOCK, Content, Scratch, in_mode, valid_in};
use crate::codec;
use crate::gate;
use crate::space::Compress;
use crate::sync::atomic::Ordering;

/// A block to pack: where it is, what it is, and how many of its bytes the file has.
struct Candidate {
    index: u64,
    block: Counted<RawBlock>,
    valid: usize,
}

/// What a block becomes.
enum Packed {
    Hole,
    AsItIs,
    Block(Block),
}

impl Content {
    /// A writable open file description of this file begins.
    pub fn open_writer(&self) {
        self.writers.fetch_add(1, Ordering::AcqRel);
    }

    /// A writable open file description ends. When it was the last one, the file is packed as the
    /// filesystem's policy says. `true`: the file wants to be queued for the background packer.
    pub fn close_writer(&self, linked: bool) -> bool {
        let last = self.writers.fetch_sub(1, Ordering::AcqRel) == 1;
        if !last || !linked {
            return false;
        }
        match self.space.policy().compress {
            Compress::Never => false,
            Compress::Background => !self.books.read().dirty.is_empty(),
            Compress::OnClose => {
                self.pack();
                false
            }
        }
    }

    /// Packs every changed block, as long as nobody opens the file for writing. What is left then,
    /// the last close of that writer packs.
    pub fn pack(&self) {
        let mut next = self.next_to_pack(0);
        if next.is_none() {
            return;
        }
        let Ok(mut scratch) = Scratch::take() else { return };
        while let Some(candidate) = next {
            let from = candidate.index + 1;
            // What cannot be packed for lack of memory stays raw, and dirty for the next time.
            if let Some(packed) = self.pack_block(&candidate, &mut scratch) {
                in_mode!(self, E => self.put_packed::<E>(candidate, packed));
            }
            gate::breathe();
            next = self.next_to_pack(from);
        }
    }

    /// The first changed raw block from `from` on, unless somebody writes the file. When there is none the file is clean.
    fn next_to_pack(&self, from: u64) -> Option<Candidate> {
        if self.writers.load(Ordering::Acquire) != 0 {
            return None;
        }
        let guard = self.books.read();
        let books: &Books = &guard;
        if books.dirty.is_empty() {
            return None;
        }
        let range = books.dirty.start.max(from)..books.dirty.end;
        let found = self.map.for_each(range, books, |index, slot, block| {
            let BlockRef::Raw(raw) = block else { return ControlFlow::Continue(()) };
            let Some(Block::Raw(block)) = (!raw.is_settled()).then(|| slot.share(books)).flatten() else {
                return ControlFlow::Continue(());
            };
            ControlFlow::Break(Candidate { index, block, valid: valid_in(index, self.size()) })
        });
        if found.is_none() {
            let to = books.dirty.end;
            drop(guard);
            self.note_packed(to);
        }
        found
    }

    /// Everything below `to` has been looked at.
    fn note_packed(&self, to: u64) {
        let mut books = self.books.write();
        // A writer that came meanwhile has marked its own blocks, and a block that could not be packed
        // is found again from the start of the range.
        if self.writers.load(Ordering::Acquire) == 0 && books.dirty.end <= to {
            let range = books.dirty.clone();
            let left = self.map.for_each(range, &books, |index, _, block| match block {
                BlockRef::Raw(raw) if !raw.is_settled() => ControlFlow::Break(index),
                _ => ControlFlow::Continue(()),
            });
            books.dirty.start = left.unwrap_or(books.dirty.end);
        }
    }

    /// What the candidate becomes, or `None` when there is no memory to find out.
    fn pack_block(&self, candidate: &Candidate, scratch: &mut Scratch) -> Option<Packed> {
        let Candidate { block, valid, .. } = candidate;
        if *valid == 0 {
            return Some(Packed::Hole);
        }
        let (room, member) = scratch.both();
        let bytes = block.gather(*valid, room);
        let level = self.space.policy().effective_level();
        let packed = match codec::pack(bytes, level, true, member).ok()? {
            codec::Packed::Zero => return Some(Packed::Hole),
            codec::Packed::Member(len) => PackedBlock::member(&self.space, &member[..len], *valid),
            // A short end that does not shrink still need not take whole pages.
            codec::Packed::Incompressible if takes_less(*valid, block.page_count()) => {
                self.space.counters.blocks_stored.fetch_add(1, Ordering::Relaxed);
                PackedBlock::plain(&self.space, bytes)
            }
            codec::Packed::Incompressible => {
                self.space.counters.blocks_stored.fetch_add(1, Ordering::Relaxed);
                return Some(Packed::AsItIs);
            }
        };
        Some(Packed::Block(Block::Packed(packed.ok()?)))
    }

    /// Puts the result in, if the block is still the one that was packed.
    fn put_packed<E: Exclusion>(&self, candidate: Candidate, packed: Packed) {
        let Candidate { index, block, valid } = candidate;
        let mut books = self.books.write();
        // Where readers take no lock the same block stays when the file is cut in a part of it that holds nothing but zeros:
        // what was packed would reach past the end (C2).
        let is_shorter = valid > valid_in(index, self.size());
        if is_shorter || !self.map.slot(index, &*books).is_some_and(|slot| slot.names(&block)) {
            return;
        }
        let logical = self.logical(&books);
        match packed {
            Packed::AsItIs => return block.settle(),
            Packed::Hole => self.remove_blocks::<E>(&mut books, index..index + 1),
            Packed::Block(new) => {
                self.space.counters.blocks_packed.fetch_add(1, Ordering::Relaxed);
                let (old, bytes) = self.put(&mut books, index, new);
                // The candidate's own reference first: what is let go of may be freed at once.
                drop(block);
                E::let_go(self, Garbage::tree(old, bytes));
            }
        }
        self.book_logical(logical, &books);
    }
}

/// Whether a piece of `len` bytes takes less memory than the pages do now.
fn takes_less(len: usize, pages: usize) -> bool {
    (len as u64) < BLOCK && Piece::footprint(len) < (pages * PAGE_SIZE) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Source;
    use crate::fs::Mode;
    use crate::space::{Policy, Space};

    #[test]
    fn what_was_cut_while_it_was_packed_does_not_reach_past_the_end() {
        let policy = Policy { compress: Compress::OnClose, level: 0, max_file_bytes: 0, cache_bytes: 0 };
        let content = Content::new(&Space::new(1 << 24, 85, policy, Mode::default()));
        assert_eq!(content.write_at(0, &mut Source::new(&[b'x'; 5000])), Ok(5000));
        content.truncate(10_000).unwrap();
        let candidate = content.next_to_pack(0).unwrap();
        let packed = content.pack_block(&candidate, &mut Scratch::take().unwrap()).unwrap();
        content.truncate(7000).unwrap();
        in_mode!(content, E => content.put_packed::<E>(candidate, packed));
        let reaches = match content.map.get(0, &*content.books.read()) {
            Some(BlockRef::Packed(block)) => block.raw_len(),
            _ => 0,
        };
        assert!(reaches <= 7000, "{reaches}");
        // Nothing is lost by it: the next close packs it.
        content.pack();
        assert!(matches!(content.map.get(0, &*content.books.read()), Some(BlockRef::Packed(_))));
    }
}
