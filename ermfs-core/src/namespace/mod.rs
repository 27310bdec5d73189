//! Names: inodes, directories, path walk, and every call that takes a path.
//!
//! Promises the behaviour of the system call of the same name on tmpfs, the order of its errors
//! included, for the credentials that come with the place where a path starts (`permission` has the
//! rules). Every change of names is one step
//! to all who look: a rename over a file never leaves a moment in which the name is missing. A call
//! that fails has changed nothing. Owns the inodes (`inode`), the directories' tables (`locked` and
//! `lockless`, behind the trait in `entries`; `directory` has one or the other), the extended attributes (`attributes`, whose rules are in `xattr`),
//! the advisory locks (`locks`) and the charge of all four. Never: an allocation on a look-up, a full path kept anywhere, a call
//! into descriptors.
//!
//! A walk pins the epoch once and, in locked mode, takes each directory's lock, shared, for one look-up; it counts
//! a reference of the inode at its end only. If that inode has just been given up, the name stands
//! for something else or nothing by now, and the walk is made again.
//!
//! Lock order: topology (`rename`), then directories, nearer to the root first, at the same depth
//! the smaller inode number first.

mod attributes;
mod by_number;

mod convert;
mod counts;
mod create;
mod directory;
mod entries;
mod inode;
mod list;
mod locked;
mod lockless;
mod locks;
mod lookup;
mod metadata;
mod name;
mod permission;
mod remove;
mod rename;
#[cfg(test)]
mod tests;
mod walk;
mod xattr;

use std::sync::Arc;

use ermfs_memory::{Counted, malloc_footprint};

pub(crate) use attributes::Attributes;
pub use attributes::XattrSet;
pub(crate) use convert::convert;
pub use create::OpenHow;
pub(crate) use inode::Queued;
pub use inode::{Inode, InodeRef};
pub use list::DirEntry;
pub(crate) use locks::Locks;
pub use locks::{Ended, Hold, LOCK_TO_END, Lock, LockKind, LockOwner, OnConflict};
pub use metadata::{InodeKind, Metadata, TimeSet};
pub(crate) use name::NameHasher;
pub(crate) use permission::{EXECUTE, READ, WRITE};
pub use rename::RenameFlags;
pub use xattr::{XATTR_SIZE_MAX, XattrName};

use crate::credentials::Credentials;
use crate::errno::{Errno, Result};
use crate::fs::{Fs, Shared};

/// Where a path starts: a directory of a filesystem, as the dirfd of an `*at` call; and for whom. An absolute path starts at
/// the root of `fs`. When `dir` is no directory, relative paths are `ENOTDIR`.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The filesystem.
    pub fs: &'a Arc<Fs>,
    /// An inode of that filesystem. For calls that only read, who made the reference may have let it go meanwhile, as long
    /// as it was there under a pin that lasts.
    pub dir: &'a InodeRef,
    /// Who the call is made for.
    pub who: &'a Credentials,
    /// The permission bits that new files do not get.
    pub umask: u32,
}

impl At<'_> {
    /// For who has found an inode that is gone, before it looks again.
    ///
    /// # Errors
    /// `ENOENT` when the start itself is gone, which happens to who has only pinned it: then the next look finds the same.
    #[cold]
    fn check_start(&self) -> Result<()> {
        if self.dir.reach().is_gone() { Err(Errno::ENOENT) } else { Ok(()) }
    }
}

/// A new filesystem's root directory.
pub(crate) fn make_root(shared: &Counted<Shared>) -> Result<InodeRef> {
    let (who, mode) = (shared.process().effective(), InodeKind::Directory.mode_bits() | 0o1777);
    entries::Room::attempt(shared.space(), |room| {
        InodeRef::make_root(shared, room, inode::Seed { mode, uid: who.uid(), gid: who.gid(), flags: 0 })
    })
}

/// Frees a filesystem's tree.
///
/// # Safety
/// `root` is its root, and nobody can walk the filesystem any more.
pub(crate) unsafe fn dismantle(root: InodeRef) {
    // SAFETY: by this function's contract.
    unsafe { inode::dismantle(root) };
}
