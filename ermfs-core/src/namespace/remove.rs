//! Calls that take names away.
//!
//! Promises what the module above promises, and that no memory is needed: they work in a full
//! filesystem. Owns nothing.

use core::sync::atomic::Ordering::Relaxed;

use super::At;
use super::entries::{Bury, Entries};
use super::walk::{Last, Walk, check_path, directory_of};
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::fs::Fs;

impl Fs {
    /// `unlinkat(2)`. The file's content is freed before this returns, unless it has another name or is open.
    ///
    /// # Errors
    /// `EACCES` and `EPERM` for who may not; `EISDIR` for a directory; those of [`Fs::lookup`].
    pub fn unlink(at: At<'_>, path: &[u8]) -> Result<()> {
        check_path(path)?;
        let guard = epoch::pin();
        let mut walk = Walk::new(at, &guard);
        let parent = walk.parent(at.dir.reach(), path)?;
        let Last::Name(name) = parent.last else {
            return Err(Errno::EISDIR);
        };
        if parent.slashes {
            let found = walk.find(parent.dir, name)?.ok_or(Errno::ENOENT)?;
            return Err(if found.is_directory() { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        let name = walk.name(parent.dir, name)?;
        // Freed, if it was the last hold, when the directory is no longer locked.
        let (child, _doomed) = directory_of(parent.dir)?.entries.remove(
            name,
            at.fs.space(),
            &guard,
            |child| {
                parent.dir.get().may_remove_from(at.who, child.get())?;
                if child.is_directory() { Err(Errno::EISDIR) } else { Ok(()) }
            },
            |child, ()| {
                child.get().note_change();
                parent.dir.get().note_modified();
                (child, child.drop_link(&guard))
            },
        )?;
        parent.dir.get().note_entry(name, Some(child.get()));
        Ok(())
    }

    /// `unlinkat(2)` with `AT_REMOVEDIR`.
    ///
    /// # Errors
    /// `EACCES` and `EPERM` for who may not; `ENOTEMPTY`, also for `..`; `EINVAL` for `.`; `EBUSY` for the root; `ENOTDIR`; those of [`Fs::lookup`].
    pub fn rmdir(at: At<'_>, path: &[u8]) -> Result<()> {
        check_path(path)?;
        let guard = epoch::pin();
        let mut walk = Walk::new(at, &guard);
        let parent = walk.parent(at.dir.reach(), path)?;
        let name = match parent.last {
            Last::Root => return Err(Errno::EBUSY),
            Last::Dot => return Err(Errno::EINVAL),
            Last::DotDot => return Err(Errno::ENOTEMPTY),
            Last::Name(name) => walk.name(parent.dir, name)?,
        };
        let directory = directory_of(parent.dir)?;
        let _doomed = directory.entries.remove(
            name,
            at.fs.space(),
            &guard,
            |child| {
                parent.dir.get().may_remove_from(at.who, child.get())?;
                directory_of(child)?.entries.seal()
            },
            |child, sealed| {
                // Who waited to enter something finds the directory dead, and its name gone.
                sealed.bury();
                directory.subdirectories.fetch_sub(1, Relaxed);
                child.get().note_change();
                parent.dir.get().note_modified();
                child.drop_link(&guard)
            },
        )?;
        parent.dir.get().note_entry(name, None);
        Ok(())
    }
}
