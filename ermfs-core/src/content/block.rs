//! The forms of one block of a file: raw pages, or packed at rest.
//!
//! Promises: whoever holds a counted reference to a block sees the bytes of the moment it was taken (`raw`, `packed`).
//! Owns nothing but that reference.

use ermfs_memory::{Counted, PAGE_SIZE};

use super::io::Sink;
pub(crate) use super::packed::{AtRest, PackedBlock};
pub(crate) use super::raw::{Holes, RawBlock, Writable};
use crate::errno::Result;

const PAGE: u64 = PAGE_SIZE as u64;

/// A counted reference to one block.
pub(crate) enum Block {
    Raw(Counted<RawBlock>),
    Packed(Counted<PackedBlock>),
}

/// A borrowed block.
#[derive(Clone, Copy)]
pub(crate) enum BlockRef<'a> {
    Raw(&'a RawBlock),
    Packed(&'a PackedBlock),
}

impl BlockRef<'_> {
    /// Puts bytes `from .. from + n` of the block into `sink`.
    ///
    /// # Errors
    /// `EIO` when the member is corrupt; nothing was consumed of the sink then.
    #[inline]
    pub(crate) fn read(&self, from: usize, n: usize, sink: &mut Sink<'_>) -> Result<()> {
        match self {
            BlockRef::Raw(block) => {
                block.read(from, n, sink);
                Ok(())
            }
            BlockRef::Packed(block) => block.read(from, n, sink),
        }
    }

    /// Bytes of memory the block's content takes.
    pub(crate) fn stored_bytes(&self) -> u64 {
        match self {
            BlockRef::Raw(block) => block.page_count() as u64 * PAGE,
            BlockRef::Packed(block) => block.stored_bytes(),
        }
    }

    /// Bytes of the file that are kept here and not a hole.
    pub(crate) fn data_bytes(&self) -> u64 {
        match self {
            BlockRef::Raw(block) => block.page_count() as u64 * PAGE,
            BlockRef::Packed(block) => block.raw_len() as u64,
        }
    }
}

impl Block {
    pub(crate) fn as_ref(&self) -> BlockRef<'_> {
        match self {
            Block::Raw(block) => BlockRef::Raw(block),
            Block::Packed(block) => BlockRef::Packed(block),
        }
    }
}
