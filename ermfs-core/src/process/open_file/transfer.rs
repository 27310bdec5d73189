//! Moving bytes, and the offset with them.
//!
//! Promises: at most [`MAX_TRANSFER`] bytes per call; errors and their order as in read(2), write(2)
//! and lseek(2); with `O_APPEND` every write lands at the end, whatever offset it names.

use super::OpenFile;
use crate::content::{MAX_FILE_SIZE, Sink, Source};
use crate::errno::{Errno, Result};
use crate::namespace::InodeKind;
use crate::process::Operation;

/// The most that one call transfers, in bytes; Linux's own limit.
pub const MAX_TRANSFER: usize = 0x7fff_f000;

/// The offset of a positioned call.
///
/// # Errors
/// `EINVAL` when it is negative.
#[inline]
fn position(offset: i64) -> Result<u64> {
    u64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// # Errors
/// `EINVAL` when `count` bytes at `offset` would end past the largest offset.
#[inline]
fn check_range(offset: u64, count: usize) -> Result<()> {
    match offset.checked_add(count as u64) {
        Some(end) if end <= MAX_FILE_SIZE => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

impl OpenFile {
    /// Reads from the offset on and moves it past what was read; 0 at the end. See read(2).
    ///
    /// # Errors
    /// `EBADF` unless open for reading, `EISDIR`, `EINVAL` for a range past the largest offset, `EIO`
    /// for a corrupt block.
    pub fn read(&self, sink: &mut Sink<'_>) -> Result<usize> {
        let _operation = Operation::begin(self.fs())?;
        if !self.is_readable() {
            return Err(Errno::EBADF);
        }
        let mut offset = self.offset.lock();
        let n = self.read_from(*offset, sink)?;
        *offset += n as u64;
        Ok(n)
    }

    /// Reads from `offset` on. See pread(2).
    ///
    /// # Errors
    /// As [`OpenFile::read`]; `EINVAL` for a negative offset.
    #[inline]
    pub fn read_at(&self, sink: &mut Sink<'_>, offset: i64) -> Result<usize> {
        let offset = position(offset)?;
        let _operation = Operation::on(self.inode().space())?;
        if !self.is_readable() {
            return Err(Errno::EBADF);
        }
        self.read_from(offset, sink)
    }

    /// As [`OpenFile::read_at`], as far as that neither waits nor takes long; `None` where it would.
    #[inline]
    pub(super) fn read_at_briefly(&self, sink: &mut Sink<'_>, offset: i64) -> Option<Result<usize>> {
        let begin = || {
            let offset = position(offset)?;
            let operation = Operation::on(self.inode().space())?;
            if !self.is_readable() {
                return Err(Errno::EBADF);
            }
            check_range(offset, sink.remaining())?;
            Ok((offset, operation, self.content()?))
        };
        let (offset, _operation, content) = match begin() {
            Ok(begun) => begun,
            Err(error) => return Some(Err(error)),
        };
        let read = content.read_briefly(offset, sink)?;
        if read.is_ok() {
            self.note_read();
        }
        Some(read)
    }

    #[inline]
    fn read_from(&self, offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        check_range(offset, sink.remaining())?;
        let content = self.content()?;
        sink.limit(MAX_TRANSFER);
        let n = content.read_at(offset, sink)?;
        self.note_read();
        Ok(n)
    }

    /// Writes at the offset, or at the end with `O_APPEND`, and moves the offset past what was written.
    /// See write(2).
    ///
    /// # Errors
    /// `EBADF` unless open for writing, `EINVAL` for a range past the largest offset, `EFBIG`, `ENOSPC`,
    /// `ENOMEM`.
    pub fn write(&self, source: &mut Source<'_>) -> Result<usize> {
        let _operation = Operation::begin(self.fs())?;
        if !self.is_writable() {
            return Err(Errno::EBADF);
        }
        let mut offset = self.offset.lock();
        let (end, n) = self.write_to(*offset, source)?;
        *offset = end;
        Ok(n)
    }

    /// Writes at `offset`, or at the end with `O_APPEND` (as Linux does, not POSIX). See pwrite(2).
    ///
    /// # Errors
    /// As [`OpenFile::write`]; `EINVAL` for a negative offset.
    #[inline]
    pub fn write_at(&self, source: &mut Source<'_>, offset: i64) -> Result<usize> {
        let offset = position(offset)?;
        let _operation = Operation::begin(self.fs())?;
        if !self.is_writable() {
            return Err(Errno::EBADF);
        }
        self.write_to(offset, source).map(|(_, n)| n)
    }

    /// Where the write ended, and how much it wrote.
    #[inline]
    fn write_to(&self, offset: u64, source: &mut Source<'_>) -> Result<(u64, usize)> {
        check_range(offset, source.remaining())?;
        let content = self.content()?;
        if source.remaining() == 0 {
            return Ok((offset, 0));
        }
        source.limit(MAX_TRANSFER);
        let written = if self.flags() & libc::O_APPEND != 0 {
            content.append(source)
        } else if offset >= MAX_FILE_SIZE {
            Err(Errno::EFBIG)
        } else {
            content.write_at(offset, source).map(|n| (offset, n))
        };
        // A write that found no space has set the times all the same on Linux.
        if written != Err(Errno::EFBIG) {
            self.inode().note_write(self.fs().credentials());
        }
        written.map(|(at, n)| (at + n as u64, n))
    }

    /// Moves the offset and answers it. In a directory it is a cookie: only what was an offset before is
    /// of use. See lseek(2).
    ///
    /// # Errors
    /// `EBADF` for an `O_PATH` description, `EINVAL` for an unknown `whence` or a negative result,
    /// `ENXIO` for `SEEK_DATA` and `SEEK_HOLE` past the end.
    pub fn seek(&self, offset: i64, whence: i32) -> Result<i64> {
        let _operation = Operation::begin(self.fs())?;
        self.usable()?;
        let mut current = self.offset.lock();
        let now = i64::try_from(*current).map_err(|_| Errno::EOVERFLOW)?;
        let new = if self.inode().kind() == InodeKind::Directory {
            match whence {
                libc::SEEK_SET => offset,
                libc::SEEK_CUR => now.checked_add(offset).ok_or(Errno::EINVAL)?,
                _ => return Err(Errno::EINVAL),
            }
        } else {
            let content = self.content()?;
            let ahead = u64::try_from(offset).map_err(|_| Errno::ENXIO);
            match whence {
                libc::SEEK_SET => offset,
                libc::SEEK_CUR => now.checked_add(offset).ok_or(Errno::EINVAL)?,
                libc::SEEK_END => (content.size() as i64).checked_add(offset).ok_or(Errno::EINVAL)?,
                libc::SEEK_DATA => content.seek_data(ahead?)? as i64,
                libc::SEEK_HOLE => content.seek_hole(ahead?)? as i64,
                _ => return Err(Errno::EINVAL),
            }
        };
        *current = position(new)?;
        Ok(new)
    }
}
