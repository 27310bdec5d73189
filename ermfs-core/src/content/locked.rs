//! Locked mode: readers share the file's lock for the whole of a read, whoever changes the file holds it alone and
//! overwrites in place what only the map holds.

use super::block::{Block, Holes, RawBlock, Writable};
use super::exclusion::{Changed, Draft, Exclusion};
use super::file::Books;
use super::garbage::Garbage;
use super::write::Part;
use super::{BLOCK, Content, Sink, Source, in_block};
use crate::errno::Result;

/// See the module's page.
pub(super) enum Locked {}

impl Exclusion for Locked {
    #[inline]
    fn read_at(content: &Content, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        content.read_locked(offset, sink)
    }

    /// Nobody looks while the lock is held alone: all that is raw and only this file's.
    #[inline]
    fn write_unseen(
        content: &Content,
        books: &mut Books,
        part: &Part,
        holes: Holes,
        source: &mut Source<'_>,
    ) -> Option<Writable> {
        let mut block = content.map.sole_raw(part.index, books)?;
        // SAFETY: as in `change_block`.
        let block = unsafe { block.as_mut() };
        let ready = block.make_writable(part.range(), holes, part.purpose(content.size()));
        if ready.len > 0 {
            match ready.added {
                0 => block.overwrite(part.range().start, ready.len, source),
                _ => block.write(part.range().start, ready.len, source),
            }
            content.account_pages(books, ready.added as isize);
        }
        Some(ready)
    }

    #[inline]
    fn change_block<R>(
        content: &Content,
        books: &mut Books,
        index: u64,
        draft: Draft,
        change: impl FnOnce(&mut RawBlock) -> Result<Changed<R>>,
    ) -> Result<R> {
        if let Some(mut block) = content.map.sole_raw(index, books) {
            // SAFETY: the map has the only reference, and the books of a file in locked mode are borrowed exclusively
            // under its lock, without which nobody looks.
            let changed = change(unsafe { block.as_mut() })?;
            content.account_pages(books, changed.pages);
            return Ok(changed.result);
        }
        let mut new = content.raw_copy(books, index, draft)?;
        let block = new.get_mut().expect("a new block has one reference");
        let changed = change(block)?;
        drop(content.put(books, index, Block::Raw(new)));
        Ok(changed.result)
    }

    fn cut(content: &Content, books: &mut Books, size: u64) -> Result<()> {
        let (index, inner, rest) = in_block(size, BLOCK);
        if inner > 0 {
            content.zero_in_block::<Locked>(books, index, inner, rest, false)?;
        }
        content.remove_blocks::<Locked>(books, size.div_ceil(BLOCK)..u64::MAX / BLOCK);
        content.set_size(size);
        Ok(())
    }

    #[inline]
    fn at_once<R>(_: &Content, change: impl FnOnce() -> R) -> R {
        change()
    }

    #[inline]
    fn let_go(_: &Content, garbage: Garbage) {
        drop(garbage);
    }
}
