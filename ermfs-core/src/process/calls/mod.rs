//! The calls, by family. Each has the parameters and the errors of its POSIX namesake; descriptors are
//! ERMFS's, paths are bytes without a NUL, flags and modes are libc's values, and what C returns as -1
//! with errno is an [`Errno`](crate::Errno). All may be called from any thread.
//!
//! Every call enters the gate before it looks at anything and begins an
//! [`Operation`](super::Operation) on the filesystem it works on; both end when it returns.

pub(super) mod descriptor;
pub(super) mod directory;
pub(super) mod export;
pub(super) mod files;
pub(super) mod filesystem;
pub(super) mod io;
pub(super) mod locks;
pub(super) mod metadata;
pub(super) mod names;
pub(super) mod space;
#[cfg(test)]
mod tests;
pub(super) mod xattr;

use super::fd_table;
use super::open_file::OpenFileRef;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::gate;

/// Runs `work` on the description that `fd` names.
///
/// # Errors
/// `EBADF`, and `work`'s.
#[inline]
fn with_file<R>(fd: i32, work: impl FnOnce(&OpenFileRef) -> Result<R>) -> Result<R> {
    // Left last: should this be the last reference to the description, its drop is still inside.
    let _inside = gate::enter();
    let file = fd_table::lookup(fd)?;
    failpoint!("fd.looked_up");
    work(&file)
}

/// # Errors
/// `EINVAL` for a negative offset, which the kernel looks at before the descriptor.
#[inline]
fn check_offset(offset: i64) -> Result<()> {
    if offset < 0 { Err(Errno::EINVAL) } else { Ok(()) }
}
