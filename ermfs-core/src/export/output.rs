//! Writing to a memfd, front to back.
//!
//! Promises: bytes that lie together in the file go down in one system call as far as they are kept
//! anyway; what is skipped stays a hole; short writes are continued and interrupted ones repeated. The
//! descriptor's offset never moves. Between two system calls a fork of another thread is let through,
//! so no lock may be held and everything must be whole while an output is written to. The child of such
//! a fork inherits the references that the export holds and never finishes it: it keeps the blocks, and
//! until it executes something else the memfd.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use super::kernel::retry;
use crate::content::Snapshot;
use crate::errno::{Errno, Result};
use crate::gate;
use crate::inject::{fails, syscall};

/// How many pieces and bytes are gathered at the most: enough to make the call's own cost vanish, few
/// enough not to keep a fork waiting.
const MOST_PARTS: usize = 64;
const MOST_BYTES: usize = 1 << 20;

/// See the module's page. Pieces that are kept for `'s` are gathered.
pub(super) struct Output<'s> {
    fd: BorrowedFd<'s>,
    /// Where the first of `parts` goes.
    at: u64,
    parts: [IoSlice<'s>; MOST_PARTS],
    count: usize,
    bytes: usize,
}

impl<'s> Output<'s> {
    /// Writes to `fd` from its start on.
    pub(super) fn new(fd: BorrowedFd<'s>) -> Output<'s> {
        Output { fd, at: 0, parts: [IoSlice::new(&[]); MOST_PARTS], count: 0, bytes: 0 }
    }

    /// Appends bytes that stay where they are: they are written by [`Output::flush`] at the latest.
    ///
    /// # Errors
    /// Those of the kernel's `pwritev(2)`.
    pub(super) fn push(&mut self, bytes: &'s [u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.parts[self.count] = IoSlice::new(bytes);
        self.count += 1;
        self.bytes += bytes.len();
        if self.count == MOST_PARTS || self.bytes >= MOST_BYTES { self.flush() } else { Ok(()) }
    }

    /// Appends bytes of a block that `snapshot` holds, without copying them.
    ///
    /// # Errors
    /// As [`Output::push`].
    ///
    /// # Safety
    /// `bytes` came in a [`Run`](crate::content::Run) of `snapshot`.
    pub(super) unsafe fn push_run(&mut self, snapshot: &'s Snapshot, bytes: &[u8]) -> Result<()> {
        let _: &'s Snapshot = snapshot;
        // SAFETY: the bytes are part of a block that the snapshot holds a counted reference to, and nobody
        // writes such a block (B1). The snapshot never gives a block up before its own end, and it is
        // borrowed for 's.
        self.push(unsafe { core::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) })
    }

    /// Appends bytes that may be gone after the call.
    ///
    /// # Errors
    /// As [`Output::push`].
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.flush()?;
        if !bytes.is_empty() {
            self.at = write_all(self.fd, self.at, &mut [IoSlice::new(bytes)])?;
        }
        Ok(())
    }

    /// Leaves a hole.
    ///
    /// # Errors
    /// As [`Output::push`].
    pub(super) fn skip(&mut self, bytes: u64) -> Result<()> {
        self.flush()?;
        self.at += bytes;
        Ok(())
    }

    /// Writes what has been gathered.
    ///
    /// # Errors
    /// As [`Output::push`].
    pub(super) fn flush(&mut self) -> Result<()> {
        let parts = &mut self.parts[..core::mem::take(&mut self.count)];
        self.bytes = 0;
        if !parts.is_empty() {
            self.at = write_all(self.fd, self.at, parts)?;
        }
        Ok(())
    }
}

/// Writes `parts`, none of them empty, at `at`; returns where they end.
fn write_all(fd: BorrowedFd<'_>, mut at: u64, parts: &mut [IoSlice<'_>]) -> Result<u64> {
    let mut left = parts;
    while !left.is_empty() {
        // A kernel that is short of memory may take a part.
        let half = [IoSlice::new(&left[0][..left[0].len().div_ceil(2)])];
        let part = if fails!("memfd.write.short") { &half[..] } else { &*left };
        let n = retry(|| syscall!("memfd.write", NOSPC, rustix::io::pwritev(fd, part, at)))?;
        if n == 0 {
            // A regular file takes at least a byte or says why not.
            return Err(Errno::EIO);
        }
        at += n as u64;
        IoSlice::advance_slices(&mut left, n);
        gate::breathe();
    }
    Ok(at)
}
