//! An open file.

use std::fmt;
use std::fs::{Permissions, TryLockError};
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::ops::{Bound, RangeBounds};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use ermfs_core::process::{OpenFileRef, Operation};
use ermfs_core::{Content, Ended, Errno, ExportFlags, FileInfo, MAX_FILE_SIZE, Sink, Source};

use crate::buffers;
use crate::error::{offset, os};
use crate::fs::Fs;
use crate::held::Held;
use crate::metadata::{Metadata, time_set};
use crate::open_options::OpenOptions;
use crate::view::View;

/// An open file: what [`std::fs::File`] is, for a file in an [`Fs`].
///
/// `File` and `&File` implement [`Read`], [`Write`] and [`Seek`] on one offset, which [`File::try_clone`] shares, and
/// each such call moves bytes and offset in one step, so several threads may read or append through one value. Calls
/// with an offset of their own ([`FileExt`]) leave it alone. Nothing is buffered here: [`std::io::BufWriter`] helps
/// those who write in small pieces. There is no descriptor number behind a `File`; [`File::export_memfd`] makes one.
///
/// The file stays while it is open, with or without a name, and keeps its filesystem. Under [`Compress::OnClose`] the
/// drop of the last writable `File` compresses what has changed, and never fails.
///
/// [`Compress::OnClose`]: crate::Compress::OnClose
pub struct File {
    open: Held<OpenFileRef>,
}

impl File {
    pub(crate) fn new(open: OpenFileRef) -> File {
        File { open: Held::new(open) }
    }

    /// Opens `path` for reading; as [`Fs::open`].
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn open(fs: &Fs, path: impl AsRef<Path>) -> io::Result<File> {
        fs.open(path)
    }

    /// Opens `path` for writing, made or emptied; as [`Fs::create`].
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn create(fs: &Fs, path: impl AsRef<Path>) -> io::Result<File> {
        fs.create(path)
    }

    /// Ways to open, as [`OpenOptions::new`].
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Another value for the same open file: offset and flags are shared. Source: `dup(2)`.
    ///
    /// # Errors
    /// None; the signature is that of [`std::fs::File::try_clone`].
    pub fn try_clone(&self) -> io::Result<File> {
        Ok(File { open: self.open.clone() })
    }

    /// What the file is now. Source: `fstat(2)`.
    ///
    /// # Errors
    /// `EIO` for a filesystem that answers nothing else any more.
    pub fn metadata(&self) -> io::Result<Metadata> {
        let stat = self.open.stat().map_err(os)?;
        Ok(Metadata::new(stat, self.open.fs().device()))
    }

    /// Sets the permission bits. Source: `fchmod(2)`.
    ///
    /// # Errors
    /// `EBADF` for a file opened with `O_PATH`, `EPERM` for who is not the owner, `EIO`.
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        let _operation = self.operation()?;
        self.open.usable().map_err(os)?;
        self.open.inode().chmod(permissions.mode(), self.open.fs().credentials()).map_err(os)
    }

    /// Sets the times of last access and change; `None` leaves one. Source: `futimens(3)`.
    ///
    /// # Errors
    /// `EBADF` for a file opened with `O_PATH`, `EPERM` for who is not the owner, `EIO`.
    pub fn set_times(&self, accessed: Option<SystemTime>, modified: Option<SystemTime>) -> io::Result<()> {
        let (accessed, modified) = (time_set(accessed)?, time_set(modified)?);
        let _operation = self.operation()?;
        let who = self.open.fs().credentials();
        self.open.usable().and_then(|()| self.open.inode().set_times(accessed, modified, who)).map_err(os)
    }

    /// Sets the size in bytes: what lies beyond is gone, what is new reads as zeros and takes no memory. The offset
    /// stays. Source: `ftruncate(2)`.
    ///
    /// # Errors
    /// `EINVAL` unless open for writing, or above 2^63 - 1; `ENOSPC`; `ENOMEM`.
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.open.set_len(offset(size)?).map_err(os)
    }

    /// Takes memory for `len` bytes at `start` now, so that writing there cannot run out of it until the file is
    /// compressed; grows the file if it ends before. Source: `fallocate(2)`.
    ///
    /// # Errors
    /// `EBADF` unless open for writing, `EINVAL` for `len` 0, `EFBIG`, `ENOSPC`, `ENOMEM`; the file is as it was then.
    pub fn allocate(&self, start: u64, len: u64) -> io::Result<()> {
        self.open.allocate(0, offset(start)?, offset(len)?).map_err(os)
    }

    /// Makes `len` bytes at `start` zeros and gives their memory back; the size stays. Source: `fallocate(2)`,
    /// `FALLOC_FL_PUNCH_HOLE`.
    ///
    /// # Errors
    /// `EBADF` unless open for writing, `EINVAL` for `len` 0, `EFBIG`, `ENOSPC`, `ENOMEM`.
    pub fn punch_hole(&self, start: u64, len: u64) -> io::Result<()> {
        const MODE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.open.allocate(MODE, offset(start)?, offset(len)?).map_err(os)
    }

    /// Moves the offset to the first data at or after `start`. Source: `lseek(2)`, `SEEK_DATA`.
    ///
    /// # Errors
    /// `ENXIO` when there is none.
    pub fn seek_data(&self, start: u64) -> io::Result<u64> {
        self.lseek(offset(start)?, libc::SEEK_DATA)
    }

    /// Moves the offset to the first hole at or after `start`; the end of the file counts as one. Source: `lseek(2)`,
    /// `SEEK_HOLE`.
    ///
    /// # Errors
    /// `ENXIO` at or past the end.
    pub fn seek_hole(&self, start: u64) -> io::Result<u64> {
        self.lseek(offset(start)?, libc::SEEK_HOLE)
    }

    fn lseek(&self, offset: i64, whence: i32) -> io::Result<u64> {
        self.open.seek(offset, whence).map(|offset| offset as u64).map_err(os)
    }

    /// Does nothing: there is no device behind the memory. Source: `fsync(2)`.
    ///
    /// # Errors
    /// `EBADF` for a file opened with `O_PATH`, `EIO` for a filesystem that answers nothing else any more.
    pub fn sync_all(&self) -> io::Result<()> {
        self.open.sync().map_err(os)
    }

    /// As [`File::sync_all`].
    ///
    /// # Errors
    /// As [`File::sync_all`].
    pub fn sync_data(&self) -> io::Result<()> {
        self.open.sync().map_err(os)
    }

    /// Locks the file alone for this open file, which [`File::try_clone`] shares; waits while another has a lock. A lock
    /// keeps nobody from reading or writing. It goes with the last clone. A shared lock that this open file has is given
    /// up first. Source: `flock(2)`, as [`std::fs::File::lock`].
    ///
    /// ```
    /// let fs = ermfs::Fs::new()?;
    /// let (one, other) = (fs.create("/f")?, fs.open("/f")?);
    /// one.lock()?;
    /// assert!(matches!(other.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)));
    /// drop(one);
    /// other.try_lock_shared()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EINTR` ([`io::ErrorKind::Interrupted`]) when a signal handler ran during the wait; `EBADF` for a file opened with
    /// `O_PATH`; `ENOLCK` without memory; `EIO`.
    pub fn lock(&self) -> io::Result<()> {
        self.flock(libc::LOCK_EX).map_err(os)
    }

    /// As [`File::lock`], beside other shared locks.
    ///
    /// # Errors
    /// As [`File::lock`].
    pub fn lock_shared(&self) -> io::Result<()> {
        self.flock(libc::LOCK_SH).map_err(os)
    }

    /// As [`File::lock`], without waiting.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] when another open file has a lock; then the one that this had is gone. Otherwise as
    /// [`File::lock`].
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        self.flock(libc::LOCK_EX | libc::LOCK_NB).map_err(would_block)
    }

    /// As [`File::try_lock`], beside other shared locks.
    ///
    /// # Errors
    /// As [`File::try_lock`].
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.flock(libc::LOCK_SH | libc::LOCK_NB).map_err(would_block)
    }

    /// Gives up the lock of this open file, if it has one.
    ///
    /// # Errors
    /// `EBADF` for a file opened with `O_PATH`, `EIO`.
    pub fn unlock(&self) -> io::Result<()> {
        self.flock(libc::LOCK_UN).map_err(os)
    }

    fn flock(&self, operation: i32) -> Result<(), Errno> {
        match self.open.flock(operation, None)? {
            Ended::Granted => Ok(()),
            // What is held here is the caller's, in the child as well.
            Ended::Forked => Err(Errno::EINTR),
        }
    }

    /// The bytes in `range`, as far as the file goes, as they are now, without a copy.
    ///
    /// ```
    /// let fs = ermfs::Fs::new()?;
    /// fs.write("/f", "before")?;
    /// let view = fs.open("/f")?.view(..)?;
    /// fs.write("/f", "after")?;
    /// assert_eq!(view.pieces().collect::<Vec<_>>().concat(), b"before");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EBADF` unless open for reading; `EISDIR`; `EINVAL` for a range that ends before it starts or past 2^63 - 1;
    /// `EIO` for a corrupt block; `ENOSPC` and `ENOMEM` when compressed blocks find no room.
    pub fn view(&self, range: impl RangeBounds<u64>) -> io::Result<View> {
        let past = |bound: &u64| bound.checked_add(1).ok_or_else(|| os(Errno::EINVAL));
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => past(before)?,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => past(last)?,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => MAX_FILE_SIZE,
        };
        let len = end.checked_sub(start).filter(|_| end <= MAX_FILE_SIZE).ok_or_else(|| os(Errno::EINVAL))?;
        // Addresses have 64 bits on every system this is for.
        let pieces = self.open.view(start, len as usize, usize::MAX).map_err(os)?;
        let covered = pieces.len() as u64;
        if covered < len {
            // The end of the file, or a block that could not be had: then this says why.
            self.open.view(start + covered, 1, 1).map_err(os)?;
        }
        Ok(View::new(pieces))
    }

    /// A kernel file that holds what this one holds now. The file needs no name any more. See [`Fs::export_memfd`].
    ///
    /// # Errors
    /// As [`Fs::export_memfd`], and `EBADF` unless open for reading.
    pub fn export_memfd(&self, flags: ExportFlags) -> io::Result<OwnedFd> {
        self.open.export_memfd(flags).map_err(os)
    }

    /// What the content takes and in what form it lies in memory.
    ///
    /// # Errors
    /// `EBADF` for a file opened with `O_PATH`, `EINVAL` for a directory, `EIO`.
    pub fn info(&self) -> io::Result<FileInfo> {
        let _operation = self.operation()?;
        self.open.usable().map_err(os)?;
        self.open.inode().content().map(Content::info).ok_or_else(|| os(Errno::EINVAL))
    }

    /// The bytes of memory that the content takes now: [`FileInfo::stored_bytes`].
    ///
    /// # Errors
    /// As [`File::info`].
    pub fn stored_bytes(&self) -> io::Result<u64> {
        self.info().map(|info| info.stored_bytes)
    }

    pub(crate) fn description(&self) -> &OpenFileRef {
        &self.open
    }

    fn operation(&self) -> io::Result<Operation<'_>> {
        Operation::begin(self.open.fs()).map_err(os)
    }
}

fn would_block(error: Errno) -> TryLockError {
    if error == Errno::EAGAIN { TryLockError::WouldBlock } else { TryLockError::Error(os(error)) }
}

impl Read for &File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.open.read(&mut Sink::new(buf)).map_err(os)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.open.read(&mut buffers::sink(bufs)).map_err(os)
    }

    /// Reads to the end with one allocation where nobody writes meanwhile. `ENOMEM` when there is no memory for it.
    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let before = bytes.len();
        let here = self.open.seek(0, libc::SEEK_CUR).map_err(os)? as u64;
        let size = self.open.inode().content().map_or(0, Content::size);
        // One more than is left, so that the read which finds the end needs no room of its own.
        let left =
            usize::try_from(size.saturating_sub(here)).map_or(usize::MAX, |left| left.saturating_add(1));
        let mut more = left;
        loop {
            bytes.try_reserve(more).map_err(|_| os(Errno::ENOMEM))?;
            while bytes.len() < bytes.capacity() {
                if buffers::read_into_spare(bytes, |sink| self.open.read(sink))? == 0 {
                    return Ok(bytes.len() - before);
                }
            }
            // It has grown since: go on as a vector does.
            more = 32;
        }
    }
}

impl Write for &File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.open.write(&mut Source::new(buf)).map_err(os)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.open.write(&mut buffers::source(bufs)).map_err(os)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        match pos {
            SeekFrom::Start(start) => self.lseek(offset(start)?, libc::SEEK_SET),
            SeekFrom::End(by) => self.lseek(by, libc::SEEK_END),
            SeekFrom::Current(by) => self.lseek(by, libc::SEEK_CUR),
        }
    }
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }

    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(bytes)
    }
}

impl Write for File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        (&*self).seek(pos)
    }
}

/// `read_at` and `write_at` are `pread(2)` and `pwrite(2)`: the offset of the file is neither used nor moved. A file
/// opened for appending is appended to whatever the offset, as on Linux.
impl FileExt for File {
    fn read_at(&self, buf: &mut [u8], start: u64) -> io::Result<usize> {
        self.open.read_at(&mut Sink::new(buf), offset(start)?).map_err(os)
    }

    fn write_at(&self, buf: &[u8], start: u64) -> io::Result<usize> {
        self.open.write_at(&mut Source::new(buf), offset(start)?).map_err(os)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("ino", &self.open.inode().ino())
            .field("read", &self.open.is_readable())
            .field("write", &self.open.is_writable())
            .finish()
    }
}
