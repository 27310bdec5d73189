//! Requests, in the engine's words.
//!
//! Promises, of each: the permission was the kernel's to judge; errors are the engine's; what the kernel is told of is
//! counted in the node table exactly when the answer reaches it. Owns the filesystem, the nodes and the handles of one
//! mount. Never: a lock across calls.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use ermfs_core::process::{MAX_TRANSFER, OpenFile, OpenFileRef};
use ermfs_core::{
    At, Credentials, Errno, Fs, InodeKind, InodeRef, Metadata, RenameFlags, Result, Sink, Source, TimeSet,
    XattrName, XattrSet,
};

use crate::caller::Caller;
use crate::handles::Handles;
use crate::nodes::Nodes;
use crate::statistics::{FILE_XATTR, STATISTICS_XATTR, file_json, statistics_json};

/// Flags of an open that the server does not take over: the kernel places what is appended, from its own copy of the size,
/// and what it writes back later it writes where it was.
const KERNELS_OWN: i32 = libc::O_APPEND | libc::O_CREAT | libc::O_EXCL | libc::O_DIRECT | libc::O_NOFOLLOW;
/// The kernel has judged.
static JUDGED: Credentials = Credentials::superuser_as(0, 0);

thread_local! {
    /// Where reads go before they go to the kernel; as large as the largest read so far.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A change of attributes, as SETATTR asks for it.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) times: Option<(TimeSet, TimeSet)>,
    pub(crate) handle: Option<u64>,
}

/// One entry of a listing.
pub(crate) struct Entry {
    pub(crate) next: u64,
    pub(crate) name: Vec<u8>,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) ino: u64,
}

/// See the module's page.
pub(crate) struct Operations {
    pub(crate) fs: Arc<Fs>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) handles: Handles,
    /// Whether reading moves access times.
    pub(crate) moves_atime: bool,
}

impl Operations {
    /// A file or directory was read that no handle stands for.
    fn note_read(&self, inode: &InodeRef) {
        if self.moves_atime {
            inode.note_read();
        }
    }

    /// The flags of an open as the server takes them over.
    fn for_server(&self, flags: i32) -> i32 {
        let write_only = flags & libc::O_ACCMODE == libc::O_WRONLY;
        let access = if write_only { libc::O_RDWR } else { flags & libc::O_ACCMODE };
        let atime = if self.moves_atime { 0 } else { libc::O_NOATIME };
        flags & !libc::O_ACCMODE & !KERNELS_OWN | access | atime
    }

    /// Runs `work` at a directory.
    fn at<R>(&self, parent: u64, who: &Credentials, work: impl FnOnce(At<'_>) -> Result<R>) -> Result<R> {
        let dir = self.nodes.get(parent)?;
        work(At { fs: &self.fs, dir: &dir, who, umask: 0 })
    }

    /// What the kernel is told of an inode that it is going to hold.
    fn told(&self, inode: &InodeRef) -> Result<Metadata> {
        self.nodes.tell(inode)?;
        Ok(inode.stat())
    }

    /// Tells of what a name stands for that was just made.
    fn made(&self, at: At<'_>, name: &[u8]) -> Result<Metadata> {
        self.told(&Fs::lookup(at, name, false)?)
    }

    /// `None`: there is no such name.
    pub(crate) fn lookup(&self, parent: u64, name: &[u8]) -> Result<Option<Metadata>> {
        self.at(parent, &JUDGED, |at| match Fs::lookup(at, name, false) {
            Ok(inode) => self.told(&inode).map(Some),
            Err(Errno::ENOENT) if at.dir.is_linked() => Ok(None),
            Err(error) => Err(error),
        })
    }

    pub(crate) fn stat(&self, ino: u64) -> Result<Metadata> {
        Ok(self.nodes.get(ino)?.stat())
    }

    pub(crate) fn change(&self, ino: u64, caller: Caller, change: &Change) -> Result<Metadata> {
        let inode = self.nodes.get(ino)?;
        if let Some(mode) = change.mode {
            inode.chmod(mode, &JUDGED)?;
        }
        let loses_group_id = Operations::loses_group_id(&inode, caller);
        let nothing = change.mode.is_none() && change.size.is_none() && change.times.is_none();
        // A change of nothing is a chown to nobody, or the set-id bits have to go: both move the ctime.
        if change.uid.is_some() || change.gid.is_some() || nothing {
            inode.chown(change.uid, change.gid, &JUDGED)?;
            if loses_group_id {
                inode.chmod(inode.stat().mode & !libc::S_ISGID, &JUDGED)?;
            }
        }
        if let Some(size) = change.size {
            match change.handle.and_then(|handle| self.handles.get(handle).ok()) {
                Some(file) => file.set_len(i64::try_from(size).map_err(|_| Errno::EFBIG)?)?,
                None => inode.set_len(size, &JUDGED)?,
            }
            take_set_ids(&inode, caller, caller.uid != 0);
        }
        if let Some((atime, mtime)) = change.times {
            inode.set_times(atime, mtime, &JUDGED)?;
        }
        Ok(inode.stat())
    }

    /// Whether the set-group-id bit, where the group may not execute, goes with what this caller changes.
    fn loses_group_id(inode: &InodeRef, caller: Caller) -> bool {
        let Metadata { mode, gid, kind, .. } = inode.stat();
        caller.uid != 0
            && kind != InodeKind::Directory
            && mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID
            && !caller.unprivileged().has_group(gid)
    }

    pub(crate) fn read_link<R>(&self, ino: u64, answer: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let inode = self.nodes.get(ino)?;
        let target = inode.symlink_target().ok_or(Errno::EINVAL)?;
        self.note_read(&inode);
        Ok(answer(target))
    }

    pub(crate) fn mknod(
        &self,
        parent: u64,
        name: &[u8],
        mode: u32,
        rdev: u32,
        caller: Caller,
    ) -> Result<Metadata> {
        self.at(parent, &caller.owner(), |at| {
            Fs::mknod(at, name, mode, rdev.into())?;
            self.made(at, name)
        })
    }

    pub(crate) fn mkdir(&self, parent: u64, name: &[u8], mode: u32, caller: Caller) -> Result<Metadata> {
        self.at(parent, &caller.owner(), |at| {
            Fs::mkdir(at, name, mode)?;
            self.made(at, name)
        })
    }

    pub(crate) fn symlink(
        &self,
        parent: u64,
        name: &[u8],
        target: &[u8],
        caller: Caller,
    ) -> Result<Metadata> {
        self.at(parent, &caller.owner(), |at| {
            Fs::symlink(target, at, name)?;
            self.made(at, name)
        })
    }

    pub(crate) fn unlink(&self, parent: u64, name: &[u8]) -> Result<()> {
        self.at(parent, &JUDGED, |at| Fs::unlink(at, name))
    }

    pub(crate) fn rmdir(&self, parent: u64, name: &[u8]) -> Result<()> {
        self.at(parent, &JUDGED, |at| Fs::rmdir(at, name))
    }

    pub(crate) fn rename(&self, old: (u64, &[u8]), new: (u64, &[u8]), flags: u32) -> Result<()> {
        let flags = match flags {
            0 => RenameFlags::default(),
            libc::RENAME_NOREPLACE => RenameFlags { no_replace: true, exchange: false },
            libc::RENAME_EXCHANGE => RenameFlags { no_replace: false, exchange: true },
            _ => return Err(Errno::EINVAL),
        };
        let (from, to) = (self.nodes.get(old.0)?, self.nodes.get(new.0)?);
        let at = |dir| At { fs: &self.fs, dir, who: &JUDGED, umask: 0 };
        Fs::rename(at(&from), old.1, at(&to), new.1, flags)?;
        if old.0 != new.0 {
            let exchanged = flags.exchange.then_some((&from, old.1));
            for (dir, name) in [Some((&to, new.1)), exchanged].into_iter().flatten() {
                if let Ok(inode) = Fs::lookup(at(dir), name, false) {
                    self.nodes.moved(inode.ino());
                }
            }
        }
        Ok(())
    }

    /// Whether what the kernel keeps of a directory's listing is still right: its `..` changes where it is moved.
    pub(crate) fn open_dir(&self, ino: u64) -> Result<bool> {
        self.nodes.get(ino)?;
        Ok(!self.nodes.take_moved(ino))
    }

    pub(crate) fn link(&self, ino: u64, parent: u64, name: &[u8]) -> Result<Metadata> {
        let inode = self.nodes.get(ino)?;
        self.at(parent, &JUDGED, |at| Fs::link_inode(&inode, at, name))?;
        self.told(&inode)
    }

    /// Opens an inode; what writes may read, because the kernel reads the pages that it changes in part.
    /// Truncating is a request of its own.
    pub(crate) fn open(&self, ino: u64, flags: i32) -> Result<u64> {
        let inode = self.nodes.get(ino)?;
        let file = OpenFile::open_inode(&self.fs, &inode, self.for_server(flags), &JUDGED)?;
        Ok(self.handles.insert(file))
    }

    pub(crate) fn create(
        &self,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: i32,
        caller: Caller,
    ) -> Result<(Metadata, u64)> {
        self.at(parent, &caller.owner(), |at| {
            let making = self.for_server(flags) | libc::O_CREAT | flags & libc::O_EXCL | libc::O_NOFOLLOW;
            let file = OpenFile::open(at, name, making, mode)?;
            let metadata = self.told(file.inode())?;
            Ok((metadata, self.handles.insert(file)))
        })
    }

    pub(crate) fn read<R>(
        &self,
        handle: u64,
        offset: u64,
        size: u32,
        answer: impl FnOnce(&[u8]) -> R,
    ) -> Result<R> {
        let file = self.handles.get(handle)?;
        let size = (size as usize).min(MAX_TRANSFER);
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < size {
                buffer.try_reserve(size - buffer.len())?;
                buffer.resize(size, 0);
            }
            let n = file.read_at(&mut Sink::new(&mut buffer[..size]), position(offset)?)?;
            Ok(answer(&buffer[..n]))
        })
    }

    /// `takes_set_ids`: the kernel has found that the caller has no CAP_FSETID.
    pub(crate) fn write(
        &self,
        handle: u64,
        offset: u64,
        data: &[u8],
        caller: Caller,
        takes_set_ids: bool,
    ) -> Result<u32> {
        let file = self.handles.get(handle)?;
        let n = file.write_at(&mut Source::new(data), position(offset)?)?;
        take_set_ids(file.inode(), caller, takes_set_ids);
        Ok(n as u32)
    }

    pub(crate) fn allocate(&self, handle: u64, mode: i32, offset: u64, length: u64) -> Result<()> {
        self.handles.get(handle)?.allocate(mode, position(offset)?, position(length)?)
    }

    pub(crate) fn seek(&self, handle: u64, offset: i64, whence: i32) -> Result<i64> {
        self.handles.get(handle)?.seek(offset, whence)
    }

    pub(crate) fn copy(&self, from: (u64, u64), to: (u64, u64), length: u64) -> Result<u32> {
        let (source, target) = (self.handles.get(from.0)?, self.handles.get(to.0)?);
        let (mut read, mut written) = (position(from.1)?, position(to.1)?);
        // The answer is a u32, and so is the most that one call copies.
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_TRANSFER);
        source.copy_range_to(Some(&mut read), &target, Some(&mut written), length).map(|n| n as u32)
    }

    /// Closes a handle. The last writer's packs the file, which is no change that the kernel made.
    pub(crate) fn release(&self, handle: u64) -> Option<OpenFileRef> {
        self.handles.remove(handle)
    }

    /// Hands over the entries after `cookie` until `emit` says that there is no more room.
    pub(crate) fn read_dir(
        &self,
        ino: u64,
        cookie: u64,
        mut emit: impl FnMut(&ermfs_core::DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let dir = self.nodes.get(ino)?;
        self.fs.read_dir(&dir, cookie, &mut |entry| {
            if emit(&entry) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        self.note_read(&dir);
        Ok(())
    }

    /// At most `most` entries after `cookie`, with what they stand for now. Those with metadata are not counted yet.
    pub(crate) fn read_dir_plus(
        &self,
        ino: u64,
        cookie: u64,
        most: usize,
    ) -> Result<Vec<(Entry, Option<InodeRef>)>> {
        let dir = self.nodes.get(ino)?;
        let mut entries: Vec<(Entry, Option<InodeRef>)> = Vec::new();
        entries.try_reserve_exact(most)?;
        let mut result: Result<()> = Ok(());
        // The directory is locked meanwhile: names are only noted, and looked up after.
        self.read_dir(ino, cookie, |entry| {
            let mut name = Vec::new();
            if let Err(error) = name.try_reserve_exact(entry.name.len()) {
                result = Err(error.into());
                return true;
            }
            name.extend_from_slice(entry.name);
            let entry = Entry { next: entry.next_cookie, name, metadata: None, ino: entry.ino };
            entries.push((entry, None));
            entries.len() == most
        })?;
        result?;
        let at = At { fs: &self.fs, dir: &dir, who: &JUDGED, umask: 0 };
        for (entry, inode) in
            entries.iter_mut().filter(|(entry, _)| entry.name != b"." && entry.name != b"..")
        {
            // One that is gone by now is left without: the kernel asks for it if it must.
            if let Ok(found) = Fs::lookup(at, &entry.name, false) {
                entry.metadata = Some(found.stat());
                *inode = Some(found);
            }
        }
        Ok(entries)
    }

    pub(crate) fn xattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        let inode = self.nodes.get(ino)?;
        if name == STATISTICS_XATTR.as_bytes() {
            return Ok(statistics_json(&self.fs.statistics()).into_bytes());
        }
        if name == FILE_XATTR.as_bytes() {
            let content = inode.content().ok_or(Errno::ENODATA)?;
            return Ok(file_json(&content.info()).into_bytes());
        }
        inode.xattr(XattrName::new(name)?, &JUDGED)
    }

    pub(crate) fn set_xattr(&self, ino: u64, name: &[u8], value: &[u8], flags: i32) -> Result<()> {
        let how =
            XattrSet { create: flags & libc::XATTR_CREATE != 0, replace: flags & libc::XATTR_REPLACE != 0 };
        self.nodes.get(ino)?.set_xattr(XattrName::new(name)?, value, how, &JUDGED)
    }

    /// `trusted.` ones are for the privileged, whom the kernel does not tell apart here.
    pub(crate) fn xattr_names(&self, ino: u64, caller: Caller) -> Result<Vec<u8>> {
        self.nodes.get(ino)?.xattr_names(&Credentials::new(caller.uid, caller.gid, Vec::new()))
    }

    pub(crate) fn remove_xattr(&self, ino: u64, name: &[u8]) -> Result<()> {
        self.nodes.get(ino)?.remove_xattr(XattrName::new(name)?, &JUDGED)
    }
}

/// # Errors
/// `EINVAL` past the largest offset.
fn position(offset: u64) -> Result<i64> {
    i64::try_from(offset).map_err(|_| Errno::EINVAL)
}

/// What the server owes a change of bytes by who has no CAP_FSETID, since it told the kernel that it does this
/// (FUSE_HANDLE_KILLPRIV_V2).
fn take_set_ids(inode: &InodeRef, caller: Caller, takes: bool) {
    const SET_IDS: u32 = libc::S_ISUID | libc::S_ISGID;
    if takes && inode.stat().mode & SET_IDS != 0 {
        inode.note_write(&caller.unprivileged());
    }
}
