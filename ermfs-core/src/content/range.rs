//! Changing ranges: truncate, and the forms of fallocate.
//!
//! Each does first what can fail and then what cannot, so that a refusal leaves the bytes as they were.

use core::ops::{ControlFlow, Range};

use ermfs_memory::{BLOCK_SIZE, Kind, PAGE_SIZE, PAGES_PER_BLOCK, Purpose};

use super::block::{Block, BlockRef, RawBlock};
use super::charged::ChargedVec;
use super::exclusion::{Changed, Draft, Exclusion};
use super::file::{Books, amounts, end_of};
use super::garbage::Garbage;
use super::map::BlockMap;
use super::{BLOCK, Content, MAX_FILE_SIZE, Scratch, Sink, Source, in_block, in_mode, valid_in};
use crate::errno::{Errno, Result};

/// Whether the block has memory past the page that byte `end` ends.
pub(super) fn reaches_past(block: BlockRef<'_>, end: usize) -> bool {
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
        in_mode!(self, E => self.change(|books| {
            if size < self.size() {
                return E::cut(self, books, size);
            }
            self.set_size(size);
            Ok(())
        }))
    }

    /// Zeroes a part of one block. Where `keep_pages` is not set, whole pages become holes.
    pub(super) fn zero_in_block<E: Exclusion>(
        &self,
        books: &mut Books,
        index: u64,
        inner: usize,
        n: usize,
        keep_pages: bool,
    ) -> Result<()> {
        match self.map.get(index, books) {
            None => return Ok(()),
            Some(BlockRef::Packed(block)) if inner >= block.raw_len() => return Ok(()),
            Some(block)
                if inner == 0
                    && !keep_pages
                    && n >= valid_in(index, self.size())
                    && !reaches_past(block, n) =>
            {
                self.remove_blocks::<E>(books, index..index + 1);
                return Ok(());
            }
            Some(_) => {}
        }
        let draft = Draft { whole: false, purpose: Purpose::Reserved };
        let zero = |block: &mut RawBlock| {
            let given_up = block.zero(inner, n, keep_pages)?;
            Ok(Changed { result: block.page_count() == 0, pages: -(given_up as isize), end: 0 })
        };
        books.mark_dirty(index);
        if E::change_block(self, books, index, draft, zero)? {
            self.remove_blocks::<E>(books, index..index + 1);
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
        in_mode!(self, E => self.change(|books| {
            self.fill_holes::<E>(books, offset, end)?;
            if !keep_size && end > self.size() {
                self.set_size(end);
            }
            Ok(())
        }))
    }

    fn fill_holes<E: Exclusion>(&self, books: &mut Books, offset: u64, end: u64) -> Result<()> {
        // One refusal for the whole range, before anything is touched.
        let missing = self.missing_pages(books, offset, end);
        if missing > self.pages_left() as u64 {
            return Err(Errno::EFBIG);
        }
        let bytes = missing.checked_mul(PAGE_SIZE as u64).ok_or(Errno::ENOSPC)?;
        drop(self.space.charged(Kind::Raw, bytes, Purpose::Ordinary)?);
        // Room may still go to others meanwhile: then the pages added so far are given back.
        let mut added = ChargedVec::new(&self.space, Purpose::Ordinary);
        let filled = self.add_pages::<E>(books, offset, end, &mut added);
        if filled.is_err() {
            for &(index, mask) in added.iter() {
                self.take_pages_back::<E>(books, index, mask);
            }
        }
        filled
    }

    /// Makes pages of a block holes again, a bit for each, and takes nodes away that were made on the way to it.
    fn take_pages_back<E: Exclusion>(&self, books: &mut Books, index: u64, mask: u16) {
        // Of a block that got no page there may not even be a way to it.
        if mask != 0 {
            let give_up = |block: &mut RawBlock| {
                block.give_up(mask);
                Ok(Changed { result: (), pages: -(mask.count_ones() as isize), end: 0 })
            };
            let draft = Draft { whole: false, purpose: Purpose::Reserved };
            // Where there is no memory even for this, the file keeps pages of zeros that it did not have.
            let _ = E::change_block(self, books, index, draft, give_up);
        }
        self.discard_empty::<E>(books, index);
    }

    /// How many pages of `offset .. end` are holes.
    fn missing_pages(&self, books: &Books, offset: u64, end: u64) -> u64 {
        let first = |index: u64| (offset.max(index * BLOCK) - index * BLOCK) as usize / PAGE_SIZE;
        let last = |index: u64| ((end - index * BLOCK).min(BLOCK) as usize).div_ceil(PAGE_SIZE);
        let mut missing = end.div_ceil(PAGE_SIZE as u64) - offset / PAGE_SIZE as u64;
        self.map.for_each::<()>(offset / BLOCK..end.div_ceil(BLOCK), books, |index, _, block| {
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
    fn add_pages<E: Exclusion>(
        &self,
        books: &mut Books,
        offset: u64,
        end: u64,
        added: &mut ChargedVec<(u64, u16)>,
    ) -> Result<()> {
        let mut at = offset;
        while at < end {
            let (index, inner, n) = in_block(at, end - at);
            let pages = inner / PAGE_SIZE..(inner + n).div_ceil(PAGE_SIZE);
            let missing = match self.map.get(index, books) {
                None => true,
                Some(BlockRef::Raw(block)) => pages.clone().any(|page| block.page(page).is_none()),
                Some(BlockRef::Packed(_)) => false,
            };
            if missing {
                added.reserve_one()?;
                let (mask, filled) = self.add_pages_of::<E>(books, index, pages);
                added.push((index, mask))?;
                filled?;
            }
            at += n as u64;
        }
        Ok(())
    }

    /// Makes the holes among one block's `pages` pages of zeros. The first result is a bit for each, also when it fails on
    /// the way.
    fn add_pages_of<E: Exclusion>(
        &self,
        books: &mut Books,
        index: u64,
        pages: Range<usize>,
    ) -> (u16, Result<()>) {
        let purpose = Purpose::Ordinary;
        let draft = Draft { whole: false, purpose };
        let fill = |block: &mut RawBlock| {
            let mut mask = 0;
            let filled = block.fill_zeroed(pages, &mut mask, purpose);
            // What was added stays for the caller to take back; where that is nothing, nothing has changed.
            let result = if mask == 0 { (0, Ok(filled?)) } else { (mask, filled) };
            Ok(Changed { result, pages: mask.count_ones() as isize, end: 0 })
        };
        books.mark_dirty(index);
        let changed = match self.make_way(books, index, purpose) {
            Ok(()) => E::change_block(self, books, index, draft, fill),
            Err(error) => Err(error),
        };
        changed.unwrap_or_else(|error| (0, Err(error)))
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
        in_mode!(self, E => self.change(|books| self.punch::<E>(books, offset, end)))
    }

    fn punch<E: Exclusion>(&self, books: &mut Books, offset: u64, end: u64) -> Result<()> {
        // The edges can fail, the whole blocks between cannot.
        let (first, last) = (offset.div_ceil(BLOCK), end / BLOCK);
        if first > last {
            return self.zero_in_block::<E>(
                books,
                last,
                (offset % BLOCK) as usize,
                (end - offset) as usize,
                false,
            );
        }
        if !offset.is_multiple_of(BLOCK) {
            let inner = (offset % BLOCK) as usize;
            self.zero_in_block::<E>(books, first - 1, inner, BLOCK_SIZE - inner, false)?;
        }
        if !end.is_multiple_of(BLOCK) {
            self.zero_in_block::<E>(books, last, 0, (end % BLOCK) as usize, false)?;
        }
        self.remove_blocks::<E>(books, first..last);
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
        in_mode!(self, E => self.change(|books| self.zero_pages::<E>(books, offset, end, keep_size)))
    }

    fn zero_pages<E: Exclusion>(
        &self,
        books: &mut Books,
        offset: u64,
        end: u64,
        keep_size: bool,
    ) -> Result<()> {
        self.fill_holes::<E>(books, offset, end)?;
        let mut at = offset;
        while at < end {
            let (index, inner, n) = in_block(at, end - at);
            match self.map.get(index, books) {
                Some(BlockRef::Packed(_)) if inner == 0 && n >= valid_in(index, self.size()) => {
                    self.remove_blocks::<E>(books, index..index + 1);
                }
                _ => self.zero_in_block::<E>(books, index, inner, n, true)?,
            }
            at += n as u64;
        }
        if !keep_size && end > self.size() {
            self.set_size(end);
        }
        Ok(())
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
        in_mode!(self, E => self.change(|books| {
            let end = offset.checked_add(len).filter(|&end| end < self.size()).ok_or(Errno::EINVAL)?;
            let (first, next) = (offset / BLOCK, end / BLOCK);
            let place = |index| match index {
                index if index < first => Some(index),
                index if index < next => None,
                index => Some(index - (next - first)),
            };
            self.rearrange::<E>(books, self.size() - len, place)
        }))
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
        in_mode!(self, E => self.change(|books| {
            let size = end_of(self.size(), len)?;
            if offset >= self.size() {
                return Err(Errno::EINVAL);
            }
            let (first, by) = (offset / BLOCK, len / BLOCK);
            // What was allocated past the end does not move past the largest file.
            self.remove_blocks::<E>(books, self.size().div_ceil(BLOCK)..u64::MAX / BLOCK);
            self.rearrange::<E>(books, size, |index| Some(if index < first { index } else { index + by }))
        }))
    }

    /// Replaces the map by one with every block at its new index, or gone, and the size with it.
    fn rearrange<E: Exclusion>(
        &self,
        books: &mut Books,
        size: u64,
        place: impl Fn(u64) -> Option<u64>,
    ) -> Result<()> {
        let (map, mut other) = (BlockMap::new(), Books::new());
        let mut amount = (0, 0);
        let failed = self.map.for_each(0..u64::MAX / BLOCK, books, |index, slot, block| {
            let (Some(index), Some(shared)) = (place(index), slot.share(books)) else {
                return ControlFlow::Continue(());
            };
            let block = amounts(Some(block));
            amount = (amount.0 + block.0, amount.1 + block.1);
            match map.insert(index, shared, &self.space, &mut other, Purpose::Reserved) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let old = E::at_once(self, || {
            let old = self.map.exchange(map, books);
            self.set_size(size);
            old
        });
        let before = self.reset_amounts(books, amount);
        // What is left in the file has its own reference.
        E::let_go(self, Garbage::tree(old, before.saturating_sub(amount.0)));
        if !books.dirty.is_empty() {
            books.dirty = 0..u64::MAX / BLOCK;
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
                let books = &*self.books.read();
                // Only a block that is full below the end: what is past the end of this file is none of its bytes.
                (valid_in(index, self.size()) == BLOCK_SIZE).then(|| self.map.share(index, books))
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
        in_mode!(self, E => self.change(|books| {
            // A shared block may come back to a place that it was at before, which a reader would not notice.
            E::at_once(self, || {
                match block {
                    None => self.remove_blocks::<E>(books, index..index + 1),
                    Some(block) => self.place::<E>(books, index, block)?,
                }
                if end > self.size() {
                    self.set_size(end);
                }
                Ok(())
            })
        }))
    }

    fn place<E: Exclusion>(&self, books: &mut Books, index: u64, block: Block) -> Result<()> {
        let before = amounts(self.map.get(index, books)).0;
        let after = amounts(Some(block.as_ref())).0;
        if after.saturating_sub(before) > self.room_left() {
            return Err(Errno::EFBIG);
        }
        if let Err(error) = self.map.make_way(index, &self.space, books, Purpose::Ordinary) {
            self.discard_empty::<E>(books, index);
            return Err(error);
        }
        let (old, bytes) = self.put(books, index, block);
        E::let_go(self, Garbage::tree(old, bytes));
        books.mark_dirty(index);
        Ok(())
    }
}
