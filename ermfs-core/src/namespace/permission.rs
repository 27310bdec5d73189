//! Who may do what with an inode.
//!
//! Promises the rules of Linux's `generic_permission` and the checks that the VFS puts before each
//! call, for a process whose capabilities are all or none: [`Credentials::is_privileged`] stands for
//! CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_CHOWN, CAP_FSETID, CAP_MKNOD and CAP_SYS_ADMIN at once. Owns
//! nothing. Never: a lock; owner, group and mode are each read once, and one that changes beside a
//! check is seen before or after.

use core::sync::atomic::Ordering::Relaxed;

use super::inode::Inode;
use super::metadata::InodeKind;
use crate::credentials::Credentials;
use crate::errno::{Errno, Result};

/// Permissions asked for, as the three bits of a permission class; see `access(2)`.
pub(crate) const READ: u32 = 4;
pub(crate) const WRITE: u32 = 2;
pub(crate) const EXECUTE: u32 = 1;

const ANY_EXECUTE: u32 = 0o111;

impl Inode {
    /// Whether `who` has all of `wanted`: of a directory, `EXECUTE` is to search it.
    #[inline]
    pub(crate) fn permits(&self, who: &Credentials, wanted: u32) -> bool {
        if who.is_privileged() {
            let runs = wanted & EXECUTE != 0 && self.kind() != InodeKind::Directory;
            return !runs || self.mode.load(Relaxed) & ANY_EXECUTE != 0;
        }
        self.permits_class(who, wanted)
    }

    fn permits_class(&self, who: &Credentials, wanted: u32) -> bool {
        let mode = self.mode.load(Relaxed);
        let class = if who.uid() == self.uid.load(Relaxed) {
            mode >> 6
        } else if (mode ^ mode >> 3) & wanted != 0 && who.has_group(self.gid.load(Relaxed)) {
            // Where group and others have the same, nobody needs to look for the group.
            mode >> 3
        } else {
            mode
        };
        class & wanted == wanted
    }

    /// # Errors
    /// `EACCES` unless `who` has all of `wanted`.
    #[inline]
    pub(crate) fn require(&self, who: &Credentials, wanted: u32) -> Result<()> {
        if self.permits(who, wanted) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Whether `who` may change what only the owner may.
    pub(crate) fn is_owned_by(&self, who: &Credentials) -> bool {
        who.is_privileged() || who.uid() == self.uid.load(Relaxed)
    }

    /// # Errors
    /// `EPERM` unless `who` may change what only the owner may.
    pub(super) fn require_owner(&self, who: &Credentials) -> Result<()> {
        if self.is_owned_by(who) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Whether a set-group-id bit may stay when `who` gives the inode to `gid`.
    pub(super) fn keeps_group_id(who: &Credentials, gid: u32) -> bool {
        who.is_privileged() || who.has_group(gid)
    }

    /// What vfs_create and its kin ask of the directory.
    ///
    /// # Errors
    /// `ENOENT` in a removed directory, `EACCES`.
    pub(super) fn may_create_in(&self, who: &Credentials) -> Result<()> {
        if !self.is_linked() {
            return Err(Errno::ENOENT);
        }
        self.require(who, WRITE | EXECUTE)
    }

    /// What vfs_unlink, vfs_rmdir and vfs_rename ask of the directory and of what goes from it: in a sticky directory one
    /// may remove only what is one's own, unless the directory is.
    ///
    /// # Errors
    /// `EACCES`, `EPERM`.
    pub(super) fn may_remove_from(&self, who: &Credentials, victim: &Inode) -> Result<()> {
        self.require(who, WRITE | EXECUTE)?;
        let sticky = self.mode.load(Relaxed) & libc::S_ISVTX != 0;
        if !sticky || victim.is_owned_by(who) || self.uid.load(Relaxed) == who.uid() {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// What may_create_in_sticky asks, with `fs.protected_regular` and `fs.protected_fifos` unset, when an open that would make
    /// a file meets something: in a sticky directory that all may write to, not somebody else's socket or device,
    /// nor a symbolic link that it does not follow.
    ///
    /// # Errors
    /// `EACCES`.
    pub(super) fn may_meet(&self, who: &Credentials, found: &Inode) -> Result<()> {
        const ALL_MAKE: u32 = libc::S_ISVTX | libc::S_IWOTH;
        if matches!(found.kind(), InodeKind::File | InodeKind::Fifo)
            || self.mode.load(Relaxed) & ALL_MAKE != ALL_MAKE
        {
            return Ok(());
        }
        let owner = found.uid.load(Relaxed);
        let trusted = owner == self.uid.load(Relaxed) || owner == who.uid();
        if trusted { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// What Linux asks before it gives a file of somebody else another name, when `fs.protected_hardlinks` is set, as
    /// every distribution sets it: that one could have copied it, and that it lends nobody its owner's rights.
    ///
    /// # Errors
    /// `EPERM`.
    pub(super) fn may_link(&self, who: &Credentials) -> Result<()> {
        let mode = self.mode.load(Relaxed);
        let lends = mode & libc::S_ISUID != 0
            || mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID | libc::S_IXGRP;
        let safe = self.kind() == InodeKind::File && !lends && self.permits(who, READ | WRITE);
        if safe { Ok(()) } else { self.require_owner(who) }
    }
}
