//! One block's member by itself, for tests that damage it.
//!
//! Promises what the codec promises: see [`pack`] and [`unpack`]. Never touches a filesystem.

use ermfs_memory::try_vec;

use crate::codec::{self, Packed};
use crate::errno::Result;

/// The member that a block of 1 to 65,536 bytes is kept as at libdeflate's `level`, 1 to 12; `None` for a block that is
/// kept otherwise, because it is zeros or does not shrink.
///
/// # Errors
/// `EINVAL` for another length or level, `ENOMEM`.
pub fn pack(block: &[u8], level: i32) -> Result<Option<Vec<u8>>> {
    let mut member = Vec::new();
    let packed = codec::pack(block, level, false, &mut member)?;
    Ok(matches!(packed, Packed::Member(_)).then_some(member))
}

/// The `len` bytes that `member` holds.
///
/// # Errors
/// `EIO` for what is not one whole, undamaged member of a content of `len` bytes; `ENOMEM`.
pub fn unpack(member: &[u8], len: usize) -> Result<Vec<u8>> {
    let mut block = try_vec(len)?;
    codec::unpack(member, &mut block.spare_capacity_mut()[..len])?;
    // SAFETY: unpack initialises all of what it is given, and the capacity is at least `len`.
    unsafe { block.set_len(len) };
    Ok(block)
}
