//! Reading, block by block.

use core::ops::ControlFlow;

use ermfs_memory::{BLOCK_SIZE, PAGE_SIZE};

use super::block::BlockRef;
use super::exclusion::Exclusion;
use super::file::Books;
use super::lockless;
use super::{BLOCK, Content, Sink, View, in_block, in_mode};
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::fs::Mode;

impl Content {
    /// Reads at `offset` into `sink`; returns the number of bytes, 0 at or past the end of the file.
    /// A corrupt block in the middle ends the read before it.
    ///
    /// # Errors
    /// `EIO` when the first block to read is corrupt; `ENOMEM`.
    #[inline]
    pub fn read_at(&self, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        in_mode!(self, E => E::read_at(self, offset, sink))
    }

    /// As [`Content::read_at`], for who holds a pin meanwhile: it neither waits nor takes long. `None` where it would have to:
    /// in locked mode, while blocks are on the move or cut, and where one has to be inflated; the sink is to be set back then.
    #[inline]
    pub(crate) fn read_briefly(&self, offset: u64, sink: &mut Sink<'_>) -> Option<Result<usize>> {
        match self.space.mode() {
            Mode::Locked => None,
            Mode::Lockless => lockless::read_briefly(self, offset, sink),
        }
    }

    /// As [`Content::read_at`], under the lock, shared: all of it is of one moment.
    pub(super) fn read_locked(&self, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let books = &*self.books.read();
        let len = (sink.remaining() as u64).min(self.size().saturating_sub(offset));
        let mut done = 0;
        while done < len {
            let (index, inner, n) = in_block(offset + done, len - done);
            failpoint!("read.block");
            let read = match self.map.get(index, books) {
                Some(BlockRef::Raw(block)) => {
                    block.note_read(n);
                    block.read(inner, n, sink);
                    Ok(())
                }
                Some(BlockRef::Packed(block)) => block.read(inner, n, sink),
                None => {
                    sink.put_zeros(n);
                    Ok(())
                }
            };
            match read {
                Ok(()) => done += n as u64,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done as usize)
    }

    /// The first offset at or after `offset` where data is. Raw data is told by the 4 KiB page,
    /// packed data by the block. `lseek(2)`, SEEK_DATA.
    ///
    /// # Errors
    /// `ENXIO` at or past the end, or when only a hole follows.
    pub fn seek_data(&self, offset: u64) -> Result<u64> {
        self.seek(offset, true)?.ok_or(Errno::ENXIO)
    }

    /// The first offset at or after `offset` where a hole is; the end of the file counts as one.
    /// `lseek(2)`, SEEK_HOLE.
    ///
    /// # Errors
    /// `ENXIO` at or past the end.
    pub fn seek_hole(&self, offset: u64) -> Result<u64> {
        Ok(self.seek(offset, false)?.unwrap_or_else(|| self.size()))
    }

    /// The first offset from `offset` on that is data, or is not, below the size.
    fn seek(&self, offset: u64, data: bool) -> Result<Option<u64>> {
        let books: &Books = &self.books.read();
        let size = self.size();
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let mut at = offset;
        if data {
            let found = self.map.for_each(offset / BLOCK..size.div_ceil(BLOCK), books, |index, _, block| {
                let from = at.max(index * BLOCK);
                match find(block, (from - index * BLOCK) as usize, true) {
                    Some(inner) => ControlFlow::Break(index * BLOCK + inner as u64),
                    None => ControlFlow::Continue(()),
                }
            });
            return Ok(found.filter(|&found| found < size));
        }
        while at < size {
            let (index, inner, _) = in_block(at, 1);
            match self.map.get(index, books).map(|block| find(block, inner, false)) {
                None => return Ok(Some(at)),
                Some(Some(inner)) => {
                    return Ok(Some(index * BLOCK + inner as u64).filter(|&found| found < size));
                }
                Some(None) => at = (index + 1) * BLOCK,
            }
        }
        Ok(None)
    }

    /// Up to `max_pieces` pieces of memory that hold the bytes from `offset` on, at most `len` of
    /// them, as they are now. They stay valid and unchanged while the view lives.
    ///
    /// # Errors
    /// `EINVAL` when `max_pieces` is 0; `EIO` when the first block is corrupt; `ENOSPC`, `ENOMEM`.
    pub fn view(&self, offset: u64, len: usize, max_pieces: usize) -> Result<View> {
        if max_pieces == 0 {
            return Err(Errno::EINVAL);
        }
        let books: &Books = &self.books.read();
        let len = (len as u64).min(self.size().saturating_sub(offset));
        let mut view = View::new(&self.space, max_pieces);
        let mut done = 0;
        while done < len {
            let (index, inner, n) = in_block(offset + done, len - done);
            let block = self.map.share(index, books);
            match view.push(block, inner, n) {
                Ok(true) => done += n as u64,
                Ok(false) => break,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(view)
    }
}

/// The first byte of the block from `from` on that is data, or is not, by the page.
fn find(block: BlockRef<'_>, from: usize, data: bool) -> Option<usize> {
    let is_data = |page: usize| match block {
        BlockRef::Raw(block) => block.page(page).is_some(),
        BlockRef::Packed(block) => page * PAGE_SIZE < block.raw_len(),
    };
    (from / PAGE_SIZE..BLOCK_SIZE / PAGE_SIZE)
        .find(|&page| is_data(page) == data)
        .map(|page| from.max(page * PAGE_SIZE))
}
