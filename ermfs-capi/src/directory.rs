//! Directory streams.

use core::ffi::{c_char, c_int, c_long};
use core::mem::offset_of;
use core::ptr;

use ermfs_core::{DirEntry, Result, process};
use libc::dirent;

use crate::boundary::{borrow, boundary, c_path, hand_out, take_back};

/// A directory stream. It belongs to one thread at a time.
pub struct ermfs_dir {
    _private: [u8; 0],
}

/// What an ermfs_dir really points to.
struct Stream {
    directory: process::DirStream,
    entry: dirent,
}

/// Opens a stream of a directory's entries; ermfs_closedir ends it. EACCES, EFAULT, ELOOP, EMFILE, ENAMETOOLONG, ENOENT,
/// ENOMEM, ENOTDIR. Source: opendir(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_opendir(name: *const c_char) -> *mut ermfs_dir {
    boundary! {
        let name = c_path!(name);
        stream(|| process::DirStream::opendir(name))
    }
}

/// Makes an open directory a stream, which owns the descriptor from then on. EBADF, ENOMEM, ENOTDIR.
/// Source: fdopendir(3).
#[unsafe(no_mangle)]
pub extern "C" fn ermfs_fdopendir(fd: c_int) -> *mut ermfs_dir {
    boundary! { stream(|| process::DirStream::fdopendir(fd)) }
}

/// The next entry, which is the stream's own until its next call; NULL at the end, with errno untouched. "." and ".." are
/// entries. An entry that nobody makes or removes meanwhile is seen exactly once. EBADF, EFAULT, EIO.
/// Source: readdir(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_readdir(dirp: *mut ermfs_dir) -> *mut dirent {
    boundary! {
        // SAFETY: the header's contract for a stream: from opendir, not yet closed, this thread's alone.
        let stream = unsafe { borrow::<Stream, _>(dirp) }?;
        let Some(entry) = stream.directory.readdir()? else { return Ok(ptr::null_mut()) };
        fill_entry(&mut stream.entry, &entry);
        Ok(ptr::from_mut(&mut stream.entry))
    }
}

/// Closes a stream and its descriptor. EFAULT. Source: closedir(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_closedir(dirp: *mut ermfs_dir) -> c_int {
    boundary! {
        // SAFETY: the header's contract for a stream: from opendir, not yet closed, this thread's alone.
        unsafe { take_back::<Stream, _>(dirp) }?.directory.closedir()
    }
}

/// Goes back to the first entry and looks at the directory anew. Source: rewinddir(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_rewinddir(dirp: *mut ermfs_dir) {
    let _: c_int = boundary! {
        // SAFETY: the header's contract for a stream: from opendir, not yet closed, this thread's alone.
        unsafe { borrow::<Stream, _>(dirp) }?.directory.rewinddir();
        Ok(())
    };
}

/// Where the stream is, for ermfs_seekdir of the same stream. EFAULT. Source: telldir(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_telldir(dirp: *mut ermfs_dir) -> c_long {
    boundary! {
        // SAFETY: the header's contract for a stream: from opendir, not yet closed, this thread's alone.
        Ok(unsafe { borrow::<Stream, _>(dirp) }?.directory.telldir())
    }
}

/// Goes to where ermfs_telldir was called. Source: seekdir(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_seekdir(dirp: *mut ermfs_dir, loc: c_long) {
    let _: c_int = boundary! {
        // SAFETY: the header's contract for a stream: from opendir, not yet closed, this thread's alone.
        unsafe { borrow::<Stream, _>(dirp) }?.directory.seekdir(loc);
        Ok(())
    };
}

/// The stream's descriptor, which stays the stream's. EFAULT. Source: dirfd(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_dirfd(dirp: *mut ermfs_dir) -> c_int {
    boundary! {
        // SAFETY: the header's contract for a stream: from opendir, not yet closed, this thread's alone.
        Ok(unsafe { borrow::<Stream, _>(dirp) }?.directory.dirfd())
    }
}

/// A stream over a directory, with room for one entry. The directory comes last: it closes its descriptor when it is
/// dropped, which on failure belongs to the caller.
fn stream(open: impl FnOnce() -> Result<process::DirStream>) -> Result<*mut ermfs_dir> {
    // SAFETY: a dirent is integers and bytes, for which zeros will do.
    let entry = unsafe { core::mem::zeroed() };
    hand_out(|| Ok(Stream { directory: open()?, entry }))
}

/// An entry as C sees it: d_reclen counts what is used of the record, as the kernel's does.
fn fill_entry(to: &mut dirent, entry: &DirEntry<'_>) {
    // A name has at most NAME_MAX bytes, for which d_name has room with its NUL.
    let len = entry.name.len().min(to.d_name.len() - 1);
    for (to, &byte) in to.d_name.iter_mut().zip(&entry.name[..len]) {
        *to = byte as c_char;
    }
    to.d_name[len] = 0;
    to.d_ino = entry.ino;
    to.d_off = entry.next_cookie as libc::off_t;
    to.d_reclen = (offset_of!(dirent, d_name) + len + 1).next_multiple_of(8) as u16;
    to.d_type = entry.kind.entry_type();
}
