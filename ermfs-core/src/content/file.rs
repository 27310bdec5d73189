//! A regular file's content: its size, its map, its books, and the lock of whoever changes them.
//!
//! Promises what the module above promises. Size, version and the memory it takes are atomics that are written
//! under the lock held alone, so that `stat` takes no lock. The map is changed under the lock held alone; who may read it
//! without the lock is the mode's affair (`exclusion`), and so is what happens to what is taken out of it. Compression
//! runs without the lock, on a counted reference, and its result is put in only if the block is still the one that was
//! read.
//!
//! Invariant (C2 in docs/INVARIANTS.md): in a raw block every byte at or past the file's size is
//! zero, and a packed block stands for no byte past the size. So a file grows by moving its size.

use core::mem::offset_of;
use core::ops::{ControlFlow, Range};
use std::os::fd::BorrowedFd;

use ermfs_memory::PAGE_SIZE;
use ermfs_memory::sync::Arc;

use super::block::{Block, BlockRef};
use super::cuts::Cuts;
use super::exclusion::Exclusion;
use super::garbage::Garbage;
use super::locked::Locked;
use super::map::BlockMap;
use super::slot::Slot;
use super::{BLOCK, FileInfo, Form, Snapshot, in_mode};
use crate::descriptor::Descriptor;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::space::Space;
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// All bytes of one regular file. What every read looks at comes first (`LOOKED_AT`).
#[repr(C)]
pub struct Content {
    size: AtomicU64,
    pub(super) map: BlockMap,
    pub(super) cuts: Cuts,
    /// Writable open file descriptions.
    pub(super) writers: AtomicU32,
    pub(super) space: Arc<Space>,
    /// Moves with every change of bytes or size.
    version: AtomicU64,
    /// Bytes of memory the blocks take. Moves with the books.
    stored: AtomicU64,
    pub(super) books: RwLock<Books>,
    /// A sealed export of this file may be kept.
    exported: AtomicBool,
}

/// What the file's lock guards, beside the map: whoever has it exclusively may change the map.
pub(super) struct Books {
    /// Bytes of the file that are no hole, whole pages where they are raw.
    data: u64,
    /// Blocks changed since they were packed lie in this range of indexes.
    pub(super) dirty: Range<u64>,
}

impl Books {
    /// Those of an empty file.
    pub(super) const fn new() -> Books {
        Books { data: 0, dirty: 0..0 }
    }

    pub(super) fn mark_dirty(&mut self, index: u64) {
        self.dirty = match self.dirty.is_empty() {
            true => index..index + 1,
            false => self.dirty.start.min(index)..self.dirty.end.max(index + 1),
        };
    }
}

/// The (stored, data) bytes of what is at a place of the map.
pub(super) fn amounts(block: Option<BlockRef<'_>>) -> (u64, u64) {
    block.map_or((0, 0), |block| (block.stored_bytes(), block.data_bytes()))
}

impl Content {
    /// So many of its first bytes every read looks at.
    pub(crate) const LOOKED_AT: usize = offset_of!(Content, writers);

    /// An empty file's content. Allocates nothing.
    pub fn new(space: &Arc<Space>) -> Content {
        Content {
            space: Arc::clone(space),
            size: AtomicU64::new(0),
            version: AtomicU64::new(0),
            map: BlockMap::new(),
            books: RwLock::new(Books::new()),
            stored: AtomicU64::new(0),
            writers: AtomicU32::new(0),
            cuts: Cuts::new(),
            exported: AtomicBool::new(false),
        }
    }

    /// The filesystem's resources that this content is charged to.
    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// The file's size in bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// A number that moves with every change of bytes or size.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Bytes of memory the content takes now: what `st_blocks` counts in units of 512.
    #[inline]
    pub fn stored_bytes(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// What the file costs and in which forms it is.
    pub fn info(&self) -> FileInfo {
        let books = self.books.read();
        let size = self.size();
        let blocks = size.div_ceil(BLOCK);
        let (mut blocks_packed, mut blocks_raw) = (0, 0);
        self.map.for_each::<()>(0..blocks, &books, |_, _, block| {
            match block {
                BlockRef::Raw(_) => blocks_raw += 1,
                BlockRef::Packed(_) => blocks_packed += 1,
            }
            ControlFlow::Continue(())
        });
        let form = match (blocks_raw, blocks_packed) {
            (0, 0) => Form::Empty,
            (_, 0) => Form::Raw,
            (0, _) => Form::Packed,
            _ => Form::Mixed,
        };
        let blocks_hole = blocks - blocks_packed - blocks_raw;
        let stored_bytes = self.stored_bytes();
        FileInfo { size, stored_bytes, form, blocks, blocks_packed, blocks_raw, blocks_hole }
    }

    /// Runs `change` under the lock held alone, then books what it changed.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Books) -> Result<R>) -> Result<R> {
        let mut books = self.books.write();
        failpoint!("content.change");
        let before = self.logical(&books);
        let result = change(&mut books);
        self.book_logical(before, &books);
        // Also after a failure: part of the bytes may have changed.
        // Not one step: it is written under the lock only.
        self.version.store(self.version.load(Ordering::Relaxed) + 1, Ordering::Release);
        if self.exported.load(Ordering::Relaxed) {
            self.forget_export();
        }
        result
    }

    /// The file's share of `logical_bytes`.
    pub(super) fn logical(&self, books: &Books) -> u64 {
        books.data.min(self.size())
    }

    /// Books that the file's share of `logical_bytes` was `before`.
    pub(super) fn book_logical(&self, before: u64, books: &Books) {
        let after = self.logical(books);
        if before != after {
            self.space.counters.logical_bytes.replace(before, after);
        }
    }

    /// Books that a part of the map had these amounts and has those now.
    #[inline]
    pub(super) fn account(&self, books: &mut Books, before: (u64, u64), after: (u64, u64)) {
        // Not one step: it is written under the lock only.
        let stored = self.stored.load(Ordering::Relaxed) - before.0 + after.0;
        self.stored.store(stored, Ordering::Relaxed);
        books.data = books.data - before.1 + after.1;
    }

    /// The same for a raw block that has so many pages more than before.
    #[inline]
    pub(super) fn account_pages(&self, books: &mut Books, more: isize) {
        if more != 0 {
            let bytes = |pages: isize| (pages.max(0) * PAGE_SIZE as isize) as u64;
            self.account(books, (bytes(-more), bytes(-more)), (bytes(more), bytes(more)));
        }
    }

    /// Books that the whole map has these amounts; the result is what was `stored` before.
    pub(super) fn reset_amounts(&self, books: &mut Books, amounts: (u64, u64)) -> u64 {
        books.data = amounts.1;
        self.stored.swap(amounts.0, Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// Has the map name `new` at `index`, to which there is a way. The result is what was there, and the memory that it takes.
    pub(super) fn put(&self, books: &mut Books, index: u64, new: Block) -> (Slot, u64) {
        let before = amounts(self.map.get(index, books));
        let after = amounts(Some(new.as_ref()));
        self.account(books, before, after);
        (self.map.replace(index, Slot::of_block(new), books), before.0)
    }

    /// Takes the blocks of `range` out.
    pub(super) fn remove_blocks<E: Exclusion>(&self, books: &mut Books, range: Range<u64>) {
        let mut gone = (0, 0);
        self.map.for_each::<()>(range.clone(), books, |_, _, block| {
            let block = amounts(Some(block));
            gone = (gone.0 + block.0, gone.1 + block.1);
            ControlFlow::Continue(())
        });
        // All of it is booked with the first part.
        let mut bytes = gone.0;
        self.map.remove(range, books, &mut |what| {
            E::let_go(self, what.with_bytes(core::mem::take(&mut bytes)));
        });
        self.account(books, gone, (0, 0));
    }

    /// Takes a raw block without a page out of the map, and nodes without a block on the way to it: what
    /// a refused call may have left. Bounded metadata then stays bounded however often it is tried.
    #[cold]
    pub(super) fn discard_empty<E: Exclusion>(&self, books: &mut Books, index: u64) {
        let empty = match self.map.get(index, books) {
            None => true,
            Some(BlockRef::Raw(block)) => block.page_count() == 0,
            Some(BlockRef::Packed(_)) => false,
        };
        if empty {
            self.remove_blocks::<E>(books, index..index + 1);
        }
    }

    /// Whether the books say what the blocks take (C3).
    #[cfg(test)]
    pub(super) fn is_booked(&self) -> bool {
        let books = self.books.read();
        let mut sum = (0, 0);
        self.map.for_each::<()>(0..u64::MAX / BLOCK, &books, |_, _, block| {
            let block = amounts(Some(block));
            sum = (sum.0 + block.0, sum.1 + block.1);
            ControlFlow::Continue(())
        });
        sum == (self.stored_bytes(), books.data)
    }

    /// How many bytes the content may still grow by under the limit of one file.
    pub(super) fn room_left(&self) -> u64 {
        match self.space.policy().max_file_bytes {
            0 => u64::MAX,
            max => max.saturating_sub(self.stored_bytes()),
        }
    }

    /// The same as a number of pages.
    pub(super) fn pages_left(&self) -> usize {
        (self.room_left() / PAGE_SIZE as u64) as usize
    }

    /// Counted references to all blocks, and the size, at one moment.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let books = self.books.read();
        let mut snapshot = Snapshot::new(&self.space, self.size(), self.version());
        let failed = self.map.for_each(0..self.size().div_ceil(BLOCK), &books, |index, slot, _| {
            match slot.share(&*books).map_or(Ok(()), |block| snapshot.push(index, block)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        failed.map_or(Ok(snapshot), Err)
    }

    /// Gives every block up: the inode's last reference went.
    pub fn clear(&self) {
        in_mode!(self, E => self.clear_as::<E>());
    }

    fn clear_as<E: Exclusion>(&self) {
        let cleared = self.change(|books| {
            self.set_size(0);
            self.cuts.note_cut();
            let what = self.map.exchange(BlockMap::new(), books);
            let bytes = self.reset_amounts(books, (0, 0));
            E::let_go(self, Garbage::tree(what, bytes));
            *books = Books::new();
            Ok(())
        });
        debug_assert!(cleared.is_ok());
    }

    /// Runs `use_fd` on the sealed export of this content as it is now, if one is kept.
    pub(crate) fn with_export<R>(&self, use_fd: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        self.space.sealed.with(self.key(), self.version(), use_fd)
    }

    /// Keeps `fd`, a sealed memfd of this content as it was at `version`, for later exports. `bytes`
    /// are charged as exported already; they are released when it goes.
    pub(crate) fn keep_export(&self, version: u64, fd: Descriptor, bytes: u64) {
        // Set first: a change from now on looks for the export, and one before has another version.
        self.exported.store(true, Ordering::SeqCst);
        self.space.sealed.insert(&self.space, self.key(), version, fd, bytes);
        // And once more: who was just forgetting an earlier export may have unset it, and then looked too soon to find this.
        self.exported.store(true, Ordering::SeqCst);
        // Under the lock: a change was made before and is seen, or sees that there may be an export.
        let books = self.books.read();
        let is_current = self.version() == version;
        drop(books);
        if !is_current {
            self.forget_export();
        }
    }

    #[cold]
    fn forget_export(&self) {
        self.exported.store(false, Ordering::SeqCst);
        self.space.sealed.remove(&self.space, self.key());
    }

    /// What the sealed exports know this content by: its address, which is its own until it is freed.
    fn key(&self) -> usize {
        core::ptr::from_ref(self) as usize
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        // Nobody is left who could be looking. An inode's content was cleared already, when its last hold went.
        if self.size() > 0 || !self.map.is_empty() {
            self.clear_as::<Locked>();
        }
        if self.exported.load(Ordering::Relaxed) {
            self.forget_export();
        }
    }
}

impl core::fmt::Debug for Content {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Content")
            .field("size", &self.size())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

/// Checks `offset + len` against the largest file.
pub(super) fn end_of(offset: u64, len: u64) -> Result<u64> {
    offset.checked_add(len).filter(|&end| end <= super::MAX_FILE_SIZE).ok_or(Errno::EFBIG)
}
