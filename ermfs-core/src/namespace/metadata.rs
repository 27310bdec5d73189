//! What `stat` shows, and the calls that change it.
//!
//! Promises: every number is read and changed atomically by itself; a `stat` beside a change of two
//! numbers may see one of them, as on tmpfs. A change after its time was read is seen as later: the
//! reader marks the ctime, and the next change finds the mark and takes the fine clock. Never: a
//! lock, except of a directory whose entries are counted.

use core::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::entries::Entries;
use super::inode::{Body, Inode};
use crate::errno::{Errno, Result};
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
}

impl InodeKind {
    /// The `S_IFMT` bits.
    pub const fn mode_bits(self) -> u32 {
        match self {
            InodeKind::File => libc::S_IFREG,
            InodeKind::Directory => libc::S_IFDIR,
            InodeKind::Symlink => libc::S_IFLNK,
        }
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
    /// `st_rdev`: always 0, there are no device nodes.
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

/// The set-id bits of `mode` that a change of owner or content takes away: the group's only where the group may execute.
fn set_ids(mode: u32) -> u32 {
    mode & if mode & libc::S_IXGRP != 0 { SUID | SGID } else { SUID }
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
        };
        Metadata {
            ino: self.ino,
            kind: self.kind(),
            mode: self.mode.load(Relaxed),
            nlink,
            uid: self.uid.load(Relaxed),
            gid: self.gid.load(Relaxed),
            size,
            blocks_bytes,
            rdev: 0,
            atime: time::to_parts(self.atime.load(Relaxed)),
            mtime: time::to_parts(self.mtime.load(Relaxed)),
            ctime: time::to_parts(ctime),
            btime: time::to_parts(self.btime),
        }
    }

    /// `fchmod(2)`: sets the permission bits (`07777`) of `mode`.
    pub fn chmod(&self, mode: u32) {
        let new = self.kind().mode_bits() | mode & PERMISSIONS;
        self.mode.store(new, Relaxed);
        self.ctime.advance();
    }

    /// `fchown(2)`: sets what is given. Takes the set-id bits of everything but directories, also when nothing is given
    /// and for the superuser, as Linux does.
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) {
        if let Some(uid) = uid {
            self.uid.store(uid, Relaxed);
        }
        if let Some(gid) = gid {
            self.gid.store(gid, Relaxed);
        }
        if !matches!(self.body, Body::Directory(_)) {
            self.take_set_ids();
        }
        self.ctime.advance();
    }

    /// `futimens(2)`. Changes nothing, not even the ctime, when both are [`TimeSet::Omit`].
    ///
    /// # Errors
    /// `EINVAL` for nanoseconds of a second or more.
    pub fn set_times(&self, atime: TimeSet, mtime: TimeSet) -> Result<()> {
        let too_many = |set| matches!(set, TimeSet::At(_, 1_000_000_000..));
        if too_many(atime) || too_many(mtime) {
            return Err(Errno::EINVAL);
        }
        if (atime, mtime) == (TimeSet::Omit, TimeSet::Omit) {
            return Ok(());
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
    /// set-id bits of a file unless the process is the superuser's. Call it after the change.
    #[inline]
    pub fn note_write(&self) {
        if self.mode.load(Relaxed) & (SUID | SGID) != 0
            && matches!(self.body, Body::File(_))
            && !self.shared.ids().is_superuser()
        {
            self.take_set_ids();
        }
        self.note_modified();
    }

    /// The metadata was changed: moves the ctime. Call it after the change.
    #[inline]
    pub fn note_change(&self) {
        self.ctime.advance();
    }

    /// The content, or a directory's entries, changed: moves mtime and ctime.
    #[inline]
    pub(super) fn note_modified(&self) {
        let now = self.ctime.advance();
        if self.mtime.load(Relaxed) != now {
            self.mtime.store(now, Relaxed);
        }
    }

    fn take_set_ids(&self) {
        // The closure always has a new mode, so this cannot fail.
        let _ = self.mode.fetch_update(Relaxed, Relaxed, |mode| Some(mode & !set_ids(mode)));
    }
}
