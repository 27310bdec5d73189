//! Parts of the engine that are inside of it, for the micro benches (feature `micro`). Nobody else calls this.

use core::mem::MaybeUninit;

use crate::codec::{self, Packed};
use crate::errno::Result;

pub use crate::content::micro::MapOfBlocks;

/// Packs a block of 1 to 65,536 bytes at libdeflate's `level`. Whether `out` is a member of it now: else the block does not shrink.
///
/// # Errors
/// `EINVAL`: an empty or too long block, or a level out of range. `ENOMEM`.
pub fn pack(block: &[u8], level: i32, out: &mut Vec<u8>) -> Result<bool> {
    codec::pack(block, level, true, out).map(|packed| matches!(packed, Packed::Member(_)))
}

/// Inflates a member into `out`, which is of the block's length.
///
/// # Errors
/// `EIO`: a damaged member, or one of another length. `ENOMEM`.
pub fn unpack(member: &[u8], out: &mut [MaybeUninit<u8>]) -> Result<()> {
    codec::unpack(member, out)
}
