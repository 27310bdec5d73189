//! Writing, in place or into a block that replaces the one that is there, as the mode says (`exclusion`).
//!
//! A write prepares the pages of one block (everything that can fail), then copies. What fails
//! half-way therefore leaves whole pages written and reports how many bytes that is.

use core::ops::Range;

use ermfs_memory::{BLOCK_SIZE, Counted, PAGE_SIZE, Purpose};

use super::block::{BlockRef, Holes, RawBlock};
use super::exclusion::{Changed, Draft, Exclusion};
use super::file::Books;
use super::{Content, MAX_FILE_SIZE, Scratch, Source, in_block, in_mode, valid_in};
use crate::errno::{Errno, Result};

/// One block's part of a write.
pub(super) struct Part {
    pub(super) index: u64,
    inner: usize,
    n: usize,
}

impl Part {
    /// Which of the block's bytes it writes.
    #[inline]
    pub(super) fn range(&self) -> Range<usize> {
        self.inner..self.inner + self.n
    }

    /// On whose behalf memory is charged for it in a block that is there: overwriting may use the reserve, so that a full
    /// filesystem's files can be changed.
    #[inline]
    pub(super) fn purpose(&self, size: u64) -> Purpose {
        if self.range().end <= valid_in(self.index, size) { Purpose::Reserved } else { Purpose::Ordinary }
    }
}

impl Content {
    /// Writes all of `source` at `offset`, growing the file where needed; returns the number of bytes,
    /// which is less than asked for when room ran out on the way.
    ///
    /// # Errors
    /// When nothing was written: `ENOSPC`; `EFBIG` past the largest file or the filesystem's limit
    /// for one file; `EIO` when a block to change is corrupt; `ENOMEM`.
    pub fn write_at(&self, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        if source.remaining() == 0 {
            return Ok(0);
        }
        in_mode!(self, E => self.change(|books| self.write::<E>(books, offset, source)))
    }

    /// Writes all of `source` at the end of the file; returns where it landed and the number of bytes.
    /// The end is read and moved under one lock, so appends never overlap.
    ///
    /// # Errors
    /// As [`Content::write_at`].
    pub fn append(&self, source: &mut Source<'_>) -> Result<(u64, usize)> {
        if source.remaining() == 0 {
            return Ok((self.size(), 0));
        }
        in_mode!(self, E => self.change(|books| {
            let offset = self.size();
            Ok((offset, self.write::<E>(books, offset, source)?))
        }))
    }

    fn write<E: Exclusion>(&self, books: &mut Books, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        let room = MAX_FILE_SIZE.checked_sub(offset).filter(|&room| room > 0).ok_or(Errno::EFBIG)?;
        let len = (source.remaining() as u64).min(room);
        let mut done = 0;
        while done < len {
            let (at, size) = (offset + done, self.size());
            let (index, inner, n) = in_block(at, len - done);
            let mut write = || {
                let (written, error) = self.write_block::<E>(books, &Part { index, inner, n }, source);
                if at + written as u64 > size && written > 0 {
                    self.set_size(at + written as u64);
                }
                (written, error)
            };
            let across_the_end = at < size && at + n as u64 > size;
            let (written, error) = if across_the_end { E::at_once(self, write) } else { write() };
            done += written as u64;
            match error {
                None => {}
                Some(error) if done == 0 => return Err(error),
                Some(_) => break,
            }
        }
        Ok(done as usize)
    }

    /// Writes one block's part: the bytes written, and why it stopped short.
    fn write_block<E: Exclusion>(
        &self,
        books: &mut Books,
        part: &Part,
        source: &mut Source<'_>,
    ) -> (usize, Option<Errno>) {
        let Part { index, inner, n } = *part;
        // A hole is not something that is there: filling it may not use up the reserve.
        let holes = Holes { most: self.pages_left(), purpose: Purpose::Ordinary };
        books.mark_dirty(index);
        if let Some(ready) = E::write_unseen(self, books, part, holes, source) {
            return (ready.len, ready.error);
        }
        // Overwriting what is there may use the reserve: a full filesystem's files can be changed.
        let exists = index * BLOCK_SIZE as u64 + ((inner + n) as u64) <= self.size();
        let overwrites = exists && self.map.get(index, books).is_some();
        let purpose = if overwrites { Purpose::Reserved } else { Purpose::Ordinary };
        let draft = Draft { whole: inner == 0 && n >= valid_in(index, self.size()), purpose };
        let change = |block: &mut RawBlock| {
            let ready = block.make_writable(inner..inner + n, holes, purpose);
            match ready.error {
                Some(error) if ready.len == 0 => Err(error),
                _ => {
                    block.write(inner, ready.len, source);
                    let (pages, end) = (ready.added as isize, inner + ready.len);
                    Ok(Changed { result: ready, pages, end })
                }
            }
        };
        let changed = match self.make_way(books, index, purpose) {
            Ok(()) => E::change_block(self, books, index, draft, change),
            Err(error) => Err(error),
        };
        match changed {
            Ok(ready) => (ready.len, ready.error),
            Err(error) => {
                self.discard_empty::<E>(books, index);
                (0, Some(error))
            }
        }
    }

    /// Makes sure that the block at `index` may be made raw, and that there is a way to it.
    #[inline]
    pub(super) fn make_way(&self, books: &mut Books, index: u64, purpose: Purpose) -> Result<()> {
        if self.map.sole_raw(index, books).is_some() {
            return Ok(());
        }
        self.check_limit(books, index)?;
        self.map.make_way(index, &self.space, books, purpose)
    }

    /// Whether block `index` may be made raw under the limit of one file.
    fn check_limit(&self, books: &Books, index: u64) -> Result<()> {
        match self.map.get(index, books) {
            Some(BlockRef::Packed(block)) => {
                let grown =
                    (block.raw_len().next_multiple_of(PAGE_SIZE) as u64).saturating_sub(block.stored_bytes());
                if grown > self.room_left() { Err(Errno::EFBIG) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// A raw block with the bytes of what is at `index` now; without them where the caller is about to overwrite all.
    pub(super) fn raw_copy(&self, books: &Books, index: u64, draft: Draft) -> Result<Counted<RawBlock>> {
        match self.map.get(index, books) {
            Some(BlockRef::Raw(block)) => block.share_pages(draft.purpose),
            // The pages are made before its bytes are let go, so that a refusal leaves the file as it was.
            Some(BlockRef::Packed(block)) if draft.whole => self.room_for(block.raw_len(), draft.purpose),
            Some(BlockRef::Packed(block)) => {
                let mut scratch = Scratch::take()?;
                RawBlock::from_bytes(&self.space, block.inflate_into_scratch(&mut scratch)?, draft.purpose)
            }
            None => RawBlock::try_new(&self.space, draft.purpose),
        }
    }

    /// A raw block with pages for its first `len` bytes, which hold anything.
    pub(super) fn room_for(&self, len: usize, purpose: Purpose) -> Result<Counted<RawBlock>> {
        let mut room = RawBlock::try_new(&self.space, purpose)?;
        let pages = room.get_mut().expect("a new block has one reference");
        let ready = pages.make_writable(0..len, Holes::all(purpose), purpose);
        ready.error.map_or(Ok(room), Err)
    }
}
