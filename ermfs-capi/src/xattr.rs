//! Extended attributes.

use core::ffi::{c_char, c_int, c_void};
use core::{ptr, slice};

use ermfs_core::process::{self, XattrOf};
use ermfs_core::{Errno, Result, XATTR_SIZE_MAX, XattrName};
use libc::{size_t, ssize_t};

use crate::boundary::{boundary, c_path, needed};

/// The longest list that a call gives, as the kernel has it.
const LIST_MAX: usize = 65_536;

/// An attribute's name, which is looked at before the file.
macro_rules! c_name {
    ($name:expr) => {
        XattrName::new(c_path!($name))?
    };
}

/// Name, value and flags of a set, looked at in the kernel's order and before the file.
macro_rules! set_arguments {
    ($name:expr, $value:expr, $size:expr, $flags:expr) => {{
        let how = process::xattr_flags($flags)?;
        let name = c_name!($name);
        // SAFETY: the header's contract for a buffer: readable for `size` bytes during the call.
        (name, unsafe { value_at($value, $size) }?, how)
    }};
}

/// Copies the value of an extended attribute and answers its length in bytes; size 0 asks for the length only. EACCES,
/// EFAULT, EINVAL (a namespace alone), ELOOP, ENAMETOOLONG, ENODATA, ENOENT, ENOMEM, ENOTDIR, EOPNOTSUPP (neither user.,
/// trusted. nor security.; security.capability), ERANGE (size too small; a name of 0 or more than 255 bytes).
/// Source: getxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_getxattr(
    path: *const c_char,
    name: *const c_char,
    value: *mut c_void,
    size: size_t,
) -> ssize_t {
    boundary! {
        let name = c_name!(name);
        let found = process::getxattr(XattrOf::Path(c_path!(path)), name)?;
        // SAFETY: the header's contract for a buffer: writable for `size` bytes during the call.
        unsafe { copy_out(&found, value, size) }
    }
}

/// ermfs_getxattr of a symbolic link itself. Source: lgetxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_lgetxattr(
    path: *const c_char,
    name: *const c_char,
    value: *mut c_void,
    size: size_t,
) -> ssize_t {
    boundary! {
        let name = c_name!(name);
        let found = process::getxattr(XattrOf::Link(c_path!(path)), name)?;
        // SAFETY: the header's contract for a buffer: writable for `size` bytes during the call.
        unsafe { copy_out(&found, value, size) }
    }
}

/// ermfs_getxattr of an open file; EBADF, also for O_PATH. Source: fgetxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fgetxattr(
    fd: c_int,
    name: *const c_char,
    value: *mut c_void,
    size: size_t,
) -> ssize_t {
    boundary! {
        let name = c_name!(name);
        let found = process::getxattr(XattrOf::Descriptor(fd), name)?;
        // SAFETY: the header's contract for a buffer: writable for `size` bytes during the call.
        unsafe { copy_out(&found, value, size) }
    }
}

/// Sets an extended attribute; flags: 0, XATTR_CREATE, XATTR_REPLACE. A value has at most 65,536 bytes. E2BIG, EACCES,
/// EEXIST, EFAULT, EINVAL (unknown flags; a namespace alone), ELOOP, ENAMETOOLONG, ENODATA, ENOENT, ENOMEM, ENOSPC,
/// ENOTDIR, EOPNOTSUPP (as ermfs_getxattr), EPERM, ERANGE (a name of 0 or more than 255 bytes). Source: setxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_setxattr(
    path: *const c_char,
    name: *const c_char,
    value: *const c_void,
    size: size_t,
    flags: c_int,
) -> c_int {
    boundary! {
        let (name, value, how) = set_arguments!(name, value, size, flags);
        process::setxattr(XattrOf::Path(c_path!(path)), name, value, how)
    }
}

/// ermfs_setxattr of a symbolic link itself. Source: lsetxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_lsetxattr(
    path: *const c_char,
    name: *const c_char,
    value: *const c_void,
    size: size_t,
    flags: c_int,
) -> c_int {
    boundary! {
        let (name, value, how) = set_arguments!(name, value, size, flags);
        process::setxattr(XattrOf::Link(c_path!(path)), name, value, how)
    }
}

/// ermfs_setxattr of an open file; EBADF, also for O_PATH. Source: fsetxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fsetxattr(
    fd: c_int,
    name: *const c_char,
    value: *const c_void,
    size: size_t,
    flags: c_int,
) -> c_int {
    boundary! {
        let (name, value, how) = set_arguments!(name, value, size, flags);
        process::setxattr(XattrOf::Descriptor(fd), name, value, how)
    }
}

/// Copies the names of the extended attributes, a NUL after each, in no particular order, and answers how many bytes that
/// is; size 0 asks for the number only. E2BIG (more than 65,536), EACCES, EFAULT, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM,
/// ENOTDIR, ERANGE (size too small). Source: listxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_listxattr(path: *const c_char, list: *mut c_char, size: size_t) -> ssize_t {
    boundary! {
        let names = process::listxattr(XattrOf::Path(c_path!(path)))?;
        // SAFETY: the header's contract for a buffer: writable for `size` bytes during the call.
        unsafe { list_out(&names, list, size) }
    }
}

/// ermfs_listxattr of a symbolic link itself. Source: llistxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_llistxattr(path: *const c_char, list: *mut c_char, size: size_t) -> ssize_t {
    boundary! {
        let names = process::listxattr(XattrOf::Link(c_path!(path)))?;
        // SAFETY: the header's contract for a buffer: writable for `size` bytes during the call.
        unsafe { list_out(&names, list, size) }
    }
}

/// ermfs_listxattr of an open file; EBADF, also for O_PATH. Source: flistxattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_flistxattr(fd: c_int, list: *mut c_char, size: size_t) -> ssize_t {
    boundary! {
        let names = process::listxattr(XattrOf::Descriptor(fd))?;
        // SAFETY: the header's contract for a buffer: writable for `size` bytes during the call.
        unsafe { list_out(&names, list, size) }
    }
}

/// Removes an extended attribute. EACCES, EFAULT, EINVAL (a namespace alone), ELOOP, ENAMETOOLONG, ENODATA, ENOENT,
/// ENOTDIR, EOPNOTSUPP (as ermfs_getxattr), EPERM, ERANGE (a name of 0 or more than 255 bytes). Source: removexattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_removexattr(path: *const c_char, name: *const c_char) -> c_int {
    boundary! {
        let name = c_name!(name);
        process::removexattr(XattrOf::Path(c_path!(path)), name)
    }
}

/// ermfs_removexattr of a symbolic link itself. Source: lremovexattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_lremovexattr(path: *const c_char, name: *const c_char) -> c_int {
    boundary! {
        let name = c_name!(name);
        process::removexattr(XattrOf::Link(c_path!(path)), name)
    }
}

/// ermfs_removexattr of an open file; EBADF, also for O_PATH. Source: fremovexattr(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_fremovexattr(fd: c_int, name: *const c_char) -> c_int {
    boundary! {
        let name = c_name!(name);
        process::removexattr(XattrOf::Descriptor(fd), name)
    }
}

/// A value to be set. NULL will do for none.
///
/// # Safety
/// `value` is NULL or readable for `size` bytes, unchanged during `'a`.
unsafe fn value_at<'a>(value: *const c_void, size: usize) -> Result<&'a [u8]> {
    if size > XATTR_SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    if size == 0 {
        return Ok(&[]);
    }
    needed!(value);
    // SAFETY: the caller's contract, and not NULL.
    Ok(unsafe { slice::from_raw_parts(value.cast(), size) })
}

/// Gives all of `bytes` to C, or with size 0 only their number. ERANGE when they are more than `size`.
///
/// # Safety
/// `buffer` is NULL or writable for `size` bytes.
unsafe fn copy_out(bytes: &[u8], buffer: *mut c_void, size: usize) -> Result<usize> {
    if size == 0 || bytes.is_empty() {
        return Ok(bytes.len());
    }
    if bytes.len() > size {
        return Err(Errno::ERANGE);
    }
    needed!(buffer);
    // SAFETY: the caller's contract and the comparison above; `bytes` is the engine's own memory.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.cast(), bytes.len()) };
    Ok(bytes.len())
}

/// [`copy_out`] of a list of names, which is E2BIG when no call can give it.
///
/// # Safety
/// As for [`copy_out`].
unsafe fn list_out(names: &[u8], list: *mut c_char, size: usize) -> Result<usize> {
    if names.len() > LIST_MAX && size >= LIST_MAX {
        return Err(Errno::E2BIG);
    }
    // SAFETY: by this function's contract.
    unsafe { copy_out(names, list.cast(), size) }
}
