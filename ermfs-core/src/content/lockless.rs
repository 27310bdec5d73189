//! Lockless mode: readers pin the epoch and take no lock; whoever changes the file holds its lock alone and never
//! changes what a reader may be looking at.
//!
//! Protocols (docs/INVARIANTS.md): a slot is replaced by a block that is whole, in one step, or a cell of a block by a page
//! that is, and what it named before goes through the collector (B1); bytes are written in place only past a block's
//! fill mark, which then moves over them (B3); a cut moves the size, then the number of cuts, then the slots (B5, `cuts`).
//!
//! A reader stands still only in a block's inflating, without a pin and holding a reference, or while a change that must be
//! seen at once with the size is under way (a write across the end of the file, COLLAPSE_RANGE, INSERT_RANGE, a shared
//! block): then it takes the lock.

use ermfs_memory::{Counted, Purpose};

use super::block::{Block, BlockRef, Holes, RawBlock, Writable};
use super::exclusion::{Changed, Draft, Exclusion};
use super::file::Books;
use super::garbage::{self, Garbage};
use super::range::reaches_past;
use super::slot::Pinned;
use super::write::Part;
use super::{BLOCK, Content, Sink, Source, in_block, valid_in};
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;

/// See the module's page.
pub(super) enum Lockless {}

impl Exclusion for Lockless {
    #[inline]
    fn read_at(content: &Content, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let start = sink.place();
        loop {
            let Some(cuts) = content.cuts.look() else { return content.read_locked(offset, sink) };
            let result = read(content, offset, sink, How::Fully).map_err(|stop| match stop {
                Stop::Error(error) => error,
                Stop::Inflating => unreachable!("only a brief read stops there"),
            });
            if content.cuts.is_still(cuts) {
                return result;
            }
            sink.go_back(&start);
        }
    }

    fn write_unseen(
        content: &Content,
        books: &mut Books,
        part: &Part,
        holes: Holes,
        source: &mut Source<'_>,
    ) -> Option<Writable> {
        let block = content.map.sole_raw(part.index, books)?;
        // SAFETY: the map has the only reference, and keeps it while the books are borrowed.
        let block = unsafe { block.as_ref() };
        let exists = part.range().end <= valid_in(part.index, content.size());
        let purpose = if exists { Purpose::Reserved } else { Purpose::Ordinary };
        // SAFETY: the books are borrowed exclusively, so the lock is held alone; the map has the only reference.
        let extended = unsafe { block.extend(part.range(), holes, purpose, source) };
        if let Some(ready) = extended {
            content.account_pages(books, ready.added as isize);
            return Some(ready);
        }
        if !exists {
            return None;
        }
        // SAFETY: as above.
        let replaced = unsafe { block.replace_page(part.range(), Purpose::Reserved, source) }?;
        let (len, error) = match replaced {
            Ok(old) => {
                garbage::retire_page(&content.space, old);
                (part.range().len(), None)
            }
            Err(error) => (0, Some(error)),
        };
        Some(Writable { len, added: 0, error })
    }

    fn change_block<R>(
        content: &Content,
        books: &mut Books,
        index: u64,
        draft: Draft,
        change: impl FnOnce(&mut RawBlock) -> Result<Changed<R>>,
    ) -> Result<R> {
        replace_block(content, books, index, draft, change, || ())
    }

    fn cut(content: &Content, books: &mut Books, size: u64) -> Result<()> {
        let announce = || {
            content.set_size(size);
            failpoint!("lockless.cut.size");
            content.cuts.note_cut();
            failpoint!("lockless.cut.noted");
        };
        let (index, inner, rest) = in_block(size, BLOCK);
        let has_more = |block: BlockRef<'_>| match block {
            BlockRef::Raw(raw) => raw.mark() > inner || reaches_past(block, inner),
            BlockRef::Packed(packed) => packed.raw_len() > inner,
        };
        if inner > 0 && content.map.get(index, books).is_some_and(has_more) {
            let draft = Draft { whole: false, purpose: Purpose::Reserved };
            let zero = |block: &mut RawBlock| {
                let given_up = block.zero(inner, rest, false)?;
                Ok(Changed { result: (), pages: -(given_up as isize), end: 0 })
            };
            replace_block(content, books, index, draft, zero, announce)?;
            books.mark_dirty(index);
            content.discard_empty::<Lockless>(books, index);
        } else {
            announce();
        }
        content.remove_blocks::<Lockless>(books, size.div_ceil(BLOCK)..u64::MAX / BLOCK);
        Ok(())
    }

    fn at_once<R>(content: &Content, change: impl FnOnce() -> R) -> R {
        content.cuts.around(change)
    }

    #[inline]
    fn let_go(content: &Content, garbage: Garbage) {
        garbage.retire(&content.space);
    }
}

/// Whether a read may take the time to inflate a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Fully,
    Briefly,
}

/// Why a read goes no further.
enum Stop {
    Error(Errno),
    /// A block has to be inflated, in a read that is to be brief.
    Inflating,
}

/// As [`Content::read_at`], for who holds a pin meanwhile: neither waits nor inflates. `None`: it would have to, or the file was
/// cut meanwhile, and nothing counts that was put into the sink.
pub(super) fn read_briefly(content: &Content, offset: u64, sink: &mut Sink<'_>) -> Option<Result<usize>> {
    let cuts = content.cuts.look()?;
    let result = match read(content, offset, sink, How::Briefly) {
        Ok(n) => Ok(n),
        Err(Stop::Error(error)) => Err(error),
        Err(Stop::Inflating) => return None,
    };
    content.cuts.is_still(cuts).then_some(result)
}

/// As [`Content::read_locked`], block by block under a pin for each.
fn read(content: &Content, offset: u64, sink: &mut Sink<'_>, how: How) -> core::result::Result<usize, Stop> {
    let (len, mut size) = (sink.remaining() as u64, content.size());
    let mut done = 0;
    while done < len {
        if offset + done >= size {
            // What was read before may be younger than the size: whether there is more is asked of now.
            size = content.size();
            if offset + done >= size {
                break;
            }
        }
        let (index, inner, n) = in_block(offset + done, len - done);
        let read = match offset + done + n as u64 {
            end if end <= size => read_block(content, index, inner, n, sink, how).map(|()| (n, size)),
            _ => read_tail(content, index, inner, n, sink, how),
        };
        match read {
            Ok((read, size_then)) => {
                done += read as u64;
                if read < n {
                    break;
                }
                size = size_then;
            }
            Err(stop) if done == 0 || matches!(stop, Stop::Inflating) => return Err(stop),
            Err(_) => break,
        }
    }
    Ok(done as usize)
}

/// Reads a part of one block as it is at one moment.
#[inline]
fn read_block(
    content: &Content,
    index: u64,
    from: usize,
    n: usize,
    sink: &mut Sink<'_>,
    how: How,
) -> core::result::Result<(), Stop> {
    loop {
        let guard = epoch::pin();
        // SAFETY: the file's filesystem is in lockless mode.
        let pinned = unsafe { Pinned::new(&guard) };
        let block = content.map.get(index, &pinned);
        failpoint!("read.block");
        match block {
            None => sink.put_zeros(n),
            Some(BlockRef::Raw(block)) => block.read_pinned(from, n, sink),
            Some(BlockRef::Packed(block)) if block.read_kept(from, n, sink) => {}
            Some(BlockRef::Packed(_)) if how == How::Briefly => return Err(Stop::Inflating),
            Some(BlockRef::Packed(_)) => {
                // Inflating takes long and may need memory: held by a reference, not by the pin. Another load of the slot
                // may find that the block was replaced; then that is read.
                let Some(Block::Packed(block)) = content.map.share(index, &pinned) else { continue };
                drop(guard);
                return BlockRef::Packed(&block).read(from, n, sink).map_err(Stop::Error);
            }
        }
        return Ok(());
    }
}

/// Reads a part of the block that the file ends in, as far as the file goes: the bytes, and the size, of one moment.
///
/// The size may move at once after it was loaded, and what is found in the block then may not go with it. So the block is
/// looked at before and after; what a slot or a cell named does not come back while there is a pin, so if both
/// looks find the same, that was there when the size was loaded.
fn read_tail(
    content: &Content,
    index: u64,
    from: usize,
    n: usize,
    sink: &mut Sink<'_>,
    how: How,
) -> core::result::Result<(usize, u64), Stop> {
    loop {
        let guard = epoch::pin();
        // SAFETY: the file's filesystem is in lockless mode.
        let pinned = unsafe { Pinned::new(&guard) };
        let before = content.map.get(index, &pinned);
        let cells = match before {
            Some(BlockRef::Raw(block)) => Some(block.cells(from, n)),
            _ => None,
        };
        failpoint!("lockless.read.tail");
        let size = content.size();
        failpoint!("lockless.read.size");
        // After the size, because it moves before that.
        let mark = match before {
            Some(BlockRef::Raw(block)) => block.granted(),
            _ => 0,
        };
        let n_within = n.min(valid_in(index, size).saturating_sub(from));
        match (before, content.map.get(index, &pinned), &cells) {
            // An empty slot may come back, unlike a block: then with another size.
            (None, None, _) if content.size() == size => sink.put_zeros(n_within),
            (Some(BlockRef::Raw(block)), Some(BlockRef::Raw(after)), Some(cells))
                if core::ptr::eq(block, after) && block.has_still(cells, from, n) =>
            {
                block.read_cells(cells, mark, from, n_within, sink);
            }
            (Some(BlockRef::Packed(block)), Some(BlockRef::Packed(after)), _)
                if core::ptr::eq(block, after) =>
            {
                if !block.read_kept(from, n_within, sink) {
                    if how == How::Briefly {
                        return Err(Stop::Inflating);
                    }
                    let Some(Block::Packed(shared)) = content.map.share(index, &pinned) else { continue };
                    if !core::ptr::eq(&*shared, block) {
                        continue;
                    }
                    drop(guard);
                    BlockRef::Packed(&shared).read(from, n_within, sink).map_err(Stop::Error)?;
                }
            }
            _ => continue,
        }
        return Ok((n_within, size));
    }
}

/// See [`Exclusion::change_block`]; `announce` runs when nothing can fail any more and nobody can see the change yet.
fn replace_block<R>(
    content: &Content,
    books: &mut Books,
    index: u64,
    draft: Draft,
    change: impl FnOnce(&mut RawBlock) -> Result<Changed<R>>,
    announce: impl FnOnce(),
) -> Result<R> {
    let sole = content.map.sole_raw(index, books);
    let mut new = match sole {
        // SAFETY: the map keeps the block while the books are borrowed, and it stays what it is until it is replaced below;
        // if that does not come to pass, the successor forgets its pages.
        Some(old) => unsafe { successor_of(content, index, old.as_ref(), draft)? },
        None => content.raw_copy(books, index, draft)?,
    };
    let block = new.get_mut().expect("a new block has one reference");
    let mark = block.mark();
    let changed = change(block)?;
    announce();
    failpoint!("lockless.content.block_made");
    // Past the size there are only zeros, whatever the mark was, and the writer's own bytes.
    block.set_mark(mark.min(valid_in(index, content.size())).max(changed.end));
    let passed_on = block.pass_on();
    let (old, bytes) = content.put(books, index, Block::Raw(new));
    failpoint!("lockless.content.block_shown");
    let garbage = match sole {
        Some(_) => Garbage::replaced(old, passed_on),
        None => Garbage::tree(old, bytes),
    };
    Lockless::let_go(content, garbage);
    Ok(changed.result)
}

/// A block to replace `old` by.
///
/// # Safety
/// As for [`RawBlock::successor`].
unsafe fn successor_of(
    content: &Content,
    index: u64,
    old: &RawBlock,
    draft: Draft,
) -> Result<Counted<RawBlock>> {
    let valid = valid_in(index, content.size());
    if draft.whole && !reaches_past(BlockRef::Raw(old), valid) {
        // Pages that follow each other, made before the old ones go; if there is no room for all, those are replaced one by
        // one, as far as it goes.
        if let Ok(fresh) = content.room_for(valid, draft.purpose) {
            return Ok(fresh);
        }
    }
    // SAFETY: by this function's contract.
    unsafe { old.successor(draft.purpose) }
}
