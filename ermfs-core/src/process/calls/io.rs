//! Moving bytes: read, readv, pread, preadv, write, pwrite, and lseek. writev and pwritev are write and
//! pwrite with a [`Source`] of several parts; reading nothing is what differs between read and readv.

use super::with_file;
use crate::content::{Sink, Source};
use crate::errno::{Errno, Result};
use crate::gate;
use crate::process::fd_table;
use crate::process::open_file::OpenFile;

/// Fills `sink` from the descriptor's offset on; see read(2).
///
/// # Errors
/// `EBADF`, and those of [`OpenFile::read`](crate::process::OpenFile::read).
#[inline]
pub fn read(fd: i32, sink: &mut Sink<'_>) -> Result<usize> {
    with_file(fd, |file| file.read(sink))
}

/// Fills the parts of `sink` from the descriptor's offset on; see readv(2). With no room at all it succeeds
/// even on a directory, which read(2) does not.
///
/// # Errors
/// As [`read`].
pub fn readv(fd: i32, sink: &mut Sink<'_>) -> Result<usize> {
    with_file(fd, |file| if reads_nothing(file, sink)? { Ok(0) } else { file.read(sink) })
}

/// Writes `source` at the descriptor's offset; see write(2).
///
/// # Errors
/// `EBADF`, and those of [`OpenFile::write`](crate::process::OpenFile::write).
#[inline]
pub fn write(fd: i32, source: &mut Source<'_>) -> Result<usize> {
    with_file(fd, |file| file.write(source))
}

/// Fills `sink` from `offset` on; see pread(2).
///
/// # Errors
/// `EINVAL` for a negative offset, `EBADF`, and those of
/// [`OpenFile::read_at`](crate::process::OpenFile::read_at).
#[inline]
pub fn pread(fd: i32, sink: &mut Sink<'_>, offset: i64) -> Result<usize> {
    super::check_offset(offset)?;
    let _inside = gate::enter();
    fd_table::with(
        fd,
        &mut (sink, None),
        |file, (sink, start)| {
            *start = Some(sink.place());
            file.read_briefly(sink, offset)
        },
        |file, (sink, start)| {
            // The other may have been at it.
            if let Some(start) = start {
                sink.go_back(start);
            }
            file.read_at(sink, offset)
        },
    )
}

/// Fills the parts of `sink` from `offset` on; see preadv(2), and [`readv`].
///
/// # Errors
/// As [`pread`].
pub fn preadv(fd: i32, sink: &mut Sink<'_>, offset: i64) -> Result<usize> {
    super::check_offset(offset)?;
    with_file(fd, |file| if reads_nothing(file, sink)? { Ok(0) } else { file.read_at(sink, offset) })
}

/// Whether a vector read is done before it looks at the file.
///
/// # Errors
/// `EBADF` unless open for reading.
fn reads_nothing(file: &OpenFile, sink: &Sink<'_>) -> Result<bool> {
    if !file.is_readable() {
        return Err(Errno::EBADF);
    }
    Ok(sink.remaining() == 0)
}

/// Writes `source` at `offset`, or at the end with `O_APPEND` as on Linux; see pwrite(2).
///
/// # Errors
/// `EINVAL` for a negative offset, `EBADF`, and those of
/// [`OpenFile::write_at`](crate::process::OpenFile::write_at).
#[inline]
pub fn pwrite(fd: i32, source: &mut Source<'_>, offset: i64) -> Result<usize> {
    super::check_offset(offset)?;
    with_file(fd, |file| file.write_at(source, offset))
}

/// Moves the descriptor's offset; see lseek(2). `SEEK_DATA` and `SEEK_HOLE` included.
///
/// # Errors
/// `EBADF`, and those of [`OpenFile::seek`](crate::process::OpenFile::seek).
pub fn lseek(fd: i32, offset: i64, whence: i32) -> Result<i64> {
    with_file(fd, |file| file.seek(offset, whence))
}
