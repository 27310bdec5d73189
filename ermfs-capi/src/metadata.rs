//! What a file is: status, permissions, owner and times.

use core::ffi::{c_char, c_int};

use ermfs_core::process;
use libc::{gid_t, mode_t, stat, statvfs, timespec, uid_t};

use crate::boundary::{boundary, c_path, fill};

/// The status of the file that a path names. st_blksize is 65,536; st_blocks is what the content takes now, in units
/// of 512 bytes, and falls when the file is packed. EACCES, EFAULT, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR.
/// Source: stat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_stat(path: *const c_char, statbuf: *mut stat) -> c_int {
    boundary! { fill!(statbuf, process::fstatat(process::AT_FDCWD, c_path!(path), 0)?) }
}

/// ermfs_stat of a symbolic link itself. Source: lstat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_lstat(path: *const c_char, statbuf: *mut stat) -> c_int {
    boundary! { fill!(statbuf, process::fstatat(process::AT_FDCWD, c_path!(path), libc::AT_SYMLINK_NOFOLLOW)?) }
}

/// ermfs_stat of an open file. EBADF, EFAULT. Source: fstat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fstat(fd: c_int, statbuf: *mut stat) -> c_int {
    boundary! { fill!(statbuf, process::fstat(fd)?) }
}

/// ermfs_stat relative to a directory, with AT_SYMLINK_NOFOLLOW or AT_EMPTY_PATH; EBADF, EINVAL also.
/// Source: fstatat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fstatat(
    dirfd: c_int,
    path: *const c_char,
    statbuf: *mut stat,
    flags: c_int,
) -> c_int {
    boundary! { fill!(statbuf, process::fstatat(dirfd, c_path!(path), flags)?) }
}

/// The room of the filesystem that a path lies in, in units of f_frsize bytes: its budget and what is left of it.
/// EACCES, EFAULT, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR. Source: statvfs(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_statvfs(path: *const c_char, buf: *mut statvfs) -> c_int {
    boundary! { fill!(buf, process::statvfs(c_path!(path))?) }
}

/// ermfs_statvfs of an open file's filesystem. EBADF, EFAULT. Source: fstatvfs(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fstatvfs(fd: c_int, buf: *mut statvfs) -> c_int {
    boundary! { fill!(buf, process::fstatvfs(fd)?) }
}

/// Sets the permission bits, set-id bits and sticky bit. EACCES, EFAULT, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
/// (not the owner). Source: chmod(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_chmod(path: *const c_char, mode: mode_t) -> c_int {
    boundary! { process::fchmodat(process::AT_FDCWD, c_path!(path), mode, 0) }
}

/// ermfs_chmod of an open file. EBADF, EPERM. Source: fchmod(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_fchmod(fd: c_int, mode: mode_t) -> c_int {
    boundary! { process::fchmod(fd, mode) }
}

/// ermfs_chmod relative to a directory; with AT_SYMLINK_NOFOLLOW a symbolic link gives EOPNOTSUPP; EBADF, EINVAL also.
/// Source: fchmodat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fchmodat(
    dirfd: c_int,
    path: *const c_char,
    mode: mode_t,
    flags: c_int,
) -> c_int {
    boundary! { process::fchmodat(dirfd, c_path!(path), mode, flags) }
}

/// Sets a file's owner and group; (uid_t) -1 and (gid_t) -1 leave them. EACCES, EFAULT, ELOOP, ENAMETOOLONG, ENOENT,
/// ENOTDIR, EPERM. Source: chown(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_chown(path: *const c_char, owner: uid_t, group: gid_t) -> c_int {
    boundary! { process::fchownat(process::AT_FDCWD, c_path!(path), owner, group, 0) }
}

/// ermfs_chown of a symbolic link itself. Source: lchown(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_lchown(path: *const c_char, owner: uid_t, group: gid_t) -> c_int {
    boundary! { process::fchownat(process::AT_FDCWD, c_path!(path), owner, group, libc::AT_SYMLINK_NOFOLLOW) }
}

/// ermfs_chown of an open file. EBADF, EPERM. Source: fchown(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_fchown(fd: c_int, owner: uid_t, group: gid_t) -> c_int {
    boundary! { process::fchown(fd, owner, group) }
}

/// ermfs_chown relative to a directory, with AT_SYMLINK_NOFOLLOW or AT_EMPTY_PATH; EBADF, EINVAL also.
/// Source: fchownat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fchownat(
    dirfd: c_int,
    path: *const c_char,
    owner: uid_t,
    group: gid_t,
    flags: c_int,
) -> c_int {
    boundary! { process::fchownat(dirfd, c_path!(path), owner, group, flags) }
}

/// Reads the process's effective and real ids again: permissions are judged by them, and new files belong to them, in all
/// its filesystems. Without it a filesystem goes by the ids that the process had when it was made. ENOMEM. Not a POSIX
/// function; see credentials(7).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_refresh_credentials() -> c_int {
    boundary! { process::refresh_credentials() }
}

/// Sets the times of last access (times[0]) and last change (times[1]), in seconds and nanoseconds; NULL, UTIME_NOW
/// and UTIME_OMIT as on Linux. EACCES, EBADF, EFAULT, EINVAL, ELOOP, ENAMETOOLONG,
/// ENOENT, ENOTDIR, EPERM. Source: utimensat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_utimensat(
    dirfd: c_int,
    path: *const c_char,
    times: *const timespec,
    flags: c_int,
) -> c_int {
    boundary! {
        // SAFETY: the header's contract for `times`: NULL or an array of two.
        let times = unsafe { times.cast::<[timespec; 2]>().as_ref() };
        process::utimensat(dirfd, c_path!(path), times, flags)
    }
}

/// ermfs_utimensat of an open file. EACCES, EBADF, EINVAL, EPERM. Source: futimens(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_futimens(fd: c_int, times: *const timespec) -> c_int {
    boundary! {
        // SAFETY: the header's contract for `times`: NULL or an array of two.
        let times = unsafe { times.cast::<[timespec; 2]>().as_ref() };
        process::futimens(fd, times)
    }
}
