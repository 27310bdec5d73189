//! Files out to the kernel and in from it, for who holds a filesystem or an open file and not a
//! descriptor: the calls and the Rust face.
//!
//! Promises what [`crate::export`] promises, and the checks that a read or a create makes. Atime moves
//! as by a read. Owns nothing.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::open_file::OpenFile;
use super::{Operation, packer};
use crate::content::{Content, View};
use crate::errno::{Errno, Result};
use crate::export::{self, ExportFlags};
use crate::fs::Fs;
use crate::namespace::{At, InodeKind, InodeRef, READ};

/// What an exported file is called whose path is not known.
const NAMELESS: &[u8] = b"ermfs";

/// The bytes of what a path or descriptor names.
///
/// # Errors
/// `EISDIR`; `EINVAL` for a symlink; `ENXIO` for a special node.
pub(super) fn content_of(inode: &InodeRef) -> Result<&Content> {
    match inode.kind() {
        InodeKind::Directory => Err(Errno::EISDIR),
        InodeKind::File => inode.content().ok_or(Errno::EINVAL),
        InodeKind::Symlink => Err(Errno::EINVAL),
        _ => Err(Errno::ENXIO),
    }
}

/// As [`content_of`], of what `who` is to read.
///
/// # Errors
/// Those of [`content_of`]; `EACCES`.
fn readable_content<'i>(at: At<'_>, inode: &'i InodeRef) -> Result<&'i Content> {
    let content = content_of(inode)?;
    inode.require(at.who, READ)?;
    Ok(content)
}

impl Fs {
    /// A kernel descriptor, at offset 0, of a memfd with the file's bytes, size and holes as they are now,
    /// named after the last 249 bytes of `path`. Symlinks are followed.
    ///
    /// Without flags it is the caller's own, read-write and close-on-exec. With `SEALED` it is read-only,
    /// and repeated exports of the unchanged file share one sealed inode. It is executable unless `NOEXEC`
    /// is given or the machine forbids it (`vm.memfd_noexec` = 2: then it silently is not).
    ///
    /// # Errors
    /// `EISDIR`, `EACCES`, the walk's; `EIO` for a corrupt block; `ENOSPC`, `ENOMEM`, and what the kernel answers to
    /// making a memfd (`EMFILE`, `ENFILE`).
    pub fn export_memfd(at: At<'_>, path: &[u8], flags: ExportFlags) -> Result<OwnedFd> {
        let _operation = Operation::begin(at.fs)?;
        let inode = Fs::lookup(at, path, true)?;
        let exported = export::export_memfd(readable_content(at, &inode)?, path, flags)?;
        inode.note_read();
        Ok(exported)
    }

    /// A kernel descriptor, at offset 0, of a memfd with a `.gz` of the file as it is now, in BGZF layout.
    /// It is named after `path` with `.gz` behind it and never executable; with `SEALED` it is sealed and
    /// read-only. Symlinks are followed.
    ///
    /// # Errors
    /// `EFBIG` for a file of more than 2^40 bytes, holes included (each 64 KiB of hole takes some 130
    /// bytes); otherwise as [`Fs::export_memfd`].
    pub fn export_gzip(at: At<'_>, path: &[u8], flags: ExportFlags) -> Result<OwnedFd> {
        let _operation = Operation::begin(at.fs)?;
        let inode = Fs::lookup(at, path, true)?;
        let exported = export::export_gzip(&readable_content(at, &inode)?.snapshot()?, path, flags)?;
        inode.note_read();
        Ok(exported)
    }

    /// Makes all that a kernel descriptor gives a file named `path` of mode `mode`, umask applied.
    ///
    /// What can be read at an offset is read from its start, whatever the descriptor's offset is, which does
    /// not move; holes are kept. Pipes and sockets are read to their end. The file appears when it is
    /// complete: a failed import leaves no file, and replaces none. An existing file is replaced as by
    /// rename(2); its other names, and who has it open, keep the old one. A symlink is followed, and what it
    /// points to is made or replaced.
    ///
    /// # Errors
    /// `EBADF` when the descriptor is not open for reading; `EISDIR` when it, or `path`, is a directory; what
    /// reading it gives (`EAGAIN` among others); `ENOSPC`, `EFBIG`, `ENOMEM`, the walk's.
    pub fn import_fd(at: At<'_>, path: &[u8], fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
        import(at, path, mode, |content| export::fill_from_fd(content, fd))
    }

    /// As [`Fs::import_fd`], of the content of a gzip stream: any, of one member or many.
    ///
    /// # Errors
    /// `EIO` when the stream is cut off, damaged or not gzip; otherwise as [`Fs::import_fd`].
    pub fn import_gzip(at: At<'_>, path: &[u8], fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
        import(at, path, mode, |content| export::fill_from_gzip(content, fd))
    }
}

fn import(at: At<'_>, path: &[u8], mode: u32, fill: impl FnOnce(&Content) -> Result<()>) -> Result<()> {
    let _operation = Operation::begin(at.fs)?;
    if let Some(inode) = export::import(at, path, mode & 0o7777, fill)? {
        packer::queue(at.fs, &inode);
    }
    Ok(())
}

impl OpenFile {
    /// As [`Fs::export_memfd`], of an open file, whether or not it still has a name. The memfd is called
    /// `ermfs`. The offset does not count.
    ///
    /// # Errors
    /// `EBADF` unless open for reading; otherwise as [`Fs::export_memfd`].
    pub fn export_memfd(&self, flags: ExportFlags) -> Result<OwnedFd> {
        let _operation = Operation::begin(self.fs())?;
        let exported = export::export_memfd(self.readable_content()?, NAMELESS, flags)?;
        self.inode().note_read();
        Ok(exported)
    }

    /// Up to `max_pieces` pieces of memory that hold `len` bytes of the file from `offset` on, as they are
    /// now, valid and unchanging until the view is dropped. Packed blocks are inflated first.
    ///
    /// # Errors
    /// `EINVAL` for no pieces, `EBADF` unless open for reading, `EISDIR`, `EIO` for a corrupt block,
    /// `ENOSPC`, `ENOMEM`.
    pub fn view(&self, offset: u64, len: usize, max_pieces: usize) -> Result<View> {
        let _operation = Operation::begin(self.fs())?;
        let view = self.readable_content()?.view(offset, len, max_pieces)?;
        self.inode().note_read();
        Ok(view)
    }

    fn readable_content(&self) -> Result<&Content> {
        if self.is_readable() { content_of(self.inode()) } else { Err(Errno::EBADF) }
    }
}
