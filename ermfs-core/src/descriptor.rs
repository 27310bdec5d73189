//! A kernel descriptor that is closed without a cancellation point.
//!
//! Promises: dropping closes by a direct system call. `close(3)` of the C library, which the standard
//! library's `OwnedFd` calls, is a cancellation point: a thread that is being cancelled would unwind from
//! there through frames of ours. Owns one descriptor.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// See the module's page.
pub(crate) struct Descriptor(RawFd);

impl Descriptor {
    /// Hands the descriptor out, to whoever closes it as they like.
    pub(crate) fn into_owned(self) -> OwnedFd {
        // SAFETY: the number was ours, and is given up.
        unsafe { OwnedFd::from_raw_fd(self.forget()) }
    }

    /// Gives the number up without closing it.
    pub(crate) fn forget(self) -> RawFd {
        let number = self.0;
        core::mem::forget(self);
        number
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Descriptor {
        Descriptor(fd.into_raw_fd())
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: open until this value is dropped.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the number is ours and used no more. rustix makes the system call itself.
        unsafe { rustix::io::close(self.0) };
    }
}
