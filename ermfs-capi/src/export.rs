//! Kernel descriptors: files handed out as memfds and `.gz` files, run as programs, and taken in.

use core::ffi::{c_char, c_int};
use std::os::fd::IntoRawFd;

use ermfs_core::{ExportFlags, Result, process};
use libc::mode_t;

use crate::boundary::{boundary, c_path};

/// A flag of the exports: read-only and sealed; repeated exports of the unchanged file share its memory.
pub const ERMFS_EXPORT_SEALED: c_int = 1;
/// A flag of the exports: not close-on-exec, which fexecve of a #! script needs.
pub const ERMFS_EXPORT_NOCLOEXEC: c_int = 2;
/// A flag of the exports: not executable, for good.
pub const ERMFS_EXPORT_NOEXEC: c_int = 4;
const _: () = assert!(
    ERMFS_EXPORT_SEALED as u32 == ExportFlags::SEALED.bits()
        && ERMFS_EXPORT_NOCLOEXEC as u32 == ExportFlags::NOCLOEXEC.bits()
        && ERMFS_EXPORT_NOEXEC as u32 == ExportFlags::NOEXEC.bits()
);

/// A kernel descriptor, at offset 0, of a memfd with the file's bytes, size and holes as they are at the call, named
/// after the last 249 bytes of the path; the caller closes it with close. It is a private copy, read-write and
/// close-on-exec, unless flags (ERMFS_EXPORT_...) say otherwise. It takes the permission to read. EACCES, EFAULT, EINVAL, EIO (a damaged
/// block), EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENOENT, ENOMEM, ENOSPC, ENOTDIR, ENXIO (a special node). Not a POSIX function; see memfd_create(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_export_memfd(path: *const c_char, flags: c_int) -> c_int {
    boundary! { Ok(process::export_memfd(c_path!(path), flags)?.into_raw_fd()) }
}

/// ermfs_export_memfd relative to a directory; EBADF also. Not a POSIX function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_export_memfdat(dirfd: c_int, path: *const c_char, flags: c_int) -> c_int {
    boundary! { Ok(process::export_memfdat(dirfd, c_path!(path), flags)?.into_raw_fd()) }
}

/// ermfs_export_memfd of an open file, unlinked ones too; the memfd is called "ermfs". EBADF (not open for reading)
/// also. Not a POSIX function.
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_fexport_memfd(fd: c_int, flags: c_int) -> c_int {
    boundary! { Ok(process::fexport_memfd(fd, flags)?.into_raw_fd()) }
}

/// A kernel descriptor, at offset 0, of a memfd that holds a .gz of the file as it is at the call: gunzip reads it
/// whole, bgzip at random. It is never executable. Errors as ermfs_export_memfd, and EFBIG for a file over 2^40 bytes.
/// Not a POSIX function. Format: RFC 1952, BGZF (SAM specification, 4.1).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_export_gzip(path: *const c_char, flags: c_int) -> c_int {
    boundary! { Ok(process::export_gzip(c_path!(path), flags)?.into_raw_fd()) }
}

/// Replaces the process image by the file, an ELF program or a #! script, which finds /proc/self/fd/N as its name. All
/// filesystems go with the process image. argv and envp end with NULL. Returns only on error, with -1. E2BIG, EACCES (not a
/// regular file, or no x bit), EFAULT, ELOOP, ENAMETOOLONG, ENOENT (the interpreter also), ENOEXEC, ENOMEM, ENOTDIR.
/// Source: execve(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_execve(
    path: *const c_char,
    argv: *const *mut c_char,
    envp: *const *mut c_char,
) -> c_int {
    boundary! {
        let path = c_path!(path);
        // SAFETY: the header's contract for argv and envp: NULL, or arrays of strings that end with NULL.
        let error = unsafe { process::execve(path, argv.cast(), envp.cast()) };
        Result::<()>::Err(error)
    }
}

/// Makes all that a kernel descriptor gives a file named `path`, with mode & ~umask. What can be read at an offset is read
/// from its start, its offset staying; a pipe or socket to its end. The file appears when it is complete, replacing what
/// was there as a rename would; a failed import changes nothing. The descriptor stays open during the call. EACCES,
/// EAGAIN, EBADF, EFAULT, EFBIG, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC, ENOTDIR, and what read(2) gives.
/// Not a POSIX function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_import_fd(path: *const c_char, kernel_fd: c_int, mode: mode_t) -> c_int {
    boundary! {
        let path = c_path!(path);
        // SAFETY: the header's contract for kernel_fd: nobody closes it during the call.
        process::import_fd(path, unsafe { process::kernel_fd(kernel_fd) }?, mode)
    }
}

/// ermfs_import_fd of the content of any .gz, of one member or many. Errors as ermfs_import_fd, and EIO when it is cut
/// off, damaged or not gzip. Not a POSIX function. Format: RFC 1952.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_import_gzip(path: *const c_char, kernel_fd: c_int, mode: mode_t) -> c_int {
    boundary! {
        let path = c_path!(path);
        // SAFETY: the header's contract for kernel_fd: nobody closes it during the call.
        process::import_gzip(path, unsafe { process::kernel_fd(kernel_fd) }?, mode)
    }
}
