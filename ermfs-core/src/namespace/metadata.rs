//! What `stat` shows, and the calls that change it.
//!
//! Promises: every number is read and changed atomically by itself; a `stat` beside a change of two
//! numbers may see one of them, as on tmpfs. A change after its time was read is seen as later: the
//! reader marks the ctime, and the next change finds the mark and takes the fine clock. Never: a
//! lock, except of a directory whose entries are counted.

use ermfs_memory::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::WRITE;
use super::entries::Entries;
use super::inode::{Body, Inode};
use crate::content::Content;
use crate::credentials::Credentials;
use crate::errno::{Errno, Result};
use crate::observer::Changed;
use crate::time;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe. This and what follows are names only: nothing but the kernel, through a mount, opens them.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl InodeKind {
    /// The `S_IFMT` bits.
    pub const fn mode_bits(self) -> u32 {
        match self {
            InodeKind::File => libc::S_IFREG,
            InodeKind::Directory => libc::S_IFDIR,
            InodeKind::Symlink => libc::S_IFLNK,
            InodeKind::Fifo => libc::S_IFIFO,
            InodeKind::Socket => libc::S_IFSOCK,
            InodeKind::CharDevice => libc::S_IFCHR,
            InodeKind::BlockDevice => libc::S_IFBLK,
        }
    }

    /// The kind that the `S_IFMT` bits of a mode stand for, if any.
    pub const fn from_mode_bits(mode: u32) -> Option<InodeKind> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => InodeKind::File,
            libc::S_IFDIR => InodeKind::Directory,
            libc::S_IFLNK => InodeKind::Symlink,
            libc::S_IFIFO => InodeKind::Fifo,
            libc::S_IFSOCK => InodeKind::Socket,
            libc::S_IFCHR => InodeKind::CharDevice,
            libc::S_IFBLK => InodeKind::BlockDevice,
            _ => return None,
        })
    }

    /// `d_type` of `readdir(3)`, which is the `S_IFMT` bits moved down.
    pub const fn entry_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }

    /// The kind that a `d_type` stands for, if any.
    pub const fn from_entry_type(entry_type: u8) -> Option<InodeKind> {
        InodeKind::from_mode_bits((entry_type as u32) << 12)
    }
}

/// What `stat(2)` tells. Times are seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// `st_ino`.
    pub ino: u64,
    /// The kind, as `mode` also tells.
    pub kind: InodeKind,
    /// `st_mode`: kind and permission bits.
    pub mode: u32,
    /// `st_nlink`. A directory has 2 and one for each directory in it; a removed one has 0.
    pub nlink: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `st_size`, in bytes.
    pub size: u64,
    /// Bytes of memory the content takes: `st_blocks` times 512.
    pub blocks_bytes: u64,
    /// `st_rdev`: a device node's number, else 0.
    pub rdev: u64,
    /// Last read, moved as under the mount option `relatime`.
    pub atime: (i64, u32),
    /// Last change of the content.
    pub mtime: (i64, u32),
    /// Last change of content or metadata.
    pub ctime: (i64, u32),
    /// Creation.
    pub btime: (i64, u32),
}

/// One of the two times that `utimensat(2)` sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeSet {
    /// Leave it: `UTIME_OMIT`.
    Omit,
    /// The clock: `UTIME_NOW`.
    Now,
    /// Seconds and nanoseconds since 1970. What lies outside 1677 to 2262 is set to the nearest time inside.
    At(i64, u32),
}

/// A ctime, and whether it was read since it was set: nanoseconds times two, plus the mark. Reaches from 1823 to 2116.
pub(super) struct ChangeTime(AtomicI64);

const MARK: i64 = 1;

impl ChangeTime {
    pub(super) fn new(time: i64) -> ChangeTime {
        ChangeTime(AtomicI64::new(time << 1))
    }

    fn get(&self) -> i64 {
        self.0.load(Relaxed) >> 1
    }

    /// The time, marked as read. The mark comes before any other time of the inode is read.
    fn get_marked(&self) -> i64 {
        let word = self.0.load(Relaxed);
        if word & MARK != 0 { word >> 1 } else { self.0.fetch_or(MARK, Relaxed) >> 1 }
    }

    /// Sets it to now, and later than what anybody has read. Call it after the change that it stands for.
    #[inline]
    fn advance(&self) -> i64 {
        let mut now = time::coarse();
        let mut word = self.0.load(Relaxed);
        loop {
            if word & MARK != 0 {
                now = time::fine().max((word >> 1) + 1);
            } else if word >> 1 == now {
                // In the same tick, and nobody has looked.
                return now;
            }
            match self.0.compare_exchange_weak(word, now << 1, Relaxed, Relaxed) {
                Ok(_) => return now,
                Err(other) => word = other,
            }
        }
    }
}

/// A day, after which `relatime` moves an atime that nothing else moves.
const DAY: i64 = 24 * 60 * 60 * time::SECOND;

const SUID: u32 = libc::S_ISUID;
const SGID: u32 = libc::S_ISGID;
const PERMISSIONS: u32 = 0o7777;

/// The set-id bits of `mode` that a change of owner or content takes away: the group's where the group may execute, or who
/// changes it may not set it.
fn set_ids(mode: u32, keeps_group_id: bool) -> u32 {
    mode & if mode & libc::S_IXGRP != 0 || !keeps_group_id { SUID | SGID } else { SUID }
}

impl Inode {
    /// What `fstat(2)` tells.
    pub fn stat(&self) -> Metadata {
        let ctime = self.ctime.get_marked();
        let links = u64::from(self.counts.links());
        let (nlink, size, blocks_bytes) = match &self.body {
            Body::File(content) => (links, content.size(), content.stored_bytes()),
            Body::Symlink(target) => (links, target.len() as u64, 0),
            Body::Directory(directory) => {
                let subdirectories = u64::from(directory.subdirectories.load(Relaxed));
                let nlink = if links == 0 { 0 } else { 2 + subdirectories };
                // tmpfs's notion of a directory's size.
                (nlink, directory.entries.len() as u64 * 20 + 40, 0)
            }
            Body::Special(_) => (links, 0, 0),
        };
        let rdev = if let Body::Special(special) = &self.body { special.rdev } else { 0 };
        Metadata {
            ino: self.ino,
            kind: self.kind(),
            mode: self.mode.load(Relaxed),
            nlink,
            uid: self.uid.load(Relaxed),
            gid: self.gid.load(Relaxed),
            size,
            blocks_bytes,
            rdev,
            atime: time::to_parts(self.atime.load(Relaxed)),
            mtime: time::to_parts(self.mtime.load(Relaxed)),
            ctime: time::to_parts(ctime),
            btime: time::to_parts(self.btime),
        }
    }

    /// `fchmod(2)`: sets the permission bits (`07777`) of `mode`; the set-group-id bit only for who belongs to the group.
    ///
    /// # Errors
    /// `EPERM` for who is not the owner.
    pub fn chmod(&self, mode: u32, who: &Credentials) -> Result<()> {
        self.require_owner(who)?;
        let keeps = Inode::keeps_group_id(who, self.gid.load(Relaxed));
        let mode = if keeps { mode } else { mode & !SGID };
        self.mode.store(self.kind().mode_bits() | mode & PERMISSIONS, Relaxed);
        self.note_change();
        Ok(())
    }

    /// `fchown(2)`: sets what is given. The owner may give it to a group of its own; for the rest it takes privilege. Takes
    /// the set-id bits of everything but directories, also when nothing is given and for the superuser, as Linux does.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>, who: &Credentials) -> Result<()> {
        let (owner, group) = (self.uid.load(Relaxed), self.gid.load(Relaxed));
        let owns = who.uid() == owner;
        let may_give = who.is_privileged() || owns && uid.is_none_or(|uid| uid == owner);
        let may_regroup =
            who.is_privileged() || gid.is_none_or(|gid| owns && (gid == group || who.has_group(gid)));
        let mode = self.mode.load(Relaxed);
        let taken = match self.body {
            Body::Directory(_) => 0,
            _ => set_ids(mode, Inode::keeps_group_id(who, group)),
        };
        // Without an id and without a bit to take, only the ctime moves, which anybody may.
        let harmless = uid.is_none() && gid.is_none() && taken == 0;
        let allowed = (uid.is_none() || may_give) && may_regroup && (taken == 0 || self.is_owned_by(who));
        if !harmless && !allowed {
            return Err(Errno::EPERM);
        }
        if let Some(uid) = uid {
            self.uid.store(uid, Relaxed);
        }
        if let Some(gid) = gid {
            self.gid.store(gid, Relaxed);
        }
        if taken != 0 {
            let keeps = Inode::keeps_group_id(who, gid.unwrap_or(group));
            self.take_set_ids(taken | if keeps { 0 } else { SGID });
        }
        self.note_change();
        Ok(())
    }

    /// `truncate(2)`: sets a file's size in bytes.
    ///
    /// # Errors
    /// `EISDIR`; `EINVAL` for what else is no regular file; `EACCES` without the permission to write; `EFBIG`, `ENOSPC`,
    /// `ENOMEM`.
    pub fn set_len(&self, size: u64, who: &Credentials) -> Result<()> {
        let content = match &self.body {
            Body::File(content) => content,
            Body::Directory(_) => return Err(Errno::EISDIR),
            Body::Symlink(_) | Body::Special(_) => return Err(Errno::EINVAL),
        };
        self.require(who, WRITE)?;
        content.truncate(size)?;
        self.note_write(who);
        Ok(())
    }

    /// `futimens(2)`. Changes nothing, not even the ctime, when both are [`TimeSet::Omit`]. To set both to now takes the
    /// permission to write, everything else an owner.
    ///
    /// # Errors
    /// `EINVAL` for nanoseconds of a second or more; `EPERM`, `EACCES`.
    pub fn set_times(&self, atime: TimeSet, mtime: TimeSet, who: &Credentials) -> Result<()> {
        let too_many = |set| matches!(set, TimeSet::At(_, 1_000_000_000..));
        if too_many(atime) || too_many(mtime) {
            return Err(Errno::EINVAL);
        }
        if (atime, mtime) == (TimeSet::Omit, TimeSet::Omit) {
            return Ok(());
        }
        if (atime, mtime) != (TimeSet::Now, TimeSet::Now) {
            self.require_owner(who)?;
        } else if !self.is_owned_by(who) {
            self.require(who, WRITE)?;
        }
        let now = self.ctime.advance();
        for (time, set) in [(&self.atime, atime), (&self.mtime, mtime)] {
            match set {
                TimeSet::Omit => {}
                TimeSet::Now => time.store(now, Relaxed),
                TimeSet::At(seconds, nanoseconds) => {
                    time.store(time::from_parts(seconds, nanoseconds), Relaxed)
                }
            }
        }
        self.shared.observers().inode_changed(self.ino, Changed::Metadata);
        Ok(())
    }

    /// The content was read: moves the atime as `relatime` does, that is when it is not after the other times or a day
    /// old. Not to be called for a description with `O_NOATIME`.
    #[inline]
    pub fn note_read(&self) {
        let atime = self.atime.load(Relaxed);
        let now = time::coarse();
        let due = atime <= self.mtime.load(Relaxed)
            || atime <= self.ctime.get()
            || now.saturating_sub(atime) >= DAY;
        if due && atime != now {
            self.atime.store(now, Relaxed);
        }
    }

    /// The content was changed (written, truncated, also to the size it had): moves mtime and ctime, and takes the
    /// set-id bits of a file unless it was done by the superuser. Call it after the change.
    #[inline]
    pub fn note_write(&self, who: &Credentials) {
        let mode = self.mode.load(Relaxed);
        if mode & (SUID | SGID) != 0 && matches!(self.body, Body::File(_)) && !who.is_privileged() {
            self.take_set_ids(set_ids(mode, Inode::keeps_group_id(who, self.gid.load(Relaxed))));
        }
        self.note_modified();
        self.shared.observers().inode_changed(self.ino, Changed::Content);
    }

    /// The metadata was changed: moves the ctime. Call it after the change.
    #[inline]
    pub fn note_change(&self) {
        self.ctime.advance();
        self.shared.observers().inode_changed(self.ino, Changed::Metadata);
    }

    /// Runs `work`, which packs the content and changes nothing else, and tells observers if it takes another amount of
    /// memory then.
    #[inline]
    pub(crate) fn packing<R>(&self, content: &Content, work: impl FnOnce() -> R) -> R {
        let observed = self.shared.observers().any();
        let before = if observed { content.stored_bytes() } else { 0 };
        let done = work();
        if observed && content.stored_bytes() != before {
            self.shared.observers().inode_changed(self.ino, Changed::Metadata);
        }
        done
    }

    /// The content, or a directory's entries, changed: moves mtime and ctime. Observers are told by whoever calls it, after
    /// the change can be seen.
    #[inline]
    pub(super) fn note_modified(&self) {
        let now = self.ctime.advance();
        if self.mtime.load(Relaxed) != now {
            self.mtime.store(now, Relaxed);
        }
    }

    fn take_set_ids(&self, bits: u32) {
        self.mode.fetch_and(!bits, Relaxed);
    }
}
