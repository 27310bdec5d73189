//! Names: making, removing, linking and moving them, and the working directory.

use core::ffi::{c_char, c_int, c_uint};
use core::ptr;

use ermfs_core::{Errno, Result, process};
use libc::{dev_t, mode_t, size_t, ssize_t};

use crate::boundary::{boundary, c_path, needed};

/// Makes a directory with mode & ~umask. EACCES, EEXIST, EFAULT, ELOOP, EMLINK, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC,
/// ENOTDIR. Source: mkdir(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_mkdir(path: *const c_char, mode: mode_t) -> c_int {
    boundary! { process::mkdirat(process::AT_FDCWD, c_path!(path), mode) }
}

/// ermfs_mkdir relative to a directory; EBADF also. Source: mkdirat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_mkdirat(dirfd: c_int, path: *const c_char, mode: mode_t) -> c_int {
    boundary! { process::mkdirat(dirfd, c_path!(path), mode) }
}

/// Makes a regular file (S_IFREG, or no kind) or a special node (S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK; dev counts for the
/// last two) with mode & ~umask. A special node is a name: to open it gives ENXIO. EACCES, EEXIST, EFAULT, EINVAL
/// (another kind), ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC, ENOTDIR, EPERM (a directory; a device, unless the
/// process is root). Source: mknod(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_mknod(path: *const c_char, mode: mode_t, dev: dev_t) -> c_int {
    boundary! { process::mknodat(process::AT_FDCWD, c_path!(path), mode, dev) }
}

/// ermfs_mknod relative to a directory; EBADF also. Source: mknodat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_mknodat(dirfd: c_int, path: *const c_char, mode: mode_t, dev: dev_t) -> c_int {
    boundary! { process::mknodat(dirfd, c_path!(path), mode, dev) }
}

/// Removes an empty directory. EACCES, EBUSY, EFAULT, EINVAL (the last part is "."), ELOOP, ENAMETOOLONG, ENOENT,
/// ENOTDIR, ENOTEMPTY, EPERM. Source: rmdir(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_rmdir(path: *const c_char) -> c_int {
    boundary! { process::unlinkat(process::AT_FDCWD, c_path!(path), libc::AT_REMOVEDIR) }
}

/// Removes a name; the file goes with its last name and descriptor. Works in a full filesystem.
/// EACCES, EFAULT, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM. Source: unlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_unlink(path: *const c_char) -> c_int {
    boundary! { process::unlinkat(process::AT_FDCWD, c_path!(path), 0) }
}

/// ermfs_unlink or, with AT_REMOVEDIR, ermfs_rmdir, relative to a directory; EBADF, EINVAL (unknown flags) also.
/// Source: unlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_unlinkat(dirfd: c_int, path: *const c_char, flags: c_int) -> c_int {
    boundary! { process::unlinkat(dirfd, c_path!(path), flags) }
}

/// Gives a file or directory another name, replacing what had it, in one step. EACCES, EBUSY, EFAULT, EINVAL (into
/// itself), EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY, EPERM, EXDEV. Source: rename(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_rename(oldpath: *const c_char, newpath: *const c_char) -> c_int {
    boundary! { process::renameat2(process::AT_FDCWD, c_path!(oldpath), process::AT_FDCWD, c_path!(newpath), 0) }
}

/// ermfs_rename relative to directories; EBADF, and EXDEV when they are of two filesystems. Source: renameat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_renameat(
    olddirfd: c_int,
    oldpath: *const c_char,
    newdirfd: c_int,
    newpath: *const c_char,
) -> c_int {
    boundary! { process::renameat2(olddirfd, c_path!(oldpath), newdirfd, c_path!(newpath), 0) }
}

/// ermfs_renameat with RENAME_NOREPLACE (EEXIST) or RENAME_EXCHANGE; EINVAL for both or others.
/// Source: renameat2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_renameat2(
    olddirfd: c_int,
    oldpath: *const c_char,
    newdirfd: c_int,
    newpath: *const c_char,
    flags: c_uint,
) -> c_int {
    boundary! { process::renameat2(olddirfd, c_path!(oldpath), newdirfd, c_path!(newpath), flags) }
}

/// Gives a file one more name; a symbolic link is linked itself. EACCES, EEXIST, EFAULT, ELOOP, EMLINK, ENAMETOOLONG,
/// ENOENT, ENOSPC, ENOTDIR, EPERM (a directory), EXDEV. Source: link(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_link(oldpath: *const c_char, newpath: *const c_char) -> c_int {
    boundary! { process::linkat(process::AT_FDCWD, c_path!(oldpath), process::AT_FDCWD, c_path!(newpath), 0) }
}

/// ermfs_link relative to directories, with AT_SYMLINK_FOLLOW or, for an open file (one made with O_TMPFILE, say),
/// AT_EMPTY_PATH; EBADF, EINVAL also. Source: linkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_linkat(
    olddirfd: c_int,
    oldpath: *const c_char,
    newdirfd: c_int,
    newpath: *const c_char,
    flags: c_int,
) -> c_int {
    boundary! { process::linkat(olddirfd, c_path!(oldpath), newdirfd, c_path!(newpath), flags) }
}

/// Makes a symbolic link at `linkpath` that holds `target`, any path. EACCES, EEXIST, EFAULT, ELOOP, ENAMETOOLONG,
/// ENOENT (an empty target also), ENOSPC, ENOTDIR. Source: symlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_symlink(target: *const c_char, linkpath: *const c_char) -> c_int {
    boundary! { process::symlinkat(c_path!(target), process::AT_FDCWD, c_path!(linkpath)) }
}

/// ermfs_symlink relative to a directory; EBADF also. Source: symlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_symlinkat(
    target: *const c_char,
    newdirfd: c_int,
    linkpath: *const c_char,
) -> c_int {
    boundary! { process::symlinkat(c_path!(target), newdirfd, c_path!(linkpath)) }
}

/// Copies what a symbolic link holds, at most `bufsiz` bytes and without a NUL; answers how many. EACCES, EFAULT,
/// EINVAL (not a symbolic link; bufsiz 0), ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR. Source: readlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_readlink(path: *const c_char, buf: *mut c_char, bufsiz: size_t) -> ssize_t {
    boundary! {
        let path = c_path!(path);
        // SAFETY: the header's contract for a buffer: writable for `bufsiz` bytes.
        unsafe { read_link(process::AT_FDCWD, path, buf, bufsiz) }
    }
}

/// ermfs_readlink relative to a directory; an empty path means dirfd itself, opened with O_PATH | O_NOFOLLOW; EBADF
/// also. Source: readlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_readlinkat(
    dirfd: c_int,
    path: *const c_char,
    buf: *mut c_char,
    bufsiz: size_t,
) -> ssize_t {
    boundary! {
        let path = c_path!(path);
        // SAFETY: the header's contract for a buffer: writable for `bufsiz` bytes.
        unsafe { read_link(dirfd, path, buf, bufsiz) }
    }
}

/// Whether the process may use a file: F_OK, or R_OK, W_OK, X_OK together. EACCES, EFAULT, EINVAL, ELOOP,
/// ENAMETOOLONG, ENOENT, ENOTDIR. Source: access(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_access(path: *const c_char, mode: c_int) -> c_int {
    boundary! { process::faccessat(process::AT_FDCWD, c_path!(path), mode, 0) }
}

/// ermfs_access relative to a directory, with AT_EACCESS, AT_SYMLINK_NOFOLLOW or AT_EMPTY_PATH; EBADF also.
/// Source: faccessat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_faccessat(
    dirfd: c_int,
    path: *const c_char,
    mode: c_int,
    flags: c_int,
) -> c_int {
    boundary! { process::faccessat(dirfd, c_path!(path), mode, flags) }
}

/// Makes a directory of the default filesystem the working directory of the process. EACCES, EFAULT, ELOOP,
/// ENAMETOOLONG, ENOENT, ENOTDIR. Source: chdir(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_chdir(path: *const c_char) -> c_int {
    boundary! { process::chdir(c_path!(path)) }
}

/// ermfs_chdir to an open directory, of any filesystem: relative paths follow it there. EACCES, EBADF, ENOTDIR.
/// Source: fchdir(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_fchdir(fd: c_int) -> c_int {
    boundary! { process::fchdir(fd) }
}

/// Writes the working directory's path and a NUL into `buf` of `size` bytes and answers buf. For NULL the memory comes
/// from malloc, `size` bytes of it or, for 0, as many as it takes; the caller frees it.
/// EINVAL (size 0 with a buffer), ENOENT (it was removed), ENOMEM, ERANGE. Source: getcwd(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_getcwd(buf: *mut c_char, size: size_t) -> *mut c_char {
    boundary! {
        if size == 0 && !buf.is_null() {
            return Err(Errno::EINVAL);
        }
        let path = process::getcwd()?;
        let room = if size == 0 { path.len() + 1 } else { size };
        if path.len() >= room {
            return Err(Errno::ERANGE);
        }
        // SAFETY: the header's contract for a buffer: writable for `size` bytes, and the path fits.
        unsafe { copy_out(&path, buf, room) }
    }
}

/// Writes the absolute path of a file, without ".", ".." and symbolic links, and a NUL into `resolved` of PATH_MAX
/// bytes and answers it. For NULL the memory comes from malloc and the caller frees it. EACCES, EINVAL (path is
/// NULL), ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR. Source: realpath(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_realpath(path: *const c_char, resolved: *mut c_char) -> *mut c_char {
    boundary! {
        if path.is_null() {
            return Err(Errno::EINVAL);
        }
        let path = process::realpath(c_path!(path))?;
        if path.len() >= libc::PATH_MAX as usize {
            return Err(Errno::ENAMETOOLONG);
        }
        // SAFETY: the header's contract for `resolved`: PATH_MAX bytes, and the path with its NUL is no longer.
        unsafe { copy_out(&path, resolved, path.len() + 1) }
    }
}

/// # Safety
/// `buf` is NULL or writable for `size` bytes.
unsafe fn read_link(dirfd: c_int, path: &[u8], buf: *mut c_char, size: usize) -> Result<usize> {
    if size == 0 {
        return Err(Errno::EINVAL);
    }
    let target = process::readlinkat(dirfd, path)?;
    needed!(buf);
    let len = target.len().min(size);
    // SAFETY: `buf` is writable for `size` bytes (the contract), and the target is the engine's own memory.
    unsafe { ptr::copy_nonoverlapping(target.as_ptr(), buf.cast(), len) };
    Ok(len)
}

/// Copies a path and a NUL to `buf` or, for NULL, into `room` bytes from malloc.
///
/// # Safety
/// `buf` is NULL or writable for path.len() + 1 bytes; room is at least as many.
unsafe fn copy_out(path: &[u8], buf: *mut c_char, room: usize) -> Result<*mut c_char> {
    let to = if buf.is_null() {
        // SAFETY: malloc may be called with any size.
        unsafe { libc::malloc(room) }.cast()
    } else {
        buf
    };
    if to.is_null() {
        return Err(Errno::ENOMEM);
    }
    // SAFETY: room for the path and its NUL, by the contract or from malloc; fresh or the caller's memory never
    // overlaps the engine's.
    unsafe {
        ptr::copy_nonoverlapping(path.as_ptr(), to.cast(), path.len());
        to.add(path.len()).write(0);
    }
    Ok(to)
}
