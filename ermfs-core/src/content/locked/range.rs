//! Changing ranges: truncate, and the forms of fallocate.
//!
//! Each does first what can fail and then what cannot, so that a refusal leaves the bytes as they were.

use core::ops::{ControlFlow, Range};

use ermfs_memory::{BLOCK_SIZE, Kind, PAGE_SIZE, PAGES_PER_BLOCK, Purpose};

use super::{Content, State, amounts, end_of};
use crate::content::block::{Block, BlockRef};
use crate::content::charged::ChargedVec;
use crate::content::map::BlockMap;
use crate::content::slot::Slot;
use crate::content::{BLOCK, MAX_FILE_SIZE, Scratch, Sink, Source, in_block, valid_in};
use crate::errno::{Errno, Result};

/// The (stored, data) bytes of a block's pages, a bit for each.
fn pages_of(mask: u16) -> (u64, u64) {
    let bytes = u64::from(mask.count_ones()) * PAGE_SIZE as u64;
    (bytes, bytes)
}

/// Whether the block has memory past the page that byte `end` ends.
fn reaches_past(block: BlockRef<'_>, end: usize) -> bool {
    match block {
        BlockRef::Raw(block) => {
            (end.div_ceil(PAGE_SIZE)..PAGES_PER_BLOCK).any(|page| block.page(page).is_some())
        }
        BlockRef::Packed(block) => block.raw_len() > end,
    }
}

impl Content {
    /// Makes the file `size` bytes long. `ftruncate(2)`.
    ///
    /// # Errors
    /// `EFBIG` past the largest file; `EIO` when the block the new end lies in is corrupt; `ENOSPC`
    /// or `ENOMEM` when that block has to be copied and cannot be. Nothing has changed then.
    pub fn truncate(&self, size: u64) -> Result<()> {
        end_of(size, 0)?;
        self.change(|state| {
            if size < self.size() {
                self.cut(state, size)?;
            }
            self.set_size(size);
            Ok(())
        })
    }

    /// Removes everything from `size` on.
    fn cut(&self, state: &mut State, size: u64) -> Result<()> {
        let (index, inner, _) = in_block(size, 0);
        if inner > 0 {
            self.zero_in_block(state, index, inner, BLOCK_SIZE - inner, false)?;
        }
        self.remove_blocks(state, size.div_ceil(BLOCK)..u64::MAX / BLOCK);
        Ok(())
    }

    fn remove_blocks(&self, state: &mut State, range: Range<u64>) {
        let mut gone = (0, 0);
        state.map.for_each::<()>(range.clone(), |_, _, block| {
            let block = amounts(Some(block));
            gone = (gone.0 + block.0, gone.1 + block.1);
            ControlFlow::Continue(())
        });
        state.map.remove(range);
        state.account(gone, (0, 0));
    }

    /// Zeroes a part of one block. Where `keep_pages` is not set, whole pages become holes.
    fn zero_in_block(
        &self,
        state: &mut State,
        index: u64,
        inner: usize,
        n: usize,
        keep_pages: bool,
    ) -> Result<()> {
        match state.map.get(index) {
            None => return Ok(()),
            Some(BlockRef::Packed(block)) if inner >= block.raw_len() => return Ok(()),
            Some(block)
                if inner == 0
                    && !keep_pages
                    && n >= valid_in(index, self.size())
                    && !reaches_past(block, n) =>
            {
                self.remove_blocks(state, index..index + 1);
                return Ok(());
            }
            Some(_) => {}
        }
        if state.map.slot_mut(index).and_then(Slot::raw_mut).is_none() {
            self.make_raw(state, index, false, Purpose::Reserved)?;
        }
        state.mark_dirty(index);
        let block = state.map.slot_mut(index).and_then(Slot::raw_mut).expect("made raw and ours");
        let given_up = (block.zero(inner, n, keep_pages)? * PAGE_SIZE) as u64;
        let empty = block.page_count() == 0;
        state.account((given_up, given_up), (0, 0));
        if empty {
            state.map.remove(index..index + 1);
        }
        Ok(())
    }

    /// Gives every hole of the range memory of its own, zeroed, so that writing there cannot fail for
    /// lack of room; grows the file unless `keep_size`. `fallocate(2)`, mode 0 and KEEP_SIZE.
    /// The promise holds until the file is packed: zeros at rest are a hole.
    ///
    /// # Errors
    /// `ENOSPC`, `EFBIG`, `ENOMEM`; the file's bytes and size have not changed then.
    pub fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        let end = end_of(offset, len)?;
        self.change(|state| {
            self.fill_holes(state, offset, end)?;
            if !keep_size && end > self.size() {
                self.set_size(end);
            }
            Ok(())
        })
    }

    fn fill_holes(&self, state: &mut State, offset: u64, end: u64) -> Result<()> {
        // One refusal for the whole range, before anything is touched.
        let missing = self.missing_pages(state, offset, end);
        if missing > self.pages_left(state) as u64 {
            return Err(Errno::EFBIG);
        }
        let bytes = missing.checked_mul(PAGE_SIZE as u64).ok_or(Errno::ENOSPC)?;
        drop(self.space.charged(Kind::Raw, bytes, Purpose::Ordinary)?);
        // Room may still go to others meanwhile: then the pages added so far are given back.
        let mut added = ChargedVec::new(&self.space, Purpose::Ordinary);
        let filled = self.add_pages(state, offset, end, &mut added);
        if filled.is_err() {
            for &(index, mask) in added.iter() {
                if let Some(block) = state.map.slot_mut(index).and_then(Slot::raw_mut) {
                    block.give_up(mask);
                }
                state.account(pages_of(mask), (0, 0));
                state.discard_empty(index);
            }
        }
        filled
    }

    /// How many pages of `offset .. end` are holes.
    fn missing_pages(&self, state: &State, offset: u64, end: u64) -> u64 {
        let first = |index: u64| (offset.max(index * BLOCK) - index * BLOCK) as usize / PAGE_SIZE;
        let last = |index: u64| ((end - index * BLOCK).min(BLOCK) as usize).div_ceil(PAGE_SIZE);
        let mut missing = end.div_ceil(PAGE_SIZE as u64) - offset / PAGE_SIZE as u64;
        state.map.for_each::<()>(offset / BLOCK..end.div_ceil(BLOCK), |index, _, block| {
            let (first, last) = (first(index), last(index));
            missing -= match block {
                BlockRef::Raw(block) => (first..last).filter(|&page| block.page(page).is_some()).count(),
                // A packed block has room of its own for every byte.
                BlockRef::Packed(_) => last - first,
            } as u64;
            ControlFlow::Continue(())
        });
        missing
    }

    /// Fills the holes of the range; `added` says which, a bit for each page of a block, also when it fails.
    fn add_pages(
        &self,
        state: &mut State,
        offset: u64,
        end: u64,
        added: &mut ChargedVec<(u64, u16)>,
    ) -> Result<()> {
        let mut at = offset;
        while at < end {
            let (index, inner, n) = in_block(at, end - at);
            let pages = inner / PAGE_SIZE..(inner + n).div_ceil(PAGE_SIZE);
            let missing = match state.map.get(index) {
                None => true,
                Some(BlockRef::Raw(block)) => pages.clone().any(|page| block.page(page).is_none()),
                Some(BlockRef::Packed(_)) => false,
            };
            if missing {
                added.reserve_one()?;
                let mut mask = 0;
                let filled = self.add_pages_of(state, index, pages, &mut mask);
                state.account((0, 0), pages_of(mask));
                added.push((index, mask))?;
                filled?;
            }
            at += n as u64;
        }
        Ok(())
    }

    /// Makes the holes among one block's `pages` pages of zeros.
    fn add_pages_of(
        &self,
        state: &mut State,
        index: u64,
        pages: Range<usize>,
        added: &mut u16,
    ) -> Result<()> {
        if state.map.slot_mut(index).and_then(Slot::raw_mut).is_none() {
            self.make_raw(state, index, false, Purpose::Ordinary)?;
        }
        state.mark_dirty(index);
        let block = state.map.slot_mut(index).and_then(Slot::raw_mut).expect("made raw and ours");
        block.fill_zeroed(pages, added, Purpose::Ordinary)
    }

    /// Makes the range read as zeros and gives its memory back. `fallocate(2)`, PUNCH_HOLE.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`, `EIO` when a block at an edge cannot be changed; what lies before it may
    /// read as zeros already.
    pub fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset.saturating_add(len).min(MAX_FILE_SIZE);
        if offset >= end {
            return Ok(());
        }
        self.change(|state| self.punch(state, offset, end))
    }

    fn punch(&self, state: &mut State, offset: u64, end: u64) -> Result<()> {
        // The edges can fail, the whole blocks between cannot.
        let (first, last) = (offset.div_ceil(BLOCK), end / BLOCK);
        if first > last {
            return self.zero_in_block(
                state,
                last,
                (offset % BLOCK) as usize,
                (end - offset) as usize,
                false,
            );
        }
        if !offset.is_multiple_of(BLOCK) {
            let inner = (offset % BLOCK) as usize;
            self.zero_in_block(state, first - 1, inner, BLOCK_SIZE - inner, false)?;
        }
        if !end.is_multiple_of(BLOCK) {
            self.zero_in_block(state, last, 0, (end % BLOCK) as usize, false)?;
        }
        self.remove_blocks(state, first..last);
        Ok(())
    }

    /// Makes the range read as zeros, with memory of its own where it was raw or a hole; grows the file
    /// unless `keep_size`. `fallocate(2)`, ZERO_RANGE. A block at rest that is covered whole becomes
    /// a hole.
    ///
    /// # Errors
    /// As [`Content::allocate`], then as [`Content::punch_hole`].
    pub fn zero_range(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        let end = end_of(offset, len)?;
        self.change(|state| {
            self.fill_holes(state, offset, end)?;
            let mut at = offset;
            while at < end {
                let (index, inner, n) = in_block(at, end - at);
                match state.map.get(index) {
                    Some(BlockRef::Packed(_)) if inner == 0 && n >= valid_in(index, self.size()) => {
                        self.remove_blocks(state, index..index + 1);
                    }
                    _ => self.zero_in_block(state, index, inner, n, true)?,
                }
                at += n as u64;
            }
            if !keep_size && end > self.size() {
                self.set_size(end);
            }
            Ok(())
        })
    }

    /// Removes the range and moves what follows it down. `fallocate(2)`, COLLAPSE_RANGE; offset and
    /// length in multiples of 65,536 bytes.
    ///
    /// # Errors
    /// `EINVAL` when not a multiple or when the range reaches the end of the file; `ENOSPC`, `ENOMEM`.
    /// Nothing has changed then.
    pub fn collapse_range(&self, offset: u64, len: u64) -> Result<()> {
        if !offset.is_multiple_of(BLOCK) || !len.is_multiple_of(BLOCK) {
            return Err(Errno::EINVAL);
        }
        self.change(|state| {
            let end = offset.checked_add(len).filter(|&end| end < self.size()).ok_or(Errno::EINVAL)?;
            let (first, next) = (offset / BLOCK, end / BLOCK);
            self.rearrange(state, |index| match index {
                index if index < first => Some(index),
                index if index < next => None,
                index => Some(index - (next - first)),
            })?;
            self.set_size(self.size() - len);
            Ok(())
        })
    }

    /// Opens a hole of `len` bytes at `offset` and moves what follows up. `fallocate(2)`, INSERT_RANGE;
    /// offset and length in multiples of 65,536 bytes.
    ///
    /// # Errors
    /// `EINVAL` when not a multiple or when `offset` is at or past the end; `EFBIG`; `ENOSPC`, `ENOMEM`.
    /// Nothing has changed then.
    pub fn insert_range(&self, offset: u64, len: u64) -> Result<()> {
        if !offset.is_multiple_of(BLOCK) || !len.is_multiple_of(BLOCK) {
            return Err(Errno::EINVAL);
        }
        self.change(|state| {
            let size = end_of(self.size(), len)?;
            if offset >= self.size() {
                return Err(Errno::EINVAL);
            }
            let (first, by) = (offset / BLOCK, len / BLOCK);
            // What was allocated past the end does not move past the largest file.
            self.remove_blocks(state, self.size().div_ceil(BLOCK)..u64::MAX / BLOCK);
            self.rearrange(state, |index| Some(if index < first { index } else { index + by }))?;
            self.set_size(size);
            Ok(())
        })
    }

    /// Replaces the map by one with every block at its new index, or gone.
    fn rearrange(&self, state: &mut State, place: impl Fn(u64) -> Option<u64>) -> Result<()> {
        let mut map = BlockMap::new();
        let mut amount = (0, 0);
        let failed = state.map.for_each(0..u64::MAX / BLOCK, |index, slot, block| {
            let (Some(index), Some(shared)) = (place(index), slot.share()) else {
                return ControlFlow::Continue(());
            };
            let block = amounts(Some(block));
            amount = (amount.0 + block.0, amount.1 + block.1);
            match map.insert(index, shared, &self.space, Purpose::Reserved) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        state.map = map;
        (state.stored, state.data) = amount;
        if !state.dirty.is_empty() {
            state.dirty = 0..u64::MAX / BLOCK;
        }
        Ok(())
    }

    /// Copies up to `len` bytes from `offset` of this file to `to_offset` of `to`, which may be the same
    /// file when the ranges do not overlap. Whole blocks at the same place in their block are shared,
    /// not copied, and stay holes where they are. Returns the number of bytes; 0 at or past the end. `copy_file_range(2)`.
    ///
    /// # Errors
    /// When nothing was copied: as [`Content::read_at`] and [`Content::write_at`].
    pub fn copy_range(&self, offset: u64, to: &Content, to_offset: u64, len: u64) -> Result<u64> {
        let mut scratch = Scratch::take()?;
        let mut done = 0;
        while done < len {
            match self.copy_part(offset + done, to, to_offset + done, len - done, &mut scratch) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Copies or shares at most up to the end of the block that `offset` lies in.
    fn copy_part(
        &self,
        offset: u64,
        to: &Content,
        to_offset: u64,
        len: u64,
        scratch: &mut Scratch,
    ) -> Result<u64> {
        let (index, inner, n) = in_block(offset, len);
        if inner == 0
            && n == BLOCK_SIZE
            && to_offset.is_multiple_of(BLOCK)
            && core::ptr::eq(&*self.space, &*to.space)
        {
            let shared = {
                let state = self.state.read();
                // Only a block that is full below the end: what is past the end of this file is none of its bytes.
                (valid_in(index, self.size()) == BLOCK_SIZE)
                    .then(|| state.map.slot(index).and_then(Slot::share))
            };
            if let Some(block) = shared {
                to.adopt(to_offset, block)?;
                return Ok(BLOCK);
            }
        }
        let room = &mut scratch.plain()[..n];
        let n = self.read_at(offset, &mut Sink::new(room))?;
        Ok(to.write_at(to_offset, &mut Source::new(&room[..n]))? as u64)
    }

    /// Puts a block of the same filesystem, or a hole, at `offset`, a multiple of the block size.
    fn adopt(&self, offset: u64, block: Option<Block>) -> Result<()> {
        let end = end_of(offset, BLOCK)?;
        let index = offset / BLOCK;
        self.change(|state| {
            match block {
                None => self.remove_blocks(state, index..index + 1),
                Some(block) => {
                    let before = amounts(state.map.get(index));
                    let after = amounts(Some(block.as_ref()));
                    if after.0.saturating_sub(before.0) > self.room_left(state) {
                        return Err(Errno::EFBIG);
                    }
                    let placed = state.map.insert(index, block, &self.space, Purpose::Ordinary);
                    placed.inspect_err(|_| state.discard_empty(index))?;
                    state.account(before, after);
                    state.mark_dirty(index);
                }
            }
            if end > self.size() {
                self.set_size(end);
            }
            Ok(())
        })
    }
}
