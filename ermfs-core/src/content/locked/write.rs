//! Writing: under the exclusive lock, in place where nobody else holds the pages.
//!
//! A write prepares the pages of one block (everything that can fail), then copies. What fails
//! half-way therefore leaves whole pages written and reports how many bytes that is.

use ermfs_memory::{BLOCK_SIZE, PAGE_SIZE, Purpose};

use super::{Content, State, amounts};
use crate::content::block::{Block, BlockRef, Holes, RawBlock};
use crate::content::slot::Slot;
use crate::content::{MAX_FILE_SIZE, Scratch, Source, in_block, valid_in};
use crate::errno::{Errno, Result};

/// One block's part of a write.
struct Part {
    index: u64,
    inner: usize,
    n: usize,
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
        self.change(|state| self.write_locked(state, offset, source))
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
        self.change(|state| {
            let offset = self.size();
            Ok((offset, self.write_locked(state, offset, source)?))
        })
    }

    fn write_locked(&self, state: &mut State, offset: u64, source: &mut Source<'_>) -> Result<usize> {
        let room = MAX_FILE_SIZE.checked_sub(offset).filter(|&room| room > 0).ok_or(Errno::EFBIG)?;
        let len = (source.remaining() as u64).min(room);
        let mut done = 0;
        while done < len {
            let (index, inner, n) = in_block(offset + done, len - done);
            let (written, error) = self.write_block(state, &Part { index, inner, n }, source);
            done += written as u64;
            if offset + done > self.size() && written > 0 {
                self.set_size(offset + done);
            }
            match error {
                None => {}
                Some(error) if done == 0 => return Err(error),
                Some(_) => break,
            }
        }
        Ok(done as usize)
    }

    /// Writes one block's part: the bytes written, and why it stopped short.
    fn write_block(&self, state: &mut State, part: &Part, source: &mut Source<'_>) -> (usize, Option<Errno>) {
        // Overwriting what is there may use the reserve: a full filesystem's files can be changed.
        let exists = part.index * BLOCK_SIZE as u64 + ((part.inner + part.n) as u64) <= self.size();
        let overwrites = exists && state.map.get(part.index).is_some();
        let purpose = if overwrites { Purpose::Reserved } else { Purpose::Ordinary };
        let Part { index, inner, n } = *part;
        let in_place = state.map.slot_mut(index).and_then(Slot::raw_mut).is_some();
        if !in_place {
            let whole = inner == 0 && n >= valid_in(index, self.size());
            let made =
                self.check_limit(state, index).and_then(|()| self.make_raw(state, index, whole, purpose));
            if let Err(error) = made {
                state.discard_empty(index);
                return (0, Some(error));
            }
        }
        state.mark_dirty(index);
        // A hole is not something that is there: filling it may not use up the reserve.
        let holes = Holes { most: self.pages_left(state), purpose: Purpose::Ordinary };
        let block = state.map.slot_mut(index).and_then(Slot::raw_mut).expect("made raw and ours");
        let ready = block.make_writable(inner..inner + n, holes, purpose);
        if ready.len > 0 {
            block.write(inner, ready.len, source);
        } else {
            state.discard_empty(index);
        }
        let added = (ready.added * PAGE_SIZE) as u64;
        state.account((0, 0), (added, added));
        (ready.len, ready.error)
    }

    /// Whether block `index` may be made raw under the limit of one file.
    fn check_limit(&self, state: &State, index: u64) -> Result<()> {
        match state.map.get(index) {
            Some(BlockRef::Packed(block)) => {
                let grown =
                    (block.raw_len().next_multiple_of(PAGE_SIZE) as u64).saturating_sub(block.stored_bytes());
                if grown > self.room_left(state) { Err(Errno::EFBIG) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Puts a raw block that only the map holds at `index`, with the bytes of what is there now; without
    /// them when the caller is about to overwrite all (`whole`). On failure nothing has changed.
    pub(super) fn make_raw(
        &self,
        state: &mut State,
        index: u64,
        whole: bool,
        purpose: Purpose,
    ) -> Result<()> {
        let slot = state.map.slot_or_new(index, &self.space, purpose)?;
        let before = amounts(slot.block());
        let block = match slot.block() {
            Some(BlockRef::Raw(block)) => block.share_pages(purpose)?,
            Some(BlockRef::Packed(block)) if !whole => {
                let mut scratch = Scratch::take()?;
                RawBlock::from_bytes(&self.space, block.inflate_into_scratch(&mut scratch)?, purpose)?
            }
            // A packed block that is overwritten whole: the pages are made before its bytes are let go,
            // so that a refusal leaves the file as it was.
            Some(BlockRef::Packed(packed)) => {
                let mut raw = RawBlock::try_new(&self.space, purpose)?;
                let pages = raw.get_mut().expect("a new block has one reference");
                let ready = pages.make_writable(0..packed.raw_len(), Holes::all(purpose), purpose);
                ready.error.map_or(Ok(raw), Err)?
            }
            None => RawBlock::try_new(&self.space, purpose)?,
        };
        let block = Block::Raw(block);
        let after = amounts(Some(block.as_ref()));
        slot.set(Some(block));
        state.account(before, after);
        Ok(())
    }
}
