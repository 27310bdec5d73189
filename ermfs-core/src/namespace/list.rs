//! Listing a directory, and where a directory is.
//!
//! Promises: a listing that is continued by its cookies shows every entry that was there all the
//! time exactly once, however much is changed meanwhile. Owns nothing.

use core::ops::ControlFlow;
use core::sync::atomic::Ordering::Relaxed;

use super::InodeKind;
use super::entries::Entries;
use super::inode::{InodeRef, Reached};
use super::walk::directory_of;
use crate::epoch;
use crate::errno::{Errno, Result};
use crate::fs::Fs;
use crate::inject::allocation;

/// One entry of a directory, good for the length of the call.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    /// `d_ino`.
    pub ino: u64,
    /// `d_off`: what [`Fs::read_dir`] is given to go on after this entry.
    pub next_cookie: u64,
    /// `d_type`.
    pub kind: InodeKind,
    /// `d_name`, without a NUL.
    pub name: &'a [u8],
}

/// After ".", and after "..".
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

impl Fs {
    /// Hands over the entries after `cookie` (0: all), "." and ".." first, until `emit` breaks or there are no more. A
    /// removed directory has none at all. The directory is locked while `emit` runs, which must not call the filesystem.
    /// The atime is left to the caller: [`Inode::note_read`](super::Inode::note_read).
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn read_dir(
        &self,
        dir: &InodeRef,
        cookie: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let directory = directory_of(dir.reach())?;
        if !dir.is_linked() {
            return Ok(());
        }
        let dots: [(u64, &[u8]); 2] = [(DOT, b"."), (DOT_DOT, b"..")];
        for (next_cookie, name) in dots.into_iter().filter(|(next, _)| *next > cookie) {
            let ino = match next_cookie {
                DOT => dir.ino(),
                _ => directory.parent(&epoch::pin()).get().ino(),
            };
            if emit(DirEntry { ino, next_cookie, kind: InodeKind::Directory, name }).is_break() {
                return Ok(());
            }
        }
        directory.entries.next_after(cookie.max(DOT_DOT), &mut |next_cookie, name, inode| {
            emit(DirEntry { ino: inode.ino(), next_cookie, kind: inode.kind(), name })
        });
        Ok(())
    }

    /// The path of a directory from the root, as `getcwd(3)` gives it: "/" for the root. May be longer than `PATH_MAX`.
    ///
    /// # Errors
    /// `ENOENT` when it was removed; `ENOTDIR`; `ENOMEM`.
    pub fn path_of(&self, dir: &InodeRef) -> Result<Vec<u8>> {
        directory_of(dir.reach())?;
        // No directory changes its name or parent meanwhile, so this is the path of one moment.
        let _topology = self.shared().topology().write();
        let guard = epoch::pin();
        let (mut at, root): (Reached<'_>, _) = (dir.reach(), self.root_reached());
        let mut reversed = Vec::new();
        while !at.is(root) {
            let directory = directory_of(at)?;
            let parent = directory.parent(&guard);
            let hash = directory.name_hash.load(Relaxed);
            let appended = directory_of(parent)?.entries.name_of(at, hash, |name| {
                allocation!("path")?;
                reversed.try_reserve(name.len() + 1)?;
                reversed.extend(name.iter().rev());
                reversed.push(b'/');
                Ok(())
            });
            appended.unwrap_or(Err(Errno::ENOENT))?;
            at = parent;
        }
        if reversed.is_empty() {
            allocation!("path")?;
            reversed.try_reserve(1)?;
            reversed.push(b'/');
        }
        reversed.reverse();
        Ok(reversed)
    }
}
