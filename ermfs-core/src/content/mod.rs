//! The bytes of a regular file: a size and a map from block index to block.
//!
//! Promises: a read sees bytes that were written, or zeros where nothing was; a write that lies
//! within one block is seen whole or not at all; a call that fails has changed nothing, or, where
//! POSIX allows a partial transfer, exactly as much as it reports. At rest a block is a gzip member,
//! a hole, or stored as it is. Owns the blocks and the inflated copies; every byte of them is
//! charged to the filesystem's budget. Never looks at names, descriptors or times.
//!
//! `block`, `slot` and `map` are the structure, the same in both modes; `locked` is the exclusion
//! of the locked mode, and holds the operations. docs/DESIGN.md, "Content", tells both.

mod block;
pub(crate) mod cache;
mod charged;
mod io;
mod locked;
mod map;
mod scratch;
pub(crate) mod sealed;
mod slot;
mod snapshot;
#[cfg(test)]
mod tests;

use ermfs_memory::BLOCK_SIZE;

pub use io::{Sink, Source};
pub use locked::Content;
pub(crate) use scratch::Scratch;
pub use snapshot::View;
pub(crate) use snapshot::{Run, Snapshot};

/// The largest size of a file, in bytes.
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64;

const BLOCK: u64 = BLOCK_SIZE as u64;

/// What forms a file's bytes have now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Form {
    /// No data at all.
    Empty = 0,
    /// All data in raw pages.
    Raw = 1,
    /// All data at rest.
    Packed = 2,
    /// Some of both.
    Mixed = 3,
}

/// What a file costs, as `ermfs_fget_info` reports it.
#[derive(Clone, Copy, Debug)]
pub struct FileInfo {
    /// Size of the file in bytes.
    pub size: u64,
    /// Bytes of memory its content takes.
    pub stored_bytes: u64,
    /// The forms of its data.
    pub form: Form,
    /// Blocks of 64 KiB within the size.
    pub blocks: u64,
    /// How many of them are at rest.
    pub blocks_packed: u64,
    /// How many are raw.
    pub blocks_raw: u64,
    /// How many are holes.
    pub blocks_hole: u64,
}

/// The part of `offset .. offset + n` that lies in the block of `offset`: block index, offset in the
/// block, length.
#[inline]
fn in_block(offset: u64, n: u64) -> (u64, usize, usize) {
    let inner = (offset % BLOCK) as usize;
    (offset / BLOCK, inner, n.min((BLOCK_SIZE - inner) as u64) as usize)
}

/// The bytes of block `index` that lie below `size`.
#[inline]
fn valid_in(index: u64, size: u64) -> usize {
    size.saturating_sub(index * BLOCK).min(BLOCK) as usize
}
