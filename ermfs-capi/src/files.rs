//! Opening, reading, writing and resizing files.

use core::ffi::{c_char, c_int, c_uint, c_void};

use ermfs_core::{Sink, Source, process};
use libc::{iovec, mode_t, off_t, size_t, ssize_t};

use crate::boundary::{boundary, c_path, fill, guarded, iovecs, sink, source};

/// In the flags of an open: any free descriptor will do, not the lowest. Faster when many threads open and close.
pub const ERMFS_O_ANYFD: c_int = 0x4000_0000;
const _: () = assert!(ERMFS_O_ANYFD == process::O_ANYFD);

/// As a dirfd: the default filesystem's working directory.
pub const ERMFS_AT_FDCWD: c_int = -100;
const _: () = assert!(ERMFS_AT_FDCWD == process::AT_FDCWD);

/// Behind the variadic ermfs_open.
#[unsafe(no_mangle)]
unsafe extern "C" fn ermfs_fixed_open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    boundary! { process::openat(process::AT_FDCWD, c_path!(path), flags, mode) }
}

/// Behind the variadic ermfs_openat.
#[unsafe(no_mangle)]
unsafe extern "C" fn ermfs_fixed_openat(
    dirfd: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    boundary! { process::openat(dirfd, c_path!(path), flags, mode) }
}

/// Opens a new or emptied file for writing: ermfs_open with O_CREAT | O_WRONLY | O_TRUNC, and with its errors.
/// Answers a descriptor. Source: creat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_creat(path: *const c_char, mode: mode_t) -> c_int {
    boundary! { process::creat(c_path!(path), mode) }
}

/// Closes a descriptor. The last descriptor of the last writable description of a file packs the file (see
/// struct ermfs_config), which never makes the close fail. EBADF. Source: close(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_close(fd: c_int) -> c_int {
    boundary! { process::close(fd) }
}

/// Reads at most `count` bytes at the offset and moves it. Answers the bytes read, 0 at the end of the file; the
/// read and the move are one step for all who share the description.
/// EBADF, EFAULT, EINVAL (count over SSIZE_MAX), EIO (a damaged block), EISDIR. Source: read(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_read(fd: c_int, buf: *mut c_void, count: size_t) -> ssize_t {
    boundary! { process::read(fd, &mut sink!(buf, count)) }
}

/// Writes at most `count` bytes at the offset (with O_APPEND at the end of the file) and moves it. Answers the bytes
/// written: fewer than asked when space or the largest size ends on the way.
/// EBADF, EFAULT, EFBIG, EINVAL, EIO, ENOMEM, ENOSPC. Source: write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_write(fd: c_int, buf: *const c_void, count: size_t) -> ssize_t {
    boundary! { process::write(fd, &mut source!(buf, count)) }
}

/// Reads at most `count` bytes at `offset` (in bytes), whatever the description's offset is; that does not move.
/// Errors as ermfs_read, and EINVAL for a negative offset. Source: pread(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_pread(fd: c_int, buf: *mut c_void, count: size_t, offset: off_t) -> ssize_t {
    boundary! { process::pread(fd, &mut sink!(buf, count), offset) }
}

/// Writes at most `count` bytes at `offset` (in bytes), whatever the description's offset is; that does not move.
/// As on Linux, a description with O_APPEND appends. Errors as ermfs_write, and EINVAL for a negative offset.
/// Source: pwrite(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_pwrite(
    fd: c_int,
    buf: *const c_void,
    count: size_t,
    offset: off_t,
) -> ssize_t {
    boundary! { process::pwrite(fd, &mut source!(buf, count), offset) }
}

/// ermfs_read into several buffers, one after the other. EINVAL also for a count outside 0..1024 and for a sum
/// of lengths over SSIZE_MAX. Source: readv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_readv(fd: c_int, iov: *const iovec, iovcnt: c_int) -> ssize_t {
    boundary! {
        let parts = iovecs!(iov, iovcnt, process::readv(fd, &mut Sink::new(&mut [])));
        // SAFETY: the header's contract for the buffers of a list: writable for their lengths.
        process::readv(fd, &mut unsafe { Sink::from_iovecs(parts) })
    }
}

/// ermfs_write from several buffers, one after the other. EINVAL also for a count outside 0..1024 and for a sum
/// of lengths over SSIZE_MAX. Source: writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_writev(fd: c_int, iov: *const iovec, iovcnt: c_int) -> ssize_t {
    boundary! {
        let parts = iovecs!(iov, iovcnt, process::write(fd, &mut Source::new(&[])));
        // SAFETY: the header's contract for the buffers of a list: readable for their lengths.
        process::write(fd, &mut unsafe { Source::from_iovecs(parts) })
    }
}

/// ermfs_pread into several buffers. Errors as ermfs_readv and ermfs_pread. Source: preadv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_preadv(fd: c_int, iov: *const iovec, iovcnt: c_int, offset: off_t) -> ssize_t {
    boundary! {
        let parts = iovecs!(iov, iovcnt, process::preadv(fd, &mut Sink::new(&mut []), offset));
        // SAFETY: the header's contract for the buffers of a list: writable for their lengths.
        process::preadv(fd, &mut unsafe { Sink::from_iovecs(parts) }, offset)
    }
}

/// ermfs_pwrite from several buffers. Errors as ermfs_writev and ermfs_pwrite. Source: pwritev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_pwritev(
    fd: c_int,
    iov: *const iovec,
    iovcnt: c_int,
    offset: off_t,
) -> ssize_t {
    boundary! {
        let parts = iovecs!(iov, iovcnt, process::pwrite(fd, &mut Source::new(&[]), offset));
        // SAFETY: the header's contract for the buffers of a list: readable for their lengths.
        process::pwrite(fd, &mut unsafe { Source::from_iovecs(parts) }, offset)
    }
}

/// Moves the offset, in bytes, by SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA or SEEK_HOLE; answers where it is now.
/// EBADF, EINVAL (an unknown whence, a negative result), ENXIO (no data, or past the end), EOVERFLOW.
/// Source: lseek(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_lseek(fd: c_int, offset: off_t, whence: c_int) -> off_t {
    boundary! { process::lseek(fd, offset, whence) }
}

/// Sets a file's size to `length` bytes; what is new reads as zeros and takes no memory.
/// EACCES, EFAULT, EFBIG, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR. Source: truncate(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_truncate(path: *const c_char, length: off_t) -> c_int {
    boundary! { process::truncate(c_path!(path), length) }
}

/// Sets an open file's size to `length` bytes. EBADF, EFBIG, EINVAL (negative, not a file, not open for writing),
/// ENOSPC. Source: ftruncate(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_ftruncate(fd: c_int, length: off_t) -> c_int {
    boundary! { process::ftruncate(fd, length) }
}

/// Allocates, frees, zeroes, removes or inserts the `length` bytes at `offset`. mode: 0, FALLOC_FL_KEEP_SIZE,
/// FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE with or without KEEP_SIZE, and
/// FALLOC_FL_COLLAPSE_RANGE and FALLOC_FL_INSERT_RANGE in multiples of st_blksize (65,536 bytes).
/// EBADF, EFBIG, EINVAL, ENODEV, ENOSPC, EOPNOTSUPP, ESPIPE. Source: fallocate(2), as ext4 behaves.
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_fallocate(fd: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    boundary! { process::fallocate(fd, mode, offset, length) }
}

/// Advice on `length` bytes at `offset`, which changes nothing that a program can see. Answers 0 or an error number
/// (EBADF, EINVAL) and leaves errno alone, as POSIX asks. Source: posix_fadvise(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_posix_fadvise(fd: c_int, offset: off_t, length: off_t, advice: c_int) -> c_int {
    match guarded(|| process::posix_fadvise(fd, offset, length, advice)) {
        Ok(()) => 0,
        Err(error) => error.raw(),
    }
}

/// Nothing outlives the process, so there is nothing to do. EBADF, EINVAL. Source: fsync(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_fsync(fd: c_int) -> c_int {
    boundary! { process::fsync(fd) }
}

/// As ermfs_fsync. EBADF, EINVAL. Source: fdatasync(2).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_fdatasync(fd: c_int) -> c_int {
    boundary! { process::fdatasync(fd) }
}

/// Copies at most `length` bytes from one open file to another, or within one when the ranges do not overlap. The
/// offsets pointed to, or those of the descriptions for NULL, are used and moved. Answers the bytes copied. Blocks are
/// shared, not copied, where they line up. EBADF, EFBIG, EINVAL, EIO, EISDIR, ENOSPC, EOVERFLOW, EXDEV.
/// Source: copy_file_range(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_copy_file_range(
    fd_in: c_int,
    off_in: *mut off_t,
    fd_out: c_int,
    off_out: *mut off_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    boundary! {
        // SAFETY: the header's contract for an offset: NULL, or readable and writable during the call. Copies,
        // because the two may be one variable.
        let (mut from, mut to) = unsafe { (off_in.as_ref().copied(), off_out.as_ref().copied()) };
        let copied = process::copy_file_range(fd_in, from.as_mut(), fd_out, to.as_mut(), length, flags)?;
        for (place, offset) in [(off_in, from), (off_out, to)] {
            if let Some(offset) = offset {
                fill!(place, offset)?;
            }
        }
        Ok(copied)
    }
}
