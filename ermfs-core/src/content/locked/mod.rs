//! Content in locked mode: readers share the file's lock, whoever changes it holds it alone.
//!
//! Promises what the module above promises, by exclusion: under the shared lock nothing changes;
//! under the exclusive lock a block that only the map holds is overwritten in place, any other is
//! replaced. Compression runs without the lock, on a counted reference, and its result is put in
//! only if the block is still the one that was read. Size and version are atomics that are written
//! under the exclusive lock, so that `stat` takes no lock.
//!
//! Invariant (C2 in docs/INVARIANTS.md): in a raw block every byte at or past the file's size is
//! zero, and a packed block stands for no byte past the size. So a file grows by moving its size.

mod pack;
mod range;
mod read;
mod write;

use core::ops::{ControlFlow, Range};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use parking_lot::RwLock;

use super::block::BlockRef;
use super::map::BlockMap;
use super::{BLOCK, FileInfo, Form, Snapshot};
use crate::descriptor::Descriptor;
use crate::errno::{Errno, Result};
use crate::space::Space;

/// All bytes of one regular file.
pub struct Content {
    space: Arc<Space>,
    size: AtomicU64,
    /// Moves with every change of bytes or size.
    version: AtomicU64,
    state: RwLock<State>,
    /// Writable open file descriptions.
    writers: AtomicU32,
    /// A sealed export of this file may be kept.
    exported: AtomicBool,
}

/// What the lock guards.
struct State {
    map: BlockMap,
    /// Bytes of memory the blocks take.
    stored: u64,
    /// Bytes of the file that are no hole, whole pages where they are raw.
    data: u64,
    /// Blocks changed since they were packed lie in this range of indexes.
    dirty: Range<u64>,
}

impl State {
    fn mark_dirty(&mut self, index: u64) {
        self.dirty = match self.dirty.is_empty() {
            true => index..index + 1,
            false => self.dirty.start.min(index)..self.dirty.end.max(index + 1),
        };
    }

    /// Books that block `index` had these amounts and has those now.
    fn account(&mut self, before: (u64, u64), after: (u64, u64)) {
        self.stored = self.stored - before.0 + after.0;
        self.data = self.data - before.1 + after.1;
    }
}

impl State {
    /// Takes a raw block without a page out of the map, and nodes without a block on the way to it: what
    /// a refused call may have left. Bounded metadata then stays bounded however often it is tried.
    #[cold]
    fn discard_empty(&mut self, index: u64) {
        let empty = match self.map.get(index) {
            None => true,
            Some(BlockRef::Raw(block)) => block.page_count() == 0,
            Some(BlockRef::Packed(_)) => false,
        };
        if empty {
            self.map.remove(index..index + 1);
        }
    }
}

/// The (stored, data) bytes of what is at a place of the map.
fn amounts(block: Option<BlockRef<'_>>) -> (u64, u64) {
    block.map_or((0, 0), |block| (block.stored_bytes(), block.data_bytes()))
}

impl Content {
    /// An empty file's content. Allocates nothing.
    pub fn new(space: &Arc<Space>) -> Content {
        Content {
            space: Arc::clone(space),
            size: AtomicU64::new(0),
            version: AtomicU64::new(0),
            state: RwLock::new(State { map: BlockMap::new(), stored: 0, data: 0, dirty: 0..0 }),
            writers: AtomicU32::new(0),
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
    pub fn stored_bytes(&self) -> u64 {
        self.state.read().stored
    }

    /// What the file costs and in which forms it is.
    pub fn info(&self) -> FileInfo {
        let state = self.state.read();
        let size = self.size();
        let blocks = size.div_ceil(BLOCK);
        let (mut blocks_packed, mut blocks_raw) = (0, 0);
        state.map.for_each::<()>(0..blocks, |_, _, block| {
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
        FileInfo { size, stored_bytes: state.stored, form, blocks, blocks_packed, blocks_raw, blocks_hole }
    }

    /// Runs `change` under the exclusive lock, then books what it changed.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
        let mut state = self.state.write();
        let before = self.logical(&state);
        let result = change(&mut state);
        let after = self.logical(&state);
        if before != after {
            // Relaxed, and wrapping subtraction: a counter of its own.
            self.space.counters.logical_bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
        // Also after a failure: part of the bytes may have changed.
        self.version.fetch_add(1, Ordering::Release);
        if self.exported.load(Ordering::Relaxed) {
            self.forget_export();
        }
        result
    }

    /// The file's share of `logical_bytes`.
    fn logical(&self, state: &State) -> u64 {
        state.data.min(self.size())
    }

    fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// How many bytes the content may still grow by under the limit of one file.
    fn room_left(&self, state: &State) -> u64 {
        match self.space.policy().max_file_bytes {
            0 => u64::MAX,
            max => max.saturating_sub(state.stored),
        }
    }

    /// The same as a number of pages.
    fn pages_left(&self, state: &State) -> usize {
        (self.room_left(state) / ermfs_memory::PAGE_SIZE as u64) as usize
    }

    /// Counted references to all blocks, and the size, at one moment.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let state = self.state.read();
        let mut snapshot = Snapshot::new(&self.space, self.size(), self.version());
        let failed = state.map.for_each(0..self.size().div_ceil(BLOCK), |index, slot, _| {
            match slot.share().map_or(Ok(()), |block| snapshot.push(index, block)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        failed.map_or(Ok(snapshot), Err)
    }

    /// Frees every block now: the inode's last reference went.
    pub fn clear(&self) {
        let freed = self.change(|state| {
            *state = State { map: BlockMap::new(), stored: 0, data: 0, dirty: 0..0 };
            self.set_size(0);
            Ok(())
        });
        debug_assert!(freed.is_ok());
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
        if self.version() != version {
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
        self.clear();
        self.space.sealed.remove(&self.space, self.key());
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
fn end_of(offset: u64, len: u64) -> Result<u64> {
    offset.checked_add(len).filter(|&end| end <= super::MAX_FILE_SIZE).ok_or(Errno::EFBIG)
}
