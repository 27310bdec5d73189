//! From the engine's errors and to its paths.
//!
//! Promises: an error keeps its number, so `raw_os_error()` answers what C's `errno` would hold.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use ermfs_core::Errno;

/// The engine's error as the standard library has it.
#[cold]
pub(crate) fn os(error: Errno) -> io::Error {
    io::Error::from_raw_os_error(error.raw())
}

/// The bytes of a path or name.
///
/// # Errors
/// `EINVAL` for a NUL, which no path can hold.
pub(crate) fn bytes(path: &(impl AsRef<OsStr> + ?Sized)) -> io::Result<&[u8]> {
    let bytes = path.as_ref().as_bytes();
    if bytes.contains(&0) { Err(os(Errno::EINVAL)) } else { Ok(bytes) }
}

/// An offset or length as the engine's calls take it.
///
/// # Errors
/// `EINVAL` above 2^63 - 1.
#[inline]
pub(crate) fn offset(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|_| os(Errno::EINVAL))
}
