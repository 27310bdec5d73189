//! Reading without a copy.

use core::ffi::c_int;

use ermfs_core::{Errno, process};
use libc::{iovec, off_t, size_t};

use crate::boundary::{boundary, hand_out, needed, take_back};

/// Pieces of a file as they were at one moment. Any thread may use them and any one may close the view.
pub struct ermfs_view {
    _private: [u8; 0],
}

/// Fills iov with up to *iovcnt pieces of the file's own memory, for `length` bytes at `offset` as they are at the call,
/// valid and unchanging until ermfs_view_close, whatever happens to the file. *iovcnt and the pieces' sum say how much
/// is covered: less than asked at the end of the file or when the pieces do not suffice. The pieces are only to be read.
/// Packed blocks are inflated first. EBADF, EFAULT, EINVAL, EIO (a damaged block), EISDIR, ENOMEM, ENOSPC. Not a POSIX
/// function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_view_open(
    fd: c_int,
    offset: off_t,
    length: size_t,
    iov: *mut iovec,
    iovcnt: *mut c_int,
) -> *mut ermfs_view {
    boundary! {
        needed!(iovcnt);
        // SAFETY: the header's contract for *iovcnt: readable and writable during the call.
        let count = unsafe { &mut *iovcnt };
        let room = usize::try_from(*count).map_err(|_| Errno::EINVAL)?;
        if room > 0 {
            needed!(iov);
        }
        hand_out::<process::FileView, _>(|| {
            let view = process::view_open(fd, offset, length, room)?;
            for (index, piece) in view.pieces().enumerate() {
                let part = iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
                // SAFETY: the header's contract for `iov`: *iovcnt elements, and a view has no more pieces.
                unsafe { iov.add(index).write(part) };
            }
            *count = view.pieces().len() as c_int;
            Ok(view)
        })
    }
}

/// Ends a view; its pieces are gone. NULL does nothing. Not a POSIX function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ermfs_view_close(view: *mut ermfs_view) {
    if view.is_null() {
        return;
    }
    let _: c_int = boundary! {
        // SAFETY: the header's contract for a view: from ermfs_view_open, not yet closed.
        unsafe { take_back::<process::FileView, _>(view) }.map(drop)
    };
}
