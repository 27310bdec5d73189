//! The bytes of a regular file: a size and a map from block index to block.
//!
//! Promises: a read sees bytes that were written, or zeros where nothing was; a write that lies
//! within one block is seen whole or not at all; a call that fails has changed nothing, or, where
//! POSIX allows a partial transfer, exactly as much as it reports. At rest a block is a gzip member,
//! a hole, or stored as it is. Owns the blocks and the inflated copies; every byte of them is
//! charged to the filesystem's budget. Never looks at names, descriptors or times.
//!
//! `block` (`raw`, `packed`), `slot`, `map` and `file` are the structure, the same in both modes; `read`, `write`, `range` and `pack` are the
//! operations, written once over the trait in `exclusion`, which `locked` and `lockless` implement: how threads are kept
//! apart. docs/DESIGN.md, "Content", tells both.

mod block;
pub(crate) mod cache;
mod cells;
mod charged;
mod cuts;
mod exclusion;
mod file;
pub(crate) mod garbage;
mod io;
mod locked;
mod lockless;
mod map;
#[cfg(feature = "micro")]
pub(crate) mod micro;
#[cfg(all(test, loom))]
mod models;
mod pack;
mod packed;
mod range;
mod raw;
mod read;
mod scratch;
pub(crate) mod sealed;
mod slot;
mod snapshot;
#[cfg(test)]
mod tests;
mod trace;
mod warmth;
mod write;

use ermfs_memory::BLOCK_SIZE;

pub use file::Content;
pub use io::{Sink, Source};
pub(crate) use scratch::Scratch;
pub use snapshot::View;
pub(crate) use snapshot::{Run, Snapshot};

/// The largest size of a file, in bytes.
pub const MAX_FILE_SIZE: u64 = i64::MAX as u64;

const BLOCK: u64 = BLOCK_SIZE as u64;

/// Runs a call with `$E` standing for the [`exclusion::Exclusion`] of the file's mode.
macro_rules! in_mode {
    ($content:expr, $E:ident => $call:expr) => {
        match $content.space.mode() {
            $crate::fs::Mode::Locked => {
                type $E = $crate::content::locked::Locked;
                $call
            }
            $crate::fs::Mode::Lockless => {
                type $E = $crate::content::lockless::Lockless;
                $call
            }
        }
    };
}
use in_mode;

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
