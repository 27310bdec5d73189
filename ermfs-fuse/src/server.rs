//! FUSE's requests: each is unpacked, handed to `operations`, and answered.
//!
//! Promises: every request is answered exactly once, whatever happens to it; a panic is `EIO`. How long the kernel may keep
//! what it is told stands here. Owns nothing but the operations.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ermfs_core::process::Operation;
use ermfs_core::{Errno, InodeRef, Metadata, Result};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use crate::attributes::{attributes, errno, file_type, time_set};
use crate::caller::Caller;
use crate::observer::serving;
use crate::operations::{Change, Entry, Operations};

/// How long the kernel keeps names and attributes. What it changes itself it knows, and what others change it is told; this
/// bounds what nobody tells it: access times, and changes that there was no memory to note.
const TIME_TO_LIVE: Duration = Duration::from_secs(10);
/// Inode numbers are never used again.
const GENERATION: Generation = Generation(0);
/// The most that one request carries.
const MAX_WRITE: u32 = 1 << 20;
/// How many requests of the kernel's own making (read-ahead, write-back) may wait.
const MAX_BACKGROUND: u16 = 64;
/// How many entries are looked up before it is seen whether an answer has room for them: what fits a page, an entry taking
/// 160 bytes with a short name.
const ENTRIES_AT_A_TIME: usize = 4096 / 160;

/// What statfs counts in.
const BLOCK: u64 = 4096;

/// See the module's page.
pub(crate) struct Server {
    operations: Operations,
}

impl Server {
    pub(crate) fn new(operations: Operations) -> Server {
        Server { operations }
    }

    /// Runs the work of one request.
    fn answer<R>(
        &self,
        work: impl FnOnce(&Operations) -> Result<R>,
    ) -> core::result::Result<R, fuser::Errno> {
        let _serving = serving();
        let guarded = AssertUnwindSafe(|| {
            let _operation = Operation::begin(&self.operations.fs)?;
            work(&self.operations)
        });
        match catch_unwind(guarded) {
            Ok(done) => done.map_err(errno),
            // The filesystem has noted it, and answers the same from now on.
            Err(_) => Err(fuser::Errno::EIO),
        }
    }

    /// Answers with what the kernel is going to hold.
    fn entry(&self, reply: ReplyEntry, work: impl FnOnce(&Operations) -> Result<Metadata>) {
        match self.answer(work) {
            Ok(metadata) => reply.entry(&TIME_TO_LIVE, &attributes(&metadata), GENERATION),
            Err(error) => reply.error(error),
        }
    }

    fn empty(&self, reply: ReplyEmpty, work: impl FnOnce(&Operations) -> Result<()>) {
        match self.answer(work) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn xattr(&self, size: u32, reply: ReplyXattr, work: impl FnOnce(&Operations) -> Result<Vec<u8>>) {
        match self.answer(work) {
            // At most some 64 KiB.
            Ok(value) if size == 0 => reply.size(value.len() as u32),
            Ok(value) if value.len() > size as usize => reply.error(fuser::Errno::ERANGE),
            Ok(value) => reply.data(&value),
            Err(error) => reply.error(error),
        }
    }
}

impl Filesystem for Server {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Not FUSE_ATOMIC_O_TRUNC: the kernel would have a program that runs truncated by an open for reading, and only then
        // find that it is busy.
        let wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_ABORT_ERROR;
        for flag in wanted.iter() {
            // What an older kernel lacks costs speed and nothing else.
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_write(MAX_WRITE);
        if let Err(most) = config.set_max_readahead(MAX_WRITE) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.answer(|operations| operations.lookup(parent.0, name.as_bytes())) {
            Ok(Some(metadata)) => reply.entry(&TIME_TO_LIVE, &attributes(&metadata), GENERATION),
            Ok(None) => {
                // A node 0: that there is no such name may be kept as well.
                let nothing = fuser::FileAttr { ino: INodeNo(0), ..attributes(&EMPTY) };
                reply.entry(&TIME_TO_LIVE, &nothing, GENERATION);
            }
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _request: &Request, ino: INodeNo, times: u64) {
        let _ = self.answer(|operations| {
            operations.nodes.forget(ino.0, times);
            Ok(())
        });
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.answer(|operations| operations.stat(ino.0)) {
            Ok(metadata) => reply.attr(&TIME_TO_LIVE, &attributes(&metadata)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let times = (atime.is_some() || mtime.is_some()).then(|| (time_set(atime), time_set(mtime)));
        let change = Change { mode, uid, gid, size, times, handle: handle.map(u64::from) };
        match self.answer(|operations| operations.change(ino.0, Caller::of(request), &change)) {
            Ok(metadata) => reply.attr(&TIME_TO_LIVE, &attributes(&metadata)),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let mut reply = Some(reply);
        let read = self.answer(|operations| {
            operations.read_link(ino.0, |target| reply.take().map(|reply| reply.data(target)))
        });
        if let (Err(error), Some(reply)) = (read, reply) {
            reply.error(error);
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.entry(reply, |operations| {
            operations.mknod(parent.0, name.as_bytes(), mode, rdev, Caller::of(request))
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.entry(reply, |operations| {
            operations.mkdir(parent.0, name.as_bytes(), mode, Caller::of(request))
        });
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |operations| operations.unlink(parent.0, name.as_bytes()));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |operations| operations.rmdir(parent.0, name.as_bytes()));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.entry(reply, |operations| {
            operations.symlink(parent.0, name.as_bytes(), target.as_os_str().as_bytes(), Caller::of(request))
        });
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.empty(reply, |operations| {
            operations.rename((parent.0, name.as_bytes()), (new_parent.0, new_name.as_bytes()), flags.bits())
        });
    }

    fn link(
        &self,
        _request: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.entry(reply, |operations| operations.link(ino.0, new_parent.0, new_name.as_bytes()));
    }

    fn open(&self, _request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.answer(|operations| operations.open(ino.0, flags.0)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut reply = Some(reply);
        let read = self.answer(|operations| {
            operations.read(handle.0, offset, size, |bytes| reply.take().map(|reply| reply.data(bytes)))
        });
        if let (Err(error), Some(reply)) = (read, reply) {
            reply.error(error);
        }
    }

    fn write(
        &self,
        request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let caller = Caller::of(request);
        let takes_set_ids = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        match self.answer(|operations| operations.write(handle.0, offset, data, caller, takes_set_ids)) {
            Ok(n) => reply.written(n),
            Err(error) => reply.error(error),
        }
    }

    /// Nothing is done at a close that release does not do; the kernel asks once.
    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let closed = self.answer(|operations| Ok(operations.release(handle.0)));
        reply.ok();
        // Not as part of the request: what packing changes is news to the kernel, and nobody waits for it.
        if let Ok(Some(file)) = closed {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(file)));
        }
    }

    fn fsync(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        // There is nothing behind memory; a filesystem that has failed says so.
        self.empty(reply, |_| Ok(()));
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.answer(|operations| operations.open_dir(ino.0)) {
            Ok(keep) => {
                let flags = FopenFlags::FOPEN_CACHE_DIR;
                let flags = if keep { flags | FopenFlags::FOPEN_KEEP_CACHE } else { flags };
                reply.opened(FileHandle(0), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.answer(|operations| {
            operations.read_dir(ino.0, offset, |entry| {
                let name = OsStr::from_bytes(entry.name);
                reply.add(INodeNo(entry.ino), entry.next_cookie, file_type(entry.kind), name)
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mut cookie = offset;
        let listed = self.answer(|operations| {
            loop {
                let entries = operations.read_dir_plus(ino.0, cookie, ENTRIES_AT_A_TIME)?;
                if entries.is_empty() || !add_entries(operations, entries, &mut cookie, &mut reply)? {
                    return Ok(());
                }
            }
        });
        match listed {
            // What is in the answer is counted, so it is given; the kernel comes back for the rest and meets the error.
            Err(error) if cookie == offset => reply.error(error),
            _ => reply.ok(),
        }
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.empty(reply, |_| Ok(()));
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        match self.answer(|operations| Ok(operations.fs.status())) {
            Ok(room) => reply.statfs(
                room.total_bytes / BLOCK,
                room.free_bytes / BLOCK,
                room.available_bytes / BLOCK,
                room.inodes.saturating_add(room.free_inodes),
                room.free_inodes,
                BLOCK as u32,
                255,
                BLOCK as u32,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn setxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.empty(reply, |operations| operations.set_xattr(ino.0, name.as_bytes(), value, flags));
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.xattr(size, reply, |operations| operations.xattr(ino.0, name.as_bytes()));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.xattr(size, reply, |operations| operations.xattr_names(ino.0, Caller::of(request)));
    }

    fn removexattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.empty(reply, |operations| operations.remove_xattr(ino.0, name.as_bytes()));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        match self.answer(|operations| {
            operations.create(parent.0, name.as_bytes(), mode, flags, Caller::of(request))
        }) {
            Ok((metadata, handle)) => {
                let (attributes, flags) = (attributes(&metadata), FopenFlags::FOPEN_KEEP_CACHE);
                reply.created(&TIME_TO_LIVE, &attributes, GENERATION, FileHandle(handle), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn fallocate(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.empty(reply, |operations| operations.allocate(handle.0, mode, offset, length));
    }

    fn lseek(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.answer(|operations| operations.seek(handle.0, offset, whence)) {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(error),
        }
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _ino_in: INodeNo,
        handle_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        handle_out: FileHandle,
        offset_out: u64,
        length: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let copied = self.answer(|operations| match flags.is_empty() {
            true => operations.copy((handle_in.0, offset_in), (handle_out.0, offset_out), length),
            false => Err(Errno::EINVAL),
        });
        match copied {
            Ok(n) => reply.written(n),
            Err(error) => reply.error(error),
        }
    }
}

/// Adds entries with their attributes to an answer, as far as there is room (`false`: there is no more), and moves the
/// cookie past each. What is added is told of, except for the dots.
fn add_entries(
    operations: &Operations,
    entries: Vec<(Entry, Option<InodeRef>)>,
    cookie: &mut u64,
    reply: &mut ReplyDirectoryPlus,
) -> Result<bool> {
    for (entry, inode) in entries {
        let name = OsStr::from_bytes(&entry.name);
        let full = match inode.zip(entry.metadata) {
            Some((inode, metadata)) => {
                operations.nodes.tell(&inode)?;
                let attributes = attributes(&metadata);
                let full =
                    reply.add(attributes.ino, entry.next, name, &TIME_TO_LIVE, &attributes, GENERATION);
                if full {
                    operations.nodes.forget(inode.ino(), 1);
                }
                full
            }
            // The kernel takes no more than the number and the kind of the dots.
            None if matches!(&entry.name[..], b"." | b"..") => {
                let directory = fuser::FileAttr {
                    ino: INodeNo(entry.ino),
                    kind: fuser::FileType::Directory,
                    ..attributes(&EMPTY)
                };
                reply.add(directory.ino, entry.next, name, &TIME_TO_LIVE, &directory, GENERATION)
            }
            // Gone by now.
            None => false,
        };
        if full {
            return Ok(false);
        }
        *cookie = entry.next;
    }
    Ok(true)
}

/// The attributes of nothing.
const EMPTY: Metadata = Metadata {
    ino: 0,
    kind: ermfs_core::InodeKind::File,
    mode: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    size: 0,
    blocks_bytes: 0,
    rdev: 0,
    atime: (0, 0),
    mtime: (0, 0),
    ctime: (0, 0),
    btime: (0, 0),
};
