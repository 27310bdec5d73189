//! One call at work on one filesystem.
//!
//! Promises: a filesystem that a panic went through answers `EIO` from then on. Owns nothing beyond
//! the call. Never catches a panic.

use crate::errno::{Errno, Result};
use crate::fs::Fs;
use crate::gate::{self, InOperation};
use crate::space::Space;

/// Keeps the calling thread inside the [gate] while it works on a filesystem, and poisons the
/// filesystem when a panic unwinds through it.
pub struct Operation<'a> {
    space: &'a Space,
    was_panicking: bool,
    _inside: InOperation,
}

impl<'a> Operation<'a> {
    /// Begins work on `fs`; it ends when the value is dropped.
    ///
    /// # Errors
    /// `EIO` when the filesystem is poisoned.
    #[inline]
    pub fn begin(fs: &'a Fs) -> Result<Operation<'a>> {
        Operation::on(fs.space())
    }

    /// As [`Operation::begin`], by the filesystem's resources, which an inode has too.
    #[inline]
    pub(super) fn on(space: &'a Space) -> Result<Operation<'a>> {
        let _inside = gate::enter();
        if space.is_poisoned() {
            return Err(Errno::EIO);
        }
        Ok(Operation { space, was_panicking: std::thread::panicking(), _inside })
    }
}

impl Drop for Operation<'_> {
    #[inline]
    fn drop(&mut self) {
        // A call made by a destructor during somebody else's panic is no panic of ours.
        if std::thread::panicking() && !self.was_panicking {
            self.space.poison();
        }
    }
}
