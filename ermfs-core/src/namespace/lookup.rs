//! Calls that take a path and change nothing.
//!
//! Promises what the module above promises. Owns nothing.

use super::inode::{InodeRef, Reached};
use super::metadata::Metadata;
use super::walk::{Walk, check_path};
use super::{At, InodeKind};
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::failpoint::failpoint;
use crate::fs::Fs;

impl Fs {
    /// The inode that `path` names. A symbolic link at its end is followed if `follow_last` says so, or a slash follows.
    ///
    /// # Errors
    /// Those of path_resolution(7): `ENOENT`, also for the empty path; `ENOTDIR`; `ELOOP` after 40 links; `ENAMETOOLONG`
    /// for a component above 255 bytes or a path above 4095; `EACCES` for a directory that `at.who` may not search.
    pub fn lookup(at: At<'_>, path: &[u8], follow_last: bool) -> Result<InodeRef> {
        check_path(path)?;
        loop {
            let guard = epoch::pin();
            let found = Walk::new(at, &guard).resolve(at.dir.reach(), path, follow_last)?;
            failpoint!("lookup.resolved");
            if let Some(inode) = found.acquire() {
                return Ok(inode);
            }
            at.check_start()?;
        }
    }

    /// `fstatat(2)`: what [`Fs::lookup`] and `stat` tell together, without counting a reference.
    ///
    /// # Errors
    /// Those of [`Fs::lookup`].
    #[inline]
    pub fn stat(at: At<'_>, path: &[u8], follow_last: bool) -> Result<Metadata> {
        check_path(path)?;
        loop {
            let guard = epoch::pin();
            let found = Walk::new(at, &guard).resolve(at.dir.reach(), path, follow_last)?;
            let metadata = found.get().stat();
            failpoint!("stat.taken");
            if !found.get().counts.is_gone() {
                return Ok(metadata);
            }
            at.check_start()?;
        }
    }

    /// Walks `path` up to its last component, which is not looked at: what a rename does with the old path before it
    /// looks at the new one.
    ///
    /// # Errors
    /// Those of [`Fs::lookup`], for all but the last component.
    pub fn walk_to_last(at: At<'_>, path: &[u8]) -> Result<()> {
        check_path(path)?;
        let guard = epoch::pin();
        Walk::new(at, &guard).parent(at.dir.reach(), path).map(|_| ())
    }

    /// `readlinkat(2)`: as much of the symbolic link's target as `buffer` holds; the number of bytes.
    ///
    /// # Errors
    /// `EINVAL` when it is no symbolic link, or `buffer` is empty; those of [`Fs::lookup`].
    pub fn readlink(at: At<'_>, path: &[u8], buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Err(Errno::EINVAL);
        }
        check_path(path)?;
        let guard = epoch::pin();
        let found = Walk::new(at, &guard).resolve(at.dir.reach(), path, false)?;
        let target = found.get().symlink_target().ok_or(Errno::EINVAL)?;
        failpoint!("readlink.found");
        found.get().note_read();
        let n = target.len().min(buffer.len());
        buffer[..n].copy_from_slice(&target[..n]);
        Ok(n)
    }

    /// The root, as a walk sees it.
    pub(super) fn root_reached(&self) -> Reached<'_> {
        self.root_ref().reach()
    }
}

impl Reached<'_> {
    pub(super) fn is_directory(self) -> bool {
        self.get().kind() == InodeKind::Directory
    }
}
