//! What a file is: fstatat, fstat, fchmod, fchmodat, fchown, fchownat, utimensat, futimens.

use ermfs_memory::BLOCK_SIZE;

use super::with_file;
use crate::credentials::{self, Credentials};
use crate::errno::{Errno, Result};
use crate::fs::Fs;
use crate::gate;
use crate::namespace::{Inode, InodeKind, Metadata, TimeSet};
use crate::process::filesystems::{Target, with_inode, with_start_briefly};
use crate::process::{AT_FDCWD, OpenFile, Operation, fd_table};

/// `AT_STATX_SYNC_TYPE`: flags that only network filesystems heed.
const STAT_SYNC_FLAGS: i32 = libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC;
/// "No change" among user and group ids.
const SAME_ID: u32 = u32::MAX;

/// # Errors
/// `EINVAL` when `flags` has more than `known`.
fn check_flags(flags: i32, known: i32) -> Result<()> {
    if flags & !known != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// The status of what `dirfd` and `path` name; see fstatat(2). `st_blksize` is 65,536 and `st_blocks`
/// what the content takes now.
///
/// # Errors
/// `EINVAL` for an unknown flag, `EBADF`, the walk's.
#[inline]
pub fn fstatat(dirfd: i32, path: &[u8], flags: i32) -> Result<libc::stat> {
    let known = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT | STAT_SYNC_FLAGS;
    check_flags(flags, known)?;
    let target = Target::from_flags(flags);
    if path.is_empty() {
        return with_inode(dirfd, path, target, |fs, inode| Ok(status(fs.device(), &inode.stat())));
    }
    // The common case counts no reference.
    with_start_briefly(dirfd, path, |at| Ok(status(at.fs.device(), &Fs::stat(at, path, target.follow)?)))
}

/// The status of what a descriptor names; see fstat(2).
///
/// # Errors
/// `EBADF`, `EIO` for a poisoned filesystem.
pub fn fstat(fd: i32) -> Result<libc::stat> {
    let _inside = gate::enter();
    fd_table::with(fd, &mut (), |file, ()| Some(status_of(file)), |file, ()| status_of(file))
}

/// Inlined, or the status is copied on its way up.
#[inline(always)]
fn status_of(file: &OpenFile) -> Result<libc::stat> {
    Ok(status(file.device(), &file.stat()?))
}

#[inline]
fn status(device: u64, metadata: &Metadata) -> libc::stat {
    // SAFETY: a struct of integers, of which zero is a value; what is not set below is padding.
    let mut status: libc::stat = unsafe { core::mem::zeroed() };
    status.st_dev = device;
    status.st_ino = metadata.ino;
    status.st_mode = metadata.mode;
    status.st_nlink = metadata.nlink as libc::nlink_t;
    status.st_uid = metadata.uid;
    status.st_gid = metadata.gid;
    status.st_rdev = metadata.rdev;
    // Sizes end at the largest off_t.
    status.st_size = metadata.size as i64;
    status.st_blksize = BLOCK_SIZE as libc::blksize_t;
    status.st_blocks = metadata.blocks_bytes.div_ceil(512) as i64;
    (status.st_atime, status.st_atime_nsec) = (metadata.atime.0, metadata.atime.1.into());
    (status.st_mtime, status.st_mtime_nsec) = (metadata.mtime.0, metadata.mtime.1.into());
    (status.st_ctime, status.st_ctime_nsec) = (metadata.ctime.0, metadata.ctime.1.into());
    status
}

/// Sets the permission bits of an open file; see fchmod(2).
///
/// # Errors
/// `EBADF`, also for `O_PATH`; `EPERM`; `EIO` for a poisoned filesystem.
pub fn fchmod(fd: i32, mode: u32) -> Result<()> {
    with_file(fd, |file| {
        file.usable()?;
        let _operation = Operation::begin(file.fs())?;
        file.inode().chmod(mode, file.fs().credentials())
    })
}

/// Sets the permission bits of what `dirfd` and `path` name; see fchmodat(2), flags as fchmodat2 has them.
///
/// # Errors
/// `EINVAL` for an unknown flag, `EOPNOTSUPP` for a symlink, `EPERM`, `EBADF`, the walk's.
pub fn fchmodat(dirfd: i32, path: &[u8], mode: u32, flags: i32) -> Result<()> {
    check_flags(flags, libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    with_inode(dirfd, path, Target::from_flags(flags), |fs, inode| {
        if inode.kind() == InodeKind::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        inode.chmod(mode, fs.credentials())
    })
}

/// Sets owner and group of an open file, `u32::MAX` leaving one as it is; see fchown(2).
///
/// # Errors
/// `EBADF`, also for `O_PATH`; `EPERM`; `EIO` for a poisoned filesystem.
pub fn fchown(fd: i32, owner: u32, group: u32) -> Result<()> {
    with_file(fd, |file| {
        file.usable()?;
        let _operation = Operation::begin(file.fs())?;
        change_owner(file.inode(), owner, group, file.fs().credentials())
    })
}

/// Sets owner and group of what `dirfd` and `path` name; see fchownat(2).
///
/// # Errors
/// `EINVAL` for an unknown flag, `EPERM`, `EBADF`, the walk's.
pub fn fchownat(dirfd: i32, path: &[u8], owner: u32, group: u32, flags: i32) -> Result<()> {
    check_flags(flags, libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    with_inode(dirfd, path, Target::from_flags(flags), |fs, inode| {
        change_owner(inode, owner, group, fs.credentials())
    })
}

fn change_owner(inode: &Inode, owner: u32, group: u32, who: &Credentials) -> Result<()> {
    let changed = |id| (id != SAME_ID).then_some(id);
    inode.chown(changed(owner), changed(group), who)
}

/// Reads the process's effective and real ids again, which permissions are judged by in all its filesystems.
///
/// # Errors
/// `ENOMEM`; the ids are as they were then.
pub fn refresh_credentials() -> Result<()> {
    let _inside = gate::enter();
    credentials::refresh()
}

/// Sets access and modification times, `None` meaning now for both; see utimensat(2). Without a path
/// the times are those of the file that `dirfd` names, as on Linux.
///
/// # Errors
/// `EINVAL` for an unknown flag or nanoseconds out of range, `EFAULT` without a path and a descriptor,
/// `EPERM`, `EACCES`, `EBADF`, the walk's.
pub fn utimensat<'a>(
    dirfd: i32,
    path: impl Into<Option<&'a [u8]>>,
    times: Option<&[libc::timespec; 2]>,
    flags: i32,
) -> Result<()> {
    if omits_both(times) {
        return Ok(());
    }
    match path.into() {
        None if dirfd == AT_FDCWD => Err(Errno::EFAULT),
        None => {
            check_flags(flags, 0)?;
            futimens(dirfd, times)
        }
        Some(path) => {
            check_flags(flags, libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
            with_inode(dirfd, path, Target::from_flags(flags), |fs, inode| {
                set_times(inode, times, fs.credentials())
            })
        }
    }
}

/// As [`utimensat`], of an open file; see futimens(3).
///
/// # Errors
/// `EBADF`, also for `O_PATH`; `EPERM`, `EACCES`; `EINVAL` for nanoseconds out of range.
pub fn futimens(fd: i32, times: Option<&[libc::timespec; 2]>) -> Result<()> {
    // The C library looks at the sign, and the kernel then at the times.
    if fd < 0 {
        return Err(Errno::EBADF);
    }
    if omits_both(times) {
        return Ok(());
    }
    let _inside = gate::enter();
    with_file(fd, |file| {
        file.usable()?;
        let _operation = Operation::begin(file.fs())?;
        set_times(file.inode(), times, file.fs().credentials())
    })
}

/// Such a call has nothing to do, and the kernel does not even look what it names.
fn omits_both(times: Option<&[libc::timespec; 2]>) -> bool {
    times.is_some_and(|times| times.iter().all(|time| time.tv_nsec == libc::UTIME_OMIT))
}

fn set_times(inode: &Inode, times: Option<&[libc::timespec; 2]>, who: &Credentials) -> Result<()> {
    match times {
        None => inode.set_times(TimeSet::Now, TimeSet::Now, who),
        Some([atime, mtime]) => inode.set_times(time_set(atime)?, time_set(mtime)?, who),
    }
}

fn time_set(time: &libc::timespec) -> Result<TimeSet> {
    match time.tv_nsec {
        libc::UTIME_NOW => Ok(TimeSet::Now),
        libc::UTIME_OMIT => Ok(TimeSet::Omit),
        0..1_000_000_000 => Ok(TimeSet::At(time.tv_sec, time.tv_nsec as u32)),
        _ => Err(Errno::EINVAL),
    }
}
