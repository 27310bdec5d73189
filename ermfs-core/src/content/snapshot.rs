//! A file's bytes at one moment, held by counted references.
//!
//! Promises: neither a snapshot nor a view changes, whatever happens to the file; both keep the
//! blocks they hold, and through them the charge for these. A view's memory may be read by anybody
//! and written by nobody. Owns references only, no copies, except of packed blocks in a view.

use ermfs_memory::sync::Arc;
use ermfs_memory::{BLOCK_SIZE, Counted, Purpose};

use super::block::{AtRest, Block, BlockRef, PackedBlock, RawBlock};
use super::cache::InflatedCopy;
use super::charged::ChargedVec;
use super::{BLOCK, valid_in};
use crate::errno::Result;
use crate::space::Space;

/// All blocks of a file and its size.
pub(crate) struct Snapshot {
    space: Arc<Space>,
    size: u64,
    version: u64,
    blocks: ChargedVec<(u64, Block)>,
}

/// A piece of a snapshot, in order.
pub(crate) enum Run<'a> {
    /// That many bytes of zeros.
    Hole(u64),
    /// Plain bytes.
    Plain(&'a [u8]),
    /// A block at rest, and its member.
    Member(&'a PackedBlock, &'a [u8]),
}

impl Snapshot {
    pub(super) fn new(space: &Arc<Space>, size: u64, version: u64) -> Snapshot {
        let blocks = ChargedVec::new(space, Purpose::Reserved);
        Snapshot { space: Arc::clone(space), size, version, blocks }
    }

    pub(super) fn push(&mut self, index: u64, block: Block) -> Result<()> {
        self.blocks.push((index, block))
    }

    /// The file's size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The content's version the snapshot is of.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The filesystem it belongs to.
    pub(crate) fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Calls `each` for runs that make up the file from its start to its end. A raw block's bytes come
    /// as runs of whole pages, at most a block at a time.
    ///
    /// # Errors
    /// What `each` answers.
    pub(crate) fn for_each_run(&self, mut each: impl FnMut(Run<'_>) -> Result<()>) -> Result<()> {
        let mut at = 0;
        for (index, block) in self.blocks.iter() {
            let start = index * BLOCK;
            if start > at {
                each(Run::Hole(start - at))?;
            }
            let valid = valid_in(*index, self.size);
            let data = match block.as_ref() {
                BlockRef::Raw(block) => {
                    each_raw_run(block, valid, &mut each)?;
                    valid
                }
                BlockRef::Packed(block) => {
                    match block.at_rest() {
                        AtRest::Member(member) => each(Run::Member(block, member))?,
                        AtRest::Plain(bytes) => each(Run::Plain(bytes))?,
                    }
                    block.raw_len()
                }
            };
            at = start + data as u64;
        }
        if self.size > at { each(Run::Hole(self.size - at)) } else { Ok(()) }
    }
}

fn each_raw_run(block: &RawBlock, valid: usize, each: &mut impl FnMut(Run<'_>) -> Result<()>) -> Result<()> {
    let mut result = Ok(());
    block.for_each_run(0, valid, |run, len| {
        if result.is_ok() {
            result = match run {
                // SAFETY: a run of initialised pages that the block holds; the snapshot's reference makes
                // every writer copy them (B1).
                Some(address) => each(Run::Plain(unsafe { core::slice::from_raw_parts(address, len) })),
                None => each(Run::Hole(len as u64)),
            };
        }
    });
    result
}

static ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];

/// What keeps a piece of a view alive.
enum Hold {
    /// The pages of a raw block, or the bytes of a packed one that is stored as it is.
    Block {
        _block: Block,
    },
    Copy {
        _copy: Counted<InflatedCopy>,
    },
}

/// Pieces of memory that hold a part of a file as it was at one moment.
pub struct View {
    pieces: ChargedVec<(*const u8, usize)>,
    holds: ChargedVec<Hold>,
    max_pieces: usize,
}

// SAFETY: the pieces point into memory that `holds` keeps and nobody writes (B1), or into ZEROS.
unsafe impl Send for View {}
// SAFETY: as above; a view is only read.
unsafe impl Sync for View {}

impl View {
    pub(super) fn new(space: &Arc<Space>, max_pieces: usize) -> View {
        let (pieces, holds) =
            (ChargedVec::new(space, Purpose::Ordinary), ChargedVec::new(space, Purpose::Ordinary));
        View { pieces, holds, max_pieces }
    }

    /// Adds bytes `from .. from + n` of a block, or of a hole, as far as pieces are left; `false` when
    /// that was not all of them.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC`, `ENOMEM`: nothing was added of the block, or what was added is held.
    pub(super) fn push(&mut self, block: Option<Block>, from: usize, n: usize) -> Result<bool> {
        let Some(block) = block else { return self.piece(ZEROS.as_ptr(), n) };
        self.holds.reserve_one()?;
        match block {
            Block::Raw(block) => self.push_raw(block, from, n),
            Block::Packed(block) => self.push_packed(block, from, n),
        }
    }

    fn push_raw(&mut self, block: Counted<RawBlock>, from: usize, n: usize) -> Result<bool> {
        let mut added = Ok(true);
        block.for_each_run(from, n, |run, len| {
            if matches!(added, Ok(true)) {
                added = self.piece(run.map_or(ZEROS.as_ptr(), |run| run.cast_const()), len);
            }
        });
        // Held also when the pieces did not suffice: some may point into it.
        self.holds.push(Hold::Block { _block: Block::Raw(block) })?;
        added
    }

    fn push_packed(&mut self, block: Counted<PackedBlock>, from: usize, n: usize) -> Result<bool> {
        let data = n.min(block.raw_len().saturating_sub(from));
        if data > 0 {
            let (start, hold) = match block.at_rest() {
                AtRest::Plain(bytes) => (bytes.as_ptr(), Hold::Block { _block: Block::Packed(block) }),
                AtRest::Member(_) => {
                    let copy = block.held_copy()?;
                    (copy.bytes().as_ptr(), Hold::Copy { _copy: copy })
                }
            };
            self.holds.push(hold)?;
            if !self.piece(start.wrapping_add(from), data)? {
                return Ok(false);
            }
        }
        Ok(data == n || self.piece(ZEROS.as_ptr(), n - data)?)
    }

    /// Appends a piece, joined to the last one where they touch; `false` when there are as many as asked
    /// for.
    fn piece(&mut self, address: *const u8, len: usize) -> Result<bool> {
        if let Some((last, last_len)) = self.pieces.last_mut()
            && last.wrapping_add(*last_len) == address
            && !ZEROS.as_ptr_range().contains(&address)
        {
            *last_len += len;
            return Ok(true);
        }
        if self.pieces.len() == self.max_pieces {
            return Ok(false);
        }
        self.pieces.push((address, len))?;
        Ok(true)
    }

    /// The pieces, in order: address and length in bytes.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        // SAFETY: each piece is initialised memory that `holds` keeps, or part of ZEROS, and is written
        // by nobody while the view lives.
        self.pieces.iter().map(|&(address, len)| unsafe { core::slice::from_raw_parts(address, len) })
    }

    /// How many bytes the pieces hold together.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|&(_, len)| len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}
