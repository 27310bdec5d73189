//! Whole filesystems: making one, setting up the default one, the mode, and what they hold.

use super::with_file;
use crate::content::FileInfo;
use crate::errno::{Errno, Result};
use crate::fs::{Config, Fs, Mode, Statistics};
use crate::gate;
use crate::process::fd_table::{self, Claimed};
use crate::process::filesystems::{self, Start, Target, with_inode};
use crate::process::open_file::OpenFile;
use crate::process::{AT_FDCWD, Operation};

/// The unit in which statvfs counts.
const STATVFS_BLOCK: u64 = 4096;

/// Makes a new, empty filesystem and answers a descriptor of its root, close-on-exec. The filesystem lives as long as any
/// descriptor, open file, view or working directory in it.
///
/// # Errors
/// `EMFILE`; `ENOMEM`; `EINVAL` for a config that no filesystem can have.
pub fn fsmount(config: &Config) -> Result<i32> {
    let _inside = gate::enter();
    let claimed = Claimed::new(0, false)?;
    let fs = Fs::new(config)?;
    let root = OpenFile::of_directory(&fs, &fs.root())?;
    Ok(claimed.install(root, true))
}

/// Sets up what the default filesystem will be made with by its first use.
///
/// # Errors
/// `EBUSY` after the first use.
pub fn configure_default(config: &Config) -> Result<()> {
    let _inside = gate::enter();
    filesystems::configure_default(config)
}

/// Switches the process and its default filesystem to lockless or to locked mode. Calls under way are waited for, those that
/// come meanwhile wait; files, names and the working directory stay. Filesystems made by [`fsmount`] keep their mode.
///
/// # Errors
/// `EBUSY` while any descriptor or directory stream is open, or a file of the default filesystem is open otherwise;
/// `ENOSPC`, `ENOMEM`: for a moment there must be room for the directories' tables twice. Nothing has changed then.
pub fn set_lockless_mode(enable: bool) -> Result<()> {
    let mode = if enable { Mode::Lockless } else { Mode::Locked };
    gate::alone(|| {
        if mode == Mode::default() && filesystems::default_is(mode) {
            return Ok(());
        }
        if fd_table::used() > 0 {
            return Err(Errno::EBUSY);
        }
        filesystems::switch_default(mode)?;
        fd_table::switch(mode)
    })
}

/// Whether the process is in lockless mode.
pub fn is_lockless() -> bool {
    fd_table::mode() == Mode::Lockless
}

/// What the filesystem of `dirfd` (any descriptor, or `AT_FDCWD`) holds and costs.
///
/// # Errors
/// `EBADF`, `EIO` for a poisoned filesystem.
pub fn statistics(dirfd: i32) -> Result<Statistics> {
    let _inside = gate::enter();
    let start = if dirfd == AT_FDCWD { Start::new(dirfd, b"/")? } else { Start::new(dirfd, b"")? };
    let _operation = Operation::begin(start.fs())?;
    Ok(start.fs().statistics())
}

/// In what form an open file's content lies in memory.
///
/// # Errors
/// `EBADF`; `EINVAL` unless it is a regular file.
pub fn file_info(fd: i32) -> Result<FileInfo> {
    with_file(fd, |file| {
        file.usable()?;
        let _operation = Operation::begin(file.fs())?;
        Ok(file.inode().content().ok_or(Errno::EINVAL)?.info())
    })
}

/// What there is room for in the filesystem of `path`; see statvfs(3). Blocks are of 4,096 bytes and
/// count the budget.
///
/// # Errors
/// The walk's.
pub fn statvfs(path: &[u8]) -> Result<libc::statvfs> {
    with_inode(AT_FDCWD, path, Target { follow: true, empty_path: false }, |fs, _| Ok(status_of(fs)))
}

/// As [`statvfs`], of any descriptor's filesystem.
///
/// # Errors
/// `EBADF`, `EIO` for a poisoned filesystem.
pub fn fstatvfs(fd: i32) -> Result<libc::statvfs> {
    with_file(fd, |file| {
        let _operation = Operation::begin(file.fs())?;
        Ok(status_of(file.fs()))
    })
}

fn status_of(fs: &Fs) -> libc::statvfs {
    let room = fs.status();
    // SAFETY: a struct of integers, of which zero is a value; what is not set below is padding.
    let mut status: libc::statvfs = unsafe { core::mem::zeroed() };
    status.f_bsize = STATVFS_BLOCK;
    status.f_frsize = STATVFS_BLOCK;
    status.f_blocks = room.total_bytes / STATVFS_BLOCK;
    status.f_bfree = room.free_bytes / STATVFS_BLOCK;
    status.f_bavail = room.available_bytes / STATVFS_BLOCK;
    status.f_files = room.inodes.saturating_add(room.free_inodes);
    status.f_ffree = room.free_inodes;
    status.f_favail = room.free_inodes;
    status.f_fsid = fs.device();
    status.f_namemax = 255;
    status
}
