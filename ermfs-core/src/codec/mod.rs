//! One block of a file to one gzip member and back, and any gzip stream to bytes.
//!
//! Promises: [`pack`] and [`unpack`] are inverse; a member is a complete RFC 1952 gzip member in
//! BGZF layout (SAM specification, section 4.1) of at most 65,536 bytes, so that the members of a
//! file one after the other are a valid `.gz`; a member with any single flipped bit is refused with
//! `EIO`, and damage of any other kind is caught by the CRC-32 of the content, so wrong bytes are
//! never handed on as a success. [`GzipReader`] reads what others wrote and refuses what is cut off
//! or damaged.
//!
//! Owns: the per-thread state of libdeflate. Never: charges a budget, keeps a block or a member, or
//! aborts for want of memory.

mod deflate;
mod member;
mod probe;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use member::{END_OF_FILE, HOLE_BLOCK, hole_member, store, unpack};
pub(crate) use stream::GzipReader;

use crate::errno::{Errno, Result};
use ermfs_memory::BLOCK_SIZE;

/// The compression levels of libdeflate that make sense for a block at rest.
const LEVELS: core::ops::RangeInclusive<i32> = 1..=12;

/// What [`pack`] made of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packed {
    /// Every byte is zero: keep a hole.
    Zero,
    /// It does not shrink by a sixteenth, or the probe says that it will not: keep it as it is.
    Incompressible,
    /// The scratch buffer holds a member of this many bytes.
    Member(usize),
}

/// Compresses one block of 1 to 65,536 bytes into `out`, whose former content is lost.
///
/// `level` is libdeflate's, 1 to 12. With `probe` a block of 4 KiB or more whose sampled byte
/// entropy is close to 8 bits is not compressed at all. On [`Packed::Member`], `out` holds exactly
/// the member. Any thread may call it; state is per thread and about 200 KiB at level 1 (several
/// MiB from level 10).
///
/// # Errors
/// `EINVAL`: an empty or too long block, or a level out of range. `ENOMEM`: no memory for the
/// compressor's state or for `out`; the block is as it was.
pub(crate) fn pack(block: &[u8], level: i32, probe: bool, out: &mut Vec<u8>) -> Result<Packed> {
    if block.is_empty() || block.len() > BLOCK_SIZE || !LEVELS.contains(&level) {
        return Err(Errno::EINVAL);
    }
    if probe::is_zero(block) {
        return Ok(Packed::Zero);
    }
    if probe && probe::looks_random(block) {
        return Ok(Packed::Incompressible);
    }
    let most = block.len() - block.len().div_ceil(16);
    Ok(match member::compress(block, level, most, out)? {
        Some(len) => Packed::Member(len),
        None => Packed::Incompressible,
    })
}
