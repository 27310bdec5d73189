//! Directory streams: opendir, fdopendir, readdir, telldir, seekdir, rewinddir, dirfd, closedir.

use core::ops::ControlFlow;

use ermfs_memory::try_vec;

use super::descriptor::close;
use super::files::openat;
use super::io::lseek;
use super::with_file;
use crate::errno::{Errno, Result};
use crate::namespace::{DirEntry, InodeKind};
use crate::process::AT_FDCWD;

/// Room for a batch of entries.
const BATCH_BYTES: usize = 32 * 1024;
/// Bytes of an entry in the batch before its name: inode, next cookie, kind, length of the name.
const HEADER: usize = 18;

/// A directory stream, what C calls `DIR`: it reads entries in batches through a descriptor of its own.
///
/// An entry that exists all along is read exactly once between two rewinds. One stream belongs to one
/// thread at a time. Dropping it closes the descriptor.
pub struct DirStream {
    fd: i32,
    batch: Vec<u8>,
    /// Where in the batch the next entry lies.
    at: usize,
    /// The cookie of the next entry.
    position: i64,
}

impl DirStream {
    /// A stream over the directory `path`; its descriptor is close-on-exec. See opendir(3).
    ///
    /// # Errors
    /// `ENOTDIR`, `EMFILE`, `ENOMEM`, the walk's.
    pub fn opendir(path: &[u8]) -> Result<DirStream> {
        let fd = openat(AT_FDCWD, path, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)?;
        DirStream::fdopendir(fd).inspect_err(|_| {
            // Opened here, so nobody else closes it; the first error is the one to answer.
            let _ = close(fd);
        })
    }

    /// A stream over the directory open as `fd`, from its offset on. On success the descriptor belongs to
    /// the stream, on failure still to the caller. See fdopendir(3).
    ///
    /// # Errors
    /// `EBADF`, also for `O_PATH`; `ENOTDIR`; `ENOMEM`.
    pub fn fdopendir(fd: i32) -> Result<DirStream> {
        with_file(fd, |file| {
            file.usable()?;
            if file.inode().kind() != InodeKind::Directory {
                return Err(Errno::ENOTDIR);
            }
            Ok(())
        })?;
        let batch = try_vec(BATCH_BYTES)?;
        let position = lseek(fd, 0, libc::SEEK_CUR)?;
        Ok(DirStream { fd, batch, at: 0, position })
    }

    /// The next entry, `.` and `..` included, or `None` at the end (and in a directory that was removed).
    /// Its `next_cookie` is what [`DirStream::telldir`] answers now. See readdir(3).
    ///
    /// # Errors
    /// `EBADF` when the descriptor was closed, `EIO`.
    pub fn readdir(&mut self) -> Result<Option<DirEntry<'_>>> {
        if self.at == self.batch.len() {
            self.fill()?;
        }
        let Some((header, rest)) = self.batch[self.at..].split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_ne_bytes(bytes)
        };
        let next_cookie = number(8);
        let kind = InodeKind::from_entry_type(header[16]).unwrap_or(InodeKind::File);
        let name = &rest[..usize::from(header[17])];
        self.at += HEADER + name.len();
        self.position = next_cookie as i64;
        Ok(Some(DirEntry { ino: number(0), next_cookie, kind, name }))
    }

    /// Reads the next batch.
    fn fill(&mut self) -> Result<()> {
        self.batch.clear();
        self.at = 0;
        let batch = &mut self.batch;
        let read = with_file(self.fd, |file| {
            file.read_directory(&mut |entry| {
                // Names have at most 255 bytes, and the batch never grows.
                let Ok(len) = u8::try_from(entry.name.len()) else { return ControlFlow::Continue(()) };
                if batch.capacity() - batch.len() < HEADER + entry.name.len() {
                    return ControlFlow::Break(());
                }
                batch.extend_from_slice(&entry.ino.to_ne_bytes());
                batch.extend_from_slice(&entry.next_cookie.to_ne_bytes());
                batch.extend_from_slice(&[entry.kind.entry_type(), len]);
                batch.extend_from_slice(entry.name);
                ControlFlow::Continue(())
            })
        });
        match read {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Where the stream is, for [`DirStream::seekdir`]; see telldir(3).
    pub fn telldir(&self) -> i64 {
        self.position
    }

    /// Goes to a place that [`DirStream::telldir`] gave; any other does something harmless. See seekdir(3).
    pub fn seekdir(&mut self, position: i64) {
        // A place that is none leaves the stream where it is: the C call has no way to say so.
        if let Ok(position) = lseek(self.fd, position, libc::SEEK_SET) {
            self.batch.clear();
            self.at = 0;
            self.position = position;
        }
    }

    /// Goes to the start, seeing the directory as it is now; see rewinddir(3).
    pub fn rewinddir(&mut self) {
        self.seekdir(0);
    }

    /// The stream's descriptor, which stays its own; see dirfd(3).
    pub fn dirfd(&self) -> i32 {
        self.fd
    }

    /// Closes the stream and its descriptor; see closedir(3).
    ///
    /// # Errors
    /// As [`close`].
    pub fn closedir(self) -> Result<()> {
        let fd = self.fd;
        // Dropping would close the number a second time, which may be a stranger's by then.
        let mut stream = core::mem::ManuallyDrop::new(self);
        drop(core::mem::take(&mut stream.batch));
        close(fd)
    }
}

impl Drop for DirStream {
    fn drop(&mut self) {
        // Already closed by its number: nothing to do.
        let _ = close(self.fd);
    }
}
