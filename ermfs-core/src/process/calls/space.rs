//! Sizes and blocks: truncate, ftruncate, fallocate, posix_fadvise, fsync, fdatasync, copy_file_range.

use super::{check_offset, with_file};
use crate::errno::{Errno, Result};
use crate::gate;
use crate::process::filesystems::{Target, with_inode};
use crate::process::{AT_FDCWD, fd_table};

/// Sets a file's size in bytes; see truncate(2).
///
/// # Errors
/// `EINVAL` for a negative size, `EISDIR`, `EACCES`, the walk's, `ENOSPC`, `ENOMEM`.
pub fn truncate(path: &[u8], size: i64) -> Result<()> {
    check_offset(size)?;
    with_inode(AT_FDCWD, path, Target { follow: true, empty_path: false }, |fs, inode| {
        inode.set_len(size.cast_unsigned(), fs.credentials())
    })
}

/// Sets an open file's size in bytes; see ftruncate(2).
///
/// # Errors
/// `EBADF`, and those of [`OpenFile::set_len`](crate::process::OpenFile::set_len).
pub fn ftruncate(fd: i32, size: i64) -> Result<()> {
    check_offset(size)?;
    with_file(fd, |file| file.set_len(size))
}

/// Allocates, frees, zeroes, cuts out or inserts a range; see fallocate(2).
///
/// # Errors
/// `EBADF`, and those of [`OpenFile::allocate`](crate::process::OpenFile::allocate).
pub fn fallocate(fd: i32, mode: i32, offset: i64, len: i64) -> Result<()> {
    with_file(fd, |file| file.allocate(mode, offset, len))
}

/// Checks the arguments of posix_fadvise(2), which C returns instead of setting errno; the advice itself
/// changes nothing.
///
/// # Errors
/// `EBADF`, and those of [`OpenFile::advise`](crate::process::OpenFile::advise).
pub fn posix_fadvise(fd: i32, _offset: i64, len: i64, advice: i32) -> Result<()> {
    with_file(fd, |file| file.advise(len, advice))
}

/// Succeeds for every descriptor of a file or directory: there is no disk; see fsync(2).
///
/// # Errors
/// `EBADF`, also for `O_PATH`.
pub fn fsync(fd: i32) -> Result<()> {
    with_file(fd, |file| file.sync())
}

/// As [`fsync`]; see fdatasync(2).
///
/// # Errors
/// As [`fsync`].
pub fn fdatasync(fd: i32) -> Result<()> {
    fsync(fd)
}

/// Copies between files, also of two filesystems; see copy_file_range(2). Without an offset the
/// descriptor's own is used and moved.
///
/// # Errors
/// `EBADF`, `EINVAL` for any flag, and those of
/// [`OpenFile::copy_range_to`](crate::process::OpenFile::copy_range_to).
pub fn copy_file_range(
    fd_in: i32,
    offset_in: Option<&mut i64>,
    fd_out: i32,
    offset_out: Option<&mut i64>,
    len: usize,
    flags: u32,
) -> Result<usize> {
    let _inside = gate::enter();
    let source = fd_table::lookup(fd_in)?;
    source.usable()?;
    let target = fd_table::lookup(fd_out)?;
    target.usable()?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    source.copy_range_to(offset_in, &target, offset_out, len)
}
