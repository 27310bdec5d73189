//! Names: mkdirat, unlinkat, renameat2, linkat, symlinkat, readlinkat, faccessat, chdir, fchdir, getcwd,
//! realpath.

use std::sync::Arc;

use ermfs_memory::try_vec;

use super::with_file;
use crate::credentials::Credentials;
use crate::errno::{Errno, Result};
use crate::fs::Fs;
use crate::gate;
use crate::inject::allocation;
use crate::namespace::{At, InodeKind, InodeRef, RenameFlags};
use crate::process::filesystems::{self, Start, Target, with_inode, with_inode_as, with_start};
use crate::process::{AT_FDCWD, Operation};

/// Longest path, its NUL included; also longer than any symlink's target.
const PATH_MAX: usize = libc::PATH_MAX as usize;
/// Most symlinks that one path may lead through.
const MAX_SYMLINKS: usize = 40;

/// Makes a directory; see mkdirat(2).
///
/// # Errors
/// `EBADF`, `EEXIST`, `ENOSPC`, `ENOMEM`, the walk's.
pub fn mkdirat(dirfd: i32, path: &[u8], mode: u32) -> Result<()> {
    with_start(dirfd, path, |at| Fs::mkdir(at, path, mode & 0o1777))
}

/// Makes a regular file or a special node, as the kind in `mode` says; see mknodat(2).
///
/// # Errors
/// `EINVAL` for a kind that it does not make or a device number that is none, `EPERM` for a directory and for a device of an
/// unprivileged process, `EACCES`, `EBADF`, `EEXIST`, `ENOSPC`, `ENOMEM`, the walk's.
pub fn mknodat(dirfd: i32, path: &[u8], mode: u32, rdev: u64) -> Result<()> {
    // The C library looks whether the number fits the system call.
    if u32::try_from(rdev).is_err() {
        return Err(Errno::EINVAL);
    }
    Fs::mknod_kind(mode)?;
    with_start(dirfd, path, |at| Fs::mknod(at, path, mode, rdev))
}

/// Removes a name, or with `AT_REMOVEDIR` an empty directory; see unlinkat(2).
///
/// # Errors
/// `EINVAL` for another flag, `EBADF`, `EISDIR`, `ENOTDIR`, `ENOTEMPTY`, `EBUSY`, the walk's.
pub fn unlinkat(dirfd: i32, path: &[u8], flags: i32) -> Result<()> {
    if flags & !libc::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let remove = if flags == 0 { Fs::unlink } else { Fs::rmdir };
    with_start(dirfd, path, |at| remove(at, path))
}

/// Runs `work` where two paths start. Where the new path cannot start, what is wrong with the old one,
/// as `first` finds it, is told before.
fn with_two_starts<R>(
    (old_dirfd, old): (i32, &[u8]),
    (new_dirfd, new): (i32, &[u8]),
    first: impl FnOnce(At<'_>) -> Result<()>,
    work: impl FnOnce(At<'_>, At<'_>) -> Result<R>,
) -> Result<R> {
    with_start(old_dirfd, old, |at_old| {
        let mut started = false;
        let result = with_start(new_dirfd, new, |at_new| {
            started = true;
            work(at_old, at_new)
        });
        if !started {
            first(at_old)?;
        }
        result
    })
}

/// Renames, with `RENAME_NOREPLACE` or `RENAME_EXCHANGE`; see renameat2(2).
///
/// # Errors
/// `EINVAL` for other flags (`RENAME_WHITEOUT` included) or both, `EXDEV` between filesystems, `EBADF`,
/// those of the renaming and the walk.
pub fn renameat2(old_dirfd: i32, old: &[u8], new_dirfd: i32, new: &[u8], flags: u32) -> Result<()> {
    let flags = match flags {
        0 => RenameFlags::default(),
        libc::RENAME_NOREPLACE => RenameFlags { no_replace: true, exchange: false },
        libc::RENAME_EXCHANGE => RenameFlags { no_replace: false, exchange: true },
        _ => return Err(Errno::EINVAL),
    };
    let first = |at_old: At<'_>| Fs::walk_to_last(at_old, old);
    with_two_starts((old_dirfd, old), (new_dirfd, new), first, |at_old, at_new| {
        Fs::rename(at_old, old, at_new, new, flags)
    })
}

/// Gives a file another name; `AT_SYMLINK_FOLLOW`, and `AT_EMPTY_PATH` for what `old_dirfd` names itself
/// (an `O_TMPFILE` file, say); see linkat(2).
///
/// # Errors
/// `EINVAL` for another flag, `EXDEV` between filesystems, `EPERM` for a directory, `EEXIST`, `EMLINK`,
/// `ENOENT` for a file that has no name and may not get one, `EBADF`, the walk's.
pub fn linkat(old_dirfd: i32, old: &[u8], new_dirfd: i32, new: &[u8], flags: i32) -> Result<()> {
    if flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    if old.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
        return with_inode(old_dirfd, old, Target { follow: false, empty_path: true }, |fs, inode| {
            with_start(new_dirfd, new, |at| {
                if !Arc::ptr_eq(fs, at.fs) {
                    return Err(Errno::EXDEV);
                }
                Fs::link_inode(inode, at, new)
            })
        });
    }
    let follow = flags & libc::AT_SYMLINK_FOLLOW != 0;
    let first = |at_old: At<'_>| Fs::lookup(at_old, old, follow).map(drop);
    with_two_starts((old_dirfd, old), (new_dirfd, new), first, |at_old, at_new| {
        Fs::link(at_old, old, at_new, new, follow)
    })
}

/// Makes a symlink; see symlinkat(2).
///
/// # Errors
/// `ENOENT` for an empty target, `ENAMETOOLONG`, `EBADF`, `EEXIST`, `ENOSPC`, `ENOMEM`, the walk's.
pub fn symlinkat(target: &[u8], dirfd: i32, path: &[u8]) -> Result<()> {
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    if target.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    with_start(dirfd, path, |at| Fs::symlink(target, at, path))
}

/// A symlink's target, without a NUL; the empty path means the symlink that `dirfd` names. See
/// readlinkat(2).
///
/// # Errors
/// `EINVAL` for what is no symlink (`ENOENT` if it was named by the empty path), `EBADF`, `ENOMEM`, the
/// walk's.
pub fn readlinkat(dirfd: i32, path: &[u8]) -> Result<Vec<u8>> {
    with_inode(dirfd, path, Target { follow: false, empty_path: true }, |_, inode| {
        let target = match inode.symlink_target() {
            Some(target) => target,
            None if path.is_empty() => return Err(Errno::ENOENT),
            None => return Err(Errno::EINVAL),
        };
        let mut copy = try_vec(target.len())?;
        copy.extend_from_slice(target);
        inode.note_read();
        Ok(copy)
    })
}

/// Whether what `dirfd` and `path` name is there and may be used as `mode` asks (`R_OK`, `W_OK`, `X_OK`, or
/// 0 for `F_OK`), for the real ids, or the effective ones with `AT_EACCESS`; see faccessat(2).
///
/// # Errors
/// `EINVAL` for an unknown mode or flag, `EACCES`, `EBADF`, the walk's.
pub fn faccessat(dirfd: i32, path: &[u8], mode: i32, flags: i32) -> Result<()> {
    const MODES: i32 = libc::R_OK | libc::W_OK | libc::X_OK;
    const FLAGS: i32 = libc::AT_EACCESS | libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH;
    if mode & !MODES != 0 || flags & !FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let who: fn(&Fs) -> &'static Credentials =
        if flags & libc::AT_EACCESS != 0 { Fs::credentials } else { Fs::real_credentials };
    with_inode_as(who, dirfd, path, Target::from_flags(flags), |fs, inode| {
        // The three bits of `mode` are those of a permission class.
        inode.require(who(fs), mode.cast_unsigned())
    })
}

/// Makes a directory the working directory; relative paths without a `dirfd` start there. See chdir(2).
///
/// # Errors
/// `ENOTDIR`, `EACCES`, `ENOMEM`, the walk's.
pub fn chdir(path: &[u8]) -> Result<()> {
    with_inode(AT_FDCWD, path, Target { follow: true, empty_path: false }, filesystems::set_working_directory)
}

/// As [`chdir`], to a directory that is open, in any filesystem, which stays alive with it; see fchdir(2).
///
/// # Errors
/// `EBADF`, `ENOTDIR`, `EACCES`, `ENOMEM`.
pub fn fchdir(fd: i32) -> Result<()> {
    with_file(fd, |file| {
        let _operation = Operation::begin(file.fs())?;
        filesystems::set_working_directory(file.fs(), file.inode())
    })
}

/// The working directory's path from the root of its filesystem, without a NUL; see getcwd(3).
///
/// # Errors
/// `ENOENT` when it was removed, `ENOMEM`.
pub fn getcwd() -> Result<Vec<u8>> {
    let _inside = gate::enter();
    let start = Start::working_directory()?;
    let _operation = Operation::begin(start.fs())?;
    start.fs().path_of(start.inode())
}

/// The path from the root, without symlinks, `.` or `..`, of what `path` names; see realpath(3).
///
/// # Errors
/// `ELOOP`, `ENAMETOOLONG`, `ENOMEM`, the walk's.
pub fn realpath(path: &[u8]) -> Result<Vec<u8>> {
    with_start(AT_FDCWD, path, |at| {
        let inode = Fs::lookup(at, path, true)?;
        if inode.kind() == InodeKind::Directory {
            return at.fs.path_of(&inode);
        }
        let mut dir = at.dir.clone();
        let mut path = copied(path)?;
        for _ in 0..=MAX_SYMLINKS {
            // It names no directory, so it does not end in a slash.
            let name_at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            let (parent, name) = path.split_at(name_at);
            if !parent.is_empty() {
                dir = parent_of(At { dir: &dir, ..at }, parent)?;
            }
            let last = Fs::lookup(At { dir: &dir, ..at }, name, false)?;
            match last.symlink_target() {
                Some(target) => path = copied(target)?,
                None => return joined(at.fs.path_of(&dir)?, name),
            }
        }
        Err(Errno::ELOOP)
    })
}

/// The directory that `parent`, which ends in a slash, names.
fn parent_of(at: At<'_>, parent: &[u8]) -> Result<InodeRef> {
    Fs::lookup(at, parent, true)
}

fn copied(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = try_vec(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// `dir`, a slash unless it is the root, and `name`.
fn joined(dir: Vec<u8>, name: &[u8]) -> Result<Vec<u8>> {
    let mut path = dir;
    allocation!("path")?;
    path.try_reserve(name.len() + 1)?;
    if path != b"/" {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    if path.len() >= PATH_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(path) }
}
